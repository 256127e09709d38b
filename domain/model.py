"""Records that every part of the system shares: parties, terms, the frozen quote of a booking.

All are immutable. Times are aware and normalised to UTC. Ids are safe to stand in workflow ids, URLs and logs.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    model_validator,
)

from domain.money import BPS_WHOLE, MINOR_DIGITS, AmountMinor, RateBps


def _known_currency(code: str) -> str:
    if code not in MINOR_DIGITS:
        raise ValueError(f"unknown currency {code!r}: use one of {', '.join(sorted(MINOR_DIGITS))}")
    return code


def _to_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,120}$")]
"""An id of ours or a Cal.com uid; same alphabet as `domain.ids`."""

Currency = Annotated[str, AfterValidator(_known_currency)]
"""ISO 4217 code that the pipeline accepts (see `domain.money.MINOR_DIGITS`)."""

UtcDatetime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A moment; naive input is refused, other offsets are converted to UTC."""

Period = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")]
"""A calendar month `YYYY-MM` in Europe/Berlin."""

Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
"""ISO 3166-1 alpha-2, upper case."""

StrictBps = Annotated[RateBps, Strict()]
"""Basis points; a float or a string is refused instead of being converted."""

JsonDict = dict[str, Any]
"""A JSON object of strings, integers, booleans, None, lists and objects: no floats where money is meant."""


class Frozen(BaseModel):
    """Base of the domain's records: immutable, and an unknown field is an error instead of being dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PayoutMode(StrEnum):
    """How a reseller gets a matured commission."""

    MONTHLY = "monthly"
    """With the settlement of the month."""
    PER_BOOKING = "per_booking"
    """A transfer of its own, as soon as it matures."""
    ON_HOLD = "on_hold"
    """Earned and kept in the ledger; nothing is paid until a person changes the mode."""


class ChargeMoment(StrEnum):
    AT_BOOKING = "at_booking"
    HOURS_BEFORE_START = "hours_before_start"
    AT_END = "at_end"


class CommissionStatus(StrEnum):
    """Life of one level's commission: `accrued → matured → settled`, or `reversed` from any of them."""

    ACCRUED = "accrued"
    MATURED = "matured"
    SETTLED = "settled"
    REVERSED = "reversed"


class ParkReason(StrEnum):
    """Why a chain or settlement waits for a person."""

    UNMAPPED_CUSTOMER = "unmapped_customer"
    """No mapping names a customer for the booking's event type, team or organizer."""
    NO_PRICE = "no_price"
    NO_AGREEMENT = "no_agreement"
    NO_PAYMENT_METHOD = "no_payment_method"
    CURRENCY_MISMATCH = "currency_mismatch"
    AUTHENTICATION_REQUIRED = "authentication_required"
    """The bank asks the customer to confirm the payment himself (SCA)."""
    SETUP_ERROR = "setup_error"
    OUTCOME_UNKNOWN = "outcome_unknown"
    """The other side never told whether the effect happened; nothing is sent again without a look-up."""
    DISPUTED = "disputed"
    RESELLER_NOT_READY = "reseller_not_ready"
    """No connected account, or one that cannot receive transfers yet."""
    TRANSFER_REFUSED = "transfer_refused"
    BALANCE_INSUFFICIENT = "balance_insufficient"
    """The platform's available balance does not cover the transfer: it waits, and goes when it does."""
    APPROVAL_REQUIRED = "approval_required"
    """A second person has to approve it."""
    NEGATIVE_BALANCE = "negative_balance"
    """The reseller owes for several statements in a row."""
    REFUND_REFUSED = "refund_refused"
    REVERSAL_REFUSED = "reversal_refused"
    BOOKING_NOT_FOUND = "booking_not_found"
    INTERNAL = "internal"


class NoQuote(Exception):
    """A booking cannot be priced: park it with `reason`. `detail` says what is missing, in ids only."""

    def __init__(self, reason: ParkReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"


class TaxProfile(Frozen):
    """What VAT needs to know of a customer."""

    country: Country = "DE"
    is_business: bool = True
    vat_id: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}[0-9A-Z+*]{2,13}$")] | None = None
    """VAT identification number with its country prefix, without blanks."""
    vat_rate_bps: StrictBps | None = None
    """A rate that overrides the price's for this customer (an exempt one: 0); None: by rule."""


