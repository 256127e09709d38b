"""Roll back a chain whose workflow has ended."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.chains import ChainActivities
    from activities.models import ChainRef, RecordInput
    from domain.chain import ChainOutcome, ChainStage
    from domain.model import Frozen, Id
    from workflows import policies
    from workflows.compensations import Compensations
    from workflows.control import ChainControl
    from workflows.models import ChainOptions, OperatorOrder


class UndoInput(Frozen):
    chain_uid: Id
    order: OperatorOrder
    options: ChainOptions = ChainOptions()


@workflow.defn
class UndoWorkflow(ChainControl):
    """Undoes a closed chain by an operator's order. Id `undo-{first uid}`.

    1. reads what the chain did: its transfers and corrections so far.
    2. runs the same compensations as the chain would, in reverse order: transfers, commission, refund, invoice.
    3. closes the chain as `rolled_back`.

    What the chain left for the monthly settlement and was paid there stays with the reseller as a negative balance; the
    next settlement takes it into account. Undoing twice finds nothing to undo.
    """

    @workflow.init
    def __init__(self, start: UndoInput) -> None:
        self._begin(start.chain_uid, start.options)
        self.stage = ChainStage.UNDOING
        self.leaving = True
        self.compensations = Compensations(self)

    @workflow.signal(description="Stripe says the payment changed; a parked compensation tries again")
    def payment_changed(self) -> None:
        self._payment_changed = True

    @workflow.run
    async def run(self, start: UndoInput) -> ChainOutcome:
        self.enter(ChainStage.UNDOING)
        await self._record_order(start.order)
        plan = await self.until_done(
            lambda: workflow.execute_local_activity_method(
                ChainActivities.undo_plan,
                ChainRef(chain_uid=self.chain_uid),
                **policies.database_step(self.options.step_timeout_seconds),
            ),
            "read what the chain did",
        )
        self.customer_id = plan.customer_id
        self.compensations.push("correct the invoice", self.compensations.correct_invoice)
        self.compensations.push("refund the customer", self.compensations.refund)
        self.compensations.push("reverse the commission", self.compensations.reverse_commission)
        for reseller_id in plan.reseller_ids:
            self.compensations.push(
                f"reverse the transfer to {reseller_id}", self.compensations.reverse_transfer(reseller_id)
            )
        await self.compensations.run(plan.next_sequence)
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=ChainStage.CLOSED,
                outcome=ChainOutcome.ROLLED_BACK,
                detail=start.order.why,
                action="closed: rolled_back",
            )
        )
        self.outcome = ChainOutcome.ROLLED_BACK
        self.enter(ChainStage.CLOSED)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.outcome

    async def _record_order(self, order: OperatorOrder) -> None:
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=ChainStage.UNDOING,
                action="rolled back after it was closed",
                actor=order.who,
                why=order.why,
            )
        )
