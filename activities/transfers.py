"""One transfer to a reseller, exactly once: what the chain's payout and the month's settlement have in common."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.errors import told_to_temporal
from activities.lookup import look_first
from activities.models import EffectResult
from domain import ledger
from domain.effects import EffectStatus
from domain.model import ParkReason
from domain.ports import PaymentGateway, Refused, Transfer

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import TransferRow

NOT_READY = ParkReason.RESELLER_NOT_READY


class TransferSender:
    """Sends transfers that are recorded as begun, and records what became of them."""

    def __init__(self, store: Store, payments: PaymentGateway) -> None:
        self._store = store
        self._payments = payments

    async def destination(self, tx: Tx, reseller_id: str) -> str | EffectResult:
        """The reseller's connected account, or why he cannot be paid by our own data."""
        reseller = await tx.catalog.reseller(reseller_id)
        if reseller.paused:
            return EffectResult(refused_code="reseller_paused", reason=NOT_READY)
        if reseller.stripe_account_id is None:
            return EffectResult(refused_code="no_connected_account", reason=NOT_READY)
        return reseller.stripe_account_id

    async def send(self, row: TransferRow, *, group: str, source_charge_id: str | None) -> EffectResult:
        """Transfer what `row` says, unless it was done already. The account is read again before the money moves."""
        if row.status is EffectStatus.SUCCEEDED:
            return EffectResult(amount_minor=row.amount_minor)
        key = row.stripe_key
        with told_to_temporal():
            looked = look_first(row.begun_at)
            found = await self._payments.find_transfer(transfer_group=group, idempotency_key=key) if looked else None
            transfer = found
            if transfer is None:
                account = await self._payments.get_account(row.destination_account_id)
                if not account.transfers_active:
                    if not looked:
                        transfer = await self._payments.find_transfer(transfer_group=group, idempotency_key=key)
                    if transfer is None:
                        return await self._refuse(row, account.disabled_reason or "transfers_inactive", NOT_READY)
            if transfer is None:
                try:
                    transfer = await self._payments.transfer(
                        amount_minor=row.amount_minor,
                        currency=row.currency,
                        destination_account_id=row.destination_account_id,
                        transfer_group=group,
                        source_charge_id=source_charge_id,
                        metadata={"reseller_id": row.reseller_id},
                        idempotency_key=key,
                    )
                except Refused as refused:
                    reason = NOT_READY if refused.code == "account_not_ready" else ParkReason.TRANSFER_REFUSED
                    return await self._refuse(row, refused.code, reason)
        await self.record(row, transfer)
        return EffectResult(amount_minor=row.amount_minor)

    async def _refuse(self, row: TransferRow, code: str, reason: ParkReason) -> EffectResult:
        """Nothing moved: the commissions are owed again, and the next try computes the amount anew."""
        async with self._store.begin() as tx:
            await tx.money.finish_transfer(row.key, status=EffectStatus.REFUSED, refusal_code=code)
        return EffectResult(refused_code=code, reason=reason)

    async def record(self, row: TransferRow, transfer: Transfer) -> None:
        async with self._store.begin() as tx:
            await tx.money.finish_transfer(row.key, status=EffectStatus.SUCCEEDED, transfer_id=transfer.transfer_id)
            await tx.ledger.post(
                ledger.transferred(
                    transfer_key=row.key,
                    chain_uid=row.chain_uid,
                    reseller_id=row.reseller_id,
                    currency=row.currency,
                    amount_minor=row.amount_minor,
                    effective_at=datetime.now(UTC),
                    refs={"transfer": transfer.transfer_id},
                )
            )
