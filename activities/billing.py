"""Put what the customer owes into the ledger with an invoice number, and correct it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import ChainRef, CorrectInput
from domain import ids, ledger
from domain.chain import ChainStage

if TYPE_CHECKING:
    from store import Store


class BillingActivities:
    """Local activities: our database only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def bill(self, chain: ChainRef) -> None:
        """customer ← revenue + VAT, and the next invoice number. A second call finds both and changes nothing."""
        now = datetime.now(UTC)
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(chain.chain_uid)
            if quote is None:
                raise LookupError(f"chain {chain.chain_uid} has no quote")
            await tx.chains.update(chain.chain_uid, stage=ChainStage.CHARGING, waits_for="the charge")
            if quote.gross_minor == 0:
                return
            number = await tx.money.issue_invoice(quote, issued_at=now)
            entry = ledger.billed(
                chain_uid=chain.chain_uid,
                customer_id=quote.customer_id,
                currency=quote.currency,
                net_minor=quote.net_minor,
                vat_minor=quote.vat_minor,
                effective_at=now,
                refs={"invoice": number},
            )
            if entry is not None:
                await tx.ledger.post(entry)

    @activity.defn
    async def correct_invoice(self, order: CorrectInput) -> None:
        """Compensation of `bill`, in whole or up to a cumulative gross amount. Nothing billed: nothing to undo."""
        now = datetime.now(UTC)
        async with self._store.begin() as tx:
            bill = await tx.ledger.entry(ids.entry_key("billed", order.chain_uid))
            if bill is None:
                return
            before = ledger.reversed_before(bill, await tx.ledger.entries(order.chain_uid))
            total = bill.amount_minor if order.given_back_minor is None else order.given_back_minor
            if total <= sum(before):
                return
            number = await tx.money.correct_invoice(
                order.chain_uid, sequence=order.sequence, corrected_gross_minor=total, issued_at=now
            )
            correction = ledger.invoice_corrected(
                bill,
                sequence=order.sequence,
                total_reversed_before=before,
                corrected_gross_minor=total,
                effective_at=now,
                refs={"invoice": number},
            )
            if correction is not None:
                await tx.ledger.post(correction)
