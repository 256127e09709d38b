"""Bodies of the webhooks, version 2021-10-20, with exactly the fields that Cal.com sends for each trigger."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sandbox.calcom.model import Attendee, Booking, Json, Organizer, iso_ms, iso_s
from sandbox.calcom.shapes import title
from sandbox.calcom.store import Store

_ONLY_WHEN_ALIVE = (
    "hideCalendarNotes",
    "hideCalendarEventDetails",
    "schedulingType",
    "conferenceData",
    "videoCallData",
    "appsStatus",
    "metadata",
)
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z0-9_.]+)\s*\}\}")


def body(store: Store, trigger: str, b: Booking, *, at_ms: int, confirmed_by_hand: bool = False) -> Json:
    """The body that `trigger` has for this booking. Confirmation by hand loses the booking's own metadata."""
    if trigger in ("MEETING_STARTED", "MEETING_ENDED"):
        return _meeting(store, trigger, b)
    if trigger == "BOOKING_NO_SHOW_UPDATED":
        payload = _no_show(b)
    else:
        payload = _payload(store, trigger, b, confirmed_by_hand=confirmed_by_hand)
    return {"triggerEvent": trigger, "createdAt": iso_ms(at_ms), "payload": payload}


def render_template(template: str, document: Json) -> str:
    """A payload template: every `{{dotted.path}}` is replaced, an unknown one by nothing."""
    values = {
        **document.get("payload", document),
        **{k: document[k] for k in ("triggerEvent", "createdAt") if k in document},
    }

    def value_of(match: re.Match[str]) -> str:
        current: object = values
        for part in match[1].split("."):
            current = current.get(part) if isinstance(current, dict) else None
        return "" if current is None else str(current)

    return _PLACEHOLDER.sub(value_of, template)


def _responses(b: Booking, *, plain_labels: bool) -> Json:
    first = b.attendees[0] if b.attendees else None
    reason: Json = {"label": "reason_for_reschedule", "isHidden": False}
    if b.rescheduling_reason:
        reason["value"] = b.rescheduling_reason
    return {
        "name": {"label": "name" if plain_labels else "your_name", "value": first and first.name, "isHidden": False},
        "email": {
            "label": "email" if plain_labels else "email_address",
            "value": first and first.email,
            "isHidden": False,
        },
        "location": {"label": "location", "value": {"optionValue": "", "value": b.location}, "isHidden": False},
        "notes": {"label": "additional_notes", "isHidden": False},
        "guests": {"label": "additional_guests", "value": b.guests, "isHidden": False},
        "rescheduleReason": reason,
    }


