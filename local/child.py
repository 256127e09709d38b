"""One supervised process: how it is started, when it counts as ready, what happens when it dies."""

import enum
import http.client
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from local import ports
from local.guard import Guard
from local.processes import Identity


class ChildFailed(RuntimeError):
    """A child did not become ready or died too often; the message ends with the last lines of its log."""


class Restart(enum.Enum):
    """What happens when a child ends unasked."""

    NEVER = "never"
    ON_CRASH = "on crash"  # by a signal or with an exit code other than 0


class What(enum.Enum):
    STARTED = "started"
    EXITED = "exited"
    RESTARTED = "restarted"
    GAVE_UP = "gave up"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """Something that happened to a child; `detail` is for people."""

    name: str
    what: What
    detail: str = ""


@dataclass(frozen=True)
class RestartLimits:
    """At most `most` restarts within `window_seconds`, after waits that double from the first to the longest."""

    most: int = 5
    window_seconds: float = 60.0
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 5.0


@dataclass(frozen=True)
class ChildSpec:
    """A command to supervise. `env` is added to our own environment; output goes to logs/NAME.log.

    `ready` is asked until it returns True; an OSError or HTTP error counts as "not yet". Without it, a child is ready
    as soon as it runs.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    ready: Callable[[], bool] | None = None
    ready_timeout_seconds: float = 30.0
    restart: Restart = Restart.NEVER
    limits: RestartLimits = RestartLimits()
    stop_signal: int = signal.SIGTERM
    stop_timeout_seconds: float = 10.0


class Service(Protocol):
    """A server that starts and stops itself, as EmbeddedPostgres and LocalTemporal do."""

    stop_signal: signal.Signals

    def start(self) -> str: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def is_alive(self) -> bool: ...
    def log_tail(self) -> str: ...
    @property
    def process(self) -> Identity | None: ...


def listens(port: int, host: str = ports.LOOPBACK) -> Callable[[], bool]:
    """A readiness check: somebody accepts connections on this port."""

    def check() -> bool:
        with socket.create_connection((host, port), timeout=1):
            return True

    return check


def answers(url: str) -> Callable[[], bool]:
    """A readiness check: GET on this http:// address is answered with a 2xx status."""

    def check() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(200 <= response.status < 300)
        except (urllib.error.URLError, http.client.HTTPException):
            return False

    return check


class Supervised:
    """What commands and services have in common: a guard's watch, a restart policy, events."""

    def __init__(self, name: str, guard: Guard, tell: Callable[[Event], None], restart: Restart, limits: RestartLimits):
        self.name = name
        self._guard = guard
        self._tell = tell
        self._restart = restart
        self._limits = limits
        self._recent: deque[float] = deque()
        self._stopping = threading.Event()

    def start(self) -> str:
        raise NotImplementedError

    def stop(self, hurry: Callable[[], bool]) -> None:
        raise NotImplementedError

    def abandon(self) -> None:
        """Clean up after a start that failed."""
        self.stop(lambda: True)

    def kill(self) -> None:
        raise NotImplementedError

    @property
    def process(self) -> Identity | None:
        raise NotImplementedError

    def log_tail(self) -> str:
        raise NotImplementedError

    def _next_wait_seconds(self) -> float | None:
        """How long to wait before the next restart; None when there were too many."""
        now = time.monotonic()
        while self._recent and now - self._recent[0] > self._limits.window_seconds:
            self._recent.popleft()
        if len(self._recent) >= self._limits.most:
            return None
        wait_seconds = self._limits.first_wait_seconds * float(2 ** len(self._recent))
        self._recent.append(now)
        return min(wait_seconds, self._limits.longest_wait_seconds)

    def _revive(self, again: Callable[[], object], crashed: bool, detail: str) -> bool:
        """After an unasked end: restart as the policy says. True when there is a new process."""
        self._tell(Event(self.name, What.EXITED, detail))
        while crashed and self._restart is Restart.ON_CRASH:
            wait_seconds = self._next_wait_seconds()
            if wait_seconds is None:
                break
            if self._stopping.wait(wait_seconds):
                return False
            try:
                again()
            except (OSError, RuntimeError) as problem:
                if self._stopping.is_set():
                    return False
                self._tell(Event(self.name, What.EXITED, str(problem)))
                continue
            self._tell(Event(self.name, What.RESTARTED, detail))
            return True
        if not self._stopping.is_set():
            self._tell(Event(self.name, What.GAVE_UP, f"{detail}\n{self.log_tail()}"))
        return False
