"""Whose is a payment at Stripe, and does its event tell us anything that our own records do not?

Most events only echo what a chain just did itself. Those wake nobody: a signal costs a workflow task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.ids import is_safe
from gateways.stripe_webhooks import BadWebhook, NotUnderstood, VerifiedEvent, parse_stripe
from store.database import Store, Tx
from store.rows import ChargeRow, ChargeStatus, InboxRow, RefundState

_SAID_ALREADY: Final[Mapping[str, frozenset[ChargeStatus]]] = {
    "payment_intent.processing": frozenset({ChargeStatus.PROCESSING, ChargeStatus.SUCCEEDED}),
    "payment_intent.succeeded": frozenset({ChargeStatus.SUCCEEDED}),
    "payment_intent.payment_failed": frozenset({ChargeStatus.REFUSED, ChargeStatus.CANCELED, ChargeStatus.SUCCEEDED}),
    "payment_intent.canceled": frozenset({ChargeStatus.CANCELED}),
}
"""Event type → statuses of our charge with which it is old news."""

_NO_MONEY: Final = frozenset({"payment_intent.payment_failed", "payment_intent.canceled"})
"""Say that no money came: of no interest to a chain that has ended, unless it counts on that money."""

_REFUND_FINE: Final = frozenset({"pending", "requires_action", "succeeded"})
"""Statuses of a refund of ours that need nobody."""

_GIVEN_BACK: Final = frozenset({RefundState.STARTED, RefundState.PENDING, RefundState.SUCCEEDED})


@dataclass(frozen=True, slots=True)
class Found:
    """What our records say to an event. `chain_uid` None: it is no payment that a chain of ours made."""

    chain_uid: str | None
    already_known: bool = False
    """Our records say the same already: nobody needs to hear of it."""
    matters_after_close: bool = True
    """Whether a person has to see it when the chain has ended."""


class PaymentNews:
    """Looks events up in the charges and refunds that chains have recorded."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def look_up(self, row: InboxRow) -> Found:
        """Raises nothing of its own: a body that is not understood belongs to no chain."""
        try:
            event = parse_stripe(row.raw or b"")
        except (BadWebhook, NotUnderstood):
            return Found(None)
        thing = _object(row.raw or b"")
        async with self._store.begin() as tx:
            chain_uid = await _chain_uid(tx, event)
            if chain_uid is None:
                return Found(None)
            charge = await _charge(tx, chain_uid, event)
            if event.object_type == "refund":
                known = await _is_our_refund(tx, chain_uid, event, thing)
                return Found(chain_uid, known)
            if event.type == "charge.refunded":
                return Found(chain_uid, charge is not None and await _gave_all_of_it_back(tx, charge, thing))
        if charge is None:
            return Found(chain_uid)
        known = charge.status in _SAID_ALREADY.get(event.type, frozenset())
        counted_on = charge.status in (ChargeStatus.SUCCEEDED, ChargeStatus.PROCESSING)
        return Found(chain_uid, known, event.type not in _NO_MONEY or counted_on)


def _object(raw: bytes) -> Mapping[str, Any]:
    """The event's object, as far as this file reads it: statuses and amounts."""
    thing = json.loads(raw)["data"]["object"]
    return thing if isinstance(thing, Mapping) else {}


async def _chain_uid(tx: Tx, event: VerifiedEvent) -> str | None:
    """The chain by Stripe's ids, else by metadata: refunds and disputes made by hand carry none of ours."""
    for name in ("payment_intent", "charge", "refund"):
        stripe_id = event.related.get(name)
        chain_uid = None if stripe_id is None else await tx.money.chain_of_object(stripe_id)
        if chain_uid is not None:
            return chain_uid
    named = event.related.get("chain_uid")
    return named if named is not None and is_safe(named) else None


async def _charge(tx: Tx, chain_uid: str, event: VerifiedEvent) -> ChargeRow | None:
    """The chain's charge that the event is about. A charge under way is known by its key only."""
    related = event.related
    for charge in await tx.money.chain_charges(chain_uid):
        by_payment = charge.payment_intent_id is not None and charge.payment_intent_id == related.get("payment_intent")
        by_charge = charge.charge_id is not None and charge.charge_id == related.get("charge")
        if by_payment or by_charge or charge.key == related.get("billing_key"):
            return charge
    return None


async def _is_our_refund(tx: Tx, chain_uid: str, event: VerifiedEvent, thing: Mapping[str, Any]) -> bool:
    """Whether a chain made this refund and it goes its way. One that failed is news, whoever made it."""
    if event.type == "refund.failed" or thing.get("status") not in _REFUND_FINE:
        return False
    key = event.related.get("billing_key")
    refunds = await tx.money.chain_refunds(chain_uid)
    return any(refund.key == key or refund.refund_id == event.object_id for refund in refunds)


async def _gave_all_of_it_back(tx: Tx, charge: ChargeRow, thing: Mapping[str, Any]) -> bool:
    """Whether the part of a charge that went back to the customer is what our refunds say."""
    refunds = await tx.money.chain_refunds(charge.chain_uid)
    ours_minor = sum(
        refund.amount_minor for refund in refunds if refund.charge_key == charge.key and refund.status in _GIVEN_BACK
    )
    return thing.get("amount_refunded") == ours_minor
