"""What the API answers: bookings, pages, webhooks and errors, in Cal.com's field names (version 2024-08-13)."""

from __future__ import annotations

import math

from sandbox.calcom.model import ApiError, Booking, EventType, Json, Organizer, Team, Webhook, iso_ms, now_ms
from sandbox.calcom.store import Store


def error_body(error: ApiError, path: str) -> Json:
    detail: Json = {"code": error.code, "message": error.message}
    if error.details is not None:
        detail["details"] = error.details
    return {"status": "error", "timestamp": iso_ms(now_ms()), "path": path, "error": detail}


def success(data: object, **more: object) -> Json:
    return {"status": "success", "data": data, **more}


def pagination(*, total: int, take: int, skip: int, returned: int) -> Json:
    remaining = max(0, total - (skip + returned))
    return {
        "returnedItems": returned,
        "totalItems": total,
        "itemsPerPage": take,
        "remainingItems": remaining,
        "currentPage": skip // take + 1,
        "totalPages": math.ceil(total / take),
        "hasNextPage": remaining > 0,
        "hasPreviousPage": skip > 0,
    }


def host(organizer: Organizer | None) -> Json:
    """The organizer; a deleted one is answered with the word `unknown` everywhere, the id included."""
    if organizer is None:
        return dict.fromkeys(("id", "name", "email", "displayEmail", "username", "timeZone"), "unknown")
    return {
        "id": organizer.id,
        "name": organizer.name,
        "email": organizer.email,
        "displayEmail": organizer.email,
        "username": organizer.username,
        "timeZone": organizer.time_zone,
    }


def booking(store: Store, b: Booking) -> Json:
    """BookingOutput_2024_08_13. Fields without a value are left out, as JSON drops `undefined` over there."""
    event_type = store.event_type(b.event_type_id)
    organizer = store.organizer(b.organizer_id)
    first = b.attendees[0] if b.attendees else None
    cancelled = b.status == "cancelled"
    optional = {
        "cancellationReason": b.cancellation_reason if cancelled else None,
        "cancelledByEmail": b.cancelled_by if cancelled else None,
        "reschedulingReason": b.rescheduling_reason,
        "rescheduledByEmail": b.rescheduled_by,
        "rescheduledFromUid": b.rescheduled_from_uid,
        "rescheduledToUid": b.rescheduled_to_uid,
    }
    return {
        "id": b.id,
        "uid": b.uid,
        "title": title(b, event_type, organizer),
        "description": "",
        "hosts": [host(organizer)],
        "status": b.status,
        **{k: v for k, v in optional.items() if v is not None},
        "start": iso_ms(b.start_ms),
        "end": iso_ms(b.end_ms),
        "duration": (b.end_ms - b.start_ms) // 60_000,
        "eventTypeId": event_type.id if event_type else None,
        "eventType": {"id": event_type.id, "slug": event_type.slug} if event_type else None,
        "meetingUrl": b.location,
        "location": b.location,
        "absentHost": b.absent_host,
        "createdAt": iso_ms(b.created_ms),
        "updatedAt": None if b.updated_ms is None else iso_ms(b.updated_ms),
        "metadata": b.metadata,
        "rating": None,
        "icsUid": b.ical_uid,
        "attendees": [
            {
                "name": a.name,
                "email": a.email,
                "displayEmail": a.email,
                "timeZone": a.time_zone,
                "language": a.locale,
                "absent": a.no_show,
                **({"phoneNumber": a.phone_number} if a.phone_number else {}),
            }
            for a in b.attendees
        ],
        "guests": b.guests,
        "bookingFieldsResponses": {"name": first.name, "email": first.email} if first else {},
    }


def booking_2024_04_15(store: Store, b: Booking) -> Json:
    """The older shape, which a request without the `cal-api-version` header gets."""
    organizer = store.organizer(b.organizer_id)
    event_type = store.event_type(b.event_type_id)
    return {
        "id": b.id,
        "uid": b.uid,
        "title": title(b, event_type, organizer),
        "description": None,
        "startTime": iso_ms(b.start_ms),
        "endTime": iso_ms(b.end_ms),
        "status": b.status.upper(),
        "metadata": b.metadata,
        "attendees": [{"id": a.id, "name": a.name, "email": a.email, "timeZone": a.time_zone} for a in b.attendees],
        "eventType": {"id": event_type.id, "slug": event_type.slug} if event_type else None,
        "user": None if organizer is None else {"id": organizer.id, "name": organizer.name, "email": organizer.email},
        "paid": b.paid_minor is not None,
        "rescheduled": b.rescheduled_to_uid is not None,
    }


def title(b: Booking, event_type: EventType | None, organizer: Organizer | None) -> str:
    name = event_type.title if event_type else "Meeting"
    attendee = b.attendees[0].name if b.attendees else "Nameless"
    return f"{name} between {organizer.name if organizer else 'Nameless'} and {attendee}"


def event_type_output(event_type: EventType) -> Json:
    return {
        "id": event_type.id,
        "ownerId": event_type.organizer_id,
        "teamId": event_type.team_id,
        "lengthInMinutes": event_type.length_minutes,
        "title": event_type.title,
        "slug": event_type.slug,
        "description": "",
        "price": event_type.price_minor,
        "currency": event_type.currency,
        "confirmationPolicy": {"type": "always"} if event_type.requires_confirmation else {"disabled": True},
        "metadata": {},
    }


def team_output(team: Team) -> Json:
    return {"id": team.id, "name": team.name, "slug": team.slug, "parentId": None, "isOrganization": False}


def webhook_output(webhook: Webhook, user_id: int) -> Json:
    owner = {"userId": user_id} if webhook.event_type_id is None else {"eventTypeId": webhook.event_type_id}
    return {
        "payloadTemplate": webhook.payload_template,
        "triggers": webhook.triggers,
        "id": webhook.id,
        "subscriberUrl": webhook.subscriber_url,
        "active": webhook.active,
        **({"secret": webhook.secret} if webhook.secret else {}),
        "version": webhook.version,
        **owner,
    }
