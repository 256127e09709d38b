"""Short ways to close months in tests, and the check that the books explain every cent of the resellers' accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text

from domain import ids, ledger
from domain.effects import AdjustmentDirection, AdjustmentKind
from domain.model import ParkReason, PayoutMode
from domain.pricing import period_bounds
from store import Store
from store.rows import EffectStatus, SettlementRow, SettlementStatus, TransferRow
from tests.store import seed

MARCH = period_bounds("2026-03")[1]
APRIL = period_bounds("2026-04")[1]


async def matured(store: Store, *uids: str, mode: PayoutMode = PayoutMode.MONTHLY, **changed: object) -> None:
    """Chains of 25.00, 5.00 and 2.00 EUR of commission whose refund window is over."""
    for uid in uids:
        await seed.charged_chain(store, uid, mode=mode, **changed)
        async with store.begin() as tx:
            await tx.money.mature(uid)


async def claim(
    store: Store,
    period: str = "2026-03",
    sequence: int = 1,
    *,
    by: str = "ops-anna",
    boundary: datetime | None = None,
    approval: Mapping[str, int] | None = None,
) -> dict[str, SettlementRow]:
    """Close a month; its statements by reseller (of one currency)."""
    async with store.begin() as tx:
        await tx.settlements.claim(
            period,
            sequence,
            boundary or period_bounds(period)[1],
            requested_by=by,
            approval_from_minor=approval,
        )
        return {row.reseller_id: row for row in await tx.settlements.of(period, sequence)}


async def begin(store: Store, row: SettlementRow) -> TransferRow:
    async with store.begin() as tx:
        return await tx.settlements.begin(
            row.id,
            key=f"settlement:{row.period}:{row.reseller_id}:{row.currency}:{row.sequence}",
            destination_account_id=row.reseller_id.replace("r-", "acct_", 1),
        )


async def finish(
    store: Store, row: SettlementRow, status: SettlementStatus, reason: ParkReason | None = None
) -> SettlementRow:
    async with store.begin() as tx:
        return await tx.settlements.finish(row.id, status=status, reason=reason, detail="because")


async def paid(store: Store, row: SettlementRow) -> TransferRow:
    """Transfer a statement, ledger entry included."""
    begun = await begin(store, row)
    async with store.begin() as tx:
        done = await tx.money.finish_transfer(
            begun.key, status=EffectStatus.SUCCEEDED, transfer_id=f"tr_{begun.key.replace(':', '_')}"
        )
        await tx.ledger.post(
            ledger.transferred(
                transfer_key=begun.key,
                chain_uid=None,
                reseller_id=row.reseller_id,
                currency=row.currency,
                amount_minor=begun.amount_minor,
                effective_at=seed.NOW,
            )
        )
        await tx.settlements.finish(row.id, status=SettlementStatus.PAID)
    return done


async def taken_back(store: Store, chain_uid: str, reseller_id: str, amount_minor: int, sequence: int) -> None:
    """A part of a booking's own transfer, ledger entry included."""
    transfer_key = ids.transfer_key(chain_uid, reseller_id)
    key = ids.reversal_key(transfer_key, sequence)
    async with store.begin() as tx:
        await tx.money.begin_reversal(
            key=key, transfer_key=transfer_key, chain_uid=chain_uid, sequence=sequence, amount_minor=amount_minor
        )
        await tx.money.finish_reversal(key, status=EffectStatus.SUCCEEDED, reversal_id=f"trr_{chain_uid}_{sequence}")
        entry = await tx.ledger.entry(ids.entry_key("transferred", transfer_key))
        assert entry is not None
        await tx.ledger.post(
            ledger.transfer_reversed(entry, sequence=sequence, amount_minor=amount_minor, effective_at=seed.NOW)
        )


async def reseller_terms(store: Store, reseller_id: str, *, mode: str | None = None, minimum_minor: int = 0) -> None:
    """Change what decides about a reseller's next closing."""
    async with store.begin() as tx:
        await tx.connection.execute(
            text(
                "UPDATE resellers SET payout_mode = coalesce(:mode, payout_mode),"
                " minimum_payouts = jsonb_build_object('EUR', CAST(:minimum AS bigint)) WHERE id = :id"
            ),
            {"id": reseller_id, "mode": mode, "minimum": minimum_minor},
        )


async def adjusted(
    store: Store,
    adjustment_id: str,
    reseller_id: str,
    amount_minor: int,
    direction: AdjustmentDirection,
    kind: AdjustmentKind = AdjustmentKind.CORRECTION,
    currency: str = "EUR",
) -> None:
    """An adjustment that one person asked for and another approved."""
    async with store.begin() as tx:
        await tx.settlements.adjust(
            adjustment_id,
            reseller_id=reseller_id,
            currency=currency,
            amount_minor=amount_minor,
            direction=direction,
            kind=kind,
            why="goodwill",
            requested_by="ops-anna",
        )
        await tx.settlements.decide_adjustment(adjustment_id, "ops-bert", approved=True)


async def explained(store: Store) -> None:
    """Every account of the ledger is what statements explain, to the cent, and every statement adds up."""
    async with store.begin() as tx:
        for one in await tx.settlements.account_balances():
            stated = one.unstated_credit_minor - one.unstated_debt_minor + one.unpaid_minor
            stated += one.carried_credit_minor - one.carried_debt_minor
            assert one.owed_minor - one.owing_minor == stated, one
        for reseller in ("r-leaf", "r-mid", "r-root"):
            for row in await tx.settlements.of_reseller(reseller):
                await tx.settlements.statement(row.id)
