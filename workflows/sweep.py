"""Pick up bookings whose webhook was lost: Cal.com effectively does not retry."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.models import SweepInput, SweepResult
    from activities.sweep import SweepActivities
    from workflows import policies
    from workflows.models import SweepWorkflowInput

SWEEP_STEP_TIMEOUT_SECONDS = 240.0
"""Less than the Schedule's interval, so that a Cal.com outage ends the run and the next one looks further back."""


@workflow.defn
class SweepWorkflow:
    """Asks Cal.com for every booking that changed since the last sweep and puts the unseen changes into the inbox.

    Run by a Schedule; an outage fails the run visibly, and the next one starts from the last success.
    """

    @workflow.run
    async def run(self, start: SweepWorkflowInput) -> SweepResult:
        return await workflow.execute_activity_method(
            SweepActivities.sweep_bookings,
            SweepInput(lookback_seconds=start.lookback_seconds),
            summary="Ask Cal.com for bookings that changed",
            start_to_close_timeout=timedelta(minutes=4),
            schedule_to_close_timeout=timedelta(seconds=SWEEP_STEP_TIMEOUT_SECONDS),
            heartbeat_timeout=timedelta(seconds=60),
            retry_policy=policies.OUTSIDE_RETRY,
        )
