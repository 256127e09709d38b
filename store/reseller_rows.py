"""What the database knows of resellers beyond what bookings need: master data, accounts, onboardings, payouts."""

from __future__ import annotations

from datetime import date, datetime

from domain.catalog_model import Address, CatalogReseller
from domain.model import Frozen, PayoutMode, UtcDatetime
from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus
from domain.ports import PayoutStatus


class ResellerRow(Frozen):
    """Everything of one reseller. PERSONAL DATA: never put it into a workflow or a log."""

    id: str
    parent_id: str | None
    name: str
    email: str
    payout_mode: PayoutMode
    stripe_account_id: str | None
    address: Address | None
    small_business: bool
    tax_status_from: date | None
    tax_status_proof: str | None
    country: str
    vat_id: str | None
    minimum_payouts: dict[str, int]
    paused: bool
    transfers_active: bool
    """This and the four below: what Stripe said at `account_checked_at`."""
    payouts_enabled: bool
    disabled_reason: str | None
    account_currency: str | None
    account_checked_at: UtcDatetime | None
    created_at: UtcDatetime

    def master_data(self) -> CatalogReseller:
        """The reseller as a file could state him."""
        return CatalogReseller(**{name: getattr(self, name) for name in CatalogReseller.model_fields})


class AccountState(Frozen):
    """What Stripe said of a reseller's account, as last noted."""

    transfers_active: bool
    payouts_enabled: bool
    disabled_reason: str | None
    account_currency: str | None


class OnboardingRow(Frozen):
    reseller_id: str
    status: OnboardingStatus
    reason: OnboardingReason | None
    detail: str | None
    requirements: tuple[str, ...]
    reminders: int
    waits_until: UtcDatetime | None
    started_at: UtcDatetime
    updated_at: UtcDatetime
    finished_at: UtcDatetime | None


class Asked(Frozen):
    """The request for an account that is to be sent, or was sent before."""

    tries: int
    asked_at: UtcDatetime
    is_first: bool
    """False: its answer may have been lost, look the account up."""


class LinkRow(Frozen):
    """SECRET: who has `url` or `token` acts for the reseller."""

    id: int
    reseller_id: str
    sequence: int
    account_id: str
    cause: LinkCause
    token: str
    url: str | None
    created_at: UtcDatetime
    expires_at: UtcDatetime | None


class PayoutRow(Frozen):
    payout_id: str
    reseller_id: str
    account_id: str
    status: PayoutStatus
    amount_minor: int
    currency: str
    failure_code: str | None
    arrives_on: date
    created_at: UtcDatetime
    checked_at: datetime


class ResellerTrouble(Frozen):
    """One reseller who needs a person, and why."""

    reseller_id: str
    what: str
    """`onboarding`, `account` or `payout`."""
    detail: str
