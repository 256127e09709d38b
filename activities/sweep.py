"""Ask Cal.com what changed: its webhooks are not retried, so what they lost is found here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.errors import told_to_temporal
from activities.models import SweepInput, SweepResult
from domain.ports import CalBooking, CalendarGateway

if TYPE_CHECKING:
    from store import Store

CURSOR = "calcom-bookings"

PAGE = 100
FIRST_LOOK_BACK = timedelta(days=7)
"""How far the very first sweep looks: a fresh installation does not bill a year of old bookings by itself."""


class SweepActivities:
    def __init__(self, store: Store, calendar: CalendarGateway) -> None:
        self._store = store
        self._calendar = calendar

    @activity.defn
    async def sweep_bookings(self, order: SweepInput) -> SweepResult:
        """Put every change that no webhook told of into the inbox; the relay delivers it like a webhook.

        The mark of the last success moves only when all pages were read, so an outage loses nothing.
        """
        begun_at = datetime.now(UTC)
        async with self._store.begin() as tx:
            mark = await tx.inbox.cursor(CURSOR)
        since = (mark or begun_at - FIRST_LOOK_BACK) - timedelta(seconds=order.lookback_seconds)
        seen = new = skip = 0
        while True:
            with told_to_temporal():
                page = await self._calendar.list_bookings(updated_after=since, skip=skip, take=PAGE)
            async with self._store.begin() as tx:
                for booking in page.bookings:
                    seen += 1
                    new += await tx.inbox.add(
                        f"sweep:{booking.uid}:{_version(booking)}", "sweep", "booking_seen", booking.uid, _news(booking)
                    )
            activity.heartbeat(seen)
            if not page.has_more:
                break
            skip += PAGE
        async with self._store.begin() as tx:
            await tx.inbox.set_cursor(CURSOR, begun_at)
        return SweepResult(seen=seen, new=new)


def _news(booking: CalBooking) -> bytes:
    """Body of the inbox row: what the relay needs to find the booking's chain. No personal data."""
    facts = {
        "status": booking.status.value,
        "rescheduled_from_uid": booking.rescheduled_from_uid,
        "rescheduled_to_uid": booking.rescheduled_to_uid,
    }
    return json.dumps(facts).encode()


def _version(booking: CalBooking) -> str:
    """What tells one state of a booking from the next; the same state is put into the inbox once."""
    changed = booking.updated_at or booking.created_at
    return f"{booking.status}:{changed.astimezone(UTC).isoformat()}"
