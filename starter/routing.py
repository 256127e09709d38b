"""Which event leads to which action, as data. A new event is one row here, one fixture and one row of the test.

Events are only hints that something happened: the action re-reads the object, so late, doubled and reordered events
are all the same to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

SOURCE_CALCOM: Final = "calcom"
SOURCE_STRIPE: Final = "stripe"
SOURCE_SWEEP: Final = "sweep"
"""Not a sender of webhooks: rows that the sweep writes for bookings whose webhook may have been lost."""


class Action(StrEnum):
    """What an event asks the dispatcher to do (see `starter.dispatch`, one method each)."""

    START_OR_CONFIRM = "start_or_confirm"
    """The booking exists: start its chain; a chain that runs and may wait for the booking gets `confirmed`."""
    START_IF_UNKNOWN = "start_if_unknown"
    """Proves that the booking exists, and nothing more: start its chain where the earlier event was lost."""
    START_OR_CHANGED = "start_or_changed"
    """Found by the sweep: start its chain, or let the running one read the booking again."""
    CANCEL = "cancel"
    REJECT = "reject"
    RESCHEDULE = "reschedule"
    NO_SHOW = "no_show"
    PAYMENT = "payment"
    """A payment, refund or dispute changed at Stripe: the chain it belongs to looks at it again."""
    ACCOUNT = "account"
    """A connected account or one of its capabilities changed: it is read again."""
    PAYOUT = "payout"
    """A payout of a connected account to its bank changed: it is read again."""
    TRANSFER = "transfer"
    """Something was taken back of a transfer to a reseller: what no order of ours did is recorded."""
    IGNORE = "ignore"
    """Genuine, stored and counted; nothing follows from it."""


_ROUTES: dict[tuple[str, str], Action] = {
    (SOURCE_CALCOM, "BOOKING_CREATED"): Action.START_OR_CONFIRM,
    (SOURCE_CALCOM, "BOOKING_REQUESTED"): Action.START_IF_UNKNOWN,
    (SOURCE_CALCOM, "BOOKING_REJECTED"): Action.REJECT,
    (SOURCE_CALCOM, "BOOKING_CANCELLED"): Action.CANCEL,
    (SOURCE_CALCOM, "BOOKING_RESCHEDULED"): Action.RESCHEDULE,
    (SOURCE_CALCOM, "BOOKING_NO_SHOW_UPDATED"): Action.NO_SHOW,
    (SOURCE_CALCOM, "MEETING_STARTED"): Action.START_IF_UNKNOWN,
    (SOURCE_CALCOM, "MEETING_ENDED"): Action.START_IF_UNKNOWN,
    # Cal.com's own payment of a booking; this pipeline charges through Stripe itself.
    (SOURCE_CALCOM, "BOOKING_PAID"): Action.IGNORE,
    (SOURCE_CALCOM, "BOOKING_PAYMENT_INITIATED"): Action.IGNORE,
    (SOURCE_CALCOM, "PING"): Action.IGNORE,
    # Created and requires_action are steps of a charge that the chain is making itself at that moment.
    (SOURCE_STRIPE, "payment_intent.created"): Action.IGNORE,
    (SOURCE_STRIPE, "payment_intent.requires_action"): Action.IGNORE,
    (SOURCE_STRIPE, "payment_intent.processing"): Action.PAYMENT,
    (SOURCE_STRIPE, "payment_intent.succeeded"): Action.PAYMENT,
    (SOURCE_STRIPE, "payment_intent.payment_failed"): Action.PAYMENT,
    (SOURCE_STRIPE, "payment_intent.canceled"): Action.PAYMENT,
    # The PaymentIntent's own events say the same.
    (SOURCE_STRIPE, "charge.pending"): Action.IGNORE,
    (SOURCE_STRIPE, "charge.succeeded"): Action.IGNORE,
    (SOURCE_STRIPE, "charge.failed"): Action.IGNORE,
    (SOURCE_STRIPE, "charge.updated"): Action.IGNORE,
    (SOURCE_STRIPE, "charge.refunded"): Action.PAYMENT,
    (SOURCE_STRIPE, "charge.refund.updated"): Action.PAYMENT,
    (SOURCE_STRIPE, "refund.created"): Action.PAYMENT,
    (SOURCE_STRIPE, "refund.updated"): Action.PAYMENT,
    (SOURCE_STRIPE, "refund.failed"): Action.PAYMENT,
    (SOURCE_STRIPE, "charge.dispute.created"): Action.PAYMENT,
    (SOURCE_STRIPE, "charge.dispute.updated"): Action.PAYMENT,
    (SOURCE_STRIPE, "charge.dispute.closed"): Action.PAYMENT,
    (SOURCE_STRIPE, "charge.dispute.funds_withdrawn"): Action.PAYMENT,
    (SOURCE_STRIPE, "charge.dispute.funds_reinstated"): Action.PAYMENT,
    (SOURCE_STRIPE, "account.updated"): Action.ACCOUNT,
    (SOURCE_STRIPE, "account.application.deauthorized"): Action.ACCOUNT,
    (SOURCE_STRIPE, "capability.updated"): Action.ACCOUNT,
    (SOURCE_STRIPE, "account.external_account.created"): Action.IGNORE,
    (SOURCE_STRIPE, "account.external_account.updated"): Action.IGNORE,
    (SOURCE_STRIPE, "account.external_account.deleted"): Action.IGNORE,
    (SOURCE_STRIPE, "payout.created"): Action.PAYOUT,
    (SOURCE_STRIPE, "payout.updated"): Action.PAYOUT,
    (SOURCE_STRIPE, "payout.paid"): Action.PAYOUT,
    (SOURCE_STRIPE, "payout.failed"): Action.PAYOUT,
    (SOURCE_STRIPE, "payout.canceled"): Action.PAYOUT,
    (SOURCE_STRIPE, "payout.reconciliation_completed"): Action.IGNORE,
    (SOURCE_STRIPE, "transfer.created"): Action.IGNORE,
    (SOURCE_STRIPE, "transfer.updated"): Action.IGNORE,
    (SOURCE_STRIPE, "transfer.reversed"): Action.TRANSFER,
    (SOURCE_SWEEP, "booking_seen"): Action.START_OR_CHANGED,
}

OF_CONNECTED_ACCOUNTS: Final = frozenset({Action.ACCOUNT, Action.PAYOUT})
"""Actions that events of connected accounts, and only those, lead to. All their others are the reseller's own business,
and the platform's own account and payouts are nothing that this pipeline looks after."""

ROUTES: Final[Mapping[tuple[str, str], Action]] = MappingProxyType(_ROUTES)
"""(source, event type) → action. What does not stand here is `Action.IGNORE`, see `action_for`."""


def action_for(source: str, event_type: str) -> Action:
    """The action of an event; types that nobody here knows are stored, counted and ignored."""
    return ROUTES.get((source, event_type), Action.IGNORE)


def is_known(source: str, event_type: str) -> bool:
    """Whether the type stands in the table. Bounds the labels of the metrics: senders choose the other names."""
    return (source, event_type) in ROUTES
