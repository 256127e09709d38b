"""One correction or write-off of what a reseller is owed: asked for by one person, decided by another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.adjustments import AdjustmentActivities
    from activities.models import AdjustmentDecision, AdjustmentInput, Answer
    from domain.chain import ChainStage
    from domain.model import ParkReason
    from workflows import policies, visibility
    from workflows.control import ChainControl
    from workflows.models import AdjustmentOrder, OperatorOrder


@workflow.defn
class AdjustmentWorkflow(ChainControl):
    """Waits for the second person. Id `adjustment-{id}`.

    1. records what is asked for; our records may refuse it, then nothing happens.
    2. parked (`approval_required`) until the update `approve` or `reject` of somebody else than the one who asked.
    3. approved: the ledger entry is posted, and the reseller's next statement lists it. Rejected: nothing moves.
    """

    takes = "`approve` or `reject`"

    @workflow.init
    def __init__(self, start: AdjustmentOrder) -> None:
        self._begin(start.adjustment_id, start.options)
        self._start = start
        self.reseller_id = start.reseller_id
        self.currency = start.currency
        self.gross_minor = start.amount_minor
        self.leaving = True
        self._asked: Answer | None = None
        self._decision: AdjustmentDecision | None = None

    # --- what people send ---

    @workflow.update(description="Wait until the request is recorded")
    async def recorded(self) -> str:
        """Answers when it waits for the second person. Refused with the reason where our records do not take it."""
        await workflow.wait_condition(lambda: self._asked is not None)
        assert self._asked is not None
        if not self._asked.done:
            raise ApplicationError(self._asked.told, type="NotAllowed")
        return f"adjustment {self.chain_uid} waits for a second person's approval"

    @workflow.update(description="Let it happen, as the second person (who, why)")
    async def approve(self, order: OperatorOrder) -> str:
        """Recorded, with its ledger entry, before it answers."""
        await self._decide(order, approved=True)
        return f"adjustment {self.chain_uid} is approved"

    @workflow.update(description="Let it not happen, as the second person (who, why)")
    async def reject(self, order: OperatorOrder) -> str:
        await self._decide(order, approved=False)
        return f"adjustment {self.chain_uid} is rejected"

    @approve.validator
    def _may_approve(self, order: OperatorOrder) -> None:
        self._may_decide(order)

    @reject.validator
    def _may_reject(self, order: OperatorOrder) -> None:
        self._may_decide(order)

    def _may_decide(self, order: OperatorOrder) -> None:
        if order.who.casefold() == self._start.order.who.casefold():
            raise ApplicationError(f"{order.who} asked for it: a second person has to decide", type="NotSecondPerson")
        if self.stage is not ChainStage.PARKED:
            raise ApplicationError("it does not wait for a decision", type="NotParked")

    def can_retry(self) -> bool:
        return False

    async def _decide(self, order: OperatorOrder, *, approved: bool) -> None:
        wanted = AdjustmentDecision(adjustment_id=self.chain_uid, approved=approved, who=order.who, why=order.why)
        options = policies.database_step(self.options.step_timeout_seconds)
        answer = await workflow.execute_local_activity_method(AdjustmentActivities.decide_adjustment, wanted, **options)
        if not answer.done:
            raise ApplicationError(answer.told, type="NotAllowed")
        self._decision = wanted

    # --- 1 to 3 ---

    @workflow.run
    async def run(self, start: AdjustmentOrder) -> str:
        """Returns `approved`, `rejected`, or `refused: …` where our records did not take it."""
        self._asked = await self._until_answered(self._ask)
        if self._asked.done:
            await self._wait_for_decision()
        outcome = f"refused: {self._asked.told}"
        if self._decision is not None:
            outcome = "approved" if self._decision.approved else "rejected"
        self.note(outcome)
        self.enter(ChainStage.CLOSED, visibility.ATTENTION.value_set(False), visibility.REASON.value_unset())
        await workflow.wait_condition(workflow.all_handlers_finished)
        return outcome

    async def _wait_for_decision(self) -> None:
        self.reason = ParkReason.APPROVAL_REQUIRED
        amount = visibility.money(self._start.amount_minor, self._start.currency)
        self.detail = f"{self._start.kind} of {amount} ({self._start.direction}), asked for by {self._start.order.who}"
        self.enter(
            ChainStage.PARKED,
            visibility.RESELLER.value_set(self._start.reseller_id),
            visibility.AMOUNT.value_set(self._start.amount_minor),
            visibility.ATTENTION.value_set(True),
            visibility.REASON.value_set(ParkReason.APPROVAL_REQUIRED),
        )
        self.waits_for = "a second person"
        self.show()
        await workflow.wait_condition(lambda: self._decision is not None)
        self.reason, self.detail = None, ""

    async def _ask(self) -> Answer:
        start = self._start
        wanted = AdjustmentInput(
            adjustment_id=start.adjustment_id,
            reseller_id=start.reseller_id,
            currency=start.currency,
            amount_minor=start.amount_minor,
            direction=start.direction,
            kind=start.kind,
            who=start.order.who,
            why=start.order.why,
        )
        options = policies.database_step(self.options.step_timeout_seconds, "Record what is asked for")
        return await workflow.execute_local_activity_method(AdjustmentActivities.request_adjustment, wanted, **options)

    async def _until_answered(self, step: Callable[[], Awaitable[Answer]]) -> Answer:
        answers: list[Answer] = []

        async def keep() -> None:
            answers.append(await step())

        await self.persist(keep)
        return answers[0]
