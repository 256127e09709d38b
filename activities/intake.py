"""Read a booking from Cal.com: the webhook only says that something happened, the API says what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import told_to_temporal
from activities.models import BookingFacts, BookingRef
from domain import ids
from domain.ports import BookingStatus, CalBooking, CalendarGateway, NotFound

if TYPE_CHECKING:
    from store import Store

MAX_RESCHEDULINGS = 50
"""Followed in one reading; more than that is a loop, not a diary."""


class IntakeActivities:
    def __init__(self, store: Store, calendar: CalendarGateway) -> None:
        self._store = store
        self._calendar = calendar

    @activity.defn
    async def read_booking(self, ref: BookingRef) -> BookingFacts:
        """The booking as it is now, followed through its reschedulings. Opens the chain's row; repeating is harmless.

        Fails with `BookingNotFound` for a uid that Cal.com does not know.
        """
        with told_to_temporal():
            try:
                hops = await self._follow(ref.booking_uid)
            except NotFound as error:
                raise ApplicationError(str(error), type="BookingNotFound", non_retryable=True) from None
            teams = await self._teams(hops[-1])
        newest = hops[-1]
        async with self._store.begin() as tx:
            await tx.chains.open(ref.chain_uid, ids.booking_workflow(ref.chain_uid))
            for booking in hops:
                await tx.chains.alias(booking.uid, ref.chain_uid)
                await tx.chains.save_booking(ref.chain_uid, booking, team_ids=teams if booking is newest else ())
        return BookingFacts(
            booking_uid=newest.uid,
            status=newest.status,
            start_at=newest.start_at,
            end_at=newest.end_at,
            changed_at=newest.updated_at or datetime.now(UTC),
            attendee_absent=newest.attendee_absent,
        )

    async def _follow(self, uid: str) -> list[CalBooking]:
        """The booking and those it was rescheduled to, oldest first."""
        hops = [await self._calendar.get_booking(uid)]
        while hops[-1].status is BookingStatus.CANCELLED and hops[-1].rescheduled_to_uid is not None:
            if len(hops) > MAX_RESCHEDULINGS:
                raise ApplicationError(f"booking {uid} is rescheduled in a loop", type="SetupError", non_retryable=True)
            hops.append(await self._calendar.get_booking(hops[-1].rescheduled_to_uid))
        return hops

    async def _teams(self, booking: CalBooking) -> tuple[int, ...]:
        """Mapped teams that the booking belongs to: asked only where its event type does not name the customer."""
        async with self._store.begin() as tx:
            if await tx.catalog.customer_for(booking.event_type_id, (), ()) is not None:
                return ()
            mapped = await tx.catalog.mapped_teams()
        return tuple([team for team in mapped if await self._calendar.booking_in_team(booking.uid, team)])
