"""The ASGI application: API below ``/v1``, control below ``/_sandbox``, faults and limits in front of both."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sandbox.stripe import jobs, webhooks
from sandbox.stripe.context import Clock, new_id
from sandbox.stripe.control import Control
from sandbox.stripe.delivery import Deliverer
from sandbox.stripe.errors import ApiError, JsonObject, rate_limited, server_error
from sandbox.stripe.faults import Fault, Faults, RateLimits
from sandbox.stripe.requests import Answer, Api, Request, find_route
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAXIMUM_BODY_BYTES = 1_000_000
CONTROL_PREFIX = "/_sandbox/"


class ConnectionLost(Exception):
    """The answer is not to be sent: the connection breaks instead."""


class Sandbox:
    """The whole stand-in, as an ASGI application with two background tasks (:meth:`start`, :meth:`stop`)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.store = Store(settings.data_dir / "stripe.sqlite")
        self.clock = Clock(self.store)
        platform = self.store.meta("platform", "") or new_id("acct", 16)
        with self.store.transaction():
            self.store.set_meta("platform", platform)
        self.api = Api(self.store, self.clock, settings, platform)
        self.faults = Faults(self.store)
        self.limits = RateLimits(settings)
        self.deliverer = Deliverer(self.api.context())
        self.log: deque[JsonObject] = deque(maxlen=settings.log_size)
        self.log_enabled = True
        self.control = Control(self)
        self._tasks: list[asyncio.Task[None]] = []
        self._planned = asyncio.Event()
        self.install_webhook()

    def install_webhook(self) -> None:
        """Makes sure that the command line's webhook endpoint exists."""
        url, secret = self.settings.webhook_url, self.settings.webhook_secret
        if url and secret:
            with self.store.transaction():
                webhooks.ensure_endpoints(self.api.context(), url, secret)

    async def start(self) -> None:
        """Begins delivering webhooks and running planned jobs."""
        self._tasks = [asyncio.create_task(self.deliverer.run()), asyncio.create_task(self._run_jobs())]

    async def stop(self) -> None:
        """Ends the background tasks; what they left undone is in the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()

    def changed(self) -> None:
        """To be called after a commit: events may wait for delivery, jobs for their time."""
        self.deliverer.wake()
        self._planned.set()

    async def _run_jobs(self) -> None:
        while True:
            self._planned.clear()
            if jobs.run_due(self.api.context()):
                self.deliverer.wake()
            wait = jobs.seconds_until_next(self.api.context())
            try:
                await asyncio.wait_for(self._planned.wait(), wait)
            except TimeoutError:
                continue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _read(receive)
        if body is None:
            await _respond(
                send, Answer(413, b'{"error":{"message":"Request too large","type":"invalid_request_error"}}', {})
            )
            return
        path, method = scope["path"], scope["method"]
        query = scope["query_string"].decode("latin-1")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if path.startswith(CONTROL_PREFIX):
            await _respond(send, await self.control.handle(method, path, body))
            return
        form = body.decode("utf-8", "replace") if method == "POST" else query
        request = Request(method, path, form, headers)
        try:
            answer = await self._answer(request)
        except ConnectionLost:
            self._record(request, None)
            _reset(send)
            return
        self._record(request, answer)
        await _respond(send, answer)

    async def _answer(self, request: Request) -> Answer:
        try:
            account = self.api.admit(request)
            *_, route = find_route(request.method, request.path)
            limited = self.limits.check(route)
            if limited is not None:
                raise limited
            key = request.idempotency_key
            if key is None:
                return await self._through_faults(request, account)
            self.api.keys.claim(account, key)
            try:
                return await self._through_faults(request, account)
            finally:
                self.api.keys.release(account, key)
        except ApiError as error:
            return self.api.refuse(request, error)

    async def _through_faults(self, request: Request, account: str) -> Answer:
        fault = self.faults.take(request.method, request.path, request.form)
        if fault is None:
            return self._run(request, account)
        if fault.kind == "reset":
            raise ConnectionLost
        if fault.kind == "rate_limit":
            raise rate_limited("global-rate", fault.retry_after_seconds)
        if fault.kind == "error_before":
            error = server_error()
            if fault.saved:
                self.api.store_only(request, account, error)
            raise error
        return await self._after_effect(request, account, fault)

    async def _after_effect(self, request: Request, account: str, fault: Fault) -> Answer:
        if fault.kind == "error_after":
            return self._run(request, account, server_error())
        if fault.kind == "slow" and not fault.after:
            await asyncio.sleep(fault.delay_seconds)
            return self._run(request, account)
        answer = self._run(request, account)
        if fault.kind == "lose_answer":
            raise ConnectionLost
        await asyncio.sleep(fault.delay_seconds)
        return answer

    def _run(self, request: Request, account: str, forced: ApiError | None = None) -> Answer:
        answer = self.api.run(request, account, forced)
        if request.method != "GET":
            self.changed()
        return answer

    def _record(self, request: Request, answer: Answer | None) -> None:
        if self.log_enabled:
            self.log.append(
                {
                    "method": request.method,
                    "path": request.path,
                    "body": request.form,
                    "status": answer.status if answer else None,
                    "response": answer.body if answer else None,
                    "idempotency_key": request.idempotency_key,
                    "account": request.headers.get("stripe-account"),
                    "stripe_version": request.headers.get("stripe-version"),
                    "replayed": bool(answer and "idempotent-replayed" in answer.headers),
                    "at": time.time(),
                }
            )

    def reset(self) -> None:
        """Forgets everything and starts anew, with the same platform account and command-line webhook."""
        with self.store.transaction():
            self.store.clear()
            self.store.set_meta("platform", self.api.platform)
        self.clock.reset()
        self.faults.forget()
        self.log.clear()
        self.api.executed.clear()
        self.api.replayed = 0
        self.install_webhook()


async def _read(receive: Receive) -> bytes | None:
    """The request body; None if it is larger than any real one (it is read to its end all the same)."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= MAXIMUM_BODY_BYTES:
            chunks.append(chunk)
        if not message.get("more_body"):
            break
    return b"".join(chunks) if size <= MAXIMUM_BODY_BYTES else None


async def _respond(send: Send, answer: Answer) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def _reset(send: Send) -> None:
    """Breaks the connection with a TCP reset. uvicorn's ``send`` is a method of the object that holds the transport."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("this server does not let the sandbox break a connection")
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
