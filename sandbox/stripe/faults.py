"""Faults on demand, and the rate limits."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict, deque
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sandbox.stripe.errors import ApiError, rate_limited
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import Store

Kind = Literal["lose_answer", "error_before", "error_after", "rate_limit", "reset", "slow"]
WINDOW_SECONDS = 1.0


class Fault(BaseModel):
    """What goes wrong, and for which requests.

    ``skip`` matching requests pass first, then ``times`` are hit (-1: all). ``error_before`` leaves no effect; with
    ``saved`` its 500 is stored under the idempotency key, so that a retry gets it again. ``slow`` waits before the
    effect (the key is in use meanwhile), with ``after`` between the effect and the answer.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    method: str = "POST"
    path_regex: str = ".*"
    body_regex: str = ""
    times: int = Field(default=1, ge=-1)
    skip: int = Field(default=0, ge=0)
    saved: bool = False
    after: bool = False
    delay_seconds: float = Field(default=0.0, ge=0.0, le=600.0)
    retry_after_seconds: int = Field(default=1, ge=0)
    hits: int = Field(default=0, ge=0)
    id: int = 0

    @field_validator("path_regex", "body_regex")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def matches(self, method: str, path: str, body: str) -> bool:
        """Whether a request is one of those; the path is searched, not matched from its start."""
        return (
            self.method in ("*", method)
            and re.search(self.path_regex, path) is not None
            and (not self.body_regex or re.search(self.body_regex, body) is not None)
        )


class Faults:
    """The stored faults: they survive a restart, as does how often each has hit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        rows = store.connection.execute("SELECT id, body FROM faults ORDER BY id")
        self._faults = [Fault(**{**json.loads(body), "id": fault_id}) for fault_id, body in rows]

    def all(self) -> list[Fault]:
        """Every fault, spent ones too, in the order they were added."""
        return list(self._faults)

    def add(self, fault: Fault) -> Fault:
        """Adds one and gives it its id. Must run inside a transaction."""
        cursor = self._store.connection.execute("INSERT INTO faults (body) VALUES (?)", (fault.model_dump_json(),))
        fault.id = int(cursor.lastrowid or 0)
        self._faults.append(fault)
        return fault

    def remove(self, fault_id: int | None = None) -> None:
        """Removes one, or all of them. Must run inside a transaction."""
        if fault_id is None:
            self._faults.clear()
            self._store.connection.execute("DELETE FROM faults")
        else:
            self._faults = [fault for fault in self._faults if fault.id != fault_id]
            self._store.connection.execute("DELETE FROM faults WHERE id=?", (fault_id,))

    def forget(self) -> None:
        """Drops what is in memory, after the store was cleared."""
        self._faults.clear()

    def take(self, method: str, path: str, body: str) -> Fault | None:
        """The first fault that hits this request, counted; None if the request passes."""
        for fault in self._faults:
            if fault.times == 0 or not fault.matches(method, path, body):
                continue
            hit = fault.skip == 0
            if hit:
                fault.times -= 1 if fault.times > 0 else 0
                fault.hits += 1
            else:
                fault.skip -= 1
            with self._store.transaction():
                self._store.connection.execute(
                    "UPDATE faults SET body=? WHERE id=?", (fault.model_dump_json(), fault.id)
                )
            if hit:
                return fault
        return None


class RateLimits:
    """Requests in the last second of real time, over all and for each endpoint."""

    def __init__(self, settings: Settings) -> None:
        self._overall = settings.rate_per_second
        self._endpoint = settings.endpoint_rate_per_second
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def check(self, endpoint: str) -> ApiError | None:
        """The 429 for a request too many; a refused request does not count."""
        limits = (("", self._overall, "global-rate"), (endpoint, self._endpoint, "endpoint-rate"))
        moment = time.monotonic()
        for name, limit, reason in limits:
            if limit is None:
                continue
            seen = self._seen[name]
            while seen and seen[0] <= moment - WINDOW_SECONDS:
                seen.popleft()
            if len(seen) >= limit:
                return rate_limited(reason, 1)
        for name, limit, _ in limits:
            if limit is not None:
                self._seen[name].append(moment)
        return None
