"""Cal.com's answers as models. What is not named here is ignored; what is missing is told by name, never by value."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any, Final, Literal, TypeVar

import httpx
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ValidationError

from domain.ports import BookingStatus, CalBooking, OutcomeUnknown, OutsideError, SetupError

NO_EVENT_TYPE: Final = 0
"""`CalBooking.event_type_id` of a booking without one (deleted, or a dynamic group link): no price can match it."""

_Model = TypeVar("_Model", bound=BaseModel)

_STATUSES: Final = {
    **{s.value: s for s in BookingStatus},
    "awaiting_host": BookingStatus.PENDING,
}
"""`awaiting_host` (instant meetings) is not documented: nobody has accepted yet."""


def _status(value: object) -> BookingStatus:
    known = _STATUSES.get(value) if isinstance(value, str) else None
    if known is None:
        raise ValueError("unknown status")
    return known


class _Reference(BaseModel):
    id: int


class _Host(BaseModel):
    id: int | str


class _Attendee(BaseModel):
    name: str | None = None
    email: str | None = None
    absent: bool = False


class BookingAnswer(BaseModel):
    """What is read of a booking; everything else in it is ignored."""

    uid: str
    status: Annotated[BookingStatus, BeforeValidator(_status)]
    start: AwareDatetime
    end: AwareDatetime
    eventTypeId: int | None = None  # noqa: N815
    eventType: _Reference | None = None  # noqa: N815
    hosts: list[_Host]
    attendees: list[_Attendee]
    absentHost: bool = False  # noqa: N815
    createdAt: AwareDatetime  # noqa: N815
    updatedAt: AwareDatetime | None = None  # noqa: N815
    rescheduledFromUid: str | None = None  # noqa: N815
    rescheduledToUid: str | None = None  # noqa: N815

    def to_port(self) -> CalBooking:
        first = self.attendees[0] if self.attendees else _Attendee()
        by_reference = self.eventType.id if self.eventType else NO_EVENT_TYPE
        return CalBooking(
            uid=self.uid,
            status=self.status,
            start_at=self.start.astimezone(UTC),
            end_at=self.end.astimezone(UTC),
            event_type_id=self.eventTypeId if self.eventTypeId is not None else by_reference,
            organizer_ids=tuple(h.id for h in self.hosts if isinstance(h.id, int)),
            attendee_name=first.name,
            attendee_email=first.email,
            attendee_absent=bool(self.attendees) and all(a.absent for a in self.attendees),
            host_absent=self.absentHost,
            created_at=self.createdAt.astimezone(UTC),
            updated_at=self.updatedAt.astimezone(UTC) if self.updatedAt else None,
            rescheduled_from_uid=self.rescheduledFromUid or None,
            rescheduled_to_uid=self.rescheduledToUid or None,
        )


class _Pagination(BaseModel):
    hasNextPage: bool  # noqa: N815


class One(BaseModel):
    status: Literal["success"]
    data: BookingAnswer


class Many(BaseModel):
    status: Literal["success"]
    data: list[dict[str, Any]]
    pagination: _Pagination


class Success(BaseModel):
    status: Literal["success"]


class TeamEventTypes(BaseModel):
    status: Literal["success"]
    data: list[_Reference]


class ErrorDetail(BaseModel):
    code: str = ""
    message: str = ""


class _ErrorBody(BaseModel):
    status: Literal["error"]
    error: ErrorDetail


def error_of(response: httpx.Response) -> ErrorDetail:
    """What Cal.com says about an error; empty where the body is not its own (a proxy, another server)."""
    try:
        return _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        return ErrorDetail()


def fields_of(error: ValidationError) -> str:
    """Which fields are wrong and how, without their values."""
    return "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'body'} {e['type']}" for e in error.errors()[:5])


def read(operation: str, response: httpx.Response, model: type[_Model], *, written: bool = False) -> _Model:
    """The answer as `model`. No JSON: unknown. Another shape: for a read our set-up, for a write unknown."""
    problem: OutsideError
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        if any(e["type"] == "json_invalid" for e in error.errors()):
            problem = OutcomeUnknown("bad_json", f"{operation} answered {response.status_code} without JSON")
        else:
            kind = OutcomeUnknown if written else SetupError
            problem = kind("unexpected_answer", f"{operation}: {fields_of(error)}")
    raise problem
