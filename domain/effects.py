"""The statuses that are stored: what is known of an effect at Stripe, a document, a settlement, an event."""

from __future__ import annotations

from enum import StrEnum


class ChargeStatus(StrEnum):
    """`started → processing → succeeded | refused | canceled`; a refused one may still succeed (SCA: same intent)."""

    STARTED = "started"
    """The intent is recorded; whether Stripe did it is not known yet."""
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    CANCELED = "canceled"


class RefundState(StrEnum):
    """`started → pending → succeeded | failed | canceled | refused`; a succeeded one may still turn `failed`.

    A refused one is `started` again when it is begun again.
    """

    STARTED = "started"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Stripe could not deliver it: the money is back on the platform's balance."""
    CANCELED = "canceled"
    REFUSED = "refused"


class EffectStatus(StrEnum):
    """Of a transfer or a transfer reversal. A refused one is `started` again when it is begun again."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"


class TransferKind(StrEnum):
    BOOKING = "booking"
    SETTLEMENT = "settlement"


class InvoiceKind(StrEnum):
    INVOICE = "invoice"
    CORRECTION = "correction"


class SettlementStatus(StrEnum):
    OPEN = "open"
    """Claimed, not paid yet."""
    WAITING = "waiting"
    """For the platform's balance at Stripe; tried again on a schedule."""
    PAID = "paid"
    CARRIED_OVER = "carried_over"
    """Nothing is transferred for it; what it leaves over goes into the account's next statement."""
    PARKED = "parked"
    """Waits for a person, with a reason."""


class AdjustmentDirection(StrEnum):
    """Seen from the reseller."""

    CREDIT = "credit"
    """He is owed more."""
    DEBIT = "debit"


class AdjustmentStatus(StrEnum):
    """`requested → approved | rejected`, decided by another person than the one who asked."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"


class CarryReason(StrEnum):
    """Why nothing is transferred for a statement."""

    BELOW_MINIMUM = "below_minimum"
    ON_HOLD = "on_hold"
    NEGATIVE = "negative"
    """The reseller owes more than he earned."""
    NOTHING_DUE = "nothing_due"
    """Both sides are equal: a month of bookings that were transferred one by one, for example."""


class LineKind(StrEnum):
    EARNED = "earned"
    """What a commission earned, less what was reversed before it was claimed."""
    CLAWBACK = "clawback"
    """What was reversed of it after that."""


class AdjustmentKind(StrEnum):
    CORRECTION = "correction"
    WRITE_OFF = "write_off"
    """An open balance that will never be settled: a reseller who left."""


class InboxStatus(StrEnum):
    RECEIVED = "received"
    """To be delivered, now or at `next_attempt_at`."""
    DELIVERED = "delivered"
    IGNORED = "ignored"
    """Genuine, and of a type that nothing here reacts to."""
    NOT_UNDERSTOOD = "not_understood"
    """Genuine, but its content could not be read."""
    HELD = "held"
    """Retried in vain; waits for a person."""
