"""Everything that runs on a laptop as one process tree: started in order, watched, and stopped in reverse order.

Whatever ends the parent ends the tree: leaving the `with` block, Ctrl-C, SIGTERM, a closed terminal, an exception, and
by the guard also kill -9. No signal is ever sent to a process that the tree did not start.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from local import processes
from local.child import (
    ChildFailed,
    ChildSpec,
    Event,
    Restart,
    RestartLimits,
    Service,
    Supervised,
    What,
    answers,
    listens,
)
from local.children import CommandChild, ServiceChild
from local.guard import Guard, end_strays
from local.processes import Identity

__all__ = [
    "ChildFailed",
    "ChildSpec",
    "Event",
    "ProcessTree",
    "Restart",
    "RestartLimits",
    "Service",
    "TreeBusy",
    "What",
    "answers",
    "listens",
]

_DYING_SECONDS = 1.0  # a process that was just killed still counts as living for a moment
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class TreeBusy(RuntimeError):
    """Another living process supervises this state directory."""


class ProcessTree:
    """Supervises named children. Every method may be called from any thread; none needs an event loop.

    `on_event` is called, from whichever thread noticed, for each start, end, restart and stop. `grace_seconds` is what
    the guard gives the children between their stop signal and SIGKILL when the parent was killed.
    """

    def __init__(
        self, state_dir: Path, *, on_event: Callable[[Event], object] | None = None, grace_seconds: float = 10.0
    ) -> None:
        self._state_dir = Path(state_dir).absolute()
        self._logs = self._state_dir / "logs"
        self._grace_seconds = grace_seconds
        self._tree_lock: int | None = None
        self._on_event = on_event
        self._mark = secrets.token_hex(16)
        self._guard = Guard(self._mark, grace_seconds)
        self._children: dict[str, Supervised] = {}
        self._lock = threading.Lock()
        self._ended = threading.Condition()
        self._failures: list[Event] = []
        self._hurry = threading.Event()
        self._handlers: dict[int, object] = {}

    # --- children ---------------------------------------------------------------------------------------------------

    def start(self, spec: ChildSpec) -> int:
        """Run a command and return its process id once it is ready.

        Raises ChildFailed with the end of its log when it ends or stays unready, and ValueError for a name in use.
        """
        child = CommandChild(spec, self._logs / f"{spec.name}.log", self._mark, self._guard, self._tell)
        return int(self._add(child))

    def start_service(self, name: str, service: Service, *, restart: Restart = Restart.ON_CRASH) -> str:
        """Start a service that runs itself (PostgreSQL, Temporal) and return what its `start` returned.

        A service that ran already, an orphan of an earlier run, becomes part of this tree and is stopped with it.
        """
        return self._add(ServiceChild(name, service, self._guard, self._tell, restart))

    def _open(self) -> None:
        """Take the lock of the state directory and start the guard, once.

        A parent that was killed leaves the lock to its guard until the children are gone; that is waited for. A living
        parent keeps it, and is named in the error.
        """
        with self._lock:
            if self._tree_lock is not None:
                return
            self._state_dir.mkdir(parents=True, exist_ok=True)
            path = self._state_dir / "tree.lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            begun = time.monotonic()
            while not _lock_now(descriptor):
                holder = _holder(path)
                patience_seconds = self._grace_seconds + 10 if holder is None else _DYING_SECONDS
                if time.monotonic() - begun > patience_seconds:
                    os.close(descriptor)
                    who = f"process {holder.pid}" if holder is not None else "the guard of an earlier run"
                    raise TreeBusy(f"Everything in {self._state_dir} is run by {who} already: stop it first.")
                time.sleep(0.05)
            me = processes.identify(os.getpid())
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "started": me.started if me else ""}).encode(), 0)
            self._tree_lock = descriptor
            self._guard.open(descriptor)

    def _add(self, child: Supervised) -> str:
        if not child.name or "/" in child.name or child.name.startswith("."):
            raise ValueError(f"{child.name!r} is not usable as the name of a child and its log file")
        with self._lock:
            if child.name in self._children:
                raise ValueError(f"There is a child named {child.name!r} already")
            self._children[child.name] = child
        try:
            self._open()
            return child.start()
        except BaseException:
            with contextlib.suppress(RuntimeError, OSError):
                child.abandon()
            with self._lock:
                del self._children[child.name]
            raise

    def stop(self, name: str) -> None:
        """Stop one child for good: its stop signal, then SIGKILL after its timeout. A stopped one: no effect."""
        self._child(name).stop(self._hurry.is_set)

    def kill(self, name: str) -> None:
        """SIGKILL to the child and its whole group, for chaos; returns when it is dead. Its restart policy applies."""
        self._child(name).kill()

    def restart(self, name: str) -> None:
        """Stop and start one child; returns when it is ready again."""
        child = self._child(name)
        child.stop(self._hurry.is_set)
        with self._ended:
            self._failures = [event for event in self._failures if event.name != name]
        child.start()

    def stop_all(self) -> None:
        """Stop every child, the last started first. One that resists does not keep the others; it is raised at the end.

        Called in the main thread, a further Ctrl-C or SIGTERM meanwhile means: kill at once.
        """
        problems: list[Exception] = []
        with self._impatience():
            while True:
                with self._lock:
                    if not self._children:
                        break
                    _, child = self._children.popitem()
                try:
                    child.stop(self._hurry.is_set)
                except (RuntimeError, OSError) as problem:
                    problems.append(problem)
            end_strays(self._mark, 0 if self._hurry.is_set() else self._grace_seconds)
        self._guard.close()
        with self._lock:
            if self._tree_lock is not None:
                os.close(self._tree_lock)
                self._tree_lock = None
        with self._ended:
            self._ended.notify_all()
        if problems:
            raise problems[0]

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The children in the order of their start."""
        with self._lock:
            return list(self._children)

    def process(self, name: str) -> Identity | None:
        """The process of a child while it runs."""
        return self._child(name).process

    def is_running(self, name: str) -> bool:
        return self._child(name).process is not None

    def log_path(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def log_tail(self, name: str) -> str:
        return self._child(name).log_tail()

    def wait(self, timeout_seconds: float | None = None) -> Event | None:
        """Block until a child has ended for good unasked, and return that event; None after the timeout or stop_all."""
        with self._ended:
            self._ended.wait_for(lambda: bool(self._failures) or not self._children, timeout_seconds)
            return self._failures[0] if self._failures else None

    # --- signals ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP on purpose
                    self._handlers[number] = signal.signal(number, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_all()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._handlers.clear()

    @contextlib.contextmanager
    def _impatience(self) -> Iterator[None]:
        """While stopping, a signal does not interrupt the stopping but hastens it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def hasten(number: int, frame: FrameType | None) -> None:
            self._hurry.set()

        before = {number: signal.signal(number, hasten) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._hurry.clear()

    def _child(self, name: str) -> Supervised:
        with self._lock:
            try:
                return self._children[name]
            except KeyError:
                known = ", ".join(self._children) or "none"
                raise KeyError(f"There is no child named {name!r}; there are: {known}") from None

    def _tell(self, event: Event) -> None:
        if event.what is What.GAVE_UP:
            with self._ended:
                self._failures.append(event)
                self._ended.notify_all()
        if self._on_event is not None:
            self._on_event(event)


def _lock_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> Identity | None:
    """The living process that wrote its identity into the lock file."""
    try:
        written = json.loads(path.read_text())
        holder = Identity(int(written["pid"]), str(written["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return holder if processes.is_live(holder) else None


def _leave(number: int, frame: FrameType | None) -> None:
    """Unwind the `with` block, with the exit code that shells use for a signal."""
    raise SystemExit(128 + number)
