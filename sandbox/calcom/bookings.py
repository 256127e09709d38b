"""What can happen to a booking, with Cal.com's rules, its words for refusing and its webhooks."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from sandbox.calcom.delivery import Deliveries
from sandbox.calcom.model import Attendee, Booking, EventType, bad_request, new_uid, not_found, now_ms, parse_ms
from sandbox.calcom.store import Store

KEY_OWNER_ID = 5
"""The organizer whom every API key of the sandbox belongs to."""


class Bookings:
    """The operations of the API. Each commits before it returns; its webhook leaves afterwards."""

    def __init__(self, store: Store, deliveries: Deliveries) -> None:
        self._store = store
        self._deliveries = deliveries

    def get(self, uid: str) -> Booking:
        found = self._store.booking(uid)
        if found is None:
            raise not_found(f"Booking with uid={uid} was not found in the database")
        return found

    def build(self, event_type: EventType, *, start_ms: int, attendee: Attendee, **more: Any) -> Booking:
        """A new booking with the next id; `more` overrides any field. Not stored yet."""
        uid = more.pop("uid", None) or new_uid()
        fields: dict[str, Any] = {
            "status": "pending" if event_type.requires_confirmation else "accepted",
            "end_ms": start_ms + event_type.length_minutes * 60_000,
            "organizer_id": event_type.organizer_id,
            "created_ms": now_ms(),
            "updated_ms": None,
            "ical_uid": f"{uid}@Cal.com",
        }
        fields.update(more)
        return Booking(
            id=self._store.next_id("booking", 91),
            uid=uid,
            event_type_id=event_type.id,
            start_ms=start_ms,
            attendees=[attendee],
            **fields,
        )

    def attendee(self, **fields: Any) -> Attendee:
        return Attendee(id=self._store.next_id("attendee", 120), **fields)

    async def create(self, booking: Booking) -> Booking:
        self._check_slot(booking, except_uid=None)
        trigger = "BOOKING_REQUESTED" if booking.status == "pending" else "BOOKING_CREATED"
        await self.commit([booking], trigger, booking)
        return booking

    async def cancel(self, uid: str, *, reason: str | None, authenticated: bool) -> Booking:
        booking = self.get(uid)
        if booking.status == "cancelled":
            raise bad_request("This booking has already been cancelled.")
        if authenticated and not reason and booking.organizer_id == KEY_OWNER_ID:
            raise bad_request("Cancellation reason is required when you are the host")
        booking.status = "cancelled"
        booking.cancellation_reason = reason
        organizer = self._store.organizer(booking.organizer_id)
        booker = booking.attendees[0].email if booking.attendees else None
        booking.cancelled_by = organizer.email if authenticated and organizer else booker
        booking.ical_sequence += 1
        await self._changed(booking, "BOOKING_CANCELLED")
        return booking

    async def confirm(self, uid: str) -> Booking:
        booking = self._pending(uid, "confirm")
        booking.status = "accepted"
        await self._changed(booking, "BOOKING_CREATED", confirmed_by_hand=True)
        return booking

    async def decline(self, uid: str, *, reason: str | None) -> Booking:
        booking = self._pending(uid, "decline")
        booking.status = "rejected"
        booking.rejection_reason = reason
        booking.ical_sequence += 1
        await self._changed(booking, "BOOKING_REJECTED")
        return booking

    async def reschedule(self, uid: str, *, start: str, reason: str | None, rescheduled_by: str | None) -> Booking:
        """A new booking with a new uid; the old one becomes cancelled and points at it."""
        old = self.get(uid)
        start_ms = parse_ms(start, "start")
        if old.status == "cancelled" and old.rescheduled_to_uid:
            raise bad_request(
                f"Can't reschedule booking with uid={uid} because it has been cancelled and rescheduled already to "
                f"booking with uid={old.rescheduled_to_uid}. You probably want to reschedule {old.rescheduled_to_uid} "
                "instead by passing it within the request URL."
            )
        if old.status == "cancelled":
            raise bad_request(
                f"Can't reschedule booking with uid={uid} because it has been cancelled. "
                "Please provide uid of a booking that is not cancelled."
            )
        now = now_ms()
        event_type = self._store.event_type(old.event_type_id)
        asks = event_type is not None and event_type.requires_confirmation
        new = deepcopy(old)
        new.id, new.uid = self._store.next_id("booking", 91), new_uid()
        new.start_ms, new.end_ms = start_ms, start_ms + (old.end_ms - old.start_ms)
        new.created_ms, new.updated_ms = now, None
        new.status = "pending" if asks else "accepted"
        new.ical_sequence += 1
        new.rescheduled_from_uid, new.rescheduled_to_uid = old.uid, None
        new.rescheduling_reason = reason
        booker = old.attendees[0].email if old.attendees else None
        new.rescheduled_by = old.rescheduled_by = rescheduled_by or booker
        new.absent_host, new.attendees = False, [self._copy(a) for a in old.attendees]
        self._check_slot(new, except_uid=old.uid)
        old.status, old.rescheduled_to_uid, old.updated_ms = "cancelled", new.uid, now
        await self.commit([old, new], "BOOKING_REQUESTED" if asks else "BOOKING_RESCHEDULED", new)
        return new

    async def mark_absent(self, uid: str, *, host: bool | None, attendees: dict[str, bool]) -> Booking:
        """Only after the start. An absent host sends no webhook."""
        booking = self.get(uid)
        if now_ms() < booking.start_ms:
            raise bad_request("Bookings can only be marked as absent after their start time has passed.")
        unknown = set(attendees) - {a.email for a in booking.attendees}
        if unknown:
            raise bad_request(f"Attendees not found in booking with uid={uid}")
        if host is not None:
            booking.absent_host = host
        for attendee in booking.attendees:
            attendee.no_show = attendees.get(attendee.email, attendee.no_show)
        await self._changed(booking, "BOOKING_NO_SHOW_UPDATED" if attendees else None)
        return booking

    async def commit(
        self, changed: list[Booking], trigger: str | None, subject: Booking, *, confirmed_by_hand: bool = False
    ) -> None:
        """Stores the bookings, then sends the webhook of `subject`; the other way round under the fault `early`."""
        if trigger and self._deliveries.strikes_early(trigger, subject.uid):
            self._deliveries.announce(trigger, subject, confirmed_by_hand=confirmed_by_hand)
            await self._deliveries.flush()
            trigger = None
        self._store.put_bookings(changed, now_ms=now_ms())
        if trigger:
            self._deliveries.announce(trigger, subject, confirmed_by_hand=confirmed_by_hand)

    async def _changed(self, booking: Booking, trigger: str | None, *, confirmed_by_hand: bool = False) -> None:
        booking.updated_ms = now_ms()
        await self.commit([booking], trigger, booking, confirmed_by_hand=confirmed_by_hand)

    def _copy(self, attendee: Attendee) -> Attendee:
        return self.attendee(
            name=attendee.name,
            email=attendee.email,
            time_zone=attendee.time_zone,
            locale=attendee.locale,
            phone_number=attendee.phone_number,
        )

    def _pending(self, uid: str, verb: str) -> Booking:
        booking = self.get(uid)
        if booking.status != "pending":
            raise bad_request(
                f"Can't {verb} booking with uid={uid} because its status is {booking.status}, not pending."
            )
        return booking

    def _check_slot(self, booking: Booking, *, except_uid: str | None) -> None:
        if booking.start_ms < now_ms():
            raise bad_request("Attempting to book a meeting in the past.")
        if self._store.overlapping(booking.organizer_id, booking.start_ms, booking.end_ms, except_uid=except_uid):
            raise bad_request("User either already has booking at this time or is not available")
