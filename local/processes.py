"""Which process is which: identities that survive the reuse of a process id, and signals that never reach a stranger.

A process id is only a name for as long as the process lives. Everything here that outlives a process (a pid file, the
guard's list) therefore carries the start time beside the id, and a signal is sent only while both still match.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
HAS_PROC = (_PROC / "self" / "stat").exists()


@dataclass(frozen=True)
class Identity:
    """A process id and the moment its process started, in the unit of the operating system (opaque, only compared)."""

    pid: int
    started: str


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command name: [0] is the state, [19] the start time in clock ticks."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _ps(pid: int, column: str) -> str:
    try:
        found = subprocess.run(
            ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def identify(pid: int) -> Identity | None:
    """The identity of a live process, or None when there is none; a zombie is not live."""
    if pid <= 0:
        return None
    if HAS_PROC:
        fields = _stat_fields(pid)
        if fields is None or len(fields) < 20 or fields[0] in "ZX":
            return None
        return Identity(pid, fields[19])
    state = _ps(pid, "state")
    if not state or state.startswith("Z"):
        return None
    return Identity(pid, _ps(pid, "lstart"))


def is_live(process: Identity) -> bool:
    """True while this very process runs; a later one with the same id does not count."""
    return identify(process.pid) == process


def send(process: Identity, signal_number: int) -> bool:
    """Signal this very process and nobody else. False when it is gone or belongs to somebody we may not signal."""
    if not is_live(process):
        return False
    try:
        os.kill(process.pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def command_line(pid: int) -> list[str]:
    """The arguments of a process, empty when it is gone or not ours to see."""
    if HAS_PROC:
        try:
            return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            return []
    return _ps(pid, "command").split()


def working_directory(pid: int) -> Path | None:
    """Where a process stands; None when unknown (gone, a stranger's, or a system without /proc)."""
    try:
        return Path(os.readlink(_PROC / str(pid) / "cwd"))
    except OSError:
        return None


def live_processes_in(directory: Path) -> list[int]:
    """Every live process that stands in `directory`; always empty on a system without /proc."""
    if not HAS_PROC:
        return []
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            pid = int(entry.name)
            if working_directory(pid) == directory and identify(pid) is not None:
                found.append(pid)
    return found


def wait_until(condition: Callable[[], bool], timeout_seconds: float, step_seconds: float = 0.03) -> bool:
    """Ask `condition` until it holds; False when the time is over. It is asked at least once."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(step_seconds)
    return True


def end(process: Identity, steps: tuple[tuple[int, float], ...], reap: Callable[[], object] = lambda: None) -> bool:
    """End a process by the given (signal, seconds to wait after it) steps; True once it is gone.

    `reap` is called while waiting, so that a child of ours does not stay as a zombie.
    """

    def gone() -> bool:
        reap()
        return not is_live(process)

    for signal_number, wait_seconds in steps:
        send(process, signal_number)
        if wait_until(gone, wait_seconds):
            return True
    return gone()


def signal_group(leader_pid: int, signal_number: int) -> None:
    """Signal a whole process group. Only call this while the leader is known to exist, be it as a zombie."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader_pid, signal_number)


def tail(path: Path, lines: int = 20, limit_bytes: int = 8_192) -> str:
    """The last lines of a log file, or a short note when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - limit_bytes))
            text = log.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    kept = text.splitlines()[-lines:]
    return "\n".join(kept) if kept else "(the log is empty)"


def signal_name(return_code: int) -> str:
    """A return code in words: "exit code 3" or "killed by SIGKILL"."""
    if return_code >= 0:
        return f"exit code {return_code}"
    try:
        return f"killed by {signal.Signals(-return_code).name}"
    except ValueError:
        return f"killed by signal {-return_code}"


def live_in_group(leader_pid: int) -> list[int]:
    """Every live process of a process group; always empty on a system without /proc."""
    if not HAS_PROC:
        return []
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields is not None and len(fields) > 2 and fields[2] == str(leader_pid) and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def live_with_mark(name: str, value: str) -> list[Identity]:
    """Every live process of ours that was given this environment variable, or inherited it; needs /proc."""
    if not HAS_PROC:
        return []
    mark = f"{name}={value}".encode()
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    process = identify(int(entry.name))
                    if process is not None:
                        found.append(process)
    return found
