"""The way back of a chain: a stack of compensations, pushed before their steps, run in reverse order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.billing import BillingActivities
    from activities.charging import ChargingActivities
    from activities.commissions import CommissionActivities
    from activities.models import CorrectInput, EffectResult, RefundInput, TransferInput
    from activities.payouts import PayoutActivities
    from domain.model import ParkReason
    from workflows import policies

if TYPE_CHECKING:
    from workflows.control import ChainControl

Undo = Callable[[int], Awaitable[None]]
"""A compensation; its argument numbers the business event that it belongs to, for its keys."""


class Compensations:
    """Compensations of one chain. Each accepts that its step never ran: then there is nothing to undo."""

    def __init__(self, chain: ChainControl) -> None:
        self._chain = chain
        self._stack: list[tuple[str, Undo]] = []

    def push(self, name: str, undo: Undo) -> None:
        """Remember how to undo a step, before the step runs."""
        self._stack.append((name, undo))

    def drop(self, name: str) -> None:
        """Forget a step that is known not to have happened; it must be the newest one."""
        known, _ = self._stack.pop()
        assert known == name

    def has(self, name: str) -> bool:
        return any(known == name for known, _ in self._stack)

    async def run(self, sequence: int) -> None:
        """Undo everything in reverse order. A refused one parks the chain until it goes through: none is left out."""
        while self._stack:
            name, undo = self._stack[-1]
            await undo(sequence)
            self._stack.pop()
            self._chain.note(f"undone: {name}")

    async def give_back(self, sequence: int, given_back_minor: int) -> None:
        """The same way back for a part: commission, money, invoice. `given_back_minor` is cumulative."""
        await self.reverse_commission(sequence, given_back_minor)
        await self.refund(sequence, given_back_minor)
        await self.correct_invoice(sequence, given_back_minor)

    async def correct_invoice(self, sequence: int, given_back_minor: int | None = None) -> None:
        change = self._correction(sequence, given_back_minor)
        await self._chain.until_done(
            lambda: workflow.execute_local_activity_method(
                BillingActivities.correct_invoice, change, **self._database("Correct the invoice")
            ),
            "correct the invoice",
        )

    async def reverse_commission(self, sequence: int, given_back_minor: int | None = None) -> None:
        change = self._correction(sequence, given_back_minor)
        await self._chain.until_done(
            lambda: workflow.execute_local_activity_method(
                CommissionActivities.reverse, change, **self._database("Reverse the commission")
            ),
            "reverse the commission",
        )

    async def refund(self, sequence: int, given_back_minor: int | None = None) -> None:
        order = RefundInput(chain_uid=self._chain.chain_uid, given_back_minor=given_back_minor)
        options = policies.stripe_step(
            self._chain.options.step_timeout_seconds, f"Refund customer {self._chain.customer_id}"
        )
        await self._until_accepted(
            lambda: workflow.execute_activity_method(ChargingActivities.refund, order, **options),
            "refund",
            ParkReason.REFUND_REFUSED,
        )

    def reverse_transfer(self, reseller_id: str) -> Undo:
        order = TransferInput(chain_uid=self._chain.chain_uid, reseller_id=reseller_id)
        options = policies.stripe_step(
            self._chain.options.step_timeout_seconds, f"Take back the transfer to reseller {reseller_id}"
        )

        async def undo(sequence: int) -> None:
            await self._until_accepted(
                lambda: workflow.execute_activity_method(PayoutActivities.reverse_transfer, order, **options),
                f"reverse the transfer to {reseller_id}",
                ParkReason.REVERSAL_REFUSED,
            )

        return undo

    async def _until_accepted(self, step: Callable[[], Awaitable[EffectResult]], what: str, reason: ParkReason) -> None:
        while True:
            result = await self._chain.until_done(step, what)
            if result.refused_code is None:
                return
            await self._chain.park(result.reason or reason, f"{what}: {result.refused_code}")

    def _correction(self, sequence: int, given_back_minor: int | None) -> CorrectInput:
        return CorrectInput(chain_uid=self._chain.chain_uid, sequence=sequence, given_back_minor=given_back_minor)

    def _database(self, summary: str) -> dict[str, Any]:
        return policies.database_step(self._chain.options.step_timeout_seconds, summary)
