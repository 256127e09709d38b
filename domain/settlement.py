"""The month's closing of one account, a reseller in one currency: everything that is due becomes one statement.

Statements are cumulative. A line says what a commission earned when it was claimed; what is reversed later is a
clawback line of a later statement, never a change of this one. So each statement is frozen when it is made, and what it
leaves over (below the minimum, on hold, or owed by the reseller) is brought forward by the next one.
The rule that makes a statement stands in `domain.closing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from domain.effects import (
    AdjustmentDirection,
    AdjustmentKind,
    AdjustmentStatus,
    CarryReason,
    EffectStatus,
    LineKind,
    SettlementStatus,
)
from domain.model import Currency, Frozen, Id, JsonDict, ParkReason, Period, UtcDatetime
from domain.money import AmountMinor, RateBps, percentage

Count = Annotated[int, Field(ge=0)]
Sequence1 = Annotated[int, Field(ge=1)]


class Figures(Frozen):
    """The amounts of one statement, all without a sign: each name says its direction.

    What the platform owes stands on one side, what is set against it on the other, and they are equal:

    opening_credit + earned + returned + adjustment_credit + vat_credit + carried_debt
      = opening_debt + clawback + transferred + adjustment_debit + vat_debit + payable + carried_credit
    """

    opening_credit_minor: AmountMinor
    """Brought forward from earlier statements: owed to the reseller."""
    opening_debt_minor: AmountMinor
    """Brought forward: owed by the reseller."""
    earned_minor: AmountMinor
    """Net commissions of this statement's `earned` lines, overrides included."""
    override_minor: AmountMinor
    """The part of `earned_minor` that comes from bookings of resellers below him."""
    clawback_minor: AmountMinor
    """Reversed since the commissions stood on an earlier statement."""
    transferred_minor: AmountMinor
    """Paid already by transfers of single bookings, whose commissions are listed here."""
    returned_minor: AmountMinor
    """Taken back since of transfers that an earlier statement showed as paid."""
    adjustment_credit_minor: AmountMinor
    adjustment_debit_minor: AmountMinor
    vat_credit_minor: AmountMinor
    """VAT on what he earned, paid to him with it."""
    vat_debit_minor: AmountMinor
    """VAT on what he gives back."""
    payable_minor: AmountMinor
    """To transfer. 0: `carry_reason` says why."""
    carried_credit_minor: AmountMinor
    """Left over, owed to the reseller. Not zero only where nothing is payable."""
    carried_debt_minor: AmountMinor
    """Left over, owed by the reseller."""
    minimum_payout_minor: AmountMinor
    """Below this nothing was transferred at this closing."""
    line_count: Count
    carry_reason: CarryReason | None
    negative_since: Period | None
    """Month of the first of an unbroken run of statements that left a debt; None: this one left none."""
    vat_rate_bps: RateBps
    """The reseller's VAT rate on what he earns, when this was closed. Clawbacks keep the rate of their earned line."""
    vat_reason: str
    """`standard`, `small_business` or `reverse_charge` (`domain.tax.reseller_vat`)."""

    @model_validator(mode="after")
    def _balances(self) -> Self:
        owed = self.opening_credit_minor + self.earned_minor + self.returned_minor + self.adjustment_credit_minor
        owed += self.vat_credit_minor + self.carried_debt_minor
        met = self.opening_debt_minor + self.clawback_minor + self.transferred_minor + self.adjustment_debit_minor
        met += self.vat_debit_minor + self.payable_minor + self.carried_credit_minor
        if owed != met:
            raise ValueError(f"a statement does not balance: {owed} and {met}")
        if (self.payable_minor > 0) + (self.carried_credit_minor > 0) + (self.carried_debt_minor > 0) > 1:
            raise ValueError("a statement is payable, or leaves a credit, or leaves a debt")
        if (self.payable_minor > 0) == (self.carry_reason is not None):
            raise ValueError("exactly a statement without a transfer says why")
        if (self.carried_debt_minor > 0) != (self.negative_since is not None):
            raise ValueError("exactly a statement that leaves a debt says since when")
        if 0 < self.payable_minor < self.minimum_payout_minor:
            raise ValueError("less than the minimum is payable")
        if self.override_minor > self.earned_minor:
            raise ValueError("overrides are a part of what was earned")
        return self


class StatementLine(Frozen):
    """One commission on one statement. With `commission_id`, `sequence` is unique: each is claimed once."""

    commission_id: int
    sequence: Count
    """0: earned; 1 and up: the n-th clawback of that commission."""
    chain_uid: Id
    level: Count
    """0: his own customer; 1 and up: an override on a booking of a reseller below him."""
    amount_minor: AmountMinor
    """Net. Of a clawback: what he gives back. 0 where only a transfer of the booking changed."""
    transferred_minor: AmountMinor = 0
    """What a transfer of the booking's own paid of it already; of a clawback: what was taken back of that."""
    vat_rate_bps: RateBps
    vat_reason: str
    matures_at: UtcDatetime
    """Nominal end of the refund window."""
    appointment_at: UtcDatetime | None = None
    """Start of the appointment, by the quote that was charged."""
    rule: JsonDict = Field(default_factory=dict)
    """The rule that was frozen when it was earned, with its inputs: rate, base, share kept after a cancellation."""

    @property
    def kind(self) -> LineKind:
        return LineKind.CLAWBACK if self.sequence else LineKind.EARNED


