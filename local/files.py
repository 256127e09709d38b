"""Files of a state directory that several processes share: locks, secrets and logs."""

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOG_LIMIT_BYTES = 10_000_000


class LockTimeout(RuntimeError):
    """Another process held the lock for too long."""


@contextlib.contextmanager
def exclusive(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the lock file while inside. The kernel frees it when the holder dies, however it dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockTimeout(f"{path} was held by another process for {timeout_seconds:.0f} s") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that appears complete or not at all, also after a crash."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending. A large one is moved to NAME.1 first; one of another user is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        descriptor = os.open(path, flags, 0o600)
    except PermissionError:
        path.unlink()
        descriptor = os.open(path, flags, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def text_from(path: Path, offset: int, limit_bytes: int = 64_000) -> str:
    """What was appended to a log since `offset`, at most the last `limit_bytes` of it."""
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        log.seek(max(offset, end - limit_bytes))
        return log.read().decode(errors="replace")
