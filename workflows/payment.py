"""The middle of a chain: bill, charge, and follow the payment until it is paid or refused for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.billing import BillingActivities
    from activities.charging import ChargingActivities
    from activities.models import ChainRef, ChargeInput, ChargeResult, ChargeStatus, RecordInput
    from domain.chain import ChainOutcome, ChainStage
    from domain.model import ParkReason
    from workflows import policies, visibility
    from workflows.compensations import Compensations
    from workflows.control import Leave
    from workflows.intake import GONE, Intake

SEPA_DEADLINE = timedelta(days=30)
"""A SEPA debit takes up to 14 business days; after this the chain asks a person instead of waiting on."""

FEE_PAUSES_SECONDS = (5, 60, 600)
"""When to look for the fee that Stripe had not written with the charge."""


class PaymentSteps(Intake):
    """Step 5 of `BookingWorkflow`."""

    def _begin_payment(self) -> None:
        self.compensations = Compensations(self)
        self.corrections = 0
        self.waived_minor = 0
        self._fee_known = True
        self._accrued = False

    async def _bill(self) -> None:
        self.compensations.push("correct the invoice", self.compensations.correct_invoice)
        await self.until_done(
            lambda: workflow.execute_local_activity_method(
                BillingActivities.bill,
                ChainRef(chain_uid=self.chain_uid),
                **self._database("Bill the customer: receivable and invoice number"),
            ),
            "bill",
        )
        if self.given_back_minor:
            self.waived_minor = self.given_back_minor
            self.corrections += 1
            await self.compensations.correct_invoice(self.corrections, self.given_back_minor)
        self.note(f"billed {visibility.money(self.gross_minor - self.given_back_minor, self._money())}")

    async def _charge_until_paid(self, owed_minor: int, *, joined: bool) -> None:
        """`joined`: the first attempt also bills, and accrues the commission if it is paid at once."""
        if joined:
            self.compensations.push("correct the invoice", self.compensations.correct_invoice)
        self.compensations.push("refund the customer", self.compensations.refund)
        while True:
            self.check_orders()
            self.attempt += 1
            amount = visibility.money(owed_minor, self._money())
            order = ChargeInput(
                chain_uid=self.chain_uid, attempt=self.attempt, amount_minor=owed_minor, currency=self._money()
            )
            options = policies.stripe_step(
                self.options.step_timeout_seconds,
                f"Charge {amount} to customer {self.customer_id}"
                + (f", attempt {self.attempt}" if self.attempt > 1 else ""),
            )
            if joined and self.attempt == 1:
                result = await self._bill_and_charge(order, options)
            else:
                result = await self.until_done(
                    lambda order=order, options=options: workflow.execute_activity_method(  # type: ignore[misc]
                        ChargingActivities.charge, order, **options
                    ),
                    "charge",
                )
            result = await self._await_payment(result)
            if result.status is ChargeStatus.SUCCEEDED:
                self.charged = True
                self.note(f"charged {amount}")
                if self._accrued:
                    self.note("commission accrued")
                return
            self.note(f"charge refused: {result.code}")
            if not result.soft or self.attempt >= self.options.dunning_attempts:
                raise Leave(ChainOutcome.DECLINED, f"charge refused: {result.code}")
            await self._dunning_pause(result)

    async def _bill_and_charge(self, order: ChargeInput, options: dict[str, Any]) -> ChargeResult:
        self.compensations.push("reverse the commission", self.compensations.reverse_commission)
        result: ChargeResult = await self.until_done(
            lambda: workflow.execute_activity_method(ChargingActivities.bill_and_charge, order, **options), "charge"
        )
        self._accrued = result.accrued
        if not result.accrued:
            self.compensations.drop("reverse the commission")
        self.note(f"billed {visibility.money(self.gross_minor, self._money())}")
        return result

    async def _await_payment(self, result: ChargeResult) -> ChargeResult:
        """Follow a payment that is neither paid nor refused: SEPA under way, or the customer has to confirm."""
        deadline = workflow.now() + SEPA_DEADLINE
        while result.status in (ChargeStatus.PROCESSING, ChargeStatus.REQUIRES_CUSTOMER):
            if result.status is ChargeStatus.REQUIRES_CUSTOMER:
                await self.park(ParkReason.AUTHENTICATION_REQUIRED, "the customer has to confirm the payment")
                await self._leave_if_gone("the customer had not confirmed the payment")
            elif workflow.now() >= deadline:
                await self.park(ParkReason.OUTCOME_UNKNOWN, "the payment is in processing for 30 days")
            elif not self._payment_changed:
                await self._wait_for_bank()
            self._payment_changed = False
            result = await self._check_payment()
        self._fee_known = result.fee_known
        return result

    async def _wait_for_bank(self) -> None:
        """News of the booking stay for the hold meanwhile: money under way cannot be called back."""
        look_again = workflow.now() + timedelta(seconds=self.options.payment_poll_seconds)
        self.enter(ChainStage.CHARGING, upsert=False)
        await self.record(
            RecordInput(chain_uid=self.chain_uid, stage=self.stage, waits_for="the bank", deadline_at=look_again)
        )
        news, self._booking_changed = self._booking_changed, False
        try:
            await self.wait(look_again, "the bank")
        finally:
            self._booking_changed = self._booking_changed or news

    async def _check_payment(self) -> ChargeResult:
        options = policies.stripe_step(self.options.step_timeout_seconds, "Look up the payment at Stripe")
        result: ChargeResult = await self.until_done(
            lambda: workflow.execute_activity_method(
                ChargingActivities.check_payment, ChainRef(chain_uid=self.chain_uid), **options
            ),
            "look up the payment",
        )
        return result

    async def _find_fee(self) -> None:
        """Stripe may write the balance transaction after its answer; without the fee the books would not agree."""
        for pause_seconds in FEE_PAUSES_SECONDS:
            if not self.charged or self._fee_known:
                return
            await workflow.sleep(timedelta(seconds=pause_seconds), summary="Stripe has not written its fee yet")
            self._fee_known = (await self._check_payment()).fee_known

    async def _dunning_pause(self, result: ChargeResult) -> None:
        """Wait for the next attempt. A cancellation meanwhile leaves: nothing was paid, so nothing is owed.

        Other news stay for the hold, which moves the refund window or applies the terms.
        """
        until = workflow.now() + timedelta(seconds=self.options.dunning_interval_seconds)
        self.enter(ChainStage.CHARGING, upsert=False)
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid, stage=self.stage, waits_for="the next charge attempt", deadline_at=until
            )
        )
        news = False
        while not await self.wait(until, f"the next charge attempt after {result.code}"):
            self._payment_changed = False
            news = await self._leave_if_gone("the charge was refused") or news
        self._booking_changed = self._booking_changed or news

    async def _leave_if_gone(self, when: str) -> bool:
        """Whether there were news of the booking. Leaves where it is cancelled: nothing was paid or is owed."""
        if not self._booking_changed:
            return False
        if (await self._read()).status in GONE:
            raise Leave(ChainOutcome.CANCELLED, f"cancelled while {when}")
        return True
