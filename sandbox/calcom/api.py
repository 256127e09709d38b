"""The routes under /v2: bookings, event types, teams, webhooks."""

from __future__ import annotations

import uuid
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.calcom import requests as rq
from sandbox.calcom import shapes
from sandbox.calcom.bookings import KEY_OWNER_ID, Bookings
from sandbox.calcom.model import (
    ApiError,
    Booking,
    EventType,
    Webhook,
    bad_request,
    not_found,
    now_ms,
    parse_ms,
)
from sandbox.calcom.store import Store

BOOKINGS_VERSION = "2024-08-13"


def authenticated(request: Request) -> bool:
    """Whether a key was given. Raises 401 for one that is none; keys of Cal.com begin with `cal_`."""
    header = request.headers.get("authorization")
    if header is None:
        return False
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.startswith("cal_"):
        raise ApiError(401, "UnauthorizedException", "ApiAuthStrategy - Invalid API Key")
    return True


def _require_key(request: Request) -> None:
    if not authenticated(request):
        raise ApiError(401, "UnauthorizedException", "ApiAuthStrategy - No authentication method provided")


def _current(request: Request) -> bool:
    return request.headers.get("cal-api-version") == BOOKINGS_VERSION


def _require_version(request: Request) -> None:
    if not _current(request):
        raise bad_request(f"cal-api-version {BOOKINGS_VERSION} is needed here; without the header an older API answers")


