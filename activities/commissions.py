"""Accrue, reverse and mature the commissions of a chain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import BookingRef, ChainRef, CorrectInput, Due, MatureResult, MoveResult
from domain import commission, ids, ledger
from domain.chain import ChainStage
from domain.model import PayoutMode

if TYPE_CHECKING:
    from store import Store


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
            await tx.money.accrue(chain.chain_uid, quote.levels, quote.matures_at)
            await tx.chains.update(
                chain.chain_uid,
                stage=ChainStage.HOLD,
                waits_for="the end of the refund window",
                deadline_at=quote.matures_at,
            )
            entry = ledger.accrued(
                chain_uid=chain.chain_uid,
                currency=quote.currency,
                levels=quote.levels,
                effective_at=datetime.now(UTC),
            )
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
            quote = await tx.chains.quote(chain.chain_uid)
            if quote is None:
                raise LookupError(f"chain {chain.chain_uid} has no quote")
            rows = [row for row in await tx.money.mature(chain.chain_uid) if row.owed_minor > 0]
            await tx.chains.update(chain.chain_uid, stage=ChainStage.PAYOUT, waits_for="the transfers")
        own = [row for row in rows if row.payout_mode is PayoutMode.PER_BOOKING]
        return MatureResult(
            currency=quote.currency,
            transfers=tuple(Due(reseller_id=row.reseller_id, amount_minor=row.owed_minor) for row in own),
            left_for_settlement=len(rows) - len(own),
        )
