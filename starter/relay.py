"""Delivers what stands in the inbox: at once after a webhook, and again and again for what could not be delivered.

Several processes may run a relay at once: a row is claimed with a lease, and a lease that runs out (its process died)
makes the row due again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from temporalio.service import RPCError, RPCStatusCode

from settings import Settings
from starter.dispatch import Dispatcher
from starter.metrics import Metrics
from starter.outcomes import Delivered, Held, NotYet
from store.database import Store
from store.rows import InboxRow

log = structlog.get_logger("relay")

BATCH: Final = 50
"""Rows claimed at a time: enough to fill the pool, few enough to be done within a lease."""

PARALLEL: Final = 8
"""Rows delivered at a time: half of the default pool, so that webhooks always find a connection."""

LEASE_SECONDS: Final = 180.0
"""A batch is done within this also when each call to Temporal runs into its time-out."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 3_600.0
OUTAGE_PAUSE_SECONDS: Final = 60.0
"""Longest pause while Temporal or the database is away: events go out within a minute of its return."""

_OUTAGES: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.PERMISSION_DENIED,
    }
)
"""Answers of Temporal that say nothing about the event: it is never given up because of them."""

_DATABASE_OUTAGES: Final = frozenset({"OperationalError", "InterfaceError", "TimeoutError"})


def pause_seconds(attempt: int, longest_seconds: float = LONGEST_PAUSE_SECONDS) -> float:
    """Pause after the n-th failed try, counted from 1: 1, 2, 4 … seconds, without jitter, up to the longest."""
    return min(longest_seconds, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 40))


def is_outage(error: Exception) -> bool:
    """Whether a failed try says nothing about the event itself: Temporal or the database is away or overloaded.

    The database's errors are known by name: only `store` may import its library.
    """
    if isinstance(error, RPCError):
        return error.status in _OUTAGES
    if isinstance(error, RuntimeError):
        return str(error).startswith("Failed client connect")
    by_database = type(error).__module__.startswith("sqlalchemy") and type(error).__name__ in _DATABASE_OUTAGES
    return by_database or isinstance(error, OSError)


class Relay:
    """The loop behind the inbox. `nudge` wakes it at once; `run` ends when its task is cancelled."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        settings: Settings,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._wake = asyncio.Event()
        self._looks_in_outage = 0
        self._slots = asyncio.Semaphore(PARALLEL)

    def nudge(self) -> None:
        """A new row was committed: deliver it now instead of at the next look."""
        self._wake.set()

    async def run(self) -> None:
        """Looks for due rows every `relay_interval_seconds`, or at a nudge, until cancelled. Outlives every failure."""
        while True:
            self._wake.clear()
            try:
                while await self.run_once() == BATCH:
                    pass
            except Exception as error:  # noqa: BLE001 - the loop must outlive whatever a look may raise
                log.warning("relay_cannot_look", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.relay_interval_seconds)

    async def run_once(self) -> int:
        """Claims the rows that are due and delivers them; returns how many were claimed."""
        async with self._store.begin() as tx:
            rows = await tx.inbox.claim_due(BATCH, self._now(), lease_seconds=LEASE_SECONDS)
        if rows:
            met_outage = await asyncio.gather(*(self._deliver(row) for row in rows))
            self._looks_in_outage = self._looks_in_outage + 1 if any(met_outage) else 0
        return len(rows)

    async def _deliver(self, row: InboxRow) -> bool:
        """One row, start to end; True: it met an outage. Never raises: one row's fate is no other row's business."""
        async with self._slots:
            try:
                outcome = await self._dispatcher.deliver(row)
            except Exception as error:  # noqa: BLE001 - any failure is recorded at the row and tried again
                return await self._postpone(row, error)
            await self._finish(row, outcome)
            return False

    async def _finish(self, row: InboxRow, outcome: Delivered | Held) -> None:
        held = isinstance(outcome, Held)
        words = outcome.reason if isinstance(outcome, Held) else outcome.note
        try:
            async with self._store.begin() as tx:
                if held:
                    await tx.inbox.held(row.event_id, words)
                else:
                    await tx.inbox.delivered(row.event_id)
        except Exception as error:  # noqa: BLE001 - delivered but not recorded: the lease runs out, it is done again
            log.warning("event_not_recorded", event_id=row.event_id, error=type(error).__name__)
            return
        self._metrics.handled(row.source, "held" if held else "delivered")
        say = log.warning if held else log.info
        say(
            "event_held" if held else "event_delivered",
            source=row.source,
            type=row.type,
            event_id=row.event_id,
            object_id=row.object_id,
            result=words,
        )

    async def _postpone(self, row: InboxRow, error: Exception) -> bool:
        """Plans the next try, or hands the row to a person; True: it met an outage, which is no try of the event."""
        words = str(error) if isinstance(error, NotYet) else type(error).__name__
        outage = is_outage(error)
        if outage:
            pause = pause_seconds(self._looks_in_outage + 1, OUTAGE_PAUSE_SECONDS)
        else:
            pause = pause_seconds(row.attempts + 1)
        give_up = not outage and row.attempts + 1 >= self._settings.relay_max_attempts
        try:
            async with self._store.begin() as tx:
                if give_up:
                    await tx.inbox.held(row.event_id, f"given up after {row.attempts + 1} tries: {words}")
                else:
                    retry_at = self._now() + timedelta(seconds=pause)
                    await tx.inbox.failed(row.event_id, words, retry_at, counts=not outage)
        except Exception as failure:  # noqa: BLE001 - the lease runs out and the row is due again
            log.warning("event_not_recorded", event_id=row.event_id, error=type(failure).__name__)
            return outage
        self._metrics.handled(row.source, "stuck" if give_up else "later")
        log.warning(
            "event_stuck" if give_up else "event_later",
            source=row.source,
            type=row.type,
            event_id=row.event_id,
            outage=outage,
            reason=words,
            pause_seconds=None if give_up else pause,
        )
        return outage
