"""Read a booking from Cal.com: the webhook only says that something happened, the API says what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import told_to_temporal
from activities.models import BookingFacts, BookingRef, TakenIn
from activities.quoting import QuoteActivities
from domain import ids
from domain.ports import BookingStatus, CalBooking, CalendarGateway, NotFound

if TYPE_CHECKING:
    from store import Store, Tx

AT_ONCE_MOST = 20
"""Local tries of one process at a time; all chains' small steps share its places. As many as connections to Cal.com."""

AT_ONCE_PAUSE_SECONDS = 10.0
"""After a try at once without an answer, bookings are read by dispatched steps only for so long."""

MAX_RESCHEDULINGS = 50
"""Followed in one reading; more than that is a loop, not a diary."""


class IntakeActivities:
    def __init__(self, store: Store, calendar: CalendarGateway) -> None:
        self._store = store
        self._calendar = calendar
        self._quoting = QuoteActivities(store)
        self._trying_at_once = 0
        self._dispatched_until = 0.0

    @activity.defn
    async def read_booking(self, ref: BookingRef) -> BookingFacts:
        """The booking as it is now, followed through its reschedulings. Opens the chain's row; repeating is harmless.

        Fails with `BookingNotFound` for a uid that Cal.com does not know.
        """
        hops = await self._hops(ref)
        async with self._store.begin() as tx:
            await self._save(tx, ref, hops)
            asked = await self._teams_to_ask(tx, hops[-1])
        if asked:
            teams = await self._teams(hops[-1], asked)
            async with self._store.begin() as tx:
                await self._save(tx, ref, hops[-1:], teams)
        return _facts(hops[-1])

    @activity.defn
    async def take_in(self, ref: BookingRef) -> TakenIn:
        """`read_booking`, and the frozen quote of a booking that is accepted. Repeating is harmless.

        A second call after the first one's answer was lost returns the first quote. As a local activity it fails at
        once where Cal.com was slow or away a moment ago, or is asked by many: the caller has it dispatched then.
        """
        if not activity.info().is_local:
            return await self._take_in(ref)
        if self._trying_at_once >= AT_ONCE_MOST or time.monotonic() < self._dispatched_until:
            raise ApplicationError("left to a dispatched step", type="OutcomeUnknown")
        self._trying_at_once += 1
        try:
            return await self._take_in(ref)
        except (ApplicationError, asyncio.CancelledError) as error:
            if not (isinstance(error, ApplicationError) and error.non_retryable):
                self._dispatched_until = time.monotonic() + AT_ONCE_PAUSE_SECONDS
            raise
        finally:
            self._trying_at_once -= 1

    async def _take_in(self, ref: BookingRef) -> TakenIn:
        hops = await self._hops(ref)
        newest, teams = hops[-1], None
        while True:
            async with self._store.begin() as tx:
                is_new = await self._save(tx, ref, hops, teams or ())
                asked = await self._teams_to_ask(tx, newest) if teams is None else []
                if not asked:
                    quote = None
                    if newest.status is BookingStatus.ACCEPTED:
                        given = BookingRef(chain_uid=ref.chain_uid, booking_uid=newest.uid)
                        quote = await self._quoting.freeze(tx, given, is_new=is_new)
                    return TakenIn(facts=_facts(newest), quote=quote)
            teams = await self._teams(newest, asked)

    async def _hops(self, ref: BookingRef) -> list[CalBooking]:
        with told_to_temporal():
            try:
                return await self._follow(ref.booking_uid)
            except NotFound as error:
                raise ApplicationError(str(error), type="BookingNotFound", non_retryable=True) from None

    async def _save(self, tx: Tx, ref: BookingRef, hops: Sequence[CalBooking], teams: Sequence[int] = ()) -> bool:
        """Store the bookings of a chain, whose row is opened; `teams` are the newest one's. True: the chain is new."""
        workflow_id = ids.booking_workflow(ref.chain_uid)
        is_new = False
        for booking in hops:
            given = teams if booking is hops[-1] else ()
            is_new = await tx.chains.take_in(ref.chain_uid, workflow_id, booking, team_ids=given) or is_new
        return is_new

    async def _follow(self, uid: str) -> list[CalBooking]:
        """The booking and those it was rescheduled to, oldest first."""
        hops = [await self._calendar.get_booking(uid)]
        while hops[-1].status is BookingStatus.CANCELLED and hops[-1].rescheduled_to_uid is not None:
            if len(hops) > MAX_RESCHEDULINGS:
                raise ApplicationError(f"booking {uid} is rescheduled in a loop", type="SetupError", non_retryable=True)
            hops.append(await self._calendar.get_booking(hops[-1].rescheduled_to_uid))
        return hops

    async def _teams_to_ask(self, tx: Tx, booking: CalBooking) -> list[int]:
        """Mapped teams that the booking may belong to: none where its event type names the customer."""
        if await tx.catalog.customer_for(booking.event_type_id, (), ()) is not None:
            return []
        return await tx.catalog.mapped_teams()

    async def _teams(self, booking: CalBooking, asked: Sequence[int]) -> tuple[int, ...]:
        """Those of the teams that the booking belongs to, by Cal.com."""
        with told_to_temporal():
            return tuple([team for team in asked if await self._calendar.booking_in_team(booking.uid, team)])


def _facts(booking: CalBooking) -> BookingFacts:
    return BookingFacts(
        booking_uid=booking.uid,
        status=booking.status,
        start_at=booking.start_at,
        end_at=booking.end_at,
        changed_at=booking.updated_at or datetime.now(UTC),
        attendee_absent=booking.attendee_absent,
    )
