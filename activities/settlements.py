"""Claim a month's matured commissions and pay each reseller once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.models import (
    Claimed,
    ClaimInput,
    ClaimResult,
    EffectResult,
    LogInput,
    ParkSettlementInput,
    Progress,
    SettleInput,
)
from activities.transfers import TransferSender
from domain import ids
from domain.effects import EffectStatus, SettlementStatus
from domain.ports import PaymentGateway
from domain.pricing import period_bounds

if TYPE_CHECKING:
    from store import Store

UNPAID = (SettlementStatus.OPEN, SettlementStatus.PARKED)


class SettlementActivities:
    """Database steps of a month's closing; `SettlementPayments` moves the money."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def claim(self, order: ClaimInput) -> ClaimResult:
        """Claim every commission that matured before the month's end (Europe/Berlin) and no settlement has.

        No lower bound: a late one goes into the next run. A second call claims nothing more; it returns what is unpaid.
        """
        _, boundary = period_bounds(order.period)
        async with self._store.begin() as tx:
            rows = await tx.settlements.claim(order.period, boundary)
            await tx.log.write(
                actor=order.requested_by,
                action="settled",
                target=f"period:{order.period}",
                reason="monthly settlement",
                details={"settlements": len(rows)},
            )
        return ClaimResult(
            period=order.period,
            claims=tuple(
                Claimed(reseller_id=row.reseller_id, currency=row.currency, amount_minor=row.amount_minor)
                for row in rows
                if row.status in UNPAID and row.amount_minor > 0
            ),
        )

    @activity.defn
    async def progress(self, period: str) -> Progress:
        async with self._store.begin() as tx:
            rows = await tx.settlements.of(period)
        counts = Counter(row.status for row in rows)
        return Progress(
            open=counts[SettlementStatus.OPEN],
            paid=counts[SettlementStatus.PAID],
            parked=counts[SettlementStatus.PARKED],
        )

    @activity.defn
    async def park(self, order: ParkSettlementInput) -> None:
        async with self._store.begin() as tx:
            row = await tx.settlements.get(order.period, order.reseller_id, order.currency)
            if row is not None:
                await tx.settlements.finish(
                    row.id, status=SettlementStatus.PARKED, reason=order.reason, detail=order.detail
                )

    @activity.defn
    async def log_retry(self, line: LogInput) -> None:
        async with self._store.begin() as tx:
            await tx.log.write(actor=line.actor, action=line.action, target=line.target, reason=line.why, details={})


class SettlementPayments:
    """The one step of a settlement that calls Stripe."""

    def __init__(self, store: Store, payments: PaymentGateway) -> None:
        self._store = store
        self._sender = TransferSender(store, payments)

    @activity.defn
    async def pay(self, order: SettleInput) -> EffectResult:
        """One transfer of the frozen amount. A second call finds it done; refused or not ready is a result."""
        async with self._store.begin() as tx:
            row = await tx.settlements.get(order.period, order.reseller_id, order.currency)
            if row is None:
                raise ApplicationError("no such settlement", type="SetupError", non_retryable=True)
            known = await tx.money.transfer(row.transfer_key) if row.transfer_key is not None else None
            if known is not None and known.status is EffectStatus.SUCCEEDED:
                await tx.settlements.finish(row.id, status=SettlementStatus.PAID)
                return EffectResult(amount_minor=known.amount_minor)
            account = await self._sender.destination(tx, order.reseller_id)
            if isinstance(account, EffectResult):
                return account
            transfer = await tx.settlements.begin(
                row.id,
                key=ids.settlement_transfer_key(order.period, order.reseller_id, order.currency),
                destination_account_id=account,
            )
            if transfer is None:
                await tx.settlements.finish(row.id, status=SettlementStatus.CARRIED_OVER)
                return EffectResult()
        result = await self._sender.send(
            transfer, group=f"settlement-{order.period}-{order.reseller_id}", source_charge_id=None
        )
        if result.refused_code is None:
            async with self._store.begin() as tx:
                await tx.settlements.finish(row.id, status=SettlementStatus.PAID)
        return result
