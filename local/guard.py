"""The process that ends a process tree whose parent died without a word.

A parent that is killed with -9 cannot stop its children. So it starts this guard beside them, in a session of its own,
and tells it through a pipe which processes there are. When the pipe ends without a farewell, the guard ends them: first
each by its stop signal, then by SIGKILL. One guard serves a whole tree, works where Linux' parent-death signal does not
(it is tied to a thread and to direct children), and costs one idle interpreter.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

from local import processes
from local.processes import Identity

MARK = "BILLING_PROCESS_TREE"
_CHECK_SECONDS = 1.0


class Guard:
    """The parent's end of the pipe. Every call is safe from any thread; a guard that was killed is replaced."""

    def __init__(self, mark: str, grace_seconds: float) -> None:
        self._lock_descriptor: int | None = None
        self._mark = mark
        self._grace_seconds = grace_seconds
        self._watched: dict[int, dict[str, object]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def open(self, lock_descriptor: int) -> None:
        """Start the guard before the first child, so that there is no child without one.

        It keeps the lock of the tree open, so a successor waits until it is done.
        """
        with self._lock:
            self._lock_descriptor = lock_descriptor
            self._ensure()

    def watch(self, process: Identity, stop_signal: int) -> None:
        note = {"pid": process.pid, "started": process.started, "signal": int(stop_signal)}
        with self._lock:
            self._watched[process.pid] = note
            self._tell({"watch": note})

    def forget(self, pid: int) -> None:
        with self._lock:
            if self._watched.pop(pid, None) is not None:
                self._tell({"forget": pid})

    def close(self) -> None:
        """Say farewell: everything was stopped properly, and the guard goes without a deed."""
        with self._lock:
            self._watched.clear()
            if self._process is None:
                return
            self._write({"farewell": True})
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _ensure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        code = "import sys; sys.path.insert(0, sys.argv[1]); from local.guard import main; main(sys.argv[2:])"
        home = str(Path(__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, home, str(os.getpid()), self._mark, str(self._grace_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            bufsize=0,
            start_new_session=True,
            pass_fds=() if self._lock_descriptor is None else (self._lock_descriptor,),
        )
        for note in self._watched.values():
            self._write({"watch": note})

    def _tell(self, message: dict[str, object]) -> None:
        """Tell the guard; a new one, started because the old one is gone, learns everything at its start."""
        before = self._process
        self._ensure()
        if self._process is before:
            self._write(message)

    def _write(self, message: dict[str, object]) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            self._process.wait(10)


def main(arguments: list[str]) -> None:
    """The guard itself; arguments: the parent's process id, the tree's mark, the grace in seconds."""
    parent, mark, grace_seconds = int(arguments[0]), arguments[1], float(arguments[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, tuple[Identity, int]] = {}
    pending = b""
    while True:
        readable, _, _ = select.select([0], [], [], _CHECK_SECONDS)
        if not readable:
            if os.getppid() != parent:  # a fork of the parent may still hold the pipe open
                break
            continue
        received = os.read(0, 65_536)
        if not received:
            break
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "farewell" in message:
                return
            if "watch" in message:
                note = message["watch"]
                watched[note["pid"]] = (Identity(note["pid"], note["started"]), note["signal"])
            else:
                watched.pop(message["forget"], None)
    _end_all(list(watched.values()), mark, grace_seconds)


def _end_all(watched: list[tuple[Identity, int]], mark: str, grace_seconds: float) -> None:
    """End every watched process with its group, and on Linux whatever else carries the tree's mark."""

    def none_left() -> bool:
        return not any(processes.is_live(process) for process, _ in watched)

    for process, stop_signal in watched:
        _signal_with_group(process, stop_signal)
    if not processes.wait_until(none_left, grace_seconds, 0.1):
        for process, _ in watched:
            _signal_with_group(process, signal.SIGKILL)
    end_strays(mark, grace_seconds)


def end_strays(mark: str, grace_seconds: float) -> None:
    """End every process that carries the tree's mark: a child's child that left its group, a child not reported yet."""

    def strays() -> list[Identity]:
        return processes.live_with_mark(MARK, mark)

    for process in strays():
        processes.send(process, signal.SIGTERM)
    if processes.wait_until(lambda: not strays(), grace_seconds, 0.05):
        return
    for _ in range(50):  # one may start another meanwhile
        for process in strays():
            processes.send(process, signal.SIGKILL)
        if processes.wait_until(lambda: not strays(), 0.1):
            return


def _signal_with_group(process: Identity, signal_number: int) -> None:
    if not processes.is_live(process):
        return
    with contextlib.suppress(ProcessLookupError):  # it may go at any moment, and the others still need their signal
        if os.getpgid(process.pid) == process.pid:
            processes.signal_group(process.pid, signal_number)
        else:
            processes.send(process, signal_number)
