"""What every request under /v2 passes before it reaches a route: throttling, faults, the log."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.calcom import shapes
from sandbox.calcom.control import Control
from sandbox.calcom.faults import RouteFault, first_striking
from sandbox.calcom.limits import RateLimiter
from sandbox.calcom.model import ApiError, Json, iso_ms, now_ms

MAX_BODY_BYTES = 1_000_000

Transports = MutableMapping[tuple[str, int], asyncio.Transport]
"""The open connections by the client's address: ASGI has no way to cut one."""


class Gate:
    """ASGI middleware. Paths outside /v2 pass untouched."""

    def __init__(self, app: ASGIApp, control: Control, limiter: RateLimiter, transports: Transports) -> None:
        self._app = app
        self._control = control
        self._limiter = limiter
        self._transports = transports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v2/"):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        fault = self._fault(scope)
        entry = self._entry(scope, body, fault)
        self._control.log.append(entry)
        answer = _Answer()
        if body is None:
            too_large = ApiError(413, "PayloadTooLargeException", "request entity too large")
            await _error(too_large, scope, answer.send)
        else:
            await self._respond(scope, body, fault, answer)
        entry["status"] = answer.status
        if fault and fault.kind in ("reset", "lose_answer"):
            entry["status"] = None
            await self._cut(scope, receive)
            return
        if fault and fault.kind == "bad_json":
            answer.truncate()
        for message in answer.messages:
            await send(message)

    def _fault(self, scope: Scope) -> RouteFault | None:
        matching = [f for f in self._control.faults if f.matches(scope["method"], scope["path"])]
        return first_striking(self._control.faults, matching)

    def _entry(self, scope: Scope, body: bytes | None, fault: RouteFault | None) -> Json:
        headers = Headers(scope=scope)
        return {
            "at": iso_ms(now_ms()),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("ascii", "replace"),
            "api_version": headers.get("cal-api-version"),
            "body": None if not body else body.decode("utf-8", "replace"),
            "fault": fault.kind if fault else None,
            "status": None,
        }

    async def _respond(self, scope: Scope, body: bytes, fault: RouteFault | None, answer: _Answer) -> None:
        headers = Headers(scope=scope)
        tracker = headers.get("authorization") or (scope["client"] or ("unknown",))[0]
        verdict = self._limiter.take(tracker)
        kind = fault.kind if fault else None
        if kind == "rate_limit" or not verdict.allowed:
            limited = ApiError(429, "ThrottlerException", "ThrottlerException: Too Many Requests")
            extra = self._limiter.blocked_headers() if kind == "rate_limit" else verdict.headers
            await _error(limited, scope, answer.send, extra)
            return
        if kind == "slow" and fault:
            await asyncio.sleep(fault.delay_seconds)
        broken = ApiError(500, "InternalServerErrorException", "Internal server error")
        if kind == "error":
            await _error(broken, scope, answer.send, verdict.headers)
        elif kind != "reset":
            await self._app(scope, _replay(body), answer.send)
            answer.add_headers(verdict.headers)
            if kind == "error_after":
                answer.clear()
                await _error(broken, scope, answer.send, verdict.headers)

    async def _cut(self, scope: Scope, receive: Receive) -> None:
        """Ends the connection with a TCP reset, no byte answered."""
        transport = self._transports.get(tuple(scope["client"]))
        if transport is not None:
            raw: socket.socket | None = transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            while (await receive())["type"] != "http.disconnect":
                pass


class _Answer:
    """Holds an answer back until it is decided what the client sees of it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None

    def clear(self) -> None:
        self.messages.clear()

    def add_headers(self, headers: dict[str, str]) -> None:
        if self.messages:
            self.messages[0]["headers"] = [
                *self.messages[0]["headers"], *((k.encode(), v.encode()) for k, v in headers.items())
            ]  # fmt: skip

    def truncate(self) -> None:
        """Keeps the first half of the body, under a right content length: a whole answer that is no JSON."""
        whole = b"".join(m.get("body", b"") for m in self.messages[1:])
        half = whole[: len(whole) // 2]
        start = self.messages[0]
        kept = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        start["headers"] = [*kept, (b"content-length", str(len(half)).encode())]
        self.messages = [start, {"type": "http.response.body", "body": half}]


async def _read(receive: Receive) -> bytes | None:
    """The body; None where it is larger than allowed (the rest is read and dropped)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        part: bytes = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        if not message.get("more_body", False):
            break
    return b"".join(parts) if size <= MAX_BODY_BYTES else None


def _replay(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def _error(
    error: ApiError, scope: Scope, send: Callable[[Message], Any], headers: dict[str, str] | None = None
) -> None:
    response = JSONResponse(shapes.error_body(error, path_of(scope)), error.status, headers)
    await response(scope, _replay(b""), send)


def path_of(scope: Scope) -> str:
    """Path and query, as the error body names them."""
    query = scope["query_string"].decode("ascii", "replace")
    return f"{scope['path']}?{query}" if query else str(scope["path"])
