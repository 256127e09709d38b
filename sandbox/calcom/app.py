"""Puts the sandbox together and runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.calcom import shapes
from sandbox.calcom.api import Api
from sandbox.calcom.bookings import Bookings
from sandbox.calcom.control import Control
from sandbox.calcom.delivery import Deliveries
from sandbox.calcom.gate import Gate, Transports, path_of
from sandbox.calcom.limits import RateLimiter
from sandbox.calcom.model import TRIGGERS, ApiError, Webhook, now_ms
from sandbox.calcom.store import Store

TICK_SECONDS = 0.5
"""How often it looks for meetings that began or ended."""


def build_app(store: Store, limiter: RateLimiter, transports: Transports) -> ASGIApp:
    """The whole server as one ASGI application. `store` is closed when it shuts down."""
    deliveries = Deliveries(store)
    bookings = Bookings(store, deliveries)
    control = Control(store, bookings, deliveries, limiter)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ticker = asyncio.create_task(_tick(store, deliveries))
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
            await deliveries.aclose()
            store.close()

    inner = Starlette(
        routes=[*Api(store, bookings).routes, *control.routes],
        exception_handlers={ApiError: _on_api_error, HTTPException: _on_http_error},
        lifespan=lifespan,
    )
    return Gate(inner, control, limiter, transports)


async def _tick(store: Store, deliveries: Deliveries) -> None:
    """Sends MEETING_STARTED and MEETING_ENDED of accepted bookings when their time comes."""
    while True:
        now = now_ms()
        for edge, trigger in (("start", "MEETING_STARTED"), ("end", "MEETING_ENDED")):
            for booking in store.take_due(edge, now):
                deliveries.announce(trigger, booking)
        await asyncio.sleep(TICK_SECONDS)


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(shapes.error_body(error, path_of(request.scope)), error.status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = ApiError(404, "NotFoundException", f"Cannot {request.method} {request.url.path}")
    return JSONResponse(shapes.error_body(known, path_of(request.scope)), 404)


def subscribe_all(store: Store, url: str, secret: str | None) -> None:
    """The webhook of the command line: every trigger, replaced at each start, kept by a reset."""
    store.put_webhook(Webhook(id="cli-1", subscriber_url=url, triggers=list(TRIGGERS), secret=secret))


class _Server(uvicorn.Server):
    """Says when it listens, and ends with code 0 on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def run(
    *,
    port: int,
    data_dir: Path,
    port_file: Path | None,
    limit: int,
    webhook: tuple[str, str | None] | None,
    host: str = "127.0.0.1",
) -> None:
    """Serves on `host` until a signal. Raises OSError where the port is taken."""
    # asyncio switches Nagle's algorithm off only for sockets that name TCP; with it each answer would take 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    bound_port: int = listener.getsockname()[1]
    store = Store(data_dir)
    if webhook is not None:
        subscribe_all(store, *webhook)
    transports: dict[tuple[str, int], asyncio.Transport] = {}

    class Protocol(H11Protocol):
        """Remembers its transport, so that a fault can cut the connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                transports.pop(self.client, None)
            super().connection_lost(exc)

    def on_ready() -> None:
        if port_file is not None:
            partial = port_file.with_name(port_file.name + ".partial")
            partial.write_text(f"{bound_port}\n")
            os.replace(partial, port_file)
        print(f"calcom sandbox listening on http://{host}:{bound_port}", flush=True)

    config = uvicorn.Config(
        build_app(store, RateLimiter(limit), transports),
        http=Protocol,
        log_config=None,
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=60,
        backlog=512,
    )
    asyncio.run(_Server(config, on_ready).serve([listener]))
