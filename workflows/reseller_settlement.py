"""One reseller's statement that could not be paid at once: who or what it waits for, and its one transfer."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.models import Answer, EffectResult, LogInput, ParkSettlementInput, SettleInput, SettlementOrder
    from activities.settlements import SettlementActivities, SettlementPayments
    from domain import ids
    from domain.chain import ChainStage
    from domain.model import ParkReason
    from workflows import policies, visibility
    from workflows.control import ChainControl
    from workflows.models import Found, OperatorOrder, ResellerSettlementInput

FIRST_LOOK_SECONDS = 60
"""The first look of a statement that was handed over, which any later one takes `park_recheck_seconds` for."""


@workflow.defn
class ResellerSettlementWorkflow(ChainControl):
    """Pays one statement that has to wait. Id `settlement-{YYYY-MM}-{reseller}-{currency}`, supplements with `-{n}`.

    1. approval, where the statement needs one: parked until the update `approve` of somebody who did not ask for it.
    2. transfer the frozen amount, once: the reseller's account and our balance are read anew before each try, a lost
       answer is looked up and never sent again, also where a part of it was taken back since.
    3. balance too low: waits and tries again on a schedule, and says since when; longer than the settings' patience it
       asks for attention, and goes on trying. The reseller or his account not ready, or refused: parked with the
       reason, until `retry`, news of the account, or the next look.
    4. `carry_over` leaves the amount for his next statement, unless the transfer is under way already.
    """

    takes = "`retry`, `approve` or `carry_over`"

    @workflow.init
    def __init__(self, start: ResellerSettlementInput) -> None:
        self._begin(f"{start.period}-{start.reseller_id}", start.options)
        self.reseller_id = start.reseller_id
        self.currency = start.currency
        self.gross_minor = start.amount_minor
        self._start = start
        self._order = SettleInput(
            period=start.period, reseller_id=start.reseller_id, currency=start.currency, sequence=start.sequence
        )
        self._name = ids.reseller_settlement_workflow(
            start.period, start.reseller_id, start.currency, start.sequence
        ).removeprefix("settlement-")
        self._to_approve = start.needs_approval
        self._carried = False
        self._waiting_since = start.waiting_since
        self._asks_attention = False
        self._hears_during_tries = False
        self.stage = ChainStage.PAYOUT
        self.leaving = True

    # --- what people and the outside send ---

    @workflow.signal(description="Stripe says the reseller's account changed; a waiting transfer tries again")
    def account_changed(self) -> None:
        self._payment_changed = True

    @workflow.update(description="Let the payment go, as the second person (who, why)")
    async def approve(self, order: OperatorOrder) -> str:
        """Recorded before it answers. Refused for everybody who asked for the run or for an adjustment in it."""
        self._agreed(await self._decide(SettlementActivities.approve, order), "NotSecondPerson")
        self._to_approve = False
        self._payment_changed = True
        self.note(f"approved by {order.who}")
        return f"settlement {self._name} is approved"

    @approve.validator
    def _may_approve(self, order: OperatorOrder) -> None:
        if order.who.casefold() in {who.casefold() for who in self._start.asked_by}:
            raise ApplicationError(f"{order.who} asked for it: a second person has to approve", type="NotSecondPerson")
        if not self._to_approve and self.reason is not ParkReason.APPROVAL_REQUIRED:
            raise ApplicationError("it needs no approval, or has it already", type="NothingToApprove")

    @workflow.update(description="Leave the amount for the next statement (who, why)")
    async def carry_over(self, order: OperatorOrder) -> str:
        """Recorded before it answers. Refused while the transfer is under way."""
        self._agreed(await self._decide(SettlementActivities.carry_over, order), "NotAllowed")
        self._carried = True
        self._payment_changed = True
        self.note(f"carried over by {order.who}")
        return f"settlement {self._name} is carried over to the next statement"

    @carry_over.validator
    def _may_carry_over(self, order: OperatorOrder) -> None:
        if not self.can_retry():
            raise ApplicationError("only what waits can be carried over", type="NotParked")

    def can_retry(self) -> bool:
        return super().can_retry() or (self._waiting_since is not None and self.waits_for != "")

    # --- 1 to 4 ---

    @workflow.run
    async def run(self, start: ResellerSettlementInput) -> int:
        """Returns what was transferred, in minor units; 0 where it was carried over."""
        if not workflow.patched("statement-of-its-own"):
            return await self._as_before(start)
        self._hears_during_tries = workflow.patched("news-during-a-try")
        if start.found is not None and self._hears_during_tries:
            self._looks_soon()
        paid_minor = await self._until_ended(start.found)
        amount = visibility.money(start.amount_minor, start.currency)
        self.note(f"transferred {amount}" if paid_minor else "carried over: nothing to transfer")
        self.enter(ChainStage.CLOSED, visibility.ATTENTION.value_set(False), visibility.REASON.value_unset())
        await workflow.wait_condition(workflow.all_handlers_finished)
        return paid_minor

    async def _until_ended(self, found: Found | None) -> int:
        while not self._carried:
            if self._to_approve:
                amount = visibility.money(self._start.amount_minor, self._start.currency)
                asked_by = ", ".join(self._start.asked_by)
                await self.park(ParkReason.APPROVAL_REQUIRED, f"{amount}, asked for by {asked_by}")
            elif found is not None:
                await self._wait(found)
                found = None
            else:
                result = await self._pay()
                if result.refused_code is None:
                    return result.amount_minor
                found = Found(reason=result.reason or ParkReason.TRANSFER_REFUSED, detail=result.refused_code)
            if workflow.info().is_continue_as_new_suggested():
                await self._continue(found)
        return 0

    async def _pay(self) -> EffectResult:
        amount = visibility.money(self._start.amount_minor, self._start.currency)
        options = policies.settlement_step(
            self.options.step_timeout_seconds,
            f"Transfer {amount} for {self._order.period} to reseller {self._order.reseller_id}",
        )
        self.show()

        async def try_once() -> EffectResult:
            if self._hears_during_tries:
                self._payment_changed = False
            answer: EffectResult = await workflow.execute_activity_method(
                SettlementPayments.pay, self._order, **options
            )
            return answer

        return await self.until_done(try_once, "transfer")

    async def park(self, reason: ParkReason, detail: str) -> None:
        """As for all chains; but what the outside told during the last try counts: it is tried again at once."""
        if self._hears_during_tries and self._payment_changed:
            self._payment_changed = False
            return
        await super().park(reason, detail)
        self.options = self._start.options

    def _looks_soon(self) -> None:
        """News that came after the closing's own try and before this workflow ran found nobody to tell."""
        soon_seconds = min(FIRST_LOOK_SECONDS, self.options.park_recheck_seconds)
        self.options = self.options.model_copy(update={"park_recheck_seconds": soon_seconds})

    async def _wait(self, found: Found) -> None:
        """Until something may have changed. What the outside told during the last try counts as a change."""
        if found.reason is ParkReason.APPROVAL_REQUIRED:
            self._to_approve = True
        elif found.reason is ParkReason.BALANCE_INSUFFICIENT:
            await self._wait_for_balance()
        else:
            self._waiting_since = None
            await self.park(found.reason, f"{self._start.reseller_id}: {found.detail}")
        self._payment_changed = False

    async def _wait_for_balance(self) -> None:
        terms, now = self._start.terms, workflow.now()
        is_first = self._waiting_since is None
        since = self._waiting_since = self._waiting_since or now
        is_late = now - since >= timedelta(seconds=terms.balance_patience_seconds)
        self.waits_for = f"the platform's balance, since {visibility.when(since)}"
        self.deadline_at = now + timedelta(seconds=terms.balance_retry_seconds)
        if is_late:
            self.reason, self.detail = ParkReason.BALANCE_INSUFFICIENT, f"since {visibility.when(since)}"
        if is_first or (is_late and not self._asks_attention):
            self._asks_attention = is_late
            workflow.upsert_search_attributes(
                [
                    visibility.ATTENTION.value_set(is_late),
                    visibility.REASON.value_set(ParkReason.BALANCE_INSUFFICIENT),
                ]
            )
        self.show()
        if is_first or self._hears_during_tries:
            await self.record_parked(ParkReason.BALANCE_INSUFFICIENT, self.waits_for)
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._retry_order is not None or self._payment_changed,
                timeout=self.deadline_at - workflow.now(),
                timeout_summary=f"Not enough balance since {visibility.when(since)}; tries again after this",
            )
        order, self._retry_order = self._retry_order, None
        self.waits_for, self.deadline_at, self.reason, self.detail = "", None, None, ""
        await self.record_released(self.stage, order)

    async def _continue(self, found: Found | None) -> None:
        """Go on as a new run: a statement may wait for years."""
        await workflow.wait_condition(workflow.all_handlers_finished)
        if self._hears_during_tries and (self._payment_changed or self._retry_order is not None):
            order, self._retry_order = self._retry_order, None
            await self.record_released(self.stage, order)
            await workflow.wait_condition(workflow.all_handlers_finished)
            found = None
        if self._carried:
            return
        waits = {"found": found, "needs_approval": self._to_approve, "waiting_since": self._waiting_since}
        workflow.continue_as_new(self._start.model_copy(update=waits))

    # --- recording ---

    async def record_parked(self, reason: ParkReason, detail: str) -> None:
        parked = ParkSettlementInput(
            **self._order.model_dump(),
            reason=reason,
            detail=detail[:500],
            waiting_since=self._waiting_since if reason is ParkReason.BALANCE_INSUFFICIENT else None,
        )
        options = policies.database_step(self.options.step_timeout_seconds)
        await self.persist(lambda: workflow.execute_local_activity_method(SettlementActivities.park, parked, **options))

    async def record_released(self, before: ChainStage, order: OperatorOrder | None) -> None:
        """Who let it try again goes to the audit log; what became of it is written by the next try."""
        if order is None:
            return
        line = LogInput(actor=order.who, action="retried", target=f"settlement:{self._name}", why=order.why)
        options = policies.database_step(self.options.step_timeout_seconds)
        await self.persist(
            lambda: workflow.execute_local_activity_method(SettlementActivities.log_order, line, **options)
        )

    async def _decide(self, step: object, order: OperatorOrder) -> Answer:
        wanted = SettlementOrder(**self._order.model_dump(), who=order.who, why=order.why)
        options = policies.database_step(self.options.step_timeout_seconds)
        answer: Answer = await workflow.execute_local_activity_method(step, wanted, **options)  # type: ignore[call-overload]
        return answer

    @staticmethod
    def _agreed(answer: Answer, kind: str) -> None:
        """An order that our records refuse fails its update, and nothing else."""
        if not answer.done:
            raise ApplicationError(answer.told, type=kind)

    # --- runs that began before this workflow waited for approval and balance ---

    async def _as_before(self, start: ResellerSettlementInput) -> int:
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
            self._payment_changed = False
        self.note(f"transferred {amount}" if result.amount_minor else "carried over: nothing to transfer")
        self.enter(ChainStage.CLOSED)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result.amount_minor
