"""The webhook app: verify, commit to the inbox, answer; the relay does the rest.

A sender gets 2xx only for what is committed. 4xx: not genuine, nothing is stored. 503: genuine perhaps, but not stored;
send it again. There is no way to a 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect
from temporalio.client import Client

from settings import Settings
from starter import intake, logs, metrics, temporal
from starter.dispatch import Dispatcher
from starter.metrics import Metrics
from starter.onboarding import Onboarding
from starter.onboarding_pages import OnboardingPages
from starter.relay import Relay
from store.database import Store, schema_is_current

log = structlog.get_logger("webhooks")

BODY_TIMEOUT_SECONDS: Final = 10.0
"""A few kB arrive at once; a sender that drips them would hold a connection for ever."""

DATABASE_TIMEOUT_SECONDS: Final = 10.0
"""Cal.com and Stripe wait 10 to 20 seconds for an answer; an earlier 503 makes Stripe repeat."""

CHECK_TIMEOUT_SECONDS: Final = 3.0
"""Each check of /readyz: load balancers ask every few seconds."""

SCHEMA_REMEMBERED: Final = timedelta(minutes=1)
"""A schema that was current is not asked for again for this long: the question costs a connection of its own."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What the app needs; tests give their own clock and client."""

    settings: Settings
    store: Store
    client: Client
    relay: Relay
    metrics: Metrics
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    run_relay: bool = True
    """Whether the app's lifespan runs the relay's loop; False where another process does."""


def build(settings: Settings, store: Store, client: Client, *, run_relay: bool = True) -> Deps:
    """The usual parts around a store and a client."""
    figures = Metrics()
    dispatcher = Dispatcher(store=store, client=client, settings=settings)
    relay = Relay(store=store, dispatcher=dispatcher, settings=settings, metrics=figures)
    return Deps(settings=settings, store=store, client=client, relay=relay, metrics=figures, run_relay=run_relay)


class _Refused(Exception):
    """Answered with a 4xx; `reason` is short and holds nothing of the body."""

    def __init__(self, status_code: int, reason: str) -> None:
        super().__init__(reason)
        self.status_code = status_code
        self.reason = reason


