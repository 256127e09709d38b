"""Input and result of the steps that look after resellers. No personal data, and no link: those stay in PostgreSQL."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from domain.model import Frozen, Id, UtcDatetime
from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus


class ResellerRef(Frozen):
    reseller_id: Id


class MasterDataResult(Frozen):
    """What keeps a reseller from being taken on."""

    missing: tuple[str, ...]
    """One sentence each, without personal data; empty: nothing."""
    paused: bool


class AccountResult(Frozen):
    """A reseller's account at Stripe as it was just read, or why there is none."""

    account_id: str | None = None
    transfers_active: bool = False
    payouts_enabled: bool = False
    disabled_reason: str | None = None
    requirements: tuple[str, ...] = ()
    """What Stripe asks of him, in its words for fields."""
    refused_code: str | None = None
    """Stripe refused to make one."""
    is_gone: bool = False
    """It does not exist any more, or does not let the platform in."""

    @property
    def is_ready(self) -> bool:
        """Whether money that is transferred to it reaches his bank."""
        return self.transfers_active and self.payouts_enabled


class LinkInput(Frozen):
    reseller_id: Id
    cause: LinkCause
    base_url: str
    """Where resellers' browsers reach the webhook app."""


class LinkResult(Frozen):
    """A link, by its number: its address is a secret and stays in PostgreSQL."""

    link_id: int = 0
    sequence: int = 0
    expires_at: UtcDatetime | None = None
    refused_code: str | None = None


class OnboardingNote(Frozen):
    """Where an onboarding stands, and with `action` a line of the audit log."""

    reseller_id: Id
    status: OnboardingStatus
    reason: OnboardingReason | None = None
    detail: str = ""
    requirements: tuple[str, ...] = ()
    reminders: Annotated[int, Field(ge=0)] = 0
    waits_until: UtcDatetime | None = None
    actor: str = "workflow"
    action: str | None = None
    why: str = ""
    told: str = ""
    """What that line says besides; empty: `detail`."""


class AccountNews(Frozen):
    """What followed from an account that changed."""

    settlements: tuple[str, ...] = ()
    """Ids of workflows that wait with a statement of his, where he can be paid now."""
    chains: tuple[str, ...] = ()
    """Ids of bookings' workflows that wait to transfer him something, likewise."""


class PayoutRef(Frozen):
    reseller_id: Id
    account_id: Id
    payout_id: Id
