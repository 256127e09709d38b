"""What a catalogue holds: the parties, who pays for which bookings, prices and agreements."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StringConstraints

from domain.commission import Agreement, Rule
from domain.model import Country, Currency, Customer, Frozen, Id, PayoutMode, Reseller, StrictBps, TaxProfile
from domain.pricing import EffectiveFrom, PriceBook

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]+\.[^@\s]+$", max_length=254)]
StripeAccountId = Annotated[str, StringConstraints(pattern=r"^acct_[A-Za-z0-9_]{1,100}$")]
CalId = Annotated[int, Field(gt=0, le=2**53, strict=True)]
"""A number that Cal.com gave: an event type, a team or a user."""


class Platform(Frozen):
    name: Name
    country: Country = "DE"
    currency: Currency = "EUR"


class CatalogReseller(Frozen):
    id: Id
    name: Name
    email: Email
    parent_id: Id | None = None
    payout_mode: PayoutMode = PayoutMode.MONTHLY
    stripe_account_id: StripeAccountId | None = None
    """None: unchanged, or created by onboarding."""
    small_business: StrictBool = False
    country: Country = "DE"
    vat_id: str | None = None
    paused: StrictBool = False

    def reseller(self) -> Reseller:
        """The record without what is personal."""
        return Reseller(**self.model_dump(exclude={"name", "email"}))


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
