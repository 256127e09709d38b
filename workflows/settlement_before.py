"""The month's closing as runs that began before `settlement-by-pages` do it: one child workflow per reseller.

Kept because a closing, or a history that is replayed, may have begun so. New runs never come here.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.models import ClaimInput
    from activities.settlements import SettlementActivities
    from domain import ids
    from workflows import policies, visibility
    from workflows.models import ResellerSettlementInput, SettlementInput, SettlementState
    from workflows.reseller_settlement import ResellerSettlementWorkflow

MAX_AT_ONCE = 50
"""Reseller settlements started at a time: well below the limits on pending children."""


async def by_children(start: SettlementInput, period: str) -> SettlementState:
    """Claim, start a child for each unpaid statement, and wait until none is open."""
    workflow.upsert_search_attributes([visibility.PERIOD.value_set(period)])
    options = policies.database_step(
        start.options.step_timeout_seconds, f"Claim the commissions that matured until the end of {period}"
    )
    claimed = await workflow.execute_activity_method(
        SettlementActivities.claim, ClaimInput(period=period, requested_by=start.requested_by), **options
    )
    gate = asyncio.Semaphore(MAX_AT_ONCE)

    async def settle(order: ResellerSettlementInput) -> None:
        async with gate:
            await _start(order)

    await asyncio.gather(
        *(
            settle(
                ResellerSettlementInput(
                    period=period,
                    reseller_id=claim.reseller_id,
                    currency=claim.currency,
                    amount_minor=claim.amount_minor,
                    options=start.options,
                )
            )
            for claim in claimed.claims
        )
    )
    return await _follow(start, period, len(claimed.claims))


async def _start(order: ResellerSettlementInput) -> None:
    amount = visibility.money(order.amount_minor, order.currency)
    try:
        await workflow.start_child_workflow(
            ResellerSettlementWorkflow.run,
            order,
            id=ids.reseller_settlement_workflow(order.period, order.reseller_id, order.currency),
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            static_summary=f"Pay {amount} for {order.period} to reseller {order.reseller_id}",
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("a run for this reseller is under way", extra={"reseller": order.reseller_id})


async def _follow(start: SettlementInput, period: str, claims: int) -> SettlementState:
    pause = timedelta(seconds=1)
    while True:
        progress = await workflow.execute_local_activity_method(
            SettlementActivities.progress, period, **policies.database_step(start.options.step_timeout_seconds)
        )
        workflow.set_current_details(
            f"**{period}**: {progress.paid} paid, {progress.parked} parked, {progress.open} under way"
        )
        if progress.open == 0:
            return SettlementState(period=period, claims=claims, paid=progress.paid, parked=progress.parked)
        await workflow.sleep(pause, summary=f"{progress.open} resellers under way")
        pause = min(pause * 2, timedelta(minutes=5))