class TaxLine(Frozen):
    """VAT on everything of one statement that has one rate and reason, rounded once: the table of a credit note."""

    vat_rate_bps: RateBps
    vat_reason: str
    net_minor: AmountMinor
    vat_minor: AmountMinor
    is_debit: bool
    """True: more was clawed back at this rate than was earned; both amounts are the reseller's to give back."""

    @model_validator(mode="after")
    def _rounded_once(self) -> Self:
        if self.vat_minor != percentage(self.net_minor, self.vat_rate_bps):
            raise ValueError(f"{self.vat_minor} is not {self.vat_rate_bps} bps of {self.net_minor}")
        return self


class Adjustment(Frozen):
    """A manual amount on an account, as it stands: no VAT is computed on it. Two persons make it."""

    id: Id
    reseller_id: Id
    currency: Currency
    amount_minor: Annotated[AmountMinor, Field(gt=0)]
    direction: AdjustmentDirection
    kind: AdjustmentKind
    why: str
    requested_by: str
    requested_at: UtcDatetime
    status: AdjustmentStatus
    decided_by: str | None
    """Never the one who asked."""
    decided_at: UtcDatetime | None
    settlement_id: int | None
    """The statement that shows it; None: the next one of the account will, if it is approved."""

    @model_validator(mode="after")
    def _two_persons(self) -> Self:
        if self.decided_by is not None and self.decided_by == self.requested_by:
            raise ValueError(f"adjustment {self.id} was decided by the person who asked for it")
        return self


class Party(Frozen):
    """PERSONAL DATA of a sole trader. The reseller as a document names him, frozen with the statement."""

    name: str
    email: str | None = None
    address: dict[str, str | None] | None = None
    """`line1`, `line2`, `postal_code`, `city`."""
    country: str
    vat_id: str | None
    small_business: bool
    tax_status_from: str | None = None
    """Day (YYYY-MM-DD) since which this tax status holds; None: not recorded."""


class StatementTransfer(Frozen):
    key: str
    transfer_id: str | None
    status: EffectStatus
    amount_minor: AmountMinor
    reversed_minor: AmountMinor
    destination_account_id: str
    refusal_code: str | None
    finished_at: UtcDatetime | None


class Statement(Figures):
    """One statement with everything that a document of it needs. What is frozen never changes; what happened to the
    money since (status, transfer, where it was brought forward) is as it stands now.
    """

    id: str
    """`S-{period}-{reseller}-{currency}-{sequence}` (`domain.ids.statement_id`)."""
    period: Period
    sequence: Sequence1
    """1: the month's closing; 2 and up: a supplement for what came later."""
    reseller_id: Id
    currency: Currency
    boundary: UtcDatetime
    """Everything that matured before this moment and stood on no statement yet is on this one."""
    frozen_at: UtcDatetime
    lines: tuple[StatementLine, ...]
    """By maturity, chain, level; clawbacks last."""
    taxes: tuple[TaxLine, ...]
    adjustments: tuple[Adjustment, ...]
    party: Party
    issuer: JsonDict | None
    """The platform as documents name it, frozen with the closing: `name`, `address` (lines), `country`, `vat_id`."""
    requested_by: str
    """Who asked for the closing."""
    needs_approval: bool
    approved_by: str | None
    status: SettlementStatus
    reason: ParkReason | None
    detail: str | None
    waiting_since: UtcDatetime | None
    carried_by: str | None
    """Who decided to carry a payable amount over instead of transferring it."""
    brought_from: tuple[str, ...]
    """Ids of the statements whose remainders are this one's opening."""
    brought_into: str | None
    transfer: StatementTransfer | None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        check_sums(self, self.lines, self.taxes, self.adjustments)
        return self

    @property
    def due_minor(self) -> int:
        """What the platform owes after this statement, transferred or left over; 0 where the reseller owes."""
        return self.payable_minor + self.carried_credit_minor


def sum_of(adjustments: Iterable[Adjustment], direction: AdjustmentDirection) -> int:
    return sum(one.amount_minor for one in adjustments if one.direction is direction)


def check_sums(
    figures: Figures, lines: Sequence[StatementLine], taxes: Sequence[TaxLine], adjustments: Sequence[Adjustment]
) -> None:
    """Raises ValueError where a statement's figures are not the sums of what it lists."""
    earned = [line for line in lines if line.kind is LineKind.EARNED]
    clawed = [line for line in lines if line.kind is LineKind.CLAWBACK]
    net: dict[tuple[int, str], int] = {}
    for line in lines:
        signed = -line.amount_minor if line.sequence else line.amount_minor
        key = (line.vat_rate_bps, line.vat_reason)
        net[key] = net.get(key, 0) + signed
    wanted = {
        "earned_minor": sum(line.amount_minor for line in earned),
        "override_minor": sum(line.amount_minor for line in earned if line.level),
        "clawback_minor": sum(line.amount_minor for line in clawed),
        "transferred_minor": sum(line.transferred_minor for line in earned),
        "returned_minor": sum(line.transferred_minor for line in clawed),
        "adjustment_credit_minor": sum_of(adjustments, AdjustmentDirection.CREDIT),
        "adjustment_debit_minor": sum_of(adjustments, AdjustmentDirection.DEBIT),
        "vat_credit_minor": sum(tax.vat_minor for tax in taxes if not tax.is_debit),
        "vat_debit_minor": sum(tax.vat_minor for tax in taxes if tax.is_debit),
        "line_count": len(lines),
    }
    wrong = [name for name, value in wanted.items() if getattr(figures, name) != value]
    shown = {(tax.vat_rate_bps, tax.vat_reason): -tax.net_minor if tax.is_debit else tax.net_minor for tax in taxes}
    if shown != {key: value for key, value in net.items() if value}:
        wrong.append("taxes")
    if wrong:
        raise ValueError(f"a statement's figures are not the sums of what it lists: {', '.join(wrong)}")
