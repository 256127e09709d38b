"""Words for the life of a chain: stages while it runs, outcomes when it has ended."""

from __future__ import annotations

from enum import StrEnum


class ChainStage(StrEnum):
    """Where a chain stands now. Written to the database and to the search attribute `BillingStage`."""

    INTAKE = "intake"
    """Reads the booking and quotes it."""
    AWAITING_CONFIRMATION = "awaiting_confirmation"
    """Cal.com says pending: the organizer has to confirm. Nothing is charged."""
    AWAITING_CHARGE = "awaiting_charge"
    """Quoted; waits for the charge moment of the price."""
    CHARGING = "charging"
    """Billed; the charge is under way, processing (SEPA) or between two dunning attempts."""
    HOLD = "hold"
    """Charged, commission accrued; waits until the refund window is over."""
    PAYOUT = "payout"
    """Commission matured; transfers of per-booking resellers are under way."""
    PARKED = "parked"
    """Waits for a person, with a reason and a deadline."""
    UNDOING = "undoing"
    """Compensations run."""
    CLOSED = "closed"
    """The workflow has ended; `ChainOutcome` says how."""


class ChainOutcome(StrEnum):
    """How a chain ended, from the platform's point of view."""

    PAID = "paid"
    """Charged; every commission was transferred (or there was none to pay)."""
    MATURED = "matured"
    """Charged; at least one commission waits for the monthly settlement."""
    CANCELLED = "cancelled"
    """Cancelled or rejected before any money moved: nothing is owed."""
    CANCELLED_WITH_FEE = "cancelled_with_fee"
    """Cancelled late or a no-show: a share was kept by the booking's terms, commission follows that share."""
    REFUNDED = "refunded"
    """Cancelled after the charge and refunded in full."""
    DECLINED = "declined"
    """The charge was refused finally; the invoice was corrected."""
    ROLLED_BACK = "rolled_back"
    """An operator ordered it; everything was undone."""
    UNBILLABLE = "unbillable"
    """An operator closed a parked chain before anything was billed."""
