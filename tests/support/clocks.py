"""A worker whose clock is wrong, and a Schedule that runs at any minute of the past."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, tzinfo

import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    ScheduleRange,
    ScheduleSpec,
)

from domain import ids
from starter.schedules import TIME_ZONE
from tests.support.desk import Desk
from workflows.models import SettlementInput
from workflows.settlement import SettlementWorkflow, settlement_terms

_PACKAGES = ("activities", "domain", "workflows", "store", "starter", "gateways")


def shift_clock(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Every module of ours that reads the clock by `datetime` reads one that is so many hours fast."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=hours)

    patched = 0
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _PACKAGES and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", Wrong)
            patched += 1
    assert patched > 5


@asynccontextmanager
async def settled_by_schedule(
    desk: Desk, name: str, *, day: int, hour: int, minute: int, since: datetime, until: datetime
) -> AsyncIterator[None]:
    """A Schedule for this minute of the month in Berlin, backfilled over a span of time, and gone afterwards."""
    calendar = ScheduleCalendarSpec(
        day_of_month=[ScheduleRange(day)], hour=[ScheduleRange(hour)], minute=[ScheduleRange(minute)]
    )
    action = ScheduleActionStartWorkflow(
        SettlementWorkflow.run,
        SettlementInput(requested_by="schedule", terms=settlement_terms(desk.settings)),
        id=f"settlement-{name}",
        task_queue=ids.TASK_QUEUE_CHAIN,
    )
    spec = ScheduleSpec(calendars=[calendar], time_zone_name=TIME_ZONE)
    handle = await desk.client.create_schedule(name, Schedule(action=action, spec=spec))
    try:
        await handle.backfill(ScheduleBackfill(start_at=since, end_at=until, overlap=ScheduleOverlapPolicy.BUFFER_ALL))
        yield
    finally:
        await handle.delete()
