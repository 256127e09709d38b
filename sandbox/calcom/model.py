"""The sandbox's own records and its clock. Times are integers: milliseconds since the epoch, UTC."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

STATUSES = ("accepted", "pending", "cancelled", "rejected")

TRIGGERS = (
    "BOOKING_CREATED",
    "BOOKING_PAYMENT_INITIATED",
    "BOOKING_PAID",
    "BOOKING_RESCHEDULED",
    "BOOKING_REQUESTED",
    "BOOKING_CANCELLED",
    "BOOKING_REJECTED",
    "BOOKING_NO_SHOW_UPDATED",
    "FORM_SUBMITTED",
    "MEETING_ENDED",
    "MEETING_STARTED",
    "RECORDING_READY",
    "INSTANT_MEETING",
    "RECORDING_TRANSCRIPTION_GENERATED",
    "OOO_CREATED",
    "AFTER_HOSTS_CAL_VIDEO_NO_SHOW",
    "AFTER_GUESTS_CAL_VIDEO_NO_SHOW",
    "FORM_SUBMITTED_NO_EVENT",
    "ROUTING_FORM_FALLBACK_HIT",
    "DELEGATION_CREDENTIAL_ERROR",
    "WRONG_ASSIGNMENT_REPORT",
)

_UID_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class ApiError(Exception):
    """An answer with Cal.com's error shape. `code` is the name of the exception over there."""

    def __init__(self, status: int, code: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


def bad_request(message: str, details: Json | None = None) -> ApiError:
    return ApiError(400, "BadRequestException", message, details)


def not_found(message: str) -> ApiError:
    return ApiError(404, "NotFoundException", message)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_uid() -> str:
    """Like Cal.com's short uuids: 22 characters."""
    return "".join(secrets.choice(_UID_ALPHABET) for _ in range(22))


def iso_ms(at_ms: int) -> str:
    """`2026-11-25T09:30:00.000Z`, as the API writes times."""
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def iso_s(at_ms: int) -> str:
    """`2026-11-25T09:30:00Z`, as webhook payloads write start and end."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}Z"


def parse_ms(value: str, name: str) -> int:
    """Milliseconds of an ISO 8601 time; one without an offset counts as UTC, as at Cal.com."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise bad_request(f"{name} must be a valid ISO 8601 date string") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@dataclass(slots=True)
class Organizer:
    id: int
    name: str
    email: str
    username: str
    time_zone: str = "Europe/Berlin"


@dataclass(slots=True)
class Team:
    id: int
    name: str
    slug: str


@dataclass(slots=True)
class EventType:
    id: int
    slug: str
    title: str
    length_minutes: int
    organizer_id: int
    team_id: int | None = None
    requires_confirmation: bool = False
    price_minor: int = 0
    currency: str = "eur"


@dataclass(slots=True)
class Attendee:
    id: int
    name: str
    email: str
    time_zone: str = "Europe/Berlin"
    locale: str = "en"
    phone_number: str | None = None
    no_show: bool = False


@dataclass(slots=True)
class Booking:
    """One booking. `updated_ms` is None until the first change, as observed at Cal.com."""

    id: int
    uid: str
    event_type_id: int | None
    organizer_id: int
    status: str
    start_ms: int
    end_ms: int
    created_ms: int
    updated_ms: int | None
    attendees: list[Attendee]
    ical_uid: str
    ical_sequence: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    guests: list[str] = field(default_factory=list)
    location: str = "integrations:daily"
    cancellation_reason: str | None = None
    cancelled_by: str | None = None
    rejection_reason: str | None = None
    rescheduling_reason: str | None = None
    rescheduled_by: str | None = None
    rescheduled_from_uid: str | None = None
    rescheduled_to_uid: str | None = None
    absent_host: bool = False
    paid_minor: int | None = None


@dataclass(slots=True)
class Webhook:
    id: str
    subscriber_url: str
    triggers: list[str]
    active: bool = True
    secret: str | None = None
    payload_template: str | None = None
    event_type_id: int | None = None
    version: str = "2021-10-20"
