"""One booking's life: from the accepted Cal.com booking to the reseller's money, and back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.commissions import CommissionActivities
    from activities.models import (
        BookingFacts,
        BookingRef,
        ChainRef,
        Due,
        EffectResult,
        MatureResult,
        MoveResult,
        QuoteFacts,
        RecordInput,
        TransferInput,
        closing,
    )
    from activities.payouts import PayoutActivities
    from domain.chain import ChainOutcome, ChainStage
    from domain.model import ParkReason
    from domain.ports import BookingStatus
    from workflows import policies, visibility
    from workflows.control import CANCELLED, Leave
    from workflows.intake import GONE
    from workflows.models import BookingInput, ChainOptions
    from workflows.payment import PaymentSteps

if TYPE_CHECKING:
    from settings import Settings


def chain_options(settings: Settings) -> ChainOptions:
    """The settings a chain freezes at its start."""
    return ChainOptions(
        dunning_attempts=settings.dunning_attempts,
        dunning_interval_seconds=settings.dunning_interval_seconds,
        step_timeout_seconds=settings.step_timeout_seconds,
        park_recheck_seconds=settings.park_recheck_seconds,
        payment_poll_seconds=settings.payment_poll_seconds,
        joined_steps=True,
        reads_at_once=True,
    )


def booking_input(settings: Settings, chain_uid: str) -> BookingInput:
    return BookingInput(chain_uid=chain_uid, options=chain_options(settings))


@workflow.defn
class BookingWorkflow(PaymentSteps):
    """The chain of one booking, across all its reschedulings. Id `booking-{first uid}`; started at most once.

    1. intake: read the booking from Cal.com, at once or, where that fails, as a dispatched step. Cancelled or rejected
       by then: closed `cancelled`, nothing was charged.
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
        self._begin_intake()
        self._begin_payment()
        self._transferred: set[str] = set()

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
        answer = None
        if self.options.joined_steps:
            first, answer = await self._take_in()
        else:
            first = await self._read()
        facts = await self._read_until_confirmed(first)
        if facts.status in GONE:
            return await self._close(ChainOutcome.CANCELLED, f"booking was {facts.status}")
        self.note(f"booking read: {facts.status}, starts {visibility.when(facts.start_at)}")
        quote = await self._await_charge_moment(await self._quote(answer if facts is first else None))
        owed_minor = self.gross_minor - self.given_back_minor
        if owed_minor == 0 and self._gone:
            return await self._close(ChainOutcome.CANCELLED, "free by its cancellation terms")
        if owed_minor > 0:
            joined = self.options.joined_steps and self.given_back_minor == 0
            if not joined:
                await self._bill()
            await self._charge_until_paid(owed_minor, joined=joined)
        if not self._accrued:
            await self._accrue()
        await self._hold(quote)
        await self._find_fee()
        return await self._pay_out()

    # --- 6, 7: commission and hold ---

    async def _accrue(self) -> None:
        self.check_orders()
        self.compensations.push("reverse the commission", self.compensations.reverse_commission)
        await self.until_done(
            lambda: workflow.execute_local_activity_method(
                CommissionActivities.accrue,
                ChainRef(chain_uid=self.chain_uid),
                **self._database("Accrue the commission of every level"),
            ),
            "accrue the commission",
        )
        if self.given_back_minor:
            await self.compensations.reverse_commission(self.corrections, self.given_back_minor)
        self.note("commission accrued")

    async def _hold(self, quote: QuoteFacts) -> None:
        """Until the refund window is over, however often it moves. Money given back in full needs no waiting."""
        self.matures_at = quote.matures_at
        if self.matures_at > workflow.now():
            self.enter(ChainStage.HOLD)
        while not self._all_given_back():
            if await self.wait(self.matures_at, "the end of the refund window"):
                return
            await self._take_news()
            await self.record(
                RecordInput(
                    chain_uid=self.chain_uid,
                    stage=self.stage,
                    waits_for="the end of the refund window",
                    deadline_at=self.matures_at,
                )
            )

    def _all_given_back(self) -> bool:
        return self.charged and self.given_back_minor == self.gross_minor

    async def _take_news(self) -> bool:
        """React to what the outside told since, once paid: give back, move the window, park. True: there were news."""
        news = False
        while self._payment_changed or self._booking_changed:
            news = True
            if self._payment_changed:
                self._payment_changed = False
                if self.charged:
                    await self._follow_payment()
            if self._booking_changed:
                await self._follow_booking(await self._read())
        return news

    async def _follow_booking(self, facts: BookingFacts) -> None:
        if facts.status in GONE or (facts.attendee_absent and not self._terms_applied):
            before_minor = self.given_back_minor
            if facts.status is BookingStatus.REJECTED:
                self.given_back_minor = self.gross_minor
            else:
                await self._apply_terms(facts)
            if self.charged and self.given_back_minor > before_minor:
                await self._give_back(before_minor)
        elif facts.booking_uid != self.chain_uid:
            self.matures_at = await self._move(facts)

    async def _give_back(self, before_minor: int) -> None:
        """Refund what the terms don't keep, with the proportional commission and invoice."""
        if self._transferred and self._all_given_back():
            raise Leave(ChainOutcome.REFUNDED, "cancelled while the commission was paid")
        self.corrections += 1
        await self.compensations.give_back(self.corrections, self.given_back_minor)
        self.note(f"gave back {visibility.money(self.given_back_minor - before_minor, self._money())}")

    async def _follow_payment(self) -> None:
        """Commission and documents follow the money that others moved; nothing matures while the charge is disputed."""
        while True:
            result = await self._check_payment()
            self._fee_known = result.fee_known
            expected_minor = max(0, self.given_back_minor - self.waived_minor)
            if result.refunded_minor > expected_minor:
                await self._follow_refund(result.refunded_minor - expected_minor)
            elif result.refunded_minor < expected_minor:
                await self.park(ParkReason.REFUND_REFUSED, "a refund failed at the bank; it is sent again")
                await self.compensations.refund(self.corrections, self.given_back_minor)
                continue
            if not result.disputed:
                return
            await self.park(ParkReason.DISPUTED, "the charge is disputed or the dispute was lost: decide")
            self._payment_changed = False

    async def _follow_refund(self, amount_minor: int) -> None:
        """Somebody refunded at Stripe by hand: the ledger has it already, commission and invoice follow."""
        self.given_back_minor += amount_minor
        self.corrections += 1
        await self.compensations.reverse_commission(self.corrections, self.given_back_minor)
        await self.compensations.correct_invoice(self.corrections, self.given_back_minor)
        self.note(f"{visibility.money(amount_minor, self._money())} were refunded at Stripe by hand")

    async def _move(self, facts: BookingFacts) -> datetime:
        moved: MoveResult = await self.until_done(
            lambda: workflow.execute_local_activity_method(
                CommissionActivities.move,
                BookingRef(chain_uid=self.chain_uid, booking_uid=facts.booking_uid),
                **self._database("Move the refund window"),
            ),
            "move the refund window",
        )
        self.note(f"rescheduled to {facts.booking_uid}, starts {visibility.when(facts.start_at)}; not charged again")
        return moved.matures_at

    # --- 8: pay out ---

    async def _pay_out(self) -> ChainOutcome:
        """Transfer what is due, one reseller after the other; news that come meanwhile change what is due."""
        if self.options.joined_steps and self._nothing_happened():
            matured = await self._mature(close=True)
            self.check_orders()
            if matured.closed_as is not None and self._nothing_happened():
                return self._closed(matured.closed_as, "")
        else:
            matured = await self._mature()
        while True:
            if await self._take_news():
                matured = await self._mature()
            if self._all_given_back():
                return await self._close(ChainOutcome.REFUNDED, "everything was given back")
            due = next((one for one in matured.transfers if one.reseller_id not in self._transferred), None)
            if due is None:
                break
            await self._transfer(due, matured.currency)
        if self.given_back_minor and self.charged:
            outcome = ChainOutcome.CANCELLED_WITH_FEE
        else:
            outcome = ChainOutcome.MATURED if matured.left_for_settlement else ChainOutcome.PAID
        return await self._close(outcome, "")

    def _nothing_happened(self) -> bool:
        """Nothing was given back and there are no news: the commission matures as it was accrued."""
        return self.given_back_minor == 0 and not (self._booking_changed or self._payment_changed)

    async def _mature(self, *, close: bool = False) -> MatureResult:
        """`close`: the same step closes the chain if it has nothing to transfer itself."""
        ref = ChainRef(chain_uid=self.chain_uid)
        options = self._database("Mature the commission, see who is paid now")
        matured: MatureResult = await self.until_done(
            lambda: (
                workflow.execute_local_activity_method(CommissionActivities.mature_and_close, ref, **options)
                if close
                else workflow.execute_local_activity_method(CommissionActivities.mature, ref, **options)
            ),
            "mature the commission",
        )
        return matured

    async def _transfer(self, due: Due, currency: str) -> None:
        """One try. Refused or not ready: parked, and what is due is looked at again afterwards."""
        self.check_orders()
        name = f"reverse the transfer to {due.reseller_id}"
        if not self.compensations.has(name):
            self.compensations.push(name, self.compensations.reverse_transfer(due.reseller_id))
        amount = visibility.money(due.amount_minor, currency)
        order = TransferInput(chain_uid=self.chain_uid, reseller_id=due.reseller_id)
        options = policies.stripe_step(
            self.options.step_timeout_seconds, f"Transfer {amount} commission to reseller {due.reseller_id}"
        )
        result: EffectResult = await self.until_done(
            lambda: workflow.execute_activity_method(PayoutActivities.transfer, order, **options), "transfer"
        )
        if result.refused_code is not None:
            await self.park(result.reason or ParkReason.TRANSFER_REFUSED, f"{due.reseller_id}: {result.refused_code}")
            return
        self._transferred.add(due.reseller_id)
        self.note(f"transferred {visibility.money(result.amount_minor, currency)} to reseller {due.reseller_id}")

    # --- the end ---

    async def _leave(self, outcome: ChainOutcome, why: str) -> ChainOutcome:
        self.reason, self.detail = None, ""
        self.enter(ChainStage.UNDOING, visibility.ATTENTION.value_set(False), visibility.REASON.value_unset())
        self.note(f"leaves: {why}")
        order = self._roll_back_order
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=ChainStage.UNDOING,
                waits_for="the compensations",
                deadline_at=workflow.now() + timedelta(seconds=self.options.step_timeout_seconds),
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
        self.check_orders()
        self.leaving = True
        await self.record(closing(self.chain_uid, outcome, why))
        return self._closed(outcome, why)

    def _closed(self, outcome: ChainOutcome, why: str) -> ChainOutcome:
        self.outcome, self.leaving = outcome, True
        self.note(f"closed: {outcome}" + (f" ({why})" if why else ""))
        self.enter(ChainStage.CLOSED)
        return outcome
