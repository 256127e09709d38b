"""Reading requests: bodies by strict models, queries by hand, mistakes told with Cal.com's error shape."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request

from sandbox.calcom.model import TRIGGERS, bad_request, parse_ms

MAX_TAKE = 250
DEFAULT_TAKE = 100


class Body(BaseModel):
    """Cal.com ignores what it does not know in a body."""

    model_config = ConfigDict(extra="ignore")


class AttendeeIn(Body):
    name: str = Field(min_length=1)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    timeZone: str  # noqa: N815
    language: str = "en"
    phoneNumber: str | None = None  # noqa: N815


class CreateBooking(Body):
    start: str
    attendee: AttendeeIn
    eventTypeId: int | None = None  # noqa: N815
    eventTypeSlug: str | None = None  # noqa: N815
    username: str | None = None
    teamSlug: str | None = None  # noqa: N815
    lengthInMinutes: int | None = Field(default=None, gt=0)  # noqa: N815
    guests: list[str] = []
    metadata: dict[str, str] = {}
    location: str | None = None


class CancelBooking(Body):
    cancellationReason: str | None = None  # noqa: N815


class DeclineBooking(Body):
    reason: str | None = None


class RescheduleBooking(Body):
    start: str
    reschedulingReason: str | None = None  # noqa: N815
    rescheduledBy: str | None = None  # noqa: N815


class AbsentAttendee(Body):
    email: str
    absent: bool


class MarkAbsent(Body):
    host: bool | None = None
    attendees: list[AbsentAttendee] = []


class WebhookIn(Body):
    active: bool
    subscriberUrl: str = Field(pattern=r"^https?://")  # noqa: N815
    triggers: list[str] = Field(min_length=1)
    secret: str | None = None
    payloadTemplate: str | None = None  # noqa: N815
    version: str = "2021-10-20"


class WebhookPatch(Body):
    active: bool | None = None
    subscriberUrl: str | None = Field(default=None, pattern=r"^https?://")  # noqa: N815
    triggers: list[str] | None = None
    secret: str | None = None
    payloadTemplate: str | None = None  # noqa: N815


_B = TypeVar("_B", bound=BaseModel)


async def read_body(request: Request, model: type[_B]) -> _B:
    """The body as `model`; an empty one counts as `{}`. Raises ApiError 400 with what is wrong and where."""
    raw = await request.body()
    try:
        document = json.loads(raw) if raw.strip() else {}
    except ValueError:
        raise bad_request("Unexpected token in JSON") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise bad_request("; ".join(problems), {"errors": problems}) from None


def check_triggers(triggers: list[str]) -> None:
    unknown = [t for t in triggers if t not in TRIGGERS]
    if unknown:
        raise bad_request(f"each value in triggers must be one of the following values: {', '.join(TRIGGERS)}")


def integer(query: QueryParams, name: str, default: int, *, low: int, high: int | None = None) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise bad_request(f"{name} must be a number conforming to the specified constraints") from None
    if value < low or (high is not None and value > high):
        raise bad_request(
            f"{name} must not be {'less than ' + str(low) if value < low else 'greater than ' + str(high)}"
        )
    return value


def integers(query: QueryParams, *names: str) -> list[int]:
    """All numbers of comma-separated or repeated parameters."""
    parts = [p for name in names for text in query.getlist(name) for p in text.split(",") if p.strip()]
    try:
        return [int(p) for p in parts]
    except ValueError:
        raise bad_request(f"{names[0]} must be numbers separated by commas") from None


_TIMES = {
    "afterStart": "b.start_ms >= ?",
    "beforeEnd": "b.end_ms <= ?",
    "afterCreatedAt": "b.created_ms >= ?",
    "beforeCreatedAt": "b.created_ms <= ?",
    "afterUpdatedAt": "b.updated_ms >= ?",
    "beforeUpdatedAt": "b.updated_ms <= ?",
}
_LISTINGS = {
    "upcoming": "(b.end_ms >= {now} AND b.status NOT IN ('cancelled', 'rejected'))",
    "recurring": "0",
    "past": "(b.end_ms <= {now} AND b.status NOT IN ('cancelled', 'rejected'))",
    "cancelled": "b.status IN ('cancelled', 'rejected')",
    "unconfirmed": "(b.end_ms >= {now} AND b.status = 'pending')",
}
_SORTS = {
    "sortStart": "b.start_ms",
    "sortEnd": "b.end_ms",
    "sortCreated": "b.created_ms",
    "sortUpdatedAt": "b.updated_ms",
}


def booking_filter(query: QueryParams, *, now_ms: int) -> tuple[str, list[object]]:
    """SQL for the filters of `GET /v2/bookings`. A null `updatedAt` matches no filter on it, as in PostgreSQL."""
    where: list[str] = ["1"]
    arguments: list[object] = []
    for name, condition in _TIMES.items():
        if (text := query.get(name)) is not None:
            where.append(condition)
            arguments.append(parse_ms(text, name))
    listings = [s for text in query.getlist("status") for s in text.split(",") if s]
    if listings:
        unknown = [s for s in listings if s not in _LISTINGS]
        if unknown:
            raise bad_request(f"status must be one of: {', '.join(_LISTINGS)}")
        where.append("(" + " OR ".join(_LISTINGS[s].format(now=now_ms) for s in listings) + ")")
    if (uid := query.get("bookingUid")) is not None:
        where.append("b.uid = ?")
        arguments.append(uid.strip())
    if event_types := integers(query, "eventTypeId", "eventTypeIds"):
        where.append(f"b.event_type_id IN ({','.join('?' * len(event_types))})")
        arguments.extend(event_types)
    if teams := integers(query, "teamId", "teamsIds", "teamIds"):
        marks = ",".join("?" * len(teams))
        ours = f"SELECT id FROM event_types WHERE team_id IN ({marks})"
        # Teams without any event type do not filter at all: so it is at Cal.com.
        where.append(f"(b.event_type_id IN ({ours}) OR NOT EXISTS ({ours}))")
        arguments.extend([*teams, *teams])
    for name in ("attendeeEmail", "attendeeName"):
        if (text := query.get(name)) is not None:
            field = name.removeprefix("attendee").lower()
            where.append(
                f"EXISTS (SELECT 1 FROM json_each(b.doc, '$.attendees') a WHERE json_extract(a.value, '$.{field}') = ?)"
            )
            arguments.append(text.strip())
    return " AND ".join(where), arguments


def booking_order(query: QueryParams) -> str:
    """SQL for the sort parameters; nulls last when ascending and first when descending, as in PostgreSQL."""
    for name, column in _SORTS.items():
        if (direction := query.get(name)) is not None:
            if direction not in ("asc", "desc"):
                raise bad_request(f"{name} must be either 'asc' or 'desc'")
            return f"{column} {direction} NULLS {'LAST' if direction == 'asc' else 'FIRST'}"
    return "b.start_ms asc"