async def _body(request: Request, max_bytes: int) -> bytes:
    """The raw body. Stops reading at the limit, whatever Content-Length says."""
    announced = request.headers.get("content-length", "")
    length = int(announced) if announced.isascii() and announced.isdigit() and len(announced) < 20 else None
    if length is not None and length > max_bytes:
        raise _Refused(413, f"the body is larger than {max_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _Refused(413, f"the body is larger than {max_bytes} bytes")
    except TimeoutError:
        raise _Refused(408, f"the body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} s") from None
    except ClientDisconnect:
        raise _Refused(400, "the body ended early") from None
    if length is not None and len(body) < length:
        raise _Refused(400, "the body ended early")
    return bytes(body)


def _header(request: Request, name: str) -> str:
    """A header's value; several of the same name are none, because it is open which one counts."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise _Refused(400, "the signature header is there twice")
    return values[0] if values else ""


class _Intake:
    """Both endpoints: they differ only in how a body is verified and read."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def calcom(self, request: Request) -> JSONResponse:
        secret = self._deps.settings.calcom_webhook_secret.get_secret_value()

        def read(raw: bytes) -> intake.Incoming:
            return intake.calcom(raw, _header(request, "x-cal-signature-256"), secret)

        return await self._take(request, "calcom", read)

    async def stripe(self, request: Request) -> JSONResponse:
        given = self._deps.settings
        own, connect = given.stripe_webhook_secret, given.stripe_connect_webhook_secret

        def read(raw: bytes) -> intake.Incoming:
            header = _header(request, "stripe-signature")
            if connect is not None:
                with contextlib.suppress(intake.BadWebhook):
                    return intake.stripe(raw, header, connect.get_secret_value(), now=self._deps.now())
            return intake.stripe(raw, header, own.get_secret_value(), now=self._deps.now())

        return await self._take(request, "stripe", read)

    async def _take(self, request: Request, source: str, read: Callable[[bytes], intake.Incoming]) -> JSONResponse:
        try:
            raw = await _body(request, self._deps.settings.webhook_max_bytes)
            try:
                incoming = read(raw)
            except intake.BadWebhook as problem:
                raise _Refused(400, problem.reason) from None
        except _Refused as refusal:
            self._deps.metrics.received(source, None, "refused")
            log.warning("webhook_refused", source=source, status=refusal.status_code, reason=refusal.reason)
            return JSONResponse({"status": "refused", "reason": refusal.reason}, refusal.status_code)
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
                is_new = await self._commit(incoming, raw)
        except Exception as error:  # noqa: BLE001 - whatever kept it from being stored, the sender has to repeat it
            self._deps.metrics.received(source, incoming.type, "unavailable")
            log.error("webhook_not_stored", source=source, event_id=incoming.event_id, error=type(error).__name__)
            answer = {"status": "unavailable", "reason": "not stored; send it again"}
            return JSONResponse(answer, 503, {"Retry-After": "10"})
        return self._answer(incoming, is_new)

    async def _commit(self, incoming: intake.Incoming, raw: bytes) -> bool:
        async with self._deps.store.begin() as tx:
            return await tx.inbox.add(
                incoming.event_id, incoming.source, incoming.type, incoming.object_id, raw, status=incoming.status
            )

    def _answer(self, incoming: intake.Incoming, is_new: bool) -> JSONResponse:
        status = "accepted" if incoming.status == intake.RECEIVED else incoming.status
        if not is_new:
            status = "duplicate"
        self._deps.metrics.received(incoming.source, incoming.type, status)
        if is_new and incoming.status == intake.RECEIVED:
            self._deps.relay.nudge()
        say = log.warning if incoming.status == intake.NOT_UNDERSTOOD else log.info
        say(
            "webhook_received",
            source=incoming.source,
            type=incoming.type,
            event_id=incoming.event_id,
            object_id=incoming.object_id,
            status=status,
            note=incoming.note,
        )
        return JSONResponse({"status": status})


class _Health:
    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._schema_checked_at: datetime | None = None

    async def healthz(self) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def readyz(self) -> JSONResponse:
        """200 when events can be stored and delivered; else 503, naming what is not there and what to do."""
        database, reached = await asyncio.gather(
            self._check(self._database, "unreachable: is PostgreSQL running, is DATABASE_URL right?"),
            self._check(self._temporal, "unreachable: is Temporal running, is TEMPORAL_ADDRESS right?"),
        )
        checks = {"database": database, "temporal": reached}
        ready = all(word == "ok" for word in checks.values())
        return JSONResponse({"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503)

    async def _check(self, check: Callable[[], Awaitable[str]], otherwise: str) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                return await check()
        except Exception as error:  # noqa: BLE001 - a check has two results, however it fails
            log.warning("not_ready", check=check.__name__.strip("_"), error=type(error).__name__)
            return otherwise

    async def _database(self) -> str:
        await self._deps.store.ping()
        now, checked_at = self._deps.now(), self._schema_checked_at
        if checked_at is not None and now - checked_at < SCHEMA_REMEMBERED:
            return "ok"
        if not await schema_is_current(self._deps.settings.sqlalchemy_url):
            return "schema is not current: run `billing migrate`"
        self._schema_checked_at = now
        return "ok"

    async def _temporal(self) -> str:
        timeout = timedelta(seconds=CHECK_TIMEOUT_SECONDS)
        serving = await self._deps.client.service_client.check_health(timeout=timeout)
        return "ok" if serving else "not serving"

    async def metrics(self) -> Response:
        counts: dict[str, int] | None = None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS), self._deps.store.begin() as tx:
                counts = {str(status): rows for status, rows in (await tx.inbox.counts()).items()}
        self._deps.metrics.inbox(counts)
        return Response(self._deps.metrics.render(), media_type=metrics.CONTENT_TYPE)


def create_app(deps: Deps) -> FastAPI:
    """The ASGI app. Its lifespan runs the relay's loop (unless `deps.run_relay` is False)."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.create_task(deps.relay.run(), name="relay") if deps.run_relay else None
        try:
            yield
        finally:
            if loop is not None:
                loop.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await loop

    app = FastAPI(title="Billing webhooks", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    taking, health = _Intake(deps), _Health(deps)
    app.add_api_route("/webhooks/calcom", taking.calcom, methods=["POST"], response_model=None)
    app.add_api_route("/webhooks/stripe", taking.stripe, methods=["POST"], response_model=None)
    app.add_api_route("/healthz", health.healthz, methods=["GET"], response_model=None)
    app.add_api_route("/readyz", health.readyz, methods=["GET"], response_model=None)
    app.add_api_route("/metrics", health.metrics, methods=["GET"], response_model=None)
    onboarding = Onboarding(store=deps.store, client=deps.client, settings=deps.settings)
    OnboardingPages(store=deps.store, onboarding=onboarding).add_to(app)
    return app


async def serve(settings: Settings) -> None:
    """Runs app and relay until SIGINT or SIGTERM. Starts also while Temporal is away: events wait in the inbox.

    Raises OSError where the port is taken.
    """
    logs.configure(settings.log_level)
    family = socket.AF_INET6 if ":" in settings.webhook_host else socket.AF_INET
    with socket.create_server(
        (settings.webhook_host, settings.webhook_port), family=family, backlog=2_048
    ) as listening:
        store = Store(settings.sqlalchemy_url, pool_size=settings.database_pool_size)
        try:
            client = await temporal.connect(settings, lazy=True)
            app = create_app(build(settings, store, client))
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10
            )
            log.info("webhooks_listen", host=settings.webhook_host, port=listening.getsockname()[1])
            await uvicorn.Server(config).serve(sockets=[listening])
        finally:
            await store.dispose()
