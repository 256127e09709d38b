"""The sandbox's own routes below /_sandbox/, which Cal.com does not have: arrange, disturb, look."""

from __future__ import annotations

from collections import deque
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.calcom import shapes
from sandbox.calcom.bookings import Bookings
from sandbox.calcom.delivery import Deliveries, signature
from sandbox.calcom.faults import RouteFault, WebhookFault
from sandbox.calcom.limits import RateLimiter
from sandbox.calcom.model import (
    TRIGGERS,
    ApiError,
    Booking,
    EventType,
    Json,
    Organizer,
    Team,
    bad_request,
    now_ms,
    parse_ms,
)
from sandbox.calcom.requests import read_body
from sandbox.calcom.store import Store

_TRIGGER_OF_STATUS = {
    "accepted": "BOOKING_CREATED",
    "pending": "BOOKING_REQUESTED",
    "cancelled": "BOOKING_CANCELLED",
    "rejected": "BOOKING_REJECTED",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AttendeeSpec(_Strict):
    name: str
    email: str
    time_zone: str = "Europe/Berlin"
    locale: str = "en"
    absent: bool = False


class BookingSpec(_Strict):
    """One booking to plant. Times are ISO 8601, past or future; nothing is checked against other bookings.

    `end` or `length_minutes` override the event type's length. `webhook` false sends none; `trigger` sends another
    one than the status suggests.
    """

    start: str
    event_type_id: int = 7
    attendee: AttendeeSpec
    uid: str | None = Field(default=None, min_length=1)
    organizer_id: int | None = None
    end: str | None = None
    length_minutes: int | None = Field(default=None, gt=0)
    status: Literal["accepted", "pending", "cancelled", "rejected"] | None = None
    created_at: str | None = None
    updated_at: str | None = None
    metadata: dict[str, str] = {}
    cancellation_reason: str | None = None
    absent_host: bool = False
    webhook: bool = True
    trigger: str | None = None


class BookingsIn(_Strict):
    bookings: list[BookingSpec] = Field(max_length=100_000)


class OrganizerIn(_Strict):
    id: int
    name: str
    email: str
    username: str
    time_zone: str = "Europe/Berlin"


class TeamIn(_Strict):
    id: int
    name: str
    slug: str


class EventTypeIn(_Strict):
    id: int
    slug: str
    title: str
    length_minutes: int = Field(default=60, gt=0)
    organizer_id: int = 5
    team_id: int | None = None
    requires_confirmation: bool = False
    price_minor: int = 0
    currency: str = "eur"


class CatalogueIn(_Strict):
    organizers: list[OrganizerIn] = []
    teams: list[TeamIn] = []
    event_types: list[EventTypeIn] = []


class UidsIn(_Strict):
    uids: list[str]
    trigger: Literal["MEETING_STARTED", "MEETING_ENDED"] = "MEETING_ENDED"


class AnnounceIn(_Strict):
    """Sends the webhook of a trigger again for bookings as they are now; changes nothing."""

    uids: list[str]
    trigger: str


class PaidIn(_Strict):
    uid: str
    amount_minor: int = Field(ge=0)


class RawIn(_Strict):
    """Any body to any address. `signature` overrides the header; without it the body is signed with `secret`."""

    url: str
    body: str
    secret: str | None = None
    signature: str | None = None


class ReleaseIn(_Strict):
    order: Literal["reverse", "forward"] = "reverse"


class Control:
    def __init__(self, store: Store, bookings: Bookings, deliveries: Deliveries, limiter: RateLimiter) -> None:
        self._store = store
        self._bookings = bookings
        self._deliveries = deliveries
        self._limiter = limiter
        self.faults: list[RouteFault] = []
        self.log: deque[Json] = deque(maxlen=10_000)
        self.routes = [
            Route("/_sandbox/health", self.health),
            Route("/_sandbox/catalogue", self.put_catalogue, methods=["POST"]),
            Route("/_sandbox/bookings", self.put_bookings, methods=["POST"]),
            Route("/_sandbox/meeting-ended", self.meeting, methods=["POST"]),
            Route("/_sandbox/announce", self.announce, methods=["POST"]),
            Route("/_sandbox/paid", self.paid, methods=["POST"]),
            Route("/_sandbox/faults", self.route_faults, methods=["GET", "POST", "DELETE"]),
            Route("/_sandbox/webhook-faults", self.webhook_faults, methods=["GET", "POST", "DELETE"]),
            Route("/_sandbox/webhooks/release", self.release, methods=["POST"]),
            Route("/_sandbox/webhooks/raw", self.raw, methods=["POST"]),
            Route("/_sandbox/webhooks/flush", self.flush, methods=["POST"]),
            Route("/_sandbox/webhooks", self.deliveries),
            Route("/_sandbox/reset", self.reset, methods=["POST"]),
            Route("/_sandbox/log", self.show_log, methods=["GET", "DELETE"]),
        ]

    async def health(self, _: Request) -> JSONResponse:
        return JSONResponse({"ok": True})

    async def put_catalogue(self, request: Request) -> JSONResponse:
        """Inserts or replaces organizers, teams and event types by their ids."""
        body = await read_body(request, CatalogueIn)
        for organizer in body.organizers:
            self._store.put_organizer(Organizer(**organizer.model_dump()))
        for team in body.teams:
            self._store.put_team(Team(**team.model_dump()))
        for event_type in body.event_types:
            self._store.put_event_type(EventType(**event_type.model_dump()))
        return JSONResponse({"ok": True})

    async def put_bookings(self, request: Request) -> JSONResponse:
        """All or none. Answers the bookings in the API's shape, in the order given."""
        body = await read_body(request, BookingsIn)
        given = [s.uid for s in body.bookings if s.uid]
        if len(given) != len(set(given)) or any(self._store.booking(uid) for uid in given):
            raise ApiError(409, "ConflictException", "a uid is taken")
        for spec in body.bookings:
            if spec.trigger is not None and spec.trigger not in TRIGGERS:
                raise bad_request(f"unknown trigger {spec.trigger}")
        built = [self._build(spec) for spec in body.bookings]
        self._store.put_bookings(built, now_ms=now_ms())
        for spec, booking in zip(body.bookings, built, strict=True):
            if spec.webhook:
                self._deliveries.announce(spec.trigger or _TRIGGER_OF_STATUS[booking.status], booking)
        return JSONResponse({"bookings": [shapes.booking(self._store, b) for b in built]}, 201)

    def _build(self, spec: BookingSpec) -> Booking:
        event_type = self._store.event_type(spec.event_type_id)
        if event_type is None:
            raise bad_request(f"event type {spec.event_type_id} is not in the catalogue")
        start_ms = parse_ms(spec.start, "start")
        length = spec.length_minutes or event_type.length_minutes
        booking = self._bookings.build(
            event_type,
            uid=spec.uid,
            start_ms=start_ms,
            end_ms=parse_ms(spec.end, "end") if spec.end else start_ms + length * 60_000,
            attendee=self._bookings.attendee(
                name=spec.attendee.name,
                email=spec.attendee.email,
                time_zone=spec.attendee.time_zone,
                locale=spec.attendee.locale,
                no_show=spec.attendee.absent,
            ),
            metadata=spec.metadata,
            cancellation_reason=spec.cancellation_reason,
            absent_host=spec.absent_host,
            updated_ms=parse_ms(spec.updated_at, "updated_at") if spec.updated_at else None,
        )
        booking.status = spec.status or booking.status
        if spec.organizer_id is not None:
            booking.organizer_id = spec.organizer_id
        if spec.created_at is not None:
            booking.created_ms = parse_ms(spec.created_at, "created_at")
        return booking

    async def meeting(self, request: Request) -> JSONResponse:
        body = await read_body(request, UidsIn)
        for booking in [self._bookings.get(uid) for uid in body.uids]:
            self._deliveries.announce(body.trigger, booking)
        return JSONResponse({"sent": len(body.uids)})

    async def announce(self, request: Request) -> JSONResponse:
        body = await read_body(request, AnnounceIn)
        if body.trigger not in TRIGGERS:
            raise bad_request(f"unknown trigger {body.trigger}")
        for booking in [self._bookings.get(uid) for uid in body.uids]:
            self._deliveries.announce(body.trigger, booking)
        return JSONResponse({"sent": len(body.uids)})

    async def paid(self, request: Request) -> JSONResponse:
        """Marks a booking as paid through Cal.com's own payment app and sends BOOKING_PAID."""
        body = await read_body(request, PaidIn)
        booking = self._bookings.get(body.uid)
        booking.paid_minor = body.amount_minor
        booking.updated_ms = now_ms()
        await self._bookings.commit([booking], "BOOKING_PAID", booking)
        return JSONResponse({"ok": True})

    async def route_faults(self, request: Request) -> JSONResponse:
        if request.method == "POST":
            self.faults.append(await read_body(request, RouteFault))
        elif request.method == "DELETE":
            self.faults.clear()
        return JSONResponse({"faults": [f.model_dump() for f in self.faults]})

    async def webhook_faults(self, request: Request) -> JSONResponse:
        faults = self._deliveries.faults
        if request.method == "POST":
            faults.append(await read_body(request, WebhookFault))
        elif request.method == "DELETE":
            faults.clear()
        return JSONResponse({"faults": [f.model_dump() for f in faults]})

    async def release(self, request: Request) -> JSONResponse:
        body = await read_body(request, ReleaseIn)
        return JSONResponse({"sent": await self._deliveries.release(reverse=body.order == "reverse")})

    async def raw(self, request: Request) -> JSONResponse:
        body = await read_body(request, RawIn)
        header = body.signature if body.signature is not None else signature(body.secret, body.body)
        delivery_id = self._deliveries.send_raw(body.url, body.body, header=header, trigger="raw", uid=None)
        await self._deliveries.flush()
        return JSONResponse({"delivery": self._store.delivery(delivery_id)})

    async def flush(self, _: Request) -> JSONResponse:
        """Waits until no webhook is on its way any more."""
        await self._deliveries.flush()
        return JSONResponse({"ok": True})

    async def deliveries(self, request: Request) -> JSONResponse:
        """All webhooks so far; `?state=` pending, held, dropped, delivered, failed or lost."""
        return JSONResponse({"deliveries": self._store.deliveries(request.query_params.get("state"))})

    async def reset(self, _: Request) -> JSONResponse:
        await self._deliveries.flush()
        self._store.reset()
        self.faults.clear()
        self._deliveries.faults.clear()
        self._limiter.clear()
        self.log.clear()
        return JSONResponse({"ok": True})

    async def show_log(self, request: Request) -> JSONResponse:
        if request.method == "DELETE":
            self.log.clear()
        return JSONResponse({"requests": list(self.log)})
