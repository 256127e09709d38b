"""Cal.com's throttling: so many requests in a window for each key, then the key is blocked for a while."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
BLOCK_SECONDS = 60.0


@dataclass(slots=True)
class _Window:
    ends_at: float
    used: int = 0
    blocked_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    headers: dict[str, str]


class RateLimiter:
    """`limit` 0 switches it off. Counts in memory: a restart starts new windows."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._windows: dict[str, _Window] = {}

    def clear(self) -> None:
        self._windows.clear()

    def blocked_headers(self) -> dict[str, str]:
        return _headers(self.limit or 120, 0, BLOCK_SECONDS)

    def take(self, tracker: str) -> Verdict:
        """Counts one request of this tracker (an API key or an address)."""
        if self.limit <= 0:
            return Verdict(True, {})
        now = time.monotonic()
        window = self._windows.get(tracker)
        if window is None or (now >= window.ends_at and now >= window.blocked_until):
            window = self._windows[tracker] = _Window(now + WINDOW_SECONDS)
        if now < window.blocked_until:
            return Verdict(False, _headers(self.limit, 0, window.blocked_until - now))
        window.used += 1
        if window.used > self.limit:
            window.blocked_until = now + BLOCK_SECONDS
            return Verdict(False, _headers(self.limit, 0, BLOCK_SECONDS))
        return Verdict(True, _headers(self.limit, self.limit - window.used, window.ends_at - now))


def _headers(limit: int, remaining: int, reset_seconds: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit-Default": str(limit),
        "X-RateLimit-Remaining-Default": str(remaining),
        "X-RateLimit-Reset-Default": str(math.ceil(reset_seconds)),
    }
