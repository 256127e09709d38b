"""Corrections of what a reseller is owed, and write-offs: asked for by one person, decided by another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import AdjustmentDecision, AdjustmentInput, Answer
from domain.orders import NotAllowed

if TYPE_CHECKING:
    from store import Store


class AdjustmentActivities:
    """Database steps of one adjustment. Each may be called again: the first call counts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def request_adjustment(self, order: AdjustmentInput) -> Answer:
        """Record what is asked for. It moves nothing before somebody else approves it."""
        try:
            async with self._store.begin() as tx:
                await tx.settlements.adjust(
                    order.adjustment_id,
                    reseller_id=order.reseller_id,
                    currency=order.currency,
                    amount_minor=order.amount_minor,
                    direction=order.direction,
                    kind=order.kind,
                    why=order.why,
                    requested_by=order.who,
                )
                await tx.log.write(
                    actor=order.who,
                    action="requested",
                    target=f"adjustment:{order.adjustment_id}",
                    reason=order.why,
                    details=order.model_dump(mode="json", exclude={"adjustment_id", "who", "why"}),
                )
        except NotAllowed as refusal:
            return Answer(done=False, told=str(refusal))
        return Answer(done=True)

    @activity.defn
    async def decide_adjustment(self, decision: AdjustmentDecision) -> Answer:
        """Approve: the ledger entry is posted, and the next statement lists it. Reject: nothing ever moves.

        Refused for the person who asked, and where the other decision was taken before.
        """
        try:
            async with self._store.begin() as tx:
                await tx.settlements.decide_adjustment(decision.adjustment_id, decision.who, approved=decision.approved)
                await tx.log.write(
                    actor=decision.who,
                    action="approved" if decision.approved else "rejected",
                    target=f"adjustment:{decision.adjustment_id}",
                    reason=decision.why,
                    details={},
                )
        except NotAllowed as refusal:
            return Answer(done=False, told=str(refusal))
        return Answer(done=True)