class Customer(Frozen):
    """A customer as the pipeline bills him. Name and e-mail address stay in PostgreSQL and are not part of this."""

    id: Id
    reseller_id: Id | None
    """The reseller who brought him; None: he belongs to the platform and nobody earns a commission."""
    stripe_customer_id: str | None
    payment_method_id: str | None
    tax: TaxProfile
    currency: Currency


class Reseller(Frozen):
    id: Id
    parent_id: Id | None
    """The reseller above; None: directly below the platform."""
    payout_mode: PayoutMode
    stripe_account_id: str | None
    small_business: bool
    """Small business under § 19 UStG: shows no VAT on what he earns."""
    country: Country
    vat_id: str | None
    paused: bool
    """Earns as before, but gets no transfer while this is set."""
    tax_status_from: date | None = None
    """First day on which `small_business`, true or false, was shown to hold; None: not shown yet."""
    minimum_payouts: dict[Currency, AmountMinor] = Field(default_factory=dict)
    """Smallest amount, in minor units of the currency, that a statement pays out; less is carried over. None: any."""


class CancellationTerms(Frozen):
    """What of the price is kept when the customer cancels or stays away. The rest is refunded, or not charged."""

    free_until_hours_before: Annotated[int, Field(ge=0, le=24 * 366, strict=True)]
    """Cancelling at least this many hours before the start is free."""
    late_fee_bps: StrictBps = BPS_WHOLE
    """Share kept after that."""
    no_show_fee_bps: StrictBps = BPS_WHOLE
    """Share kept when the attendee did not come."""


class Level(Frozen):
    """What one reseller earns on one booking, frozen when it is quoted."""

    reseller_id: Id
    level: Annotated[int, Field(ge=0)]
    """0: the customer's own reseller, 1: the one above him, and so on to the root."""
    amount_minor: AmountMinor
    rule: JsonDict
    """The rule with every input it was computed from, so that `commission.recompute` needs nothing else."""
    agreement_version: Annotated[int, Field(ge=1)]
    payout_mode: PayoutMode


class Quote(Frozen):
    """The frozen answer to "what does this booking cost, when, and who earns what". Later price changes don't touch it.

    `net_minor + vat_minor == gross_minor`, and the levels together never exceed the net amount: refused otherwise.
    Where a cancellation keeps a share (`retained` in `price`) each level is rounded alone: a unit each is allowed.
    """

    chain_uid: Id
    """The first uid of the chain of reschedulings."""
    booking_uid: Id
    """The uid that was quoted; equal to `chain_uid` unless rescheduled."""
    customer_id: Id
    reseller_id: Id | None
    currency: Currency
    net_minor: AmountMinor
    vat_minor: AmountMinor
    gross_minor: AmountMinor
    vat_rate_bps: RateBps
    vat_reason: str
    """`standard`, `reduced`, `zero`, `reverse_charge` or `outside_scope` (see `domain.tax`)."""
    price_ref: str
    """Where the price stands: `<price book>/v<version>#event-<event type or default>`."""
    price: JsonDict
    """The price as it stood, with what the amount was computed from."""
    charge_at: UtcDatetime
    matures_at: UtcDatetime
    """End of the appointment plus the price's hold days: the commission's refund window is over."""
    terms: CancellationTerms
    levels: tuple[Level, ...]
    period: Period
    """Month of the appointment's start."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.net_minor + self.vat_minor != self.gross_minor:
            raise ValueError("net and VAT must add up to the gross amount")
        rounding_minor = len(self.levels) if "retained" in self.price else 0
        if sum(level.amount_minor for level in self.levels) > self.net_minor + rounding_minor:
            raise ValueError("commissions of all levels exceed the net amount")
        if [level.level for level in self.levels] != list(range(len(self.levels))):
            raise ValueError("levels must be numbered 0, 1, 2 … from the customer's own reseller upwards")
        return self
