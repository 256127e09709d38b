"""Transfer a matured commission of one booking to its reseller, and take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from activities.errors import told_to_temporal
from activities.lookup import look_first
from activities.models import EffectResult, TransferInput, TransferRef
from activities.transfers import TransferSender, record_reversal
from domain import ids
from domain.effects import EffectStatus
from domain.model import ParkReason
from domain.ports import PaymentGateway, Refused

if TYPE_CHECKING:
    from store import Store
    from store.rows import TransferReversalRow, TransferRow


class PayoutActivities:
    def __init__(self, store: Store, payments: PaymentGateway, *, per_second: float) -> None:
        self._store = store
        self._payments = payments
        self._sender = TransferSender(store, payments, per_second=per_second)

    @activity.defn
    async def transfer(self, order: TransferInput) -> EffectResult:
        """Transfer what the reseller may keep of this booking, out of this charge (`source_transaction`), once.

        Not ready or refused is a result: the commission stays owed and the customer's money is not touched.
        """
        key = ids.transfer_key(order.chain_uid, order.reseller_id)
        async with self._store.begin() as tx:
            known = await tx.money.transfer(key)
            if known is not None and known.status is EffectStatus.SUCCEEDED:
                return EffectResult(amount_minor=known.amount_minor)
            account = await self._sender.destination(tx, order.reseller_id)
            if isinstance(account, EffectResult):
                return account
            charges = await tx.money.chain_charges(order.chain_uid)
            row = await tx.money.begin_booking_transfer(
                key=key,
                chain_uid=order.chain_uid,
                reseller_id=order.reseller_id,
                destination_account_id=account,
            )
        if row is None:
            return EffectResult()
        charge = charges[-1] if charges else None
        return await self._sender.send_for_booking(
            row, group=order.chain_uid, source_charge_id=charge.charge_id if charge is not None else None
        )

    @activity.defn
    async def reverse_transfer(self, order: TransferInput) -> EffectResult:
        """Take back what a transfer of this booking's own gave the reseller. Compensation of `transfer`.

        Never transferred, or taken back already: nothing to undo. What a statement paid, or is about to pay, stays as
        it is: the reversed commission becomes a clawback line of the reseller's next statement.
        """
        with told_to_temporal():
            row = await self._sent(order)
            if row is None or row.transfer_id is None or row.reversed_minor >= row.amount_minor:
                return EffectResult()
            return await self._reverse(order, row, row.transfer_id, row.amount_minor - row.reversed_minor)

    async def _sent(self, order: TransferInput) -> TransferRow | None:
        """The booking's own transfer to the reseller, if it happened. One with an open outcome is looked up first."""
        async with self._store.begin() as tx:
            row = await tx.money.transfer(ids.transfer_key(order.chain_uid, order.reseller_id))
        if row is None or row.status is EffectStatus.REFUSED:
            return None
        if row.status is EffectStatus.SUCCEEDED:
            return row
        found = await self._payments.find_transfer(transfer_group=order.chain_uid, idempotency_key=row.stripe_key)
        if found is None:
            async with self._store.begin() as tx:
                await tx.money.finish_transfer(row.key, status=EffectStatus.REFUSED, refusal_code="never_sent")
            return None
        await self._sender.record(row, found)
        async with self._store.begin() as tx:
            return await tx.money.transfer(row.key)

    async def _reverse(
        self, order: TransferInput, row: TransferRow, transfer_id: str, amount_minor: int
    ) -> EffectResult:
        begun = await self._begin_reversal(order, row, amount_minor)
        reversal = None
        if look_first(begun.begun_at):
            reversal = await self._payments.find_reversal(transfer_id=transfer_id, idempotency_key=begun.stripe_key)
        if reversal is None:
            try:
                reversal = await self._payments.reverse_transfer(
                    transfer_id=transfer_id, amount_minor=begun.amount_minor, idempotency_key=begun.stripe_key
                )
            except Refused as refused:
                async with self._store.begin() as tx:
                    await tx.money.finish_reversal(begun.key, status=EffectStatus.REFUSED, refusal_code=refused.code)
                if await self._taken_back_by_hand(row):
                    return await self.reverse_transfer(order)
                return EffectResult(refused_code=refused.code, reason=ParkReason.REVERSAL_REFUSED)
        async with self._store.begin() as tx:
            await record_reversal(tx, row, begun, reversal)
        return EffectResult(amount_minor=begun.amount_minor)

    async def _taken_back_by_hand(self, row: TransferRow) -> bool:
        """Whether it was refused because somebody took some of it back since; that is on record now."""
        await self._sender.follow_reversals(row.key)
        async with self._store.begin() as tx:
            now = await tx.money.transfer(row.key)
        return now is not None and now.reversed_minor > row.reversed_minor

    @activity.defn
    async def follow_transfer(self, order: TransferRef) -> int:
        """A transfer changed at Stripe: record what was taken back of it by hand, and how much that was."""
        async with self._store.begin() as tx:
            row = await tx.money.transfer_of(order.transfer_id)
        return 0 if row is None else await self._sender.follow_reversals(row.key)

    async def _begin_reversal(self, order: TransferInput, row: TransferRow, amount_minor: int) -> TransferReversalRow:
        """The reversal of this chain whose outcome is open, or a new one: after a refusal its key is a new one too."""
        async with self._store.begin() as tx:
            before = await tx.money.reversals(row.key)
            for one in before:
                if one.status is EffectStatus.STARTED and one.chain_uid == order.chain_uid:
                    return one
            sequence = max((one.sequence for one in before), default=0) + 1
            return await tx.money.begin_reversal(
                key=ids.reversal_key(row.key, sequence),
                transfer_key=row.key,
                chain_uid=order.chain_uid,
                sequence=sequence,
                amount_minor=amount_minor,
            )
