"""Input and result of every step. Ids, amounts and times only: no personal data enters a Temporal history."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domain.chain import ChainOutcome, ChainStage
from domain.effects import AdjustmentDirection, AdjustmentKind
from domain.model import Currency, Frozen, Id, ParkReason, Period, UtcDatetime
from domain.money import AmountMinor
from domain.ports import BookingStatus

Sequence = Annotated[int, Field(ge=1, le=999)]
"""Which closing of a month: 1 the month's own, from 2 on supplements."""


class ChainRef(Frozen):
    chain_uid: Id


class BookingRef(Frozen):
    chain_uid: Id
    booking_uid: Id
    """The uid known last; the step follows reschedulings from there."""


class BookingFacts(Frozen):
    """What the chain needs to know of a booking."""

    booking_uid: Id
    """The newest uid of the chain of reschedulings."""
    status: BookingStatus
    start_at: UtcDatetime
    end_at: UtcDatetime
    changed_at: UtcDatetime
    """Cal.com's `updatedAt`, or the time of reading where Cal.com gives none."""
    attendee_absent: bool


class QuoteFacts(Frozen):
    """The frozen quote's figures that a person or a branch of the workflow needs; the quote itself is in PostgreSQL."""

    customer_id: Id
    reseller_id: Id | None
    currency: Currency
    gross_minor: AmountMinor
    charge_at: UtcDatetime
    matures_at: UtcDatetime
    period: Period


class QuoteResult(Frozen):
    """Either a quote, or why there is none."""

    quote: QuoteFacts | None
    reason: ParkReason | None = None
    detail: str = ""


class TakenIn(Frozen):
    """A booking as it was read first, and its quote."""

    facts: BookingFacts
    quote: QuoteResult | None
    """None where Cal.com has not accepted the booking, or no longer: there is nothing to quote."""


class TermsCause(StrEnum):
    CANCELLED = "cancelled"
    NO_SHOW = "no_show"


class TermsInput(Frozen):
    chain_uid: Id
    booking_uid: Id
    cause: TermsCause
    at: UtcDatetime


class TermsResult(Frozen):
    retained_minor: AmountMinor
    """What the customer owes in the end, gross."""
    given_back_minor: AmountMinor
    """The rest of the quote's gross amount: never charged, or refunded."""


class ChargeInput(Frozen):
    chain_uid: Id
    attempt: int
    amount_minor: AmountMinor
    currency: Currency


class ChargeStatus(StrEnum):
    SUCCEEDED = "succeeded"
    PROCESSING = "processing"
    """SEPA: the bank has up to 14 business days."""
    REQUIRES_CUSTOMER = "requires_customer"
    """The customer has to confirm the payment himself (SCA)."""
    REFUSED = "refused"


class ChargeResult(Frozen):
    status: ChargeStatus
    soft: bool = False
    """A refusal that may turn into a yes on another day."""
    code: str | None = None
    payment_intent_id: str | None = None
    fee_known: bool = True
    """False while Stripe has not written the balance transaction yet; `check_payment` posts the fee later."""
    disputed: bool = False
    accrued: bool = False
    """The commission was accrued in the same transaction; only `bill_and_charge` does that, once it is paid."""
    refunded_minor: AmountMinor = 0
    """Given back so far, cumulative, whoever ordered it; a refund that failed at the bank no longer counts."""


class RefundInput(Frozen):
    chain_uid: Id
    given_back_minor: AmountMinor | None = None
    """Cumulative: what the customer gets back in the end. None: everything that was charged."""


class EffectResult(Frozen):
    """Result of an effect at Stripe that may be refused. `amount_minor` 0 and no code: there was nothing to do."""

    amount_minor: AmountMinor = 0
    refused_code: str | None = None
    reason: ParkReason | None = None
    """Why a person is needed, where the effect was refused."""


class CorrectInput(Frozen):
    chain_uid: Id
    sequence: int
    given_back_minor: AmountMinor | None = None
    """Cumulative; None: everything."""


class Due(Frozen):
    """A commission that this chain transfers itself."""

    reseller_id: Id
    amount_minor: AmountMinor


class MatureResult(Frozen):
    currency: Currency
    transfers: tuple[Due, ...] = ()
    left_for_settlement: int = 0
    """Commissions that wait for the monthly settlement."""
    closed_as: ChainOutcome | None = None
    """Set by `mature_and_close` where nothing was left to transfer: the chain's row says so already."""


class TransferInput(Frozen):
    chain_uid: Id
    reseller_id: Id


class TransferRef(Frozen):
    """A transfer by Stripe's id of it."""

    transfer_id: Id


