"""I1: Stripe's charges, refunds, transfers and reversals and the ledger's entries, one to one, both ways."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.model import Frozen, UtcDatetime
from domain.ports import PaymentGateway
from store.audit_finding import Finding, Moment, findings_of

BANK_MOVEMENTS = frozenset(
    (
        "payout",
        "payout_cancel",
        "payout_failure",
        "payout_minimum_balance_hold",
        "payout_minimum_balance_release",
        "topup",
        "topup_reversal",
    )
)
"""Between the Stripe balance and the platform's own bank account: not part of any booking, and not in this ledger."""

LOOK_BACK = timedelta(days=1)
"""Stripe's clock and the database's may differ; nothing of a chain happened before it was opened."""

_EFFECTS = """
    SELECT 'charged:' || chain_uid || ':' || attempt AS key, charge_id AS source_id, 'charge ' || key AS place,
        amount_minor AS in_minor, CAST(0 AS bigint) AS out_minor, finished_at AS at, fee_minor
    FROM charges WHERE status = 'succeeded'
    UNION ALL
    SELECT 'fee:' || chain_uid || ':' || attempt, NULL, 'fee of charge ' || key, 0, fee_minor, finished_at, 0
    FROM charges WHERE status = 'succeeded' AND fee_minor > 0
    UNION ALL
    SELECT 'refunded:' || chain_uid || ':' || sequence, refund_id, 'refund ' || key,
        CASE WHEN status IN ('failed', 'canceled') THEN amount_minor ELSE 0 END, amount_minor, finished_at, 0
    FROM refunds
    WHERE status IN ('pending', 'succeeded') OR (status IN ('failed', 'canceled') AND refund_id IS NOT NULL)
    UNION ALL
    SELECT 'transferred:' || key, transfer_id, 'transfer ' || key, 0, amount_minor, finished_at, 0
    FROM transfers WHERE status = 'succeeded'
    UNION ALL
    SELECT 'transfer_reversed:' || transfer_key || ':' || sequence, reversal_id, 'reversal ' || key, amount_minor, 0,
        finished_at, 0
    FROM transfer_reversals WHERE status = 'succeeded'
"""
"""Our records of what moved the Stripe balance: the key of the entry that must stand for it, and Stripe's id."""

_LEDGER_AND_EFFECTS = text(
    f"""
WITH effects AS ({_EFFECTS}), booked AS (
    SELECT CASE WHEN e.kind = 'reversal' THEN e.reverses_key ELSE e.key END AS key,
        sum(CASE WHEN p.debit_account = 'stripe' THEN p.amount_minor ELSE -p.amount_minor END) AS net_minor,
        max(e.posted_at) AS at
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id
    WHERE p.debit_account = 'stripe' OR p.credit_account = 'stripe'
    GROUP BY 1
)
SELECT coalesce(effects.place, 'entry ' || booked.key) AS place,
    CASE WHEN effects.key IS NULL THEN 'a charge, refund, transfer or reversal for entry ' || booked.key
         ELSE 'entry ' || effects.key || ' over ' || (in_minor - out_minor) END AS expected,
    CASE WHEN booked.key IS NULL THEN 'no entry' ELSE 'an entry over ' || booked.net_minor END AS found
FROM effects FULL JOIN booked ON booked.key = effects.key
WHERE coalesce(effects.in_minor - effects.out_minor, 0) <> coalesce(booked.net_minor, 0)
  AND coalesce(greatest(effects.at, booked.at), :settled_before) <= :settled_before
ORDER BY 1
"""  # noqa: S608 - a constant
)

_BY_SOURCE = text(
    f"""
SELECT source_id, min(place) AS place, CAST(sum(in_minor) AS bigint) AS in_minor,
    CAST(sum(out_minor) AS bigint) AS out_minor, CAST(sum(fee_minor) AS bigint) AS fee_minor, max(at) AS at
FROM ({_EFFECTS}) AS effects WHERE source_id IS NOT NULL GROUP BY source_id
"""  # noqa: S608 - a constant
)

_TO_DO = "Compare both in the Stripe dashboard; post what is missing, or reverse what is wrong, as an operator's entry"


FEE_DELAY = timedelta(days=1)
"""Stripe may tell the fee of a charge later than the charge: so long it may be missing here."""


class Effect(Frozen):
    """All movements of the Stripe balance that have one source (a charge, refund, transfer or reversal)."""

    source_id: str
    place: str
    in_minor: int
    out_minor: int
    fee_minor: int | None
    """None: not known to us yet."""
    at: UtcDatetime
    """When the last of them happened."""


async def effects_at_stripe(payments: PaymentGateway, since: datetime, until: datetime) -> dict[str, Effect]:
    """What Stripe says moved its balance since a moment, by source, without payouts to the platform's own bank."""
    found: dict[str, Effect] = {}
    pages = payments.list_balance_transactions(created_after=since - LOOK_BACK, created_before=until + LOOK_BACK)
    async for one in pages:
        if one.type in BANK_MOVEMENTS:
            continue
        source_id = one.source_id or one.balance_transaction_id
        known = found.get(source_id)
        found[source_id] = Effect(
            source_id=source_id,
            place=f"{one.type} {source_id} at Stripe",
            in_minor=(known.in_minor if known else 0) + (one.amount_minor if one.is_credit else 0),
            out_minor=(known.out_minor if known else 0) + (0 if one.is_credit else one.amount_minor),
            fee_minor=((known.fee_minor or 0) if known else 0) + one.fee_minor,
            at=max(known.at, one.created_at) if known else one.created_at,
        )
    return found


async def i1_ledger_and_effects(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """Every charge, fee, refund, transfer and reversal that we know has its entry over the same amount, and back."""
    return await findings_of(
        connection,
        _LEDGER_AND_EFFECTS,
        moment,
        invariant="I1",
        what="the ledger's account stripe and the recorded effects differ",
        what_to_do=_TO_DO,
    )


async def i1_stripe_and_effects(
    connection: AsyncConnection, moment: Moment, at_stripe: dict[str, Effect]
) -> list[Finding]:
    """Every movement of the Stripe balance is an effect that we know, over the same amount and fee, and back."""
    result = await connection.execute(_BY_SOURCE)
    ours = {row.source_id: Effect(**row._mapping) for row in result}
    findings = []
    for source_id in sorted(ours.keys() | at_stripe.keys()):
        here, there = ours.get(source_id), at_stripe.get(source_id)
        newest = max(effect.at for effect in (here, there) if effect is not None)
        if newest > moment.settled_before or _agree(here, there, moment):
            continue
        known = here or there
        assert known is not None
        findings.append(
            Finding(
                invariant="I1",
                where=known.place,
                what="Stripe and our records differ",
                expected=f"at Stripe: {_words(there)}",
                found=f"in our records: {_words(here)}",
                what_to_do=_TO_DO,
            )
        )
    return findings


def _agree(here: Effect | None, there: Effect | None, moment: Moment) -> bool:
    if here is None or there is None or (here.in_minor, here.out_minor) != (there.in_minor, there.out_minor):
        return False
    if here.fee_minor is None and moment.now - here.at < FEE_DELAY:
        return True
    return here.fee_minor == there.fee_minor


def _words(effect: Effect | None) -> str:
    if effect is None:
        return "nothing"
    return f"{effect.in_minor} in, {effect.out_minor} out, fee {effect.fee_minor} ({effect.source_id})"
