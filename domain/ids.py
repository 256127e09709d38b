"""Every workflow id, schedule id, task queue and idempotency key of the system.

Keys are made from the business, never from run ids, retries or chance: the same business event always has the same key,
whoever asks, however often. A key of Stripe is at most 255 characters long.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

TASK_QUEUE_CHAIN: Final = "billing"
"""Workflows, and the steps that touch Cal.com or only our database."""

TASK_QUEUE_STRIPE: Final = "billing-stripe"
"""Steps that call Stripe. Its rate is capped by the Temporal server for all workers together."""

SCHEDULE_SETTLEMENT: Final = "settlement-monthly"
SCHEDULE_SWEEP: Final = "sweep"

_SAFE = re.compile(r"^[A-Za-z0-9_.:-]{1,120}\Z")


def _checked(part: str) -> str:
    """The part, if it can stand in an id; a ValueError names what is wrong. Ids reach URLs, logs and the Web UI."""
    if not _SAFE.match(part):
        raise ValueError("an id may hold 1-120 of A-Z a-z 0-9 _ . : - only")
    return part


def is_safe(part: str) -> bool:
    """Whether a value from outside (a Cal.com uid, an operator's argument) can be part of an id."""
    return bool(_SAFE.match(part))


def booking_workflow(chain_uid: str) -> str:
    """Workflow id of a chain. `chain_uid` is the first uid of the booking, before any rescheduling."""
    return f"booking-{_checked(chain_uid)}"


def settlement_workflow(period: str, sequence: int = 1) -> str:
    """Workflow id of one month's closing; `period` is `YYYY-MM` in Europe/Berlin. Supplements count from 2."""
    return f"settlement-{_checked(period)}{_supplement('-', sequence)}"


def reseller_settlement_workflow(period: str, reseller_id: str, currency: str, sequence: int = 1) -> str:
    """Workflow id of paying one reseller's statement of a month in one currency."""
    name = f"settlement-{_checked(period)}-{_checked(reseller_id)}-{_checked(currency)}"
    return f"{name}{_supplement('-', sequence)}"


def adjustment_workflow(adjustment_id: str) -> str:
    """Workflow id of one adjustment of a reseller's account that waits for a second person."""
    return f"adjustment-{_checked(adjustment_id)}"


def _supplement(separator: str, sequence: int) -> str:
    """The month's closing itself (1) has no number; a supplement has its own."""
    return "" if sequence == 1 else f"{separator}{sequence}"


def onboarding_workflow(reseller_id: str) -> str:
    """Workflow id of taking a reseller on."""
    return f"onboarding-{_checked(reseller_id)}"


def reseller_news_workflow(reseller_id: str) -> str:
    """Workflow id of looking after what Stripe told of a reseller's account."""
    return f"reseller-news-{_checked(reseller_id)}"


def undo_workflow(chain_uid: str) -> str:
    """Workflow id of rolling back a chain that has ended."""
    return f"undo-{_checked(chain_uid)}"


def charge_key(chain_uid: str, attempt: int) -> str:
    """Idempotency key of one dunning attempt. A new attempt is a new key, a retry never is."""
    return f"charge:{_checked(chain_uid)}:{attempt}"


def cancel_key(charge_key: str, payment_status: str) -> str:
    """Key of cancelling an unpaid payment. Stripe repeats a refusal under its key, so each status has its own."""
    return f"cancel:{charge_key}:{payment_status}"


def refund_key(chain_uid: str, sequence: int) -> str:
    """Key of the n-th refund of a chain, counted from 1."""
    return f"refund:{_checked(chain_uid)}:{sequence}"


def transfer_key(chain_uid: str, reseller_id: str) -> str:
    """Key of the one transfer that a chain makes to one reseller."""
    return f"transfer:{_checked(chain_uid)}:{_checked(reseller_id)}"


def settlement_transfer_key(period: str, reseller_id: str, currency: str, sequence: int = 1) -> str:
    """Key of the one transfer that pays a statement."""
    name = f"settlement:{_checked(period)}:{_checked(reseller_id)}:{_checked(currency)}"
    return f"{name}{_supplement(':', sequence)}"


def statement_id(period: str, reseller_id: str, currency: str, sequence: int = 1) -> str:
    """Id of a statement as people and documents name it: `S-2026-03-r-1-EUR-1`."""
    return f"S-{_checked(period)}-{_checked(reseller_id)}-{_checked(currency)}-{sequence}"


def reversal_key(transfer_key: str, sequence: int) -> str:
    """Key of the n-th reversal of a transfer: one key per business event, or a second partial one would clash."""
    return f"reversal:{transfer_key}:{sequence}"


def next_try(key: str, tries: int) -> str:
    """Key of the n-th try of an effect that was refused before: under the first key Stripe would only repeat its no.

    A refusal means that nothing happened, so that nothing can happen twice. Unknown outcomes keep their key.
    """
    return key if tries == 1 else f"{key}~{tries}"


def of_try(stripe_key: str) -> str:
    """The key of our row whose n-th try has this key at Stripe."""
    return stripe_key.partition("~")[0]


def customer_key(customer_id: str) -> str:
    """Key of a customer's creation at Stripe: one customer of ours is one there."""
    return f"customer:{_checked(customer_id)}"


def payment_method_key(customer_id: str, stripe_customer_id: str, source: str) -> str:
    """Key of attaching one payment method; a hash, because a source may be as long as a key."""
    digest = hashlib.sha256(f"{stripe_customer_id}:{source}".encode()).hexdigest()[:24]
    return f"method:{_checked(customer_id)}:{digest}"


def account_key(reseller_id: str) -> str:
    """Key of creating a reseller's connected account."""
    return f"account:{_checked(reseller_id)}"


def link_key(reseller_id: str, sequence: int) -> str:
    """Key of a reseller's n-th account link: each is another one."""
    return f"link:{_checked(reseller_id)}:{sequence}"


def entry_key(kind: str, *parts: str | int) -> str:
    """Business key of a ledger entry, such as `billed:{uid}`; reversals use `reversal:{key}:{n}`."""
    return ":".join([kind, *(str(part) for part in parts)])
