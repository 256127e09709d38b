"""What an HTTP call's end means to us: one table for the statuses, one for calls that got no answer.

The messages made here name the operation, the status and a code word, never anything that a person typed: bodies, URLs
and vendor messages stay out, because errors end up in workflow histories and logs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import httpx

from domain.ports import NotFound, OutcomeUnknown, OutsideError, RateLimited, SetupError

MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""A longer hint is taken for a mistake (Cal.com blocks a key for 60 s)."""

_CODE_WORD = re.compile(r"[^A-Za-z0-9_]")


class Meaning(StrEnum):
    UNKNOWN = "unknown"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    SETUP = "setup"


@dataclass(frozen=True, slots=True)
class StatusRow:
    """Statuses `low` to `high`, both included."""

    low: int
    high: int
    meaning: Meaning
    code: str


STATUS_TABLE: Final = (
    StatusRow(300, 399, Meaning.SETUP, "redirected"),
    StatusRow(400, 400, Meaning.SETUP, "bad_request"),
    StatusRow(401, 401, Meaning.SETUP, "unauthorized"),
    StatusRow(403, 403, Meaning.SETUP, "forbidden"),
    StatusRow(404, 404, Meaning.NOT_FOUND, "not_found"),
    StatusRow(408, 408, Meaning.UNKNOWN, "request_timeout"),
    StatusRow(409, 409, Meaning.UNKNOWN, "conflict"),
    StatusRow(425, 425, Meaning.UNKNOWN, "too_early"),
    StatusRow(429, 429, Meaning.RATE_LIMITED, "rate_limited"),
    StatusRow(400, 499, Meaning.SETUP, "bad_request"),
    StatusRow(500, 599, Meaning.UNKNOWN, "server_error"),
)
"""The first row that fits counts. 409 is a race with another call, not a decision: repeating tells."""

NO_ANSWER_TABLE: Final[tuple[tuple[type[Exception], Meaning, str], ...]] = (
    (httpx.ConnectTimeout, Meaning.UNKNOWN, "connect_failed"),
    (httpx.PoolTimeout, Meaning.UNKNOWN, "pool_exhausted"),
    (httpx.TimeoutException, Meaning.UNKNOWN, "timeout"),
    (httpx.ConnectError, Meaning.UNKNOWN, "connect_failed"),
    (httpx.UnsupportedProtocol, Meaning.SETUP, "bad_address"),
    (httpx.LocalProtocolError, Meaning.SETUP, "bad_request_of_ours"),
    (httpx.ProxyError, Meaning.UNKNOWN, "proxy_failed"),
    (httpx.DecodingError, Meaning.UNKNOWN, "undecodable"),
    (httpx.TransportError, Meaning.UNKNOWN, "connection_lost"),
    (httpx.InvalidURL, Meaning.SETUP, "bad_address"),
    (httpx.HTTPError, Meaning.UNKNOWN, "http_failed"),
    (TimeoutError, Meaning.UNKNOWN, "timeout"),
)
"""The first class that fits counts. Nothing says whether the other side acted, so nearly all are unknown."""


def make(meaning: Meaning, code: str, message: str, *, retry_after_seconds: float | None = None) -> OutsideError:
    """The error of a meaning."""
    match meaning:
        case Meaning.UNKNOWN:
            return OutcomeUnknown(code, message)
        case Meaning.RATE_LIMITED:
            return RateLimited(code, message, retry_after_seconds=retry_after_seconds)
        case Meaning.NOT_FOUND:
            return NotFound(code, message)
        case Meaning.SETUP:
            return SetupError(code, message)


def of_status(operation: str, status: int, headers: Mapping[str, str], vendor_code: str | None = None) -> OutsideError:
    """The error for an answer that is no success. `vendor_code` is cut to word characters."""
    row = next((r for r in STATUS_TABLE if r.low <= status <= r.high), None)
    word = f" {_CODE_WORD.sub('', vendor_code)[:64]}" if vendor_code else ""
    message = f"{operation} answered {status}{word}"
    if row is None:
        return OutcomeUnknown("unexpected_status", message)
    return make(row.meaning, row.code, message, retry_after_seconds=retry_after_seconds(headers))


def of_no_answer(operation: str, error: Exception) -> OutsideError:
    """The error for a call that ended without an answer."""
    for kind, meaning, code in NO_ANSWER_TABLE:
        if isinstance(error, kind):
            return make(meaning, code, f"{operation} got no answer ({type(error).__name__})")
    return OutcomeUnknown("http_failed", f"{operation} got no answer ({type(error).__name__})")


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: `Retry-After` (seconds or a date), else Cal.com's own reset header; None without a usable hint.

    `headers` must look names up case-insensitively, as `httpx.Headers` does.
    """
    for name in ("retry-after", "retry-after-default", "x-ratelimit-reset-default", "x-ratelimit-reset"):
        value = headers.get(name, "").strip()
        seconds = float(value) if re.fullmatch(r"\d{1,10}(\.\d{1,6})?", value) else _until(value)
        if seconds is not None and 0 <= seconds <= MAX_RETRY_AFTER_SECONDS:
            return seconds
    return None


def _until(http_date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(http_date).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
