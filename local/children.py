"""The two kinds of supervised processes: a command that the tree runs, and a service that runs itself."""

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from local import files, processes
from local.child import ChildFailed, ChildSpec, Event, Restart, RestartLimits, Service, Supervised, What
from local.guard import MARK, Guard
from local.processes import Identity

_POLL_SECONDS = 0.05
_SERVICE_POLL_SECONDS = 0.3


class CommandChild(Supervised):
    """A command in a session and process group of its own.

    Its end is noticed before it is reaped: until then its id, and with it the group's, cannot belong to a stranger. All
    signals are sent in that state, under the lock.
    """

    def __init__(self, spec: ChildSpec, log: Path, mark: str, guard: Guard, tell: Callable[[Event], None]) -> None:
        super().__init__(spec.name, guard, tell, spec.restart, spec.limits)
        self._spec = spec
        self._log = log
        self._mark = mark
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._identity: Identity | None = None
        self._gone = threading.Event()
        self._gone.set()
        self._starting = False
        self._watcher: threading.Thread | None = None

    def start(self) -> str:
        """Run the command and wait until it is ready; returns its process id as text. Running already: no effect."""
        if self.process is not None:
            return str(self.process.pid)
        self._join_watcher()
        self._stopping.clear()
        self._recent.clear()
        self._starting = True
        try:
            self._spawn()
            self._await_ready()
        finally:
            with self._lock:
                self._starting = False
                ended = self._running is None
        if ended:
            raise self._ended_early()
        self._tell(Event(self.name, What.STARTED))
        return str(self._identity.pid) if self._identity is not None else ""

    def stop(self, hurry: Callable[[], bool]) -> None:
        self._stopping.set()
        was_running = not self._gone.is_set()
        self._signal(self._spec.stop_signal)
        deadline = time.monotonic() + self._spec.stop_timeout_seconds
        while not self._gone.wait(_POLL_SECONDS):
            if hurry() or time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
                if not self._gone.wait(10):
                    raise ChildFailed(f"{self.name} did not end, not even by SIGKILL")
                break
        self._join_watcher()
        if was_running:
            self._tell(Event(self.name, What.STOPPED))

    def kill(self) -> None:
        with self._lock:
            dying, gone = self._running, self._gone
            if dying is not None:
                processes.signal_group(dying.pid, signal.SIGKILL)
        if dying is not None and not gone.wait(10):
            raise ChildFailed(f"{self.name} did not end, not even by SIGKILL")

    @property
    def process(self) -> Identity | None:
        with self._lock:
            if self._running is None or self._identity is None or not processes.is_live(self._identity):
                return None
            return self._identity

    def log_tail(self) -> str:
        return processes.tail(self._log)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self._spec.env, MARK: self._mark}
        with self._lock:
            if self._stopping.is_set():
                raise ChildFailed(f"{self.name} is being stopped")
            with files.open_log(self._log) as log:
                running = subprocess.Popen(
                    list(self._spec.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._spec.cwd,
                    env=environment,
                    start_new_session=True,
                )
            self._running = running
            self._identity = processes.identify(running.pid) or Identity(running.pid, "")
            self._gone = threading.Event()
            self._guard.watch(self._identity, self._spec.stop_signal)
        self._watcher = threading.Thread(target=self._watch, args=(running, self._gone), name=f"watch-{self.name}")
        self._watcher.daemon = True
        self._watcher.start()

    def _watch(self, running: subprocess.Popen[bytes], gone: threading.Event) -> None:
        self._await_end(running)
        self._end_leftovers(running.pid)
        with self._lock:
            code = running.wait()
            self._running = None
            self._guard.forget(running.pid)
            unasked = not self._stopping.is_set() and not self._starting
        gone.set()
        if unasked:
            self._revive(self._spawn, code != 0, processes.signal_name(code))

    def _await_end(self, running: subprocess.Popen[bytes]) -> None:
        """Wait for the end without reaping; where the system cannot do that, by reaping as late as possible."""
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
            return
        identity = self._identity
        while identity is not None and processes.is_live(identity):
            time.sleep(_POLL_SECONDS)

    def _end_leftovers(self, leader_pid: int) -> None:
        """What the command left in its process group would hold its ports: SIGTERM, some time, SIGKILL."""
        if processes.live_in_group(leader_pid):
            processes.signal_group(leader_pid, signal.SIGTERM)
            processes.wait_until(lambda: not processes.live_in_group(leader_pid), self._spec.stop_timeout_seconds)
        processes.signal_group(leader_pid, signal.SIGKILL)

    def _signal(self, signal_number: int) -> None:
        with self._lock:
            if self._running is not None:
                processes.signal_group(self._running.pid, signal_number)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self._spec.ready_timeout_seconds
        while True:
            if self._gone.is_set():
                raise self._ended_early()
            if self._spec.ready is None or self._is_ready(self._spec.ready):
                return
            if time.monotonic() > deadline:
                waited = f"{self._spec.ready_timeout_seconds:g} s"
                self.stop(lambda: False)
                raise ChildFailed(f"{self.name} was not ready after {waited}. Its log, {self._log}:\n{self.log_tail()}")
            self._gone.wait(_POLL_SECONDS)

    def _ended_early(self) -> ChildFailed:
        return ChildFailed(f"{self.name} ended before it was ready. Its log, {self._log}:\n{self.log_tail()}")

    def _is_ready(self, ready: Callable[[], bool]) -> bool:
        try:
            return ready() and self.process is not None
        except (OSError, http.client.HTTPException):
            return False

    def _join_watcher(self) -> None:
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(15)


class ServiceChild(Supervised):
    """A service under the tree's eyes: watched by the guard, restarted on the same address, stopped in order."""

    def __init__(
        self, name: str, service: Service, guard: Guard, tell: Callable[[Event], None], restart: Restart
    ) -> None:
        super().__init__(name, guard, tell, restart, RestartLimits())
        self._service = service
        self._watched: Identity | None = None
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def start(self) -> str:
        self._stopping.clear()
        self._recent.clear()
        with self._lock:
            result = self._begin()
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._watch, name=f"watch-{self.name}", daemon=True)
            self._watcher.start()
        self._tell(Event(self.name, What.STARTED, result if "@" not in result else ""))
        return result

    def stop(self, hurry: Callable[[], bool]) -> None:
        self._stopping.set()
        with self._lock:
            self._stop_service(hurry)
            self._forget()
        if self._watcher is not None and self._watcher is not threading.current_thread():
            self._watcher.join(15)
        self._tell(Event(self.name, What.STOPPED))

    def abandon(self) -> None:
        """A service that runs for somebody else, and that we failed to attach to, keeps running."""
        self._stopping.set()
        if self._service.process is not None:
            self._service.stop()

    def kill(self) -> None:
        with self._lock:
            self._service.kill()

    @property
    def process(self) -> Identity | None:
        return self._service.process

    def log_tail(self) -> str:
        return self._service.log_tail()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _stop_service(self, hurry: Callable[[], bool]) -> None:
        """Stop it in a thread of its own, so that impatience can turn a long farewell into a short one."""
        problems: list[Exception] = []

        def stop() -> None:
            try:
                self._service.stop()
            except (OSError, RuntimeError) as problem:
                problems.append(problem)

        stopper = threading.Thread(target=stop, name=f"stop-{self.name}")
        stopper.start()
        while stopper.is_alive():
            if hurry():
                self._service.kill()
            stopper.join(_POLL_SECONDS)
        if problems:
            raise problems[0]

    def _begin(self) -> str:
        result = self._service.start()
        process = self._service.process
        if process is not None and process != self._watched:
            self._forget()
            self._guard.watch(process, self._service.stop_signal)
            self._watched = process
        return result

    def _begin_unless_stopping(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                raise ChildFailed(f"{self.name} is being stopped")
            self._begin()

    def _forget(self) -> None:
        if self._watched is not None:
            self._guard.forget(self._watched.pid)
            self._watched = None

    def _watch(self) -> None:
        while not self._stopping.wait(_SERVICE_POLL_SECONDS):
            with self._lock:
                lost = self._service.process is None and not self._stopping.is_set()
                if lost:
                    self._forget()
            if lost and not self._revive(self._begin_unless_stopping, True, "the process is gone"):
                return