class RecordInput(Frozen):
    """A change of a chain's stage, with who ordered it where a person did."""

    chain_uid: Id
    stage: ChainStage
    outcome: ChainOutcome | None = None
    reason: ParkReason | None = None
    detail: str = ""
    waits_for: str = ""
    deadline_at: UtcDatetime | None = None
    actor: str = "workflow"
    action: str | None = None
    why: str = ""


def closing(chain_uid: str, outcome: ChainOutcome, why: str) -> RecordInput:
    """The change with which a chain ends."""
    return RecordInput(
        chain_uid=chain_uid,
        stage=ChainStage.CLOSED,
        outcome=outcome,
        detail=why[:500],
        action=f"closed: {outcome}",
    )


class MoveResult(Frozen):
    matures_at: UtcDatetime


class ClaimInput(Frozen):
    """A closing of a month. `sequence` 1 is the month's own, from 2 on supplements for what came later."""

    period: Period
    requested_by: str
    sequence: Sequence = 1
    negative_months: int = 3
    """Statements in a row that end below zero before the account is parked."""
    approval_from_minor: dict[Currency, AmountMinor] | None = None
    """Currency → payment from which on a second person has to approve. A currency that is not named needs nobody. None:
    the input is of a run or Schedule from before there were approvals; the worker's own settings hold."""
    listed: bool = True
    """Whether the result names what is unpaid. Runs that read it page by page don't need that."""


class Claimed(Frozen):
    """One reseller's claim of a period, in one currency."""

    reseller_id: Id
    currency: Currency
    amount_minor: AmountMinor


class ClaimResult(Frozen):
    period: Period
    claims: tuple[Claimed, ...] = ()
    """Only the ones that still have to be paid: a second run finds none. Empty unless `listed`."""
    statements: int = 0


class SettlementRun(Frozen):
    """One closing: the month's own or a supplement."""

    period: Period
    sequence: Sequence = 1


class PageInput(SettlementRun):
    after: int = 0
    """The settlement's number that the last page ended with."""
    limit: Annotated[int, Field(ge=1, le=1_000)]


class Unpaid(Frozen):
    """A statement that has to be paid still."""

    settlement_id: int
    reseller_id: Id
    currency: Currency
    amount_minor: AmountMinor
    waits: bool
    """Parked or waiting: a workflow of its own looks after it."""
    needs_approval: bool
    """A second person has not approved it yet."""
    asked_by: tuple[str, ...]
    """Who asked for the run or for an adjustment in it: none of them may approve."""


class SettleInput(Frozen):
    """The statement to pay."""

    period: Period
    reseller_id: Id
    currency: Currency
    sequence: Sequence = 1


class ParkSettlementInput(SettleInput):
    reason: ParkReason
    detail: str
    waiting_since: UtcDatetime | None = None
    """Set: it waits for the balance since then and needs no person."""


class SettlementOrder(SettleInput):
    """A person's decision about one statement."""

    who: str
    why: str


class Answer(Frozen):
    """What became of a person's order. A refusal is an answer: `told` says why, for the person."""

    done: bool
    told: str = ""


class AdjustmentTerms(Frozen):
    """An amount that somebody wants to add to, or take from, what a reseller is owed."""

    adjustment_id: Id
    reseller_id: Id
    currency: Currency
    amount_minor: Annotated[int, Field(gt=0)]
    direction: AdjustmentDirection
    kind: AdjustmentKind = AdjustmentKind.CORRECTION


class AdjustmentInput(AdjustmentTerms):
    """An adjustment to record, with who wants it and why."""

    who: str
    why: str


class AdjustmentDecision(Frozen):
    adjustment_id: Id
    approved: bool
    who: str
    why: str


class SweepInput(Frozen):
    lookback_seconds: int
    """How far before the last sweep's start to look: covers clocks that differ and pages that shifted."""


class SweepResult(Frozen):
    seen: int
    new: int
    """Changes that no webhook had told of; they are in the inbox now."""


class UndoPlan(Frozen):
    """What a closed chain did outside and can be taken back."""

    customer_id: Id | None
    reseller_ids: tuple[Id, ...]
    """Resellers who got money for the booking, by a transfer of its own or with a settlement."""
    next_sequence: int
    """Number of the next correction: keys of refunds and invoice corrections hold it."""


class Progress(Frozen):
    """Statements of one closing by status."""

    open: int
    """Claimed, and nobody knows yet what becomes of it."""
    paid: int
    parked: int
    carried: int = 0
    waiting: int = 0
    """For the platform's balance."""
    total: int = 0


class Page(Frozen):
    unpaid: tuple[Unpaid, ...]
    progress: Progress


class LogInput(Frozen):
    """A line of the audit log."""

    actor: str
    action: str
    target: str
    why: str
