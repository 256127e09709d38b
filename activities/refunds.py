"""Refunds of one charge: exactly what is still to be given back, counting what anybody gave back before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.models import EffectResult
from domain import ids, ledger
from domain.effects import RefundState
from domain.model import ParkReason
from domain.ports import PaymentGateway, Refund, RefundStatus, Refused

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import ChargeRow, RefundRow

DONE = (RefundState.PENDING, RefundState.SUCCEEDED)
"""The money has left our balance."""

BROKEN = (RefundStatus.FAILED, RefundStatus.CANCELED)
"""The money is back on our balance; the customer did not get it."""


class Refunds:
    """Keeps our refund rows and the ledger in step with Stripe, and sends what is missing."""

    def __init__(self, store: Store, payments: PaymentGateway) -> None:
        self._store = store
        self._payments = payments

    async def follow(self, charge: ChargeRow) -> int:
        """Record every refund that Stripe knows of, also one made by hand; returns what was given back in total."""
        if charge.payment_intent_id is None:
            return 0
        for refund in await self._payments.list_refunds(charge.payment_intent_id):
            await self._record(charge, refund)
        return _given(await self._rows(charge.chain_uid))

    async def give_back(self, charge: ChargeRow, given_back_minor: int | None) -> EffectResult:
        """Refund what is missing to a cumulative target: of the quote's gross amount, or None for the whole charge.

        What was waived before the charge counts as given back. A refund whose outcome is open is sent again under its
        own key before a new one is made; a new one after a refusal has a new key, for Stripe repeats the old answer.
        """
        before_minor = await self.follow(charge)
        for row in await self._rows(charge.chain_uid):
            if row.status is RefundState.STARTED:
                result = await self._send(charge, row)
                if result.refused_code is not None:
                    return result
        missing_minor = await self._target(charge, given_back_minor) - _given(await self._rows(charge.chain_uid))
        if missing_minor > 0:
            async with self._store.begin() as tx:
                row = await self._begin(tx, charge, missing_minor)
            result = await self._send(charge, row)
            if result.refused_code is not None:
                return result
        return EffectResult(amount_minor=_given(await self._rows(charge.chain_uid)) - before_minor)

    async def _target(self, charge: ChargeRow, given_back_minor: int | None) -> int:
        if given_back_minor is None:
            return charge.amount_minor
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(charge.chain_uid)
        if quote is None:
            raise LookupError(f"chain {charge.chain_uid} has no quote")
        waived_minor = quote.gross_minor - charge.amount_minor
        return max(0, given_back_minor - waived_minor)

    async def _send(self, charge: ChargeRow, row: RefundRow) -> EffectResult:
        try:
            refund = await self._payments.refund(
                payment_intent_id=charge.payment_intent_id or "",
                amount_minor=row.amount_minor,
                chain_uid=charge.chain_uid,
                idempotency_key=row.stripe_key,
            )
        except Refused as refused:
            async with self._store.begin() as tx:
                await tx.money.finish_refund(row.key, status=RefundState.REFUSED, refusal_code=refused.code)
            reason = ParkReason.DISPUTED if refused.code == "charge_disputed" else ParkReason.REFUND_REFUSED
            return EffectResult(refused_code=refused.code, reason=reason)
        await self._record(charge, refund)
        if refund.status in BROKEN:
            return EffectResult(refused_code="refund_failed", reason=ParkReason.REFUND_REFUSED)
        return EffectResult(amount_minor=row.amount_minor)

    async def _record(self, charge: ChargeRow, refund: Refund) -> None:
        """Our row and the ledger entry of a refund as it is now; one that we never began is taken over."""
        key = refund.metadata.get("billing_key")
        async with self._store.begin() as tx:
            rows = await tx.money.chain_refunds(charge.chain_uid)
            row = next((one for one in rows if one.refund_id == refund.refund_id or one.stripe_key == key), None)
            if row is None:
                if refund.status in BROKEN:
                    return
                row = await self._begin(tx, charge, refund.amount_minor)
            row = await tx.money.finish_refund(
                row.key, status=RefundState(refund.status.value), refund_id=refund.refund_id
            )
            await self._post(tx, charge, row)

    async def _begin(self, tx: Tx, charge: ChargeRow, amount_minor: int) -> RefundRow:
        rows = await tx.money.chain_refunds(charge.chain_uid)
        sequence = max((row.sequence for row in rows), default=0) + 1
        return await tx.money.begin_refund(
            key=ids.refund_key(charge.chain_uid, sequence),
            chain_uid=charge.chain_uid,
            sequence=sequence,
            charge_key=charge.key,
            currency=charge.currency,
            amount_minor=amount_minor,
        )

    async def _post(self, tx: Tx, charge: ChargeRow, row: RefundRow) -> None:
        """customer ← stripe; and its reversal where the refund failed later."""
        now = datetime.now(UTC)
        key = ids.entry_key("refunded", charge.chain_uid, row.sequence)
        posted = await tx.ledger.entry(key)
        if row.status in DONE and posted is None:
            charged = await tx.ledger.entry(ids.entry_key("charged", charge.chain_uid, charge.attempt))
            if charged is None:
                raise LookupError(f"{charge.key} succeeded without a ledger entry")
            refs = {"refund": row.refund_id or "", "payment_intent": charge.payment_intent_id or ""}
            await tx.ledger.post(
                ledger.refunded(
                    charged, sequence=row.sequence, amount_minor=row.amount_minor, effective_at=now, refs=refs
                )
            )
        elif row.status not in DONE and posted is not None:
            await tx.ledger.post(ledger.reversal(posted, key=ids.entry_key("reversal", key, 1), effective_at=now))

    async def _rows(self, chain_uid: str) -> Sequence[RefundRow]:
        async with self._store.begin() as tx:
            return await tx.money.chain_refunds(chain_uid)


def _given(rows: Sequence[RefundRow]) -> int:
    return sum(row.amount_minor for row in rows if row.status in DONE)
