"""One transfer to a reseller, exactly once: what the chain's payout and the month's settlement have in common."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.errors import told_to_temporal
from activities.lookup import look_first
from activities.models import EffectResult
from activities.pace import Pace
from domain import ledger
from domain.effects import EffectStatus
from domain.model import ParkReason
from domain.ports import ConnectedAccount, NotFound, PaymentGateway, Refused, Transfer

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import TransferRow

NOT_READY = ParkReason.RESELLER_NOT_READY

_REASONS = {"account_not_ready": NOT_READY, "balance_insufficient": ParkReason.BALANCE_INSUFFICIENT}
"""Stripe's refusals of a transfer that are not simply `transfer_refused`."""


class TransferSender:
    """Sends transfers that are recorded as begun, and records what became of them.

    `per_second`: Stripe's limit on one endpoint, for all workers together.
    """

    def __init__(self, store: Store, payments: PaymentGateway, *, per_second: float) -> None:
        self._store = store
        self._payments = payments
        self._pace = Pace(store, "transfers", per_second=per_second)

    async def turn(self) -> None:
        """Wait until Stripe may be asked for one more transfer, and for what belongs to it."""
        await self._pace.wait()

    async def destination(self, tx: Tx, reseller_id: str) -> str | EffectResult:
        """The reseller's connected account, or why he cannot be paid by our own data."""
        reseller = await tx.catalog.reseller(reseller_id)
        if reseller.paused:
            return EffectResult(refused_code="reseller_paused", reason=NOT_READY)
        if reseller.stripe_account_id is None:
            return EffectResult(refused_code="no_connected_account", reason=NOT_READY)
        return reseller.stripe_account_id

    async def obstacle(self, account_id: str, *, currency: str, amount_minor: int) -> EffectResult | None:
        """Why Stripe would not pay this out of our balance now; None where nothing is in the way.

        The account and our balance are read anew: webhooks come late or never. Nothing is converted: an account of
        another currency waits for a person.
        """
        with told_to_temporal():
            account, available_minor = await asyncio.gather(
                self._account(account_id), self._payments.available_balance_minor(currency)
            )
        if isinstance(account, EffectResult):
            return account
        if not account.payouts_enabled:
            return EffectResult(refused_code=account.disabled_reason or "payouts_disabled", reason=NOT_READY)
        if account.default_currency != currency:
            code = f"account_in_{account.default_currency}"
            return EffectResult(refused_code=code, reason=ParkReason.CURRENCY_MISMATCH)
        if available_minor < amount_minor:
            return EffectResult(refused_code="balance_insufficient", reason=ParkReason.BALANCE_INSUFFICIENT)
        return None

    async def find(self, row: TransferRow, *, group: str) -> Transfer | None:
        """The transfer of this row's present try at Stripe, whatever was taken back of it since."""
        with told_to_temporal():
            return await self._payments.find_transfer(transfer_group=group, idempotency_key=row.stripe_key)

    async def send_for_booking(self, row: TransferRow, *, group: str, source_charge_id: str | None) -> EffectResult:
        """Transfer what `row` says out of a charge, unless it was done already. The account is read again before."""
        if row.status is EffectStatus.SUCCEEDED:
            return EffectResult(amount_minor=row.amount_minor)
        await self.turn()
        looked = look_first(row.begun_at)
        found = await self.find(row, group=group) if looked else None
        if found is None:
            with told_to_temporal():
                account = await self._account(row.destination_account_id)
            if isinstance(account, EffectResult):
                found = None if looked else await self.find(row, group=group)
                if found is None:
                    return await self._refuse(row, account)
        if found is None:
            answer = await self.send(row, group=group, source_charge_id=source_charge_id)
            if isinstance(answer, EffectResult):
                return answer
            found = answer
        await self.record(row, found)
        return EffectResult(amount_minor=row.amount_minor)

    async def send(
        self, row: TransferRow, *, group: str, source_charge_id: str | None = None
    ) -> Transfer | EffectResult:
        """Ask Stripe for the transfer that `row` says, under its key. A refusal is recorded, a success is not."""
        with told_to_temporal():
            try:
                return await self._payments.transfer(
                    amount_minor=row.amount_minor,
                    currency=row.currency,
                    destination_account_id=row.destination_account_id,
                    transfer_group=group,
                    source_charge_id=source_charge_id,
                    metadata={"reseller_id": row.reseller_id},
                    idempotency_key=row.stripe_key,
                )
            except Refused as refused:
                reason = _REASONS.get(refused.code, ParkReason.TRANSFER_REFUSED)
                return await self._refuse(row, EffectResult(refused_code=refused.code, reason=reason))

    async def record(self, row: TransferRow, transfer: Transfer) -> None:
        """`record_in` as a transaction of its own."""
        async with self._store.begin() as tx:
            await self.record_in(tx, row, transfer)

    async def record_in(self, tx: Tx, row: TransferRow, transfer: Transfer) -> None:
        """Note that the transfer happened, with its ledger entry. A second call changes nothing."""
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

    async def _account(self, account_id: str) -> ConnectedAccount | EffectResult:
        """The account as it is now, or why it cannot receive transfers."""
        try:
            account = await self._payments.get_account(account_id)
        except NotFound:
            return EffectResult(refused_code="account_deauthorized", reason=NOT_READY)
        if not account.transfers_active:
            return EffectResult(refused_code=account.disabled_reason or "transfers_inactive", reason=NOT_READY)
        return account

    async def _refuse(self, row: TransferRow, answer: EffectResult) -> EffectResult:
        """Nothing moved: it is owed again, and the next try has a key of its own."""
        async with self._store.begin() as tx:
            await tx.money.finish_transfer(
                row.key, status=EffectStatus.REFUSED, tries=row.tries, refusal_code=answer.refused_code
            )
        return answer
