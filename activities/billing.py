"""Put what the customer owes into the ledger with an invoice number, and correct it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import ChainRef, CorrectInput
from domain import ids, ledger
from domain.chain import ChainStage
from domain.effects import InvoiceKind
from domain.ledger import Entry
from domain.model import Quote

if TYPE_CHECKING:
    from store import Store, Tx


async def write_bill(tx: Tx, quote: Quote) -> None:
    """Receivable and invoice of a quote, and the chain's stage. The year's invoice counter stays locked until the
    transaction ends: call it last."""
    now = datetime.now(UTC)
    await tx.chains.update(quote.chain_uid, stage=ChainStage.CHARGING, waits_for="the charge")
    if quote.gross_minor == 0:
        return
    invoice = await tx.money.next_invoice(
        InvoiceKind.INVOICE,
        chain_uid=quote.chain_uid,
        sequence=1,
        customer_id=quote.customer_id,
        currency=quote.currency,
        net_minor=quote.net_minor,
        vat_minor=quote.vat_minor,
        vat_rate_bps=quote.vat_rate_bps,
        vat_reason=quote.vat_reason,
        issued_at=now,
    )
    entry = ledger.billed(
        chain_uid=quote.chain_uid,
        customer_id=quote.customer_id,
        currency=quote.currency,
        net_minor=quote.net_minor,
        vat_minor=quote.vat_minor,
        effective_at=now,
        refs={"invoice": invoice.number},
    )
    if entry is not None:
        await tx.ledger.post(entry)


class BillingActivities:
    """Local activities: our database only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def bill(self, chain: ChainRef) -> None:
        """customer ← revenue + VAT, and the next invoice number. A second call finds both and changes nothing."""
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(chain.chain_uid)
            if quote is None:
                raise LookupError(f"chain {chain.chain_uid} has no quote")
            await write_bill(tx, quote)

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
            correction = ledger.invoice_corrected(
                bill,
                sequence=order.sequence,
                total_reversed_before=before,
                corrected_gross_minor=total,
                effective_at=now,
            )
            if correction is None:
                return
            number = await self._correction_number(tx, order, correction, now)
            await tx.ledger.post(correction.model_copy(update={"refs": {"invoice": number}}))

    async def _correction_number(self, tx: Tx, order: CorrectInput, correction: Entry, now: datetime) -> str:
        """The correction as a document of its own, with the amounts that are posted."""
        invoice = (await tx.money.invoices(order.chain_uid))[0]
        vat_minor = sum(
            posting.amount_minor for posting in correction.postings if posting.debit_account == ledger.VAT_OUTPUT
        )
        document = await tx.money.next_invoice(
            InvoiceKind.CORRECTION,
            chain_uid=order.chain_uid,
            sequence=order.sequence,
            customer_id=invoice.customer_id,
            currency=invoice.currency,
            net_minor=correction.amount_minor - vat_minor,
            vat_minor=vat_minor,
            vat_rate_bps=invoice.vat_rate_bps,
            vat_reason=invoice.vat_reason,
            issued_at=now,
            corrects=invoice.number,
        )
        return document.number
