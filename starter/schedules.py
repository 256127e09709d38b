"""The schedules of the pipeline: the monthly settlement and the sweep. Created, or brought up to date, idempotently."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from domain import ids
from settings import Settings
from workflows.booking import chain_options
from workflows.models import SettlementInput, SweepWorkflowInput
from workflows.settlement import SettlementWorkflow
from workflows.sweep import SweepWorkflow

TIME_ZONE: Final = "Europe/Berlin"

SETTLEMENT_CATCH_UP: Final = timedelta(days=10)
"""A Temporal that was away for up to ten days still settles the month when it is back, under its nominal date."""

SWEEP_CATCH_UP: Final = timedelta(minutes=1)
"""A missed sweep needs no catching up: the next one looks back over the gap."""

SWEEP_LONGEST: Final = timedelta(hours=1)
"""A sweep that hangs would keep all later ones from starting."""


def settlement(settings: Settings) -> Schedule:
    """Settles the last month on `settlement_day`, `settlement_hour` in Berlin, right over changes of the clock.

    Overlap: one run is buffered. Skipping would lose a month when the earlier run is still busy; two at once would
    only wait for each other's claims. The month comes from the run's nominal time, never from the clock.
    """
    return Schedule(
        action=ScheduleActionStartWorkflow(
            SettlementWorkflow.run,
            SettlementInput(requested_by="schedule", options=chain_options(settings)),
            id=ids.SCHEDULE_SETTLEMENT,
            task_queue=ids.TASK_QUEUE_CHAIN,
            static_summary="Settle the last month's matured commissions",
        ),
        spec=ScheduleSpec(
            calendars=[
                ScheduleCalendarSpec(
                    hour=[ScheduleRange(settings.settlement_hour)],
                    day_of_month=[ScheduleRange(settings.settlement_day)],
                    comment="monthly settlement",
                )
            ],
            time_zone_name=TIME_ZONE,
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ONE, catchup_window=SETTLEMENT_CATCH_UP),
    )


def sweep(settings: Settings) -> Schedule:
    """Asks Cal.com for changed bookings every `sweep_interval_seconds`. Overlap: skipped, the next sees the same."""
    lookback_seconds = max(SweepWorkflowInput().lookback_seconds, round(3 * settings.sweep_interval_seconds))
    return Schedule(
        action=ScheduleActionStartWorkflow(
            SweepWorkflow.run,
            SweepWorkflowInput(lookback_seconds=lookback_seconds),
            id=ids.SCHEDULE_SWEEP,
            task_queue=ids.TASK_QUEUE_CHAIN,
            execution_timeout=SWEEP_LONGEST,
            static_summary="Pick up bookings whose webhook was lost",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=settings.sweep_interval_seconds))]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=SWEEP_CATCH_UP),
    )


async def ensure_schedules(client: Client, settings: Settings) -> list[str]:
    """Creates both schedules, or updates them to these settings; returns the ids of the new ones.

    What a person did to a schedule stays: paused remains paused, with its note.
    """
    wanted = {ids.SCHEDULE_SETTLEMENT: settlement(settings), ids.SCHEDULE_SWEEP: sweep(settings)}
    return [schedule_id for schedule_id, schedule in wanted.items() if await _ensure(client, schedule_id, schedule)]


async def _ensure(client: Client, schedule_id: str, wanted: Schedule) -> bool:
    """True: created."""
    try:
        await client.create_schedule(schedule_id, wanted)
        return True
    except ScheduleAlreadyRunningError:
        pass

    def updated(found: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state = found.description.schedule.state
        return ScheduleUpdate(schedule=wanted)

    await client.get_schedule_handle(schedule_id).update(updated)
    return False