class Api:
    """Holds the routes; state is in the store."""

    def __init__(self, store: Store, bookings: Bookings) -> None:
        self._store = store
        self._bookings = bookings
        self.routes = [
            Route("/v2/me", self.me),
            Route("/v2/event-types", self.event_types),
            Route("/v2/event-types/{event_type_id:int}", self.event_type),
            Route("/v2/teams", self.teams),
            Route("/v2/teams/{team_id:int}/event-types", self.team_event_types),
            Route("/v2/bookings", self.list_bookings),
            Route("/v2/bookings", self.create_booking, methods=["POST"]),
            Route("/v2/bookings/{uid}", self.get_booking),
            Route("/v2/bookings/{uid}/cancel", self.cancel, methods=["POST"]),
            Route("/v2/bookings/{uid}/confirm", self.confirm, methods=["POST"]),
            Route("/v2/bookings/{uid}/decline", self.decline, methods=["POST"]),
            Route("/v2/bookings/{uid}/reschedule", self.reschedule, methods=["POST"]),
            Route("/v2/bookings/{uid}/mark-absent", self.mark_absent, methods=["POST"]),
        ]
        for prefix in ("/v2", "/v2/event-types/{event_type_id:int}"):
            self.routes += [
                Route(f"{prefix}/webhooks", self.list_webhooks),
                Route(f"{prefix}/webhooks", self.create_webhook, methods=["POST"]),
                Route(f"{prefix}/webhooks/{{webhook_id}}", self.get_webhook),
                Route(f"{prefix}/webhooks/{{webhook_id}}", self.patch_webhook, methods=["PATCH"]),
                Route(f"{prefix}/webhooks/{{webhook_id}}", self.delete_webhook, methods=["DELETE"]),
            ]
        self.routes.append(
            Route("/v2/event-types/{event_type_id:int}/webhooks", self.delete_webhooks, methods=["DELETE"])
        )

    # --- catalogue --------------------------------------------------------------------------------------------------

    async def me(self, request: Request) -> JSONResponse:
        _require_key(request)
        owner = shapes.host(self._store.organizer(KEY_OWNER_ID))
        return JSONResponse(shapes.success({k: v for k, v in owner.items() if k != "displayEmail"}))

    async def event_types(self, request: Request) -> JSONResponse:
        _require_key(request)
        return JSONResponse(shapes.success([shapes.event_type_output(e) for e in self._store.event_types()]))

    async def event_type(self, request: Request) -> JSONResponse:
        _require_key(request)
        found = self._known_event_type(request.path_params["event_type_id"])
        return JSONResponse(shapes.success(shapes.event_type_output(found)))

    async def teams(self, request: Request) -> JSONResponse:
        _require_key(request)
        return JSONResponse(shapes.success([shapes.team_output(t) for t in self._store.teams()]))

    async def team_event_types(self, request: Request) -> JSONResponse:
        _require_key(request)
        team_id = request.path_params["team_id"]
        if all(t.id != team_id for t in self._store.teams()):
            raise ApiError(403, "ForbiddenException", "User is not a member of the team")
        found = [shapes.event_type_output(e) for e in self._store.event_types() if e.team_id == team_id]
        return JSONResponse(shapes.success(found))

    def _known_event_type(self, event_type_id: int) -> EventType:
        found = self._store.event_type(event_type_id)
        if found is None:
            raise not_found(f"Event type with id {event_type_id} not found.")
        return found

    # --- bookings ---------------------------------------------------------------------------------------------------

    async def list_bookings(self, request: Request) -> JSONResponse:
        _require_key(request)
        query = request.query_params
        take = rq.integer(query, "take", rq.DEFAULT_TAKE, low=1, high=rq.MAX_TAKE)
        skip = rq.integer(query, "skip", 0, low=0)
        where, arguments = rq.booking_filter(query, now_ms=now_ms())
        page, total = self._store.list_bookings(where, arguments, order=rq.booking_order(query), take=take, skip=skip)
        if not _current(request):
            old = [shapes.booking_2024_04_15(self._store, b) for b in page]
            next_cursor = skip + take if total > skip + take else None
            return JSONResponse(shapes.success({"bookings": old, "recurringInfo": [], "nextCursor": next_cursor}))
        return JSONResponse(
            shapes.success(
                [shapes.booking(self._store, b) for b in page],
                pagination=shapes.pagination(total=total, take=take, skip=skip, returned=len(page)),
            )
        )

    async def get_booking(self, request: Request) -> JSONResponse:
        authenticated(request)
        booking = self._bookings.get(request.path_params["uid"])
        if not _current(request):
            return JSONResponse(shapes.success(shapes.booking_2024_04_15(self._store, booking)))
        return self._answer(booking)

    async def create_booking(self, request: Request) -> JSONResponse:
        authenticated(request)
        _require_version(request)
        body = await rq.read_body(request, rq.CreateBooking)
        event_type = self._event_type_to_book(body)
        start_ms = parse_ms(body.start, "start")
        length = body.lengthInMinutes or event_type.length_minutes
        attendee = self._bookings.attendee(
            name=body.attendee.name,
            email=body.attendee.email,
            time_zone=body.attendee.timeZone,
            locale=body.attendee.language,
            phone_number=body.attendee.phoneNumber,
        )
        booking = self._bookings.build(
            event_type,
            start_ms=start_ms,
            end_ms=start_ms + length * 60_000,
            attendee=attendee,
            guests=body.guests,
            metadata=body.metadata,
            **({"location": body.location} if body.location else {}),
        )
        return self._answer(await self._bookings.create(booking), 201)

    def _event_type_to_book(self, body: rq.CreateBooking) -> EventType:
        if body.eventTypeId is not None:
            return self._known_event_type(body.eventTypeId)
        if not body.eventTypeSlug or not (body.username or body.teamSlug):
            raise bad_request(
                "Either eventTypeId or eventTypeSlug + username or eventTypeSlug + teamSlug must be given"
            )
        users = {o.id for o in self._store.organizers() if o.username == body.username}
        teams = {t.id for t in self._store.teams() if t.slug == body.teamSlug}
        for event_type in self._store.event_types():
            mine = event_type.team_id in teams if body.teamSlug else event_type.organizer_id in users
            if mine and event_type.slug == body.eventTypeSlug:
                return event_type
        owner = f"team {body.teamSlug}" if body.teamSlug else f"user {body.username}"
        raise not_found(f"Event type with slug {body.eventTypeSlug} belonging to {owner} not found.")

    async def cancel(self, request: Request) -> JSONResponse:
        has_key = authenticated(request)
        _require_version(request)
        body = await rq.read_body(request, rq.CancelBooking)
        uid = request.path_params["uid"]
        return self._answer(await self._bookings.cancel(uid, reason=body.cancellationReason, authenticated=has_key))

    async def confirm(self, request: Request) -> JSONResponse:
        self._check_write(request)
        return self._answer(await self._bookings.confirm(request.path_params["uid"]))

    async def decline(self, request: Request) -> JSONResponse:
        self._check_write(request)
        body = await rq.read_body(request, rq.DeclineBooking)
        return self._answer(await self._bookings.decline(request.path_params["uid"], reason=body.reason))

    async def reschedule(self, request: Request) -> JSONResponse:
        authenticated(request)
        _require_version(request)
        body = await rq.read_body(request, rq.RescheduleBooking)
        booking = await self._bookings.reschedule(
            request.path_params["uid"],
            start=body.start,
            reason=body.reschedulingReason,
            rescheduled_by=body.rescheduledBy,
        )
        return self._answer(booking, 201)

    async def mark_absent(self, request: Request) -> JSONResponse:
        self._check_write(request)
        body = await rq.read_body(request, rq.MarkAbsent)
        booking = await self._bookings.mark_absent(
            request.path_params["uid"], host=body.host, attendees={a.email: a.absent for a in body.attendees}
        )
        return self._answer(booking)

    def _check_write(self, request: Request) -> None:
        _require_key(request)
        _require_version(request)

    def _answer(self, booking: Booking, status: int = 200) -> JSONResponse:
        return JSONResponse(shapes.success(shapes.booking(self._store, booking)), status)

    # --- webhooks ---------------------------------------------------------------------------------------------------

    def _scope(self, request: Request) -> int | None:
        _require_key(request)
        event_type_id: int | None = request.path_params.get("event_type_id")
        if event_type_id is not None:
            self._known_event_type(event_type_id)
        return event_type_id

    def _webhooks_of(self, event_type_id: int | None) -> list[Webhook]:
        return [w for w in self._store.webhooks() if w.event_type_id == event_type_id]

    def _webhook(self, request: Request) -> Webhook:
        webhook_id = request.path_params["webhook_id"]
        for webhook in self._webhooks_of(self._scope(request)):
            if webhook.id == webhook_id:
                return webhook
        raise not_found(f"Webhook ({webhook_id}) not found")

    async def list_webhooks(self, request: Request) -> JSONResponse:
        found = self._webhooks_of(self._scope(request))
        take = rq.integer(request.query_params, "take", rq.MAX_TAKE, low=1, high=rq.MAX_TAKE)
        skip = rq.integer(request.query_params, "skip", 0, low=0)
        page = found[skip : skip + take]
        return JSONResponse(shapes.success([shapes.webhook_output(w, KEY_OWNER_ID) for w in page]))

    async def create_webhook(self, request: Request) -> JSONResponse:
        event_type_id = self._scope(request)
        body = await rq.read_body(request, rq.WebhookIn)
        rq.check_triggers(body.triggers)
        if any(w.subscriber_url == body.subscriberUrl for w in self._webhooks_of(event_type_id)):
            raise ApiError(409, "ConflictException", "Webhook with this subscriberUrl already exists")
        webhook = Webhook(
            id=str(uuid.uuid4()),
            subscriber_url=body.subscriberUrl,
            triggers=body.triggers,
            active=body.active,
            secret=body.secret or None,
            payload_template=body.payloadTemplate,
            event_type_id=event_type_id,
            version=body.version,
        )
        self._store.put_webhook(webhook)
        return JSONResponse(shapes.success(shapes.webhook_output(webhook, KEY_OWNER_ID)), 201)

    async def get_webhook(self, request: Request) -> JSONResponse:
        return JSONResponse(shapes.success(shapes.webhook_output(self._webhook(request), KEY_OWNER_ID)))

    async def patch_webhook(self, request: Request) -> JSONResponse:
        webhook = self._webhook(request)
        body = await rq.read_body(request, rq.WebhookPatch)
        if body.triggers is not None:
            rq.check_triggers(body.triggers)
        webhook = replace(
            webhook,
            active=webhook.active if body.active is None else body.active,
            subscriber_url=body.subscriberUrl or webhook.subscriber_url,
            triggers=body.triggers or webhook.triggers,
            secret=body.secret if "secret" in body.model_fields_set else webhook.secret,
            payload_template=(
                body.payloadTemplate if "payloadTemplate" in body.model_fields_set else webhook.payload_template
            ),
        )
        self._store.put_webhook(webhook)
        return JSONResponse(shapes.success(shapes.webhook_output(webhook, KEY_OWNER_ID)))

    async def delete_webhook(self, request: Request) -> JSONResponse:
        webhook = self._webhook(request)
        self._store.delete_webhook(webhook.id)
        return JSONResponse(shapes.success(shapes.webhook_output(webhook, KEY_OWNER_ID)))

    async def delete_webhooks(self, request: Request) -> JSONResponse:
        gone = self._webhooks_of(self._scope(request))
        for webhook in gone:
            self._store.delete_webhook(webhook.id)
        return JSONResponse(shapes.success(f"{len(gone)} webhooks deleted"))
