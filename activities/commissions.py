"""Accrue, reverse and mature the commissions of a chain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.chains import write_change
from activities.models import BookingRef, ChainRef, CorrectInput, Due, MatureResult, MoveResult, closing
from domain import commission, ids, ledger
from domain.chain import ChainOutcome, ChainStage
from domain.ledger import Entry
from domain.model import PayoutMode, Quote

if TYPE_CHECKING:
    from store import Store, Tx


async def write_accrual(tx: Tx, quote: Quote) -> Entry | None:
    """Commission rows of every level and the chain's stage; returns the ledger entry, which the caller posts.

    None: nobody earns anything.
    """
    await tx.money.accrue(quote.chain_uid, quote.levels, quote.matures_at)
    await tx.chains.update(
        quote.chain_uid,
        stage=ChainStage.HOLD,
        waits_for="the end of the refund window",
        deadline_at=quote.matures_at,
    )
    return ledger.accrued(
        chain_uid=quote.chain_uid,
        currency=quote.currency,
        levels=quote.levels,
        effective_at=datetime.now(UTC),
    )


class CommissionActivities:
    """Local activities: our database only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def accrue(self, chain: ChainRef) -> None:
        """commission_expense ← reseller for every level, from the frozen quote. A second call changes nothing."""
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(chain.chain_uid)
            if quote is None:
                raise LookupError(f"chain {chain.chain_uid} has no quote")
            entry = await write_accrual(tx, quote)
            if entry is not None:
                await tx.ledger.post(entry)

    @activity.defn
    async def reverse(self, order: CorrectInput) -> None:
        """Compensation of `accrue`, in whole or in proportion to what the customer gets back (cumulative)."""
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(order.chain_uid)
            accrual = await tx.ledger.entry(ids.entry_key("accrued", order.chain_uid))
            if quote is None or accrual is None:
                return
            total_minor = quote.gross_minor if order.given_back_minor is None else order.given_back_minor
            before = ledger.reversed_before(accrual, await tx.ledger.entries(order.chain_uid))
            entry = ledger.commission_reversed(
                accrual,
                sequence=order.sequence,
                total_reversed_before=before,
                refunded_gross_minor=total_minor,
                charged_gross_minor=quote.gross_minor,
                effective_at=datetime.now(UTC),
            )
            for row in await tx.money.commissions(order.chain_uid):
                reversed_minor = commission.reversed_total(row.accrued_minor, total_minor, quote.gross_minor)
                await tx.money.set_reversed(row.id, reversed_minor)
            if entry is not None:
                await tx.ledger.post(entry)

    @activity.defn
    async def move(self, ref: BookingRef) -> MoveResult:
        """A rescheduled booking after the charge: the refund window follows the new end, the frozen price stays."""
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(ref.chain_uid)
            booking = await tx.chains.booking(ref.booking_uid)
            if quote is None or booking is None:
                raise LookupError(f"chain {ref.chain_uid} has no quote or booking")
            matures_at = booking.end_at + timedelta(days=int(quote.price["hold_days"]))
            await tx.money.move_maturity(ref.chain_uid, matures_at)
            await tx.chains.update(
                ref.chain_uid,
                stage=ChainStage.HOLD,
                waits_for="the end of the refund window",
                deadline_at=matures_at,
            )
        return MoveResult(matures_at=matures_at)

    @activity.defn
    async def mature(self, chain: ChainRef) -> MatureResult:
        """The refund window is over. Says what this chain transfers itself; a second call says the same."""
        async with self._store.begin() as tx:
            matured = await self._mature(tx, chain)
            await tx.chains.update(chain.chain_uid, stage=ChainStage.PAYOUT, waits_for="the transfers")
        return matured

    @activity.defn
    async def mature_and_close(self, chain: ChainRef) -> MatureResult:
        """`mature`; a chain that transfers nothing itself is closed in the same transaction (`closed_as`).

        Only for a chain that gave nothing back: its outcome is decided by what matured.
        """
        async with self._store.begin() as tx:
            matured = await self._mature(tx, chain)
            if matured.transfers:
                await tx.chains.update(chain.chain_uid, stage=ChainStage.PAYOUT, waits_for="the transfers")
                return matured
            outcome = ChainOutcome.MATURED if matured.left_for_settlement else ChainOutcome.PAID
            await write_change(tx, closing(chain.chain_uid, outcome, ""))
        return matured.model_copy(update={"closed_as": outcome})

    async def _mature(self, tx: Tx, chain: ChainRef) -> MatureResult:
        rows = [row for row in await tx.money.mature(chain.chain_uid) if row.owed_minor > 0]
        if rows:
            currency = rows[0].currency
        else:
            quote = await tx.chains.quote(chain.chain_uid)
            if quote is None:
                raise LookupError(f"chain {chain.chain_uid} has no quote")
            currency = quote.currency
        own = [row for row in rows if row.payout_mode is PayoutMode.PER_BOOKING]
        return MatureResult(
            currency=currency,
            transfers=tuple(Due(reseller_id=row.reseller_id, amount_minor=row.owed_minor) for row in own),
            left_for_settlement=len(rows) - len(own),
        )
