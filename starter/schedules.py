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
from workflows.settlement import SettlementWorkflow, settlement_terms
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

    The month comes from the run's nominal time, never from a clock: a late run, one that is caught up and one of a
    backfill close exactly the month before the date that they were meant for. Triggered by hand it closes the month
    before today; `billing settle --month` takes any other. Nothing is paid twice, whatever is run again.

    Overlap: all runs are buffered, so that each month gets its own statements, one after the other, also when an
    earlier closing is still busy or paused, and when many months are backfilled. Skipping or buffering one would put a
    month into the next one's statements; two at once would gain nothing: claims are taken one after the other.
    Catch-up: see `SETTLEMENT_CATCH_UP`.
    Pause on failure: yes. A closing waits for whatever may come right by itself, so one that failed was ended by a
    person or is a bug; the next month must not start before somebody has looked. Nothing is lost by that: the next
    closing takes all that is due. The schedule's note says why it is paused.
    """
    return Schedule(
        action=ScheduleActionStartWorkflow(
            SettlementWorkflow.run,
            SettlementInput(requested_by="schedule", options=chain_options(settings), terms=settlement_terms(settings)),
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
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy.BUFFER_ALL, catchup_window=SETTLEMENT_CATCH_UP, pause_on_failure=True
        ),
    )


def sweep(settings: Settings) -> Schedule:
    """Asks Cal.com for changed bookings every `sweep_interval_seconds`. Overlap: skipped, the next sees the same.

    Pause on failure: no. The next sweep looks back over the gap, and one that stays paused would lose bookings.
    """
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
