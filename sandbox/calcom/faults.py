"""Faults on demand, for requests and for webhooks. They live in memory: a restart ends them."""

from __future__ import annotations

import re
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Fault(BaseModel):
    """`times` is how often it strikes (-1: always), after letting `skip` matches pass."""

    model_config = ConfigDict(extra="forbid")

    times: int = 1
    skip: int = Field(default=0, ge=0)

    def strike(self) -> bool:
        """Counts a match; True where the fault strikes now."""
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times == 0:
            return False
        if self.times > 0:
            self.times -= 1
        return True


class RouteFault(_Fault):
    """What happens to requests whose method and path match.

    lose_answer: the effect happens, the connection is cut without an answer. error: 500 without an effect.
    error_after: the effect happens, the answer is 500. reset: the connection is cut, nothing happened.
    slow: answered after `delay_seconds`. rate_limit: 429 with the headers of a blocked key.
    bad_json: the effect happens, the answer is a 200 with a truncated body.
    """

    method: str = "*"
    path_regex: str = ".*"
    kind: Literal["lose_answer", "error", "error_after", "reset", "slow", "rate_limit", "bad_json"]
    delay_seconds: float = Field(default=1.0, ge=0, le=60)

    @field_validator("path_regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and re.search(self.path_regex, path) is not None


class WebhookFault(_Fault):
    """What happens to webhooks of a trigger (`*`: all) and a booking (None: all).

    drop: never sent. duplicate: sent `copies` times at once. hold: queued until released.
    early: sent, and awaited, before the change is stored, as Cal.com does on cancellation: who reads the booking now
    still sees the old state.
    """

    kind: Literal["drop", "duplicate", "hold", "early"]
    trigger: str = "*"
    uid: str | None = None
    copies: int = Field(default=2, ge=1, le=1000)

    def matches(self, trigger: str, uid: str | None) -> bool:
        return self.trigger in ("*", trigger) and self.uid in (None, uid)


_F = TypeVar("_F", bound=_Fault)


def first_striking(faults: list[_F], candidates: list[_F]) -> _F | None:
    """The first candidate that strikes now; used-up faults are removed from `faults`."""
    for fault in candidates:
        if fault.strike():
            if fault.times == 0:
                faults.remove(fault)
            return fault
    return None
