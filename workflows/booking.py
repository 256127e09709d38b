"""One booking's life: from the accepted Cal.com booking to the reseller's money, and back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from activities.billing import BillingActivities
    from activities.charging import ChargingActivities
    from activities.commissions import CommissionActivities
    from activities.intake import IntakeActivities
    from activities.models import (
        BookingFacts,
        BookingRef,
        ChainRef,
        ChargeInput,
        ChargeResult,
        ChargeStatus,
        MoveResult,
        QuoteFacts,
        RecordInput,
        TermsCause,
        TermsInput,
        TransferInput,
    )
    from activities.payouts import PayoutActivities
    from activities.quoting import QuoteActivities
    from domain.chain import ChainOutcome, ChainStage
    from domain.model import ParkReason
    from domain.ports import BookingStatus
    from workflows import policies, visibility
    from workflows.compensations import Compensations
    from workflows.control import CANCELLED, ChainControl, Leave
    from workflows.models import BookingInput, ChainOptions

if TYPE_CHECKING:
    from settings import Settings

GONE = (BookingStatus.CANCELLED, BookingStatus.REJECTED)

STILL_ACCEPTED_PAUSES_SECONDS = (2, 15, 60)
"""When to read again after a cancellation that the API does not know yet."""

SEPA_DEADLINE = timedelta(days=30)
"""A SEPA debit takes up to 14 business days; after this the chain asks a person instead of waiting on."""


def chain_options(settings: Settings) -> ChainOptions:
    """The settings a chain freezes at its start."""
    return ChainOptions(
        dunning_attempts=settings.dunning_attempts,
        dunning_interval_seconds=settings.dunning_interval_seconds,
        step_timeout_seconds=settings.step_timeout_seconds,
        park_recheck_seconds=settings.park_recheck_seconds,
        payment_poll_seconds=settings.payment_poll_seconds,
    )


def booking_input(settings: Settings, chain_uid: str) -> BookingInput:
    return BookingInput(chain_uid=chain_uid, options=chain_options(settings))


@workflow.defn
class BookingWorkflow(ChainControl):
    """The chain of one booking, across all its reschedulings. Id `booking-{first uid}`; started at most once.

    1. intake: read the booking from Cal.com. Cancelled or rejected by then: closed `cancelled`, nothing was charged.
    2. awaiting_confirmation: while Cal.com says pending.
    3. quote: frozen price, VAT and commissions. No customer, price or agreement: parked until there is one.
    4. awaiting_charge: until the price's charge moment. A cancellation waives what the terms don't keep.
    5. bill, then charge off-session. Soft declines are dunned, SCA parks, SEPA waits; a final decline: `declined`.
    6. accrue the commission of every level.
    7. hold: until the refund window is over. A cancellation or no-show gives back what the terms don't keep, with the
       exactly proportional commission; a rescheduling moves the window and charges nothing.
    8. mature; transfer what per-booking resellers earned, leave the rest for the monthly settlement. Closed.

    A roll-back order, a cancellation of the workflow or a final refusal runs the compensations in reverse order. A bug
    fails the workflow task and undoes nothing.
    """

    @workflow.init
    def __init__(self, start: BookingInput) -> None:
        self._begin(start.chain_uid, start.options)
        self.compensations = Compensations(self)
        self.facts: BookingFacts | None = None
        self.corrections = 0
        self._no_show = False
        self._gone = False
        self._told_gone = False

    @workflow.run
    async def run(self, start: BookingInput) -> ChainOutcome:
        try:
            outcome = await self._live()
        except (Leave, asyncio.CancelledError) as leaving:
            self.leaving = True
            outcome = leaving.outcome if isinstance(leaving, Leave) else ChainOutcome.ROLLED_BACK
            why = leaving.why if isinstance(leaving, Leave) else CANCELLED
            undoing = asyncio.create_task(self._leave(outcome, why))
            while not undoing.done():
                # A cancellation that comes now changes nothing: the way back is gone to its end.
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(undoing)
            outcome = undoing.result()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return outcome

    async def _live(self) -> ChainOutcome:
        facts = await self._read_until_confirmed()
        if facts.status in GONE:
            return await self._close(ChainOutcome.CANCELLED, f"booking was {facts.status}")
        quote = await self._quote()
        quote = await self._await_charge_moment(quote)
        owed_minor = self.gross_minor - self.given_back_minor
        if owed_minor == 0 and self._gone:
            return await self._close(ChainOutcome.CANCELLED, "free by its cancellation terms")
        if owed_minor > 0:
            await self._bill()
            await self._charge_until_paid(owed_minor)
        await self._accrue()
        await self._hold(quote)
        if self.charged and self.given_back_minor == self.gross_minor:
            return await self._close(ChainOutcome.REFUNDED, "everything was given back")
        return await self._pay_out()

    # --- what happens outside ---

    @workflow.signal(description="Cal.com says the booking was cancelled")
    def cancelled(self) -> None:
        self._booking_changed = self._told_gone = True

    @workflow.signal(description="Cal.com says the organizer rejected the booking")
    def rejected(self) -> None:
        self._booking_changed = self._told_gone = True

    @workflow.signal(description="Cal.com says the organizer confirmed the booking")
    def confirmed(self) -> None:
        self._booking_changed = True

    @workflow.signal(description="The booking changed; the chain reads what it is now")
    def changed(self) -> None:
        self._booking_changed = True

    @workflow.signal(description="The attendee did not come")
    def no_show(self) -> None:
        self._booking_changed = True

    @workflow.signal(description="The booking lives on under a new uid")
    def rescheduled(self, new_uid: str) -> None:
        self.booking_uid = new_uid
        self._booking_changed = True

    @workflow.signal(description="Stripe says the payment changed; the chain reads what it is now")
    def payment_changed(self) -> None:
        self._payment_changed = True

    # --- 1, 2: read ---

    async def _read(self) -> BookingFacts:
        """Signals only say that something changed: the API says what.

        Cal.com announces a cancellation before it stores it, so an accepted booking is read again a little later.
        """
        facts = await self._read_once()
        for pause_seconds in STILL_ACCEPTED_PAUSES_SECONDS:
            if not self._told_gone or facts.status in GONE:
                break
            await workflow.sleep(timedelta(seconds=pause_seconds), summary="Cal.com told of a cancellation early")
            facts = await self._read_once()
        self._told_gone = False
        return facts

    async def _read_once(self) -> BookingFacts:
        self._booking_changed = False
        ref = BookingRef(chain_uid=self.chain_uid, booking_uid=self.booking_uid)
        options = policies.calcom_step(
            self.options.step_timeout_seconds, f"Read booking {self.booking_uid} from Cal.com"
        )

        facts: BookingFacts = await self.until_done(
            lambda: workflow.execute_activity_method(IntakeActivities.read_booking, ref, **options), "read the booking"
        )
        self.booking_uid = facts.booking_uid
        self.facts = facts
        return facts

    async def _read_until_confirmed(self) -> BookingFacts:
        facts = await self._read()
        while facts.status is BookingStatus.PENDING:
            if self.stage is not ChainStage.AWAITING_CONFIRMATION:
                self.enter(ChainStage.AWAITING_CONFIRMATION)
            look_again = workflow.now() + timedelta(seconds=self.options.park_recheck_seconds)
            await self.record(
                RecordInput(
                    chain_uid=self.chain_uid, stage=self.stage, waits_for="confirmation", deadline_at=look_again
                )
            )
            await self.wait(look_again, "the organizer's confirmation")
            facts = await self._read()
        self.note(f"booking read: {facts.status}, starts {visibility.when(facts.start_at)}")
        return facts

    # --- 3: quote ---

    async def _quote(self) -> QuoteFacts:
        while True:
            ref = BookingRef(chain_uid=self.chain_uid, booking_uid=self.booking_uid)
            answer = await self.until_done(
                lambda ref=ref: workflow.execute_local_activity_method(  # type: ignore[misc]
                    QuoteActivities.quote, ref, **self._database()
                ),
                "quote",
            )
            if answer.quote is not None:
                break
            await self.park(answer.reason or ParkReason.INTERNAL, answer.detail)
            facts = await self._read()
            if facts.status in GONE:
                raise Leave(ChainOutcome.CANCELLED, "cancelled before it was billed")
        quote: QuoteFacts = answer.quote
        self.customer_id, self.reseller_id = quote.customer_id, quote.reseller_id
        self.currency, self.gross_minor = quote.currency, quote.gross_minor
        self.note(f"quoted {visibility.money(quote.gross_minor, quote.currency)} for customer {quote.customer_id}")
        return quote

    # --- 4: charge moment ---

    async def _await_charge_moment(self, quote: QuoteFacts) -> QuoteFacts:
        stage = ChainStage.AWAITING_CHARGE if quote.charge_at > workflow.now() else ChainStage.CHARGING
        self.enter(stage, *self._quoted_attributes(quote))
        while True:
            if stage is ChainStage.AWAITING_CHARGE:
                await self.record(
                    RecordInput(
                        chain_uid=self.chain_uid,
                        stage=stage,
                        waits_for="the charge moment",
                        deadline_at=quote.charge_at,
                    )
                )
            if await self.wait(quote.charge_at, "the charge moment"):
                return quote
            self._payment_changed = False
            before = self.booking_uid
            facts = await self._read()
            if facts.status is BookingStatus.REJECTED:
                self.given_back_minor, self._gone = self.gross_minor, True
                return quote
            if facts.status is BookingStatus.CANCELLED or facts.attendee_absent:
                await self._apply_terms(facts)
                self._gone = True
                return quote
            if facts.booking_uid != before or facts.booking_uid != self.chain_uid:
                quote = await self._quote()
                self.note(f"rescheduled to {facts.booking_uid}, starts {visibility.when(facts.start_at)}")
            stage = ChainStage.AWAITING_CHARGE if quote.charge_at > workflow.now() else ChainStage.CHARGING
            self.enter(stage, *self._quoted_attributes(quote))

    def _quoted_attributes(self, quote: QuoteFacts) -> list[SearchAttributeUpdate[Any]]:
        return [
            visibility.CUSTOMER.value_set(quote.customer_id),
            visibility.RESELLER.value_set(quote.reseller_id or "platform"),
            visibility.AMOUNT.value_set(quote.gross_minor),
            visibility.PERIOD.value_set(quote.period),
        ]

    async def _apply_terms(self, facts: BookingFacts) -> int:
        """What the terms give back in total, gross. A no-show is decided once."""
        cause = TermsCause.CANCELLED if facts.status is BookingStatus.CANCELLED else TermsCause.NO_SHOW
        terms = await self.until_done(
            lambda: workflow.execute_local_activity_method(
                QuoteActivities.apply_terms,
                TermsInput(chain_uid=self.chain_uid, booking_uid=facts.booking_uid, cause=cause, at=facts.changed_at),
                **self._database(),
            ),
            "apply the cancellation terms",
        )
        self._no_show = True
        self.given_back_minor = max(self.given_back_minor, terms.given_back_minor)
        self.note(f"{cause}: keeps {visibility.money(terms.retained_minor, self._money())} by the booking's terms")
        return self.given_back_minor

    # --- 5: bill and charge ---

    async def _bill(self) -> None:
        self.compensations.push("correct the invoice", self.compensations.correct_invoice)
        await self.until_done(
            lambda: workflow.execute_local_activity_method(
                BillingActivities.bill,
                ChainRef(chain_uid=self.chain_uid),
                **self._database(),
            ),
            "bill",
        )
        if self.given_back_minor:
            self.corrections += 1
            await self.compensations.correct_invoice(self.corrections, self.given_back_minor)
        self.note(f"billed {visibility.money(self.gross_minor - self.given_back_minor, self._money())}")

    async def _charge_until_paid(self, owed_minor: int) -> None:
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
                return
            self.note(f"charge refused: {result.code}")
            if not result.soft or self.attempt >= self.options.dunning_attempts:
                raise Leave(ChainOutcome.DECLINED, f"charge refused: {result.code}")
            await self._dunning_pause(result)

    async def _await_payment(self, result: ChargeResult) -> ChargeResult:
        """Follow a payment that is neither paid nor refused: SEPA under way, or the customer has to confirm."""
        deadline = workflow.now() + SEPA_DEADLINE
        while result.status in (ChargeStatus.PROCESSING, ChargeStatus.REQUIRES_CUSTOMER):
            if result.status is ChargeStatus.REQUIRES_CUSTOMER:
                await self.park(ParkReason.AUTHENTICATION_REQUIRED, "the customer has to confirm the payment")
            elif workflow.now() >= deadline:
                await self.park(ParkReason.OUTCOME_UNKNOWN, "the payment is in processing for 30 days")
            elif not self._payment_changed:
                self.enter(ChainStage.CHARGING, upsert=False)
                look_again = workflow.now() + timedelta(seconds=self.options.payment_poll_seconds)
                await self._wait_for_payment(look_again, "the bank")
            self._payment_changed = False
            result = await self._check_payment()
        return result

    async def _wait_for_payment(self, until: datetime, what: str) -> None:
        """Like `wait`, but news of the booking stay for the hold: money under way cannot be called back."""
        changed, self._booking_changed = self._booking_changed, False
        try:
            await self.wait(until, what)
        finally:
            self._booking_changed = self._booking_changed or changed

    async def _check_payment(self) -> ChargeResult:
        options = policies.stripe_step(self.options.step_timeout_seconds, "Look up the payment at Stripe")
        return await self.until_done(
            lambda: workflow.execute_activity_method(
                ChargingActivities.check_payment, ChainRef(chain_uid=self.chain_uid), **options
            ),
            "look up the payment",
        )

    async def _dunning_pause(self, result: ChargeResult) -> None:
        """Wait for the next attempt. A cancellation meanwhile leaves: nothing was paid, so nothing is owed."""
        until = workflow.now() + timedelta(seconds=self.options.dunning_interval_seconds)
        self.enter(ChainStage.CHARGING, upsert=False)
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid, stage=self.stage, waits_for="the next charge attempt", deadline_at=until
            )
        )
        while not await self.wait(until, f"the next charge attempt after {result.code}"):
            self._payment_changed = False
            facts = await self._read()
            if facts.status in GONE:
                raise Leave(ChainOutcome.CANCELLED, "cancelled while the charge was refused")

    # --- 6, 7: commission and hold ---

    async def _accrue(self) -> None:
        self.check_orders()
        self.compensations.push("reverse the commission", self.compensations.reverse_commission)
        await self.until_done(
            lambda: workflow.execute_local_activity_method(
                CommissionActivities.accrue,
                ChainRef(chain_uid=self.chain_uid),
                **self._database(),
            ),
            "accrue the commission",
        )
        if self.given_back_minor:
            await self.compensations.reverse_commission(self.corrections, self.given_back_minor)
        self.note("commission accrued")

    async def _hold(self, quote: QuoteFacts) -> None:
        matures_at = quote.matures_at
        if matures_at > workflow.now():
            self.enter(ChainStage.HOLD)
            await self.record(
                RecordInput(
                    chain_uid=self.chain_uid,
                    stage=self.stage,
                    waits_for="the end of the refund window",
                    deadline_at=matures_at,
                )
            )
        while not await self.wait(matures_at, "the end of the refund window"):
            if self._payment_changed:
                self._payment_changed = False
                if self.charged:
                    await self._settle_disputes()
            if self._booking_changed:
                facts = await self._read()
                gone = facts.status in GONE
                if gone or (facts.attendee_absent and not self._no_show):
                    await self._give_back(facts)
                    if self.given_back_minor == self.gross_minor:
                        return
                elif facts.booking_uid != self.chain_uid:
                    matures_at = await self._move(facts)

    async def _settle_disputes(self) -> None:
        """Nothing matures while the bank disputes the charge, or after somebody refunded it elsewhere."""
        while True:
            result = await self._check_payment()
            if result.disputed:
                await self.park(ParkReason.DISPUTED, "the charge is disputed; decide when the dispute is closed")
            elif result.refunded_outside_minor:
                amount = visibility.money(result.refunded_outside_minor, self._money())
                await self.park(ParkReason.REFUNDED_OUTSIDE, f"{amount} were refunded at Stripe by hand")
            else:
                return

    async def _give_back(self, facts: BookingFacts) -> None:
        """Refund what the terms don't keep, with the proportional commission and invoice. Nothing: nothing happens."""
        before = self.given_back_minor
        if facts.status is BookingStatus.REJECTED:
            self.given_back_minor = self.gross_minor
        else:
            await self._apply_terms(facts)
        if self.given_back_minor == before or not self.charged:
            return
        self.corrections += 1
        await self.compensations.give_back(self.corrections, self.given_back_minor)
        self.note(f"gave back {visibility.money(self.given_back_minor - before, self._money())}")

    async def _move(self, facts: BookingFacts) -> datetime:
        moved: MoveResult = await self.until_done(
            lambda: workflow.execute_local_activity_method(
                CommissionActivities.move,
                BookingRef(chain_uid=self.chain_uid, booking_uid=facts.booking_uid),
                **self._database(),
            ),
            "move the refund window",
        )
        self.note(f"rescheduled to {facts.booking_uid}, starts {visibility.when(facts.start_at)}; not charged again")
        return moved.matures_at

    # --- 8: pay out ---

    async def _pay_out(self) -> ChainOutcome:
        matured = await self.until_done(
            lambda: workflow.execute_local_activity_method(
                CommissionActivities.mature, ChainRef(chain_uid=self.chain_uid), **self._database()
            ),
            "mature the commission",
        )
        for due in matured.transfers:
            self.compensations.push(
                f"reverse the transfer to {due.reseller_id}", self.compensations.reverse_transfer(due.reseller_id)
            )
            amount = visibility.money(due.amount_minor, matured.currency)
            await self._transfer(due.reseller_id, amount)
            self.note(f"transferred {amount} to reseller {due.reseller_id}")
        if self.given_back_minor and self.charged:
            outcome = ChainOutcome.CANCELLED_WITH_FEE
        else:
            outcome = ChainOutcome.MATURED if matured.left_for_settlement else ChainOutcome.PAID
        return await self._close(outcome, "")

    async def _transfer(self, reseller_id: str, amount: str) -> None:
        order = TransferInput(chain_uid=self.chain_uid, reseller_id=reseller_id)
        options = policies.stripe_step(
            self.options.step_timeout_seconds, f"Transfer {amount} commission to reseller {reseller_id}"
        )
        while True:
            self.check_orders()
            result = await self.until_done(
                lambda: workflow.execute_activity_method(PayoutActivities.transfer, order, **options), "transfer"
            )
            if result.refused_code is None:
                return
            await self.park(result.reason or ParkReason.TRANSFER_REFUSED, f"{reseller_id}: {result.refused_code}")

    # --- the end ---

    async def _leave(self, outcome: ChainOutcome, why: str) -> ChainOutcome:
        self.enter(ChainStage.UNDOING)
        self.note(f"leaves: {why}")
        order = self._roll_back_order
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=ChainStage.UNDOING,
                action=str(outcome),
                actor=order.who if order else "workflow",
                why=order.why if order else why,
            )
        )
        self.corrections += 1
        await self.compensations.run(self.corrections)
        if outcome is ChainOutcome.ROLLED_BACK and self.gross_minor == 0:
            outcome = ChainOutcome.UNBILLABLE
        return await self._close(outcome, why)

    async def _close(self, outcome: ChainOutcome, why: str) -> ChainOutcome:
        self.outcome, self.leaving = outcome, True
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=ChainStage.CLOSED,
                outcome=outcome,
                detail=why[:500],
                action=f"closed: {outcome}",
            )
        )
        self.note(f"closed: {outcome}" + (f" ({why})" if why else ""))
        self.enter(ChainStage.CLOSED)
        return outcome

    def _money(self) -> str:
        return self.currency or "EUR"

    def _database(self) -> dict[str, Any]:
        return policies.database_step(self.options.step_timeout_seconds)
