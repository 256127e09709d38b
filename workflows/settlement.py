"""The month's closing: claim what matured and pay each reseller once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import SearchAttributeKey, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.models import ClaimInput, EffectResult, LogInput, ParkSettlementInput, SettleInput
    from activities.settlements import SettlementActivities, SettlementPayments
    from domain import ids
    from domain.chain import ChainStage
    from domain.model import ParkReason
    from domain.pricing import period_of, previous_period
    from workflows import policies, visibility
    from workflows.control import ChainControl
    from workflows.models import OperatorOrder, ResellerSettlementInput, SettlementInput, SettlementState

_SCHEDULED_FOR = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")

MAX_AT_ONCE = 50
"""Reseller settlements started at a time: well below the limits on pending children."""


@workflow.defn
class SettlementWorkflow:
    """Settles one month. Id `settlement-{YYYY-MM}`; the Schedule's own run only resolves the month and starts that one.

    1. month: as ordered, or the month before the Schedule's nominal time in Europe/Berlin. So a late or backfilled run
       settles the right month, whatever the clock says.
    2. claim: every matured commission before the month's end that no settlement has yet, per reseller and currency.
    3. one `ResellerSettlementWorkflow` per reseller; each makes one transfer or parks.
    4. ends when every reseller is paid or parked. A second run claims nothing and pays nothing.
    """

    @workflow.init
    def __init__(self, start: SettlementInput) -> None:
        self._state = SettlementState(period=start.period or "0001-01", claims=0, paid=0, parked=0)

    @workflow.query(description="How far the month's closing is")
    def state(self) -> SettlementState:
        return self._state

    @workflow.run
    async def run(self, start: SettlementInput) -> SettlementState:
        if start.period is None:
            return await self._for_schedule(start)
        workflow.upsert_search_attributes([visibility.PERIOD.value_set(start.period)])
        options = policies.database_step(
            start.options.step_timeout_seconds, f"Claim the commissions that matured until the end of {start.period}"
        )
        claimed = await workflow.execute_activity_method(
            SettlementActivities.claim,
            ClaimInput(period=start.period, requested_by=start.requested_by),
            **options,
        )
        gate = asyncio.Semaphore(MAX_AT_ONCE)

        async def settle(order: ResellerSettlementInput) -> None:
            async with gate:
                await self._start_reseller(order)

        await asyncio.gather(
            *(
                settle(
                    ResellerSettlementInput(
                        period=start.period,
                        reseller_id=claim.reseller_id,
                        currency=claim.currency,
                        amount_minor=claim.amount_minor,
                        options=start.options,
                    )
                )
                for claim in claimed.claims
            )
        )
        return await self._follow(start, len(claimed.claims))

    async def _for_schedule(self, start: SettlementInput) -> SettlementState:
        nominal = workflow.info().typed_search_attributes.get(_SCHEDULED_FOR) or workflow.info().start_time
        period = previous_period(period_of(nominal))
        try:
            self._state = await workflow.execute_child_workflow(
                SettlementWorkflow.run,
                start.model_copy(update={"period": period}),
                id=ids.settlement_workflow(period),
                # A closed settlement may run again for what came later: the claim in the database is what pays once.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                static_summary=f"Settle {period}",
            )
        except WorkflowAlreadyStartedError:
            self._state = SettlementState(period=period, claims=0, paid=0, parked=0)
        return self._state

    async def _start_reseller(self, order: ResellerSettlementInput) -> None:
        amount = visibility.money(order.amount_minor, order.currency)
        try:
            await workflow.start_child_workflow(
                ResellerSettlementWorkflow.run,
                order,
                id=ids.reseller_settlement_workflow(order.period, order.reseller_id, order.currency),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                # A parked reseller goes on waiting after the month's closing has ended.
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"Pay {amount} for {order.period} to reseller {order.reseller_id}",
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("a run for this reseller is under way", extra={"reseller": order.reseller_id})

    async def _follow(self, start: SettlementInput, claims: int) -> SettlementState:
        pause = timedelta(seconds=1)
        period = start.period or ""
        while True:
            progress = await workflow.execute_local_activity_method(
                SettlementActivities.progress, period, **policies.database_step(start.options.step_timeout_seconds)
            )
            self._state = SettlementState(period=period, claims=claims, paid=progress.paid, parked=progress.parked)
            workflow.set_current_details(
                f"**{period}**: {progress.paid} paid, {progress.parked} parked, {progress.open} under way"
            )
            if progress.open == 0:
                return self._state
            await workflow.sleep(pause, summary=f"{progress.open} resellers under way")
            pause = min(pause * 2, timedelta(minutes=5))


@workflow.defn
class ResellerSettlementWorkflow(ChainControl):
    """Pays one reseller's month. Id `settlement-{YYYY-MM}-{reseller}-{currency}`.

    1. transfer the frozen amount, once; a lost answer is looked up, never sent again.
    2. refused or not ready: parked with the reason, until an operator's `retry`, news, or the next look.
    """

    @workflow.init
    def __init__(self, start: ResellerSettlementInput) -> None:
        self._begin(f"{start.period}-{start.reseller_id}", start.options)
        self.reseller_id = start.reseller_id
        self.currency = start.currency
        self.gross_minor = start.amount_minor
        self._order = SettleInput(period=start.period, reseller_id=start.reseller_id, currency=start.currency)
        self.stage = ChainStage.PAYOUT
        self.leaving = True

    @workflow.run
    async def run(self, start: ResellerSettlementInput) -> int:
        self.enter(
            ChainStage.PAYOUT,
            visibility.RESELLER.value_set(start.reseller_id),
            visibility.AMOUNT.value_set(start.amount_minor),
            visibility.PERIOD.value_set(start.period),
        )
        amount = visibility.money(start.amount_minor, start.currency)
        step = policies.stripe_step(
            start.options.step_timeout_seconds, f"Transfer {amount} for {start.period} to reseller {start.reseller_id}"
        )
        while True:
            result: EffectResult = await self.until_done(
                lambda: workflow.execute_activity_method(SettlementPayments.pay, self._order, **step), "transfer"
            )
            if result.refused_code is None:
                break
            await self.park(result.reason or ParkReason.TRANSFER_REFUSED, f"{start.reseller_id}: {result.refused_code}")
        self.note(f"transferred {amount}")
        self.enter(ChainStage.CLOSED)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result.amount_minor

    async def record_parked(self, reason: ParkReason, detail: str) -> None:
        parked = ParkSettlementInput(
            period=self._order.period,
            reseller_id=self._order.reseller_id,
            currency=self._order.currency,
            reason=reason,
            detail=detail[:500],
        )
        options = policies.database_step(self.options.step_timeout_seconds)
        await self.persist(lambda: workflow.execute_local_activity_method(SettlementActivities.park, parked, **options))

    async def record_released(self, before: ChainStage, order: OperatorOrder | None) -> None:
        """Who let it try again goes to the audit log; what became of it is written by the next try."""
        if order is None:
            return
        line = LogInput(actor=order.who, action="retried", target=f"settlement:{self.chain_uid}", why=order.why)
        options = policies.database_step(self.options.step_timeout_seconds)
        await self.persist(
            lambda: workflow.execute_local_activity_method(SettlementActivities.log_retry, line, **options)
        )
