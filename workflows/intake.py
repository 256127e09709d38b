"""The first half of a chain: read the booking, quote it, wait for the charge moment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.intake import IntakeActivities
    from activities.models import (
        BookingFacts,
        BookingRef,
        QuoteFacts,
        QuoteResult,
        RecordInput,
        TakenIn,
        TermsCause,
        TermsInput,
    )
    from activities.quoting import QuoteActivities
    from domain.chain import ChainOutcome, ChainStage
    from domain.model import ParkReason
    from domain.ports import BookingStatus
    from workflows import policies, visibility
    from workflows.control import ChainControl, Leave, asked_delay, is_definite

GONE = (BookingStatus.CANCELLED, BookingStatus.REJECTED)

STILL_ACCEPTED_PAUSES_SECONDS = (2, 15, 60)
"""When to read again after a cancellation that the API does not know yet."""


class Intake(ChainControl):
    """Steps 1 to 4 of `BookingWorkflow`, and the signals of the outside."""

    def _begin_intake(self) -> None:
        self._terms_applied = False
        self._gone = False
        self._told_gone = False

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
        return await self._until_gone(await self._read_once())

    async def _until_gone(self, facts: BookingFacts) -> BookingFacts:
        """Read again while a cancellation was told that the API does not know yet."""
        for pause_seconds in STILL_ACCEPTED_PAUSES_SECONDS:
            if not self._told_gone or facts.status in GONE:
                break
            await workflow.sleep(timedelta(seconds=pause_seconds), summary="Cal.com told of a cancellation early")
            facts = await self._read_once()
        self._told_gone = False
        return facts

    async def _take_in(self) -> tuple[BookingFacts, QuoteResult | None]:
        """Steps 1 and 2 at once. The quote is None where the booking is not accepted, or was read again since."""
        self._booking_changed = False
        taken = await self.until_done(self._take_in_once, "read the booking")
        self.booking_uid = taken.facts.booking_uid
        facts = await self._until_gone(taken.facts)
        return facts, taken.quote if facts is taken.facts else None

    async def _take_in_once(self) -> TakenIn:
        """Tried at once first: Cal.com mostly answers in a moment, and a dispatched step costs more than its answer."""
        ref = BookingRef(chain_uid=self.chain_uid, booking_uid=self.booking_uid)
        summary = f"Read booking {self.booking_uid} from Cal.com, freeze its price"
        if self.options.reads_at_once:
            try:
                return await workflow.execute_local_activity_method(
                    IntakeActivities.take_in, ref, **policies.at_once(summary)
                )
            except FailureError as error:
                if is_cancelled_exception(error) or is_definite(error):
                    raise
                self.check_cancelled()
                if (delay := asked_delay(error)) is not None:
                    await workflow.sleep(delay, summary="Cal.com asked to come back later")
        options = policies.calcom_step(self.options.step_timeout_seconds, summary)
        return await workflow.execute_activity_method(IntakeActivities.take_in, ref, **options)

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
        return facts

    async def _read_until_confirmed(self, facts: BookingFacts) -> BookingFacts:
        """Nothing is charged before the organizer confirmed; a rescheduled booking may need that as well."""
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
            self._payment_changed = False
            facts = await self._read()
        return facts

    # --- 3: quote ---

    async def _quote(self, answer: QuoteResult | None = None) -> QuoteFacts:
        """`answer`: what the step before said already."""
        answer = answer or await self._ask_for_quote()
        while answer.quote is None:
            await self.park(answer.reason or ParkReason.INTERNAL, answer.detail)
            facts = await self._read_until_confirmed(await self._read())
            if facts.status in GONE:
                raise Leave(ChainOutcome.CANCELLED, "cancelled before it was billed")
            answer = await self._ask_for_quote()
        quote = answer.quote
        self.customer_id, self.reseller_id = quote.customer_id, quote.reseller_id
        self.currency, self.gross_minor = quote.currency, quote.gross_minor
        self.note(f"quoted {visibility.money(quote.gross_minor, quote.currency)} for customer {quote.customer_id}")
        return quote

    async def _ask_for_quote(self) -> QuoteResult:
        ref = BookingRef(chain_uid=self.chain_uid, booking_uid=self.booking_uid)
        answer: QuoteResult = await self.until_done(
            lambda: workflow.execute_local_activity_method(
                QuoteActivities.quote, ref, **self._database("Freeze price, VAT and commissions")
            ),
            "quote",
        )
        return answer

    # --- 4: charge moment ---

    async def _await_charge_moment(self, quote: QuoteFacts) -> QuoteFacts:
        """The quote in force when the charge is due, or when the booking is gone (`_gone`) and its terms decide."""
        while True:
            stage = ChainStage.AWAITING_CHARGE if quote.charge_at > workflow.now() else ChainStage.CHARGING
            if self.options.joined_steps and stage is ChainStage.CHARGING:
                self.enter_silently(stage, *self._quoted_attributes(quote))
            else:
                self.enter(stage, *self._quoted_attributes(quote))
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
            facts = await self._read_until_confirmed(await self._read())
            if facts.status is BookingStatus.REJECTED:
                self.given_back_minor, self._gone = self.gross_minor, True
                return quote
            if facts.status is BookingStatus.CANCELLED or facts.attendee_absent:
                await self._apply_terms(facts)
                self._gone = True
                return quote
            if facts.booking_uid != self.chain_uid:
                quote = await self._quote()
                self.note(f"rescheduled to {facts.booking_uid}, starts {visibility.when(facts.start_at)}")

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
                **self._database("Apply the cancellation terms"),
            ),
            "apply the cancellation terms",
        )
        self._terms_applied = True
        self.given_back_minor = max(self.given_back_minor, terms.given_back_minor)
        self.note(f"{cause}: keeps {visibility.money(terms.retained_minor, self._money())} by the booking's terms")
        return self.given_back_minor

    def _money(self) -> str:
        return self.currency or "EUR"

    def _database(self, summary: str) -> dict[str, Any]:
        return policies.database_step(self.options.step_timeout_seconds, summary)
