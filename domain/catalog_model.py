"""What a catalogue holds: the parties, who pays for which bookings, prices and agreements."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, StrictBool, StringConstraints

from domain.commission import Agreement, Rule
from domain.model import Country, Currency, Customer, Frozen, Id, PayoutMode, Reseller, StrictBps, TaxProfile
from domain.money import AmountMinor
from domain.pricing import EffectiveFrom, PriceBook

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]+\.[^@\s]+$", max_length=254)]
StripeAccountId = Annotated[str, StringConstraints(pattern=r"^acct_[A-Za-z0-9_]{1,100}$")]
CalId = Annotated[int, Field(gt=0, le=2**53, strict=True)]
"""A number that Cal.com gave: an event type, a team or a user."""


_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}\Z")


def _to_day(value: Any) -> Any:
    """Only a day in words: pydantic alone would also take a number for seconds since 1970."""
    if isinstance(value, str) and _DAY.match(value):
        with suppress(ValueError):  # the 13th month
            return date.fromisoformat(value)
    if isinstance(value, date):
        return value
    raise ValueError("this is no day: write it as YYYY-MM-DD")


Day = Annotated[date, BeforeValidator(_to_day)]
"""A calendar day, written `YYYY-MM-DD`."""

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
"""One line of text."""


class Address(Frozen):
    """PERSONAL DATA. A postal address; its country is the party's."""

    line1: Line
    line2: Line | None = None
    postal_code: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20)]
    city: Line


class Platform(Frozen):
    name: Name
    country: Country = "DE"
    currency: Currency = "EUR"


class CatalogReseller(Frozen):
    """A reseller as the file states him. What is None where None is allowed keeps the value that is stored already."""

    id: Id
    name: Name
    email: Email
    parent_id: Id | None = None
    """None: directly below the platform, also where another one is stored."""
    payout_mode: PayoutMode = PayoutMode.MONTHLY
    stripe_account_id: StripeAccountId | None = None
    """None: created by onboarding."""
    address: Address | None = None
    small_business: StrictBool = False
    tax_status_from: Day | None = None
    """First day on which `small_business` was shown to hold."""
    tax_status_proof: Line | None = None
    """Where the proof of it is kept: a document's number, not its content."""
    country: Country = "DE"
    vat_id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20)] | None = None
    """None: he has none, also where one is stored."""
    minimum_payouts: dict[Currency, Annotated[AmountMinor, Strict()]] | None = None
    """Smallest payout by currency, in minor units; `{}`: any amount is paid."""
    paused: StrictBool | None = None
    """None: as `billing reseller pause` and `resume` left it."""

    def reseller(self) -> Reseller:
        """The record without what is personal, as if nothing of him were stored yet."""
        known = {name: getattr(self, name) for name in Reseller.model_fields}
        return Reseller(
            **{**known, "minimum_payouts": self.minimum_payouts or {}, "paused": bool(self.paused)},
        )


class CatalogCustomer(Frozen):
    id: Id
    name: Name
    email: Email
    reseller_id: Id | None = None
    """None: the platform's own customer."""
    payment_method: Annotated[str, StringConstraints(pattern=r"^pm_[A-Za-z0-9_]{1,120}$")] | None = None
    """A payment method at Stripe that set-up attaches to him; None: he gives one himself."""
    tax: TaxProfile = TaxProfile()
    currency: Currency = "EUR"

    def customer(self) -> Customer:
        """The record without what is personal, not set up at Stripe yet."""
        return Customer(
            id=self.id,
            reseller_id=self.reseller_id,
            stripe_customer_id=None,
            payment_method_id=None,
            tax=self.tax,
            currency=self.currency,
        )


class Mappings(Frozen):
    """Which customer pays for a booking, by Cal.com number. Event type wins over team over organizer."""

    event_types: dict[CalId, Id] = Field(default_factory=dict)
    teams: dict[CalId, Id] = Field(default_factory=dict)
    organizers: dict[CalId, Id] = Field(default_factory=dict)


class DefaultAgreement(Frozen):
    """The terms of every reseller who has no agreement of his own in the file."""

    version: Annotated[int, Field(ge=1, strict=True)]
    effective_from: EffectiveFrom
    currency: Currency
    own: Rule
    override: Rule | None = None
    ceiling_bps: StrictBps

    def agreement_of(self, reseller_id: str) -> Agreement:
        return Agreement.model_validate({**self.model_dump(), "reseller_id": reseller_id})


class Catalog(Frozen):
    version: Literal[1]
    """Version of the file's format."""
    platform: Platform
    resellers: tuple[CatalogReseller, ...]
    """Parents before their children."""
    customers: tuple[CatalogCustomer, ...]
    mappings: Mappings
    price_books: tuple[PriceBook, ...]
    agreements: tuple[Agreement, ...]
    """All, also those that a reseller has by default: each with his id."""
