"""One transfer to a reseller, exactly once: what the chain's payout and the month's settlement have in common."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.errors import told_to_temporal
from activities.lookup import look_first
from activities.models import EffectResult
from activities.pace import Pace
from domain import ids, ledger
from domain.effects import EffectStatus
from domain.model import ParkReason, PayoutMode
from domain.ports import NotFound, PaymentGateway, Refused, Transfer, TransferReversal

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import TransferReversalRow, TransferRow

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
        if reseller.payout_mode is PayoutMode.ON_HOLD:
            # Whatever was agreed when it was earned: on hold means that nothing is paid now.
            return EffectResult(refused_code="reseller_on_hold", reason=NOT_READY)
        if reseller.stripe_account_id is None:
            return EffectResult(refused_code="no_connected_account", reason=NOT_READY)
        return reseller.stripe_account_id

    async def obstacle(self, account_id: str, *, currency: str, amount_minor: int) -> EffectResult | None:
        """Why Stripe would not pay this out of our balance now; None where nothing is in the way.

        The account and our balance are read anew: webhooks come late or never.
        """
        with told_to_temporal():
            in_the_way, available_minor = await asyncio.gather(
                self._obstacle_of(account_id, currency), self._payments.available_balance_minor(currency)
            )
        if in_the_way is None and available_minor < amount_minor:
            return EffectResult(refused_code="balance_insufficient", reason=ParkReason.BALANCE_INSUFFICIENT)
        return in_the_way

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
                obstacle = await self._obstacle_of(row.destination_account_id, row.currency)
            if obstacle is not None:
                found = None if looked else await self.find(row, group=group)
                if found is None:
                    return await self.refuse(row, obstacle)
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
                return await self.refuse(row, EffectResult(refused_code=refused.code, reason=reason))

    async def record(self, row: TransferRow, transfer: Transfer) -> None:
        """`record_in` as a transaction of its own, and what was taken back of the transfer since."""
        async with self._store.begin() as tx:
            await self.record_in(tx, row, transfer)
        if transfer.amount_reversed_minor:
            await self.follow_reversals(row.key)

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

    async def follow_reversals(self, transfer_key: str) -> int:
        """Record what was taken back of a transfer at Stripe by hand, with its ledger entries; what that was, in all.

        Nothing is sent again: the reseller is owed it, and a person decides. Reversals of ours are left to the step
        that makes them. A second call finds nothing new.
        """
        async with self._store.begin() as tx:
            row = await tx.money.transfer(transfer_key)
        if row is None or row.transfer_id is None:
            return 0
        with told_to_temporal():
            at_stripe = await self._payments.list_reversals(row.transfer_id)
        found_minor = 0
        async with self._store.begin() as tx:
            for reversal in at_stripe:
                found_minor += await self._take_in(tx, row, reversal)
        return found_minor

    @staticmethod
    async def _take_in(tx: Tx, row: TransferRow, reversal: TransferReversal) -> int:
        before = await tx.money.reversals(row.key)
        key = reversal.metadata.get("billing_key")
        if any(one.reversal_id == reversal.reversal_id or one.stripe_key == key for one in before):
            return 0
        sequence = max((one.sequence for one in before), default=0) + 1
        begun = await tx.money.begin_reversal(
            key=ids.reversal_key(row.key, sequence),
            transfer_key=row.key,
            chain_uid=row.chain_uid,
            sequence=sequence,
            amount_minor=reversal.amount_minor,
        )
        await record_reversal(tx, row, begun, reversal)
        await tx.log.write(
            actor="stripe",
            action="transfer_taken_back",
            target=f"transfer:{row.key}",
            reason="a reversal at Stripe that no order of ours made; it is not sent again",
            details={"reversal": reversal.reversal_id, "amount_minor": reversal.amount_minor},
        )
        return reversal.amount_minor

    async def _obstacle_of(self, account_id: str, currency: str) -> EffectResult | None:
        """What in the account, as it is now, keeps it from getting this currency and paying it out to its bank.

        Nothing is converted: an account of another currency waits for a person.
        """
        try:
            account = await self._payments.get_account(account_id)
        except NotFound:
            return EffectResult(refused_code="account_deauthorized", reason=NOT_READY)
        if not account.transfers_active:
            return EffectResult(refused_code=account.disabled_reason or "transfers_inactive", reason=NOT_READY)
        if not account.payouts_enabled:
            return EffectResult(refused_code=account.disabled_reason or "payouts_disabled", reason=NOT_READY)
        if account.default_currency != currency:
            code = f"account_in_{account.default_currency}"
            return EffectResult(refused_code=code, reason=ParkReason.CURRENCY_MISMATCH)
        return None

    async def refuse(self, row: TransferRow, answer: EffectResult) -> EffectResult:
        """Nothing moved: it is owed again, and the next try has a key of its own."""
        async with self._store.begin() as tx:
            await tx.money.finish_transfer(
                row.key, status=EffectStatus.REFUSED, tries=row.tries, refusal_code=answer.refused_code
            )
        return answer


async def record_reversal(tx: Tx, row: TransferRow, begun: TransferReversalRow, reversal: TransferReversal) -> None:
    """Note that a part of a transfer was taken back, with its ledger entry. A second call changes nothing."""
    await tx.money.finish_reversal(begun.key, status=EffectStatus.SUCCEEDED, reversal_id=reversal.reversal_id)
    transferred = await tx.ledger.entry(ids.entry_key("transferred", row.key))
    if transferred is None:
        raise LookupError(f"{row.key} succeeded without a ledger entry")
    await tx.ledger.post(
        ledger.transfer_reversed(
            transferred,
            sequence=begun.sequence,
            amount_minor=begun.amount_minor,
            effective_at=datetime.now(UTC),
            refs={"transfer": reversal.transfer_id, "reversal": reversal.reversal_id},
        )
    )