def _utc_offset_minutes(time_zone: str, at_ms: int) -> int:
    try:
        offset = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(time_zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError):
        return 0
    return int(offset.total_seconds() // 60) if offset else 0


def _organizer(organizer: Organizer, at_ms: int) -> Json:
    return {
        "id": organizer.id,
        "name": organizer.name,
        "email": organizer.email,
        "username": organizer.username,
        "timeZone": organizer.time_zone,
        "language": {"locale": "en"},
        "timeFormat": "HH:mm",
        "utcOffset": _utc_offset_minutes(organizer.time_zone, at_ms),
    }


def _attendee(attendee: Attendee, at_ms: int) -> Json:
    first, _, last = attendee.name.partition(" ")
    return {
        "email": attendee.email,
        "name": attendee.name,
        "firstName": first,
        "lastName": last,
        "timeZone": attendee.time_zone,
        "language": {"locale": attendee.locale},
        "utcOffset": _utc_offset_minutes(attendee.time_zone, at_ms),
    }


def _payload(store: Store, trigger: str, b: Booking, *, confirmed_by_hand: bool) -> Json:
    event_type = store.event_type(b.event_type_id)
    organizer = store.organizer(b.organizer_id)
    gone = trigger in ("BOOKING_CANCELLED", "BOOKING_REJECTED")
    asks = event_type is not None and event_type.requires_confirmation
    metadata = {"videoCallUrl": f"https://app.cal.com/video/{b.uid}"}
    payload: Json = {
        "bookerUrl": "https://cal.com",
        "type": event_type.slug if event_type else "",
        "title": title(b, event_type, organizer),
        "description": "",
        "additionalNotes": "",
        "customInputs": {},
        "startTime": iso_s(b.start_ms),
        "endTime": iso_s(b.end_ms),
        "organizer": _organizer(organizer, b.start_ms) if organizer else None,
        "responses": _responses(b, plain_labels=trigger == "BOOKING_REJECTED"),
        "userFieldsResponses": {},
        "attendees": [_attendee(a, b.start_ms) for a in b.attendees],
        "location": b.location,
        "destinationCalendar": [] if gone else None,
        "hideCalendarNotes": False,
        "hideCalendarEventDetails": False,
        "requiresConfirmation": True if asks else None,
        "eventTypeId": b.event_type_id,
        "seatsShowAttendees": True,
        "seatsPerTimeSlot": None,
        "schedulingType": None,
        "iCalUID": b.ical_uid,
        "iCalSequence": b.ical_sequence,
        "uid": b.uid,
        "conferenceData": {"createRequest": {"requestId": str(uuid.uuid5(uuid.NAMESPACE_URL, b.uid))}},
        "videoCallData": {
            "type": "daily_video",
            "id": b.uid[:20],
            "password": "<daily-token>",
            "url": f"https://meetco.daily.co/{b.uid[:20]}",
        },
        "appsStatus": [
            {"appName": "daily-video", "type": "daily_video", "success": 1, "failures": 0, "errors": [], "warnings": []}
        ],
        "eventTitle": event_type.title if event_type else None,
        "eventDescription": None,
        "price": None if trigger == "BOOKING_CANCELLED" else (event_type.price_minor if event_type else 0),
        "currency": event_type.currency if event_type else None,
        "length": (b.end_ms - b.start_ms) // 60_000,
        "bookingId": b.id,
        "metadata": metadata if confirmed_by_hand else {**metadata, **b.metadata},
        "status": {"BOOKING_CANCELLED": "CANCELLED", "BOOKING_REJECTED": "REJECTED"}.get(trigger, b.status.upper()),
    }
    if gone:
        for key in _ONLY_WHEN_ALIVE:
            del payload[key]
    payload.update(_extra(store, trigger, b))
    return payload


def _extra(store: Store, trigger: str, b: Booking) -> Json:
    """The fields that only one trigger has, or that differ there."""
    if trigger == "BOOKING_CANCELLED":
        return {
            "cancellationReason": b.cancellation_reason,
            "cancelledBy": b.cancelled_by,
            "requestReschedule": False,
        }
    if trigger == "BOOKING_REJECTED":
        return {"rejectionReason": b.rejection_reason}
    if trigger == "BOOKING_PAID":
        first = b.attendees[0] if b.attendees else None
        event_type = store.event_type(b.event_type_id)
        return {
            "price": b.paid_minor or 0,
            "metadata": {
                "identifier": "cal.com",
                "bookingId": b.id,
                "eventTypeId": b.event_type_id,
                "bookerEmail": first.email if first else None,
                "eventTitle": event_type.title if event_type else None,
                "externalId": f"pi_sandbox{b.id}",
            },
            "paymentId": b.id,
        }
    before = store.booking(b.rescheduled_from_uid) if b.rescheduled_from_uid else None
    if before is not None and trigger in ("BOOKING_RESCHEDULED", "BOOKING_REQUESTED"):
        return {
            "rescheduleId": before.id,
            "rescheduleUid": before.uid,
            "rescheduleStartTime": iso_s(before.start_ms),
            "rescheduleEndTime": iso_s(before.end_ms),
            "rescheduledBy": b.rescheduled_by,
        }
    return {}


def _no_show(b: Booking) -> Json:
    return {
        "message": "attendees_marked_as_no_show",
        "attendees": [{"email": a.email, "noShow": a.no_show} for a in b.attendees],
        "bookingUid": b.uid,
        "bookingId": b.id,
    }


def _meeting(store: Store, trigger: str, b: Booking) -> Json:
    """Flat: the row of the booking as it was when it was made, without `payload`."""
    organizer = store.organizer(b.organizer_id)
    return {
        "triggerEvent": trigger,
        "id": b.id,
        "uid": b.uid,
        "userId": b.organizer_id,
        "userPrimaryEmail": organizer.email if organizer else None,
        "eventTypeId": b.event_type_id,
        "title": title(b, store.event_type(b.event_type_id), organizer),
        "description": "",
        "customInputs": {},
        "startTime": iso_ms(b.start_ms),
        "endTime": iso_ms(b.end_ms),
        "location": b.location,
        "createdAt": iso_ms(b.created_ms),
        "updatedAt": None,
        "status": "ACCEPTED",
        "paid": b.paid_minor is not None,
        **dict.fromkeys(("destinationCalendarId", "cancellationReason", "rejectionReason"), None),
        **dict.fromkeys(("dynamicEventSlugRef", "dynamicGroupSlugRef", "rescheduled"), None),
        "fromReschedule": b.rescheduled_from_uid,
        "recurringEventId": None,
        "smsReminderNumber": None,
        "scheduledJobs": [],
        "metadata": {"videoCallUrl": f"https://app.cal.com/video/{b.uid}"},
        "isRecorded": False,
        "iCalUID": b.ical_uid,
        "iCalSequence": b.ical_sequence,
        "rating": None,
        "ratingFeedback": None,
        "noShowHost": False,
        "cancelledBy": None,
        "rescheduledBy": b.rescheduled_by,
        "oneTimePassword": str(uuid.uuid5(uuid.NAMESPACE_OID, b.uid)),
        "reassignReason": None,
        "responses": _responses(b, plain_labels=False),
        "userFieldsResponses": {},
        "attendees": [
            {
                "id": a.id,
                "email": a.email,
                "name": a.name,
                "timeZone": a.time_zone,
                "phoneNumber": a.phone_number,
                "locale": a.locale,
                "bookingId": b.id,
                "noShow": False,
            }
            for a in b.attendees
        ],
        "user": None
        if organizer is None
        else {
            "email": organizer.email,
            "name": organizer.name,
            "timeZone": organizer.time_zone,
            "username": organizer.username,
        },
        "payment": [],
    }
