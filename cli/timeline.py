"""The story of one chain, told from the database: steps and orders, money, ledger entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli import output
from domain.ledger import Entry, EntryKind
from domain.model import Quote
from domain.money import format_amount
from store.rows import (
    AccountBalance,
    BookingRow,
    ChainRow,
    ChargeRow,
    CommissionRow,
    InvoiceRow,
    LogRow,
    RefundRow,
    TransferReversalRow,
    TransferRow,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from store import Tx

_COMMISSION = {
    EntryKind.ACCRUED: "commission accrued, all levels",
    EntryKind.COMMISSION_REVERSED: "commission reversed, all levels",
}


@dataclass(frozen=True)
class Story:
    """All rows of one chain. Holds no personal data."""

    chain: ChainRow
    uids: list[str]
    booking: BookingRow | None
    """As last read, of the newest uid."""
    quote: Quote | None
    invoices: list[InvoiceRow]
    charges: list[ChargeRow]
    refunds: list[RefundRow]
    commissions: list[CommissionRow]
    transfers: list[TransferRow]
    reversals: list[TransferReversalRow]
    entries: list[Entry]
    balances: list[AccountBalance]
    log: list[LogRow]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


async def read(tx: Tx, uid: str) -> Story | None:
    """The chain of any uid that its booking ever had; None: unknown."""
    chain_uid = await tx.chains.chain_of(uid) or uid
    chain = await tx.chains.get(chain_uid)
    if chain is None:
        return None
    uids = await tx.chains.uids(chain_uid)
    bookings = [row for row in [await tx.chains.booking(one) for one in uids] if row is not None]
    return Story(
        chain=chain,
        uids=uids,
        booking=bookings[-1] if bookings else None,
        quote=await tx.chains.quote(chain_uid),
        invoices=await tx.money.invoices(chain_uid),
        charges=await tx.money.chain_charges(chain_uid),
        refunds=await tx.money.chain_refunds(chain_uid),
        commissions=await tx.money.commissions(chain_uid),
        transfers=await tx.money.chain_transfers(chain_uid),
        reversals=await tx.money.chain_reversals(chain_uid),
        entries=await tx.ledger.entries(chain_uid),
        balances=await tx.ledger.chain_balances(chain_uid),
        log=await tx.log.of(f"chain:{chain_uid}"),
    )


def standing(chain: ChainRow) -> str:
    """Where a chain stands, in words: how it ended, why it is parked, or what it waits for."""
    if chain.outcome is not None:
        return chain.outcome.value
    if chain.reason is not None:
        return f"{chain.reason.value}: {chain.detail}" if chain.detail else chain.reason.value
    return chain.waits_for or ""


def amount(minor: int | None, currency: str | None) -> str:
    return format_amount(minor, currency) if minor is not None and currency else ""


def moments(story: Story) -> list[tuple[datetime, str, str]]:
    """What happened, when, with its amount: oldest first."""
    found = [*_orders(story), *_documents(story), *_money(story), *_commissions(story)]
    return sorted(found, key=lambda moment: moment[0])


def _orders(story: Story) -> Iterator[tuple[datetime, str, str]]:
    yield story.chain.opened_at, "first event stored", ""
    for line in story.log:
        reason = f": {line.reason}" if line.reason else ""
        detail = line.details.get("detail")
        yield line.at, f"{line.action} by {line.actor}{reason}" + (f" ({detail})" if detail else ""), ""


def _commissions(story: Story) -> Iterator[tuple[datetime, str, str]]:
    for entry in story.entries:
        if entry.kind in _COMMISSION:
            yield entry.effective_at, _COMMISSION[entry.kind], format_amount(entry.amount_minor, entry.currency)


def _documents(story: Story) -> Iterator[tuple[datetime, str, str]]:
    for invoice in story.invoices:
        of = f" of {invoice.corrects}" if invoice.corrects else ""
        text = f"{invoice.kind.value} {invoice.number}{of}"
        yield invoice.issued_at, text, format_amount(invoice.gross_minor, invoice.currency)


def _money(story: Story) -> Iterator[tuple[datetime, str, str]]:
    for charge in story.charges:
        text = f"charge, attempt {charge.attempt}: {charge.status.value}{_because(charge.refusal_code)}"
        what = _at_stripe(charge.payment_intent_id)
        yield charge.finished_at or charge.begun_at, text + what, format_amount(charge.amount_minor, charge.currency)
    for refund in story.refunds:
        text = f"refund {refund.sequence}: {refund.status.value}{_because(refund.refusal_code)}"
        what = _at_stripe(refund.refund_id)
        yield refund.finished_at or refund.begun_at, text + what, format_amount(refund.amount_minor, refund.currency)
    currencies = {transfer.key: transfer.currency for transfer in story.transfers}
    for transfer in story.transfers:
        text = f"transfer to {transfer.reseller_id}: {transfer.status.value}{_because(transfer.refusal_code)}"
        made = format_amount(transfer.amount_minor, transfer.currency)
        yield transfer.finished_at or transfer.begun_at, text + _at_stripe(transfer.transfer_id), made
    for back in story.reversals:
        text = f"transfer taken back: {back.status.value}{_because(back.refusal_code)}"
        currency = currencies.get(back.transfer_key) or story.chain.currency or "EUR"
        made = format_amount(back.amount_minor, currency)
        yield back.finished_at or back.begun_at, text + _at_stripe(back.reversal_id), made


def _because(code: str | None) -> str:
    return f" ({code})" if code else ""


def _at_stripe(object_id: str | None) -> str:
    return f", {object_id}" if object_id else ""


def render(story: Story) -> Iterator[RenderableType]:
    """The story in parts for the terminal: head, timeline, commissions, entries, what is left on the accounts."""
    yield from _head(story)
    rows = ((output.when(at), text, figure) for at, text, figure in moments(story))
    yield output.table("Timeline", ("when", "what", "amount"), rows, right=("amount",))
    if story.commissions:
        yield output.table(
            "Commission",
            ("level", "reseller", "earned", "reversed", "status", "matures", "payout"),
            (
                (
                    str(row.level),
                    row.reseller_id,
                    format_amount(row.accrued_minor, row.currency),
                    format_amount(row.reversed_minor, row.currency),
                    row.status.value,
                    output.when(row.matures_at),
                    row.transfer_key or row.payout_mode.value,
                )
                for row in story.commissions
            ),
            right=("earned", "reversed"),
        )
    yield output.table("Ledger", ("when", "entry", "debit", "credit", "amount"), _postings(story), right=("amount",))
    if story.balances:
        yield balances("What is left on the accounts of this chain", story.balances)


def _head(story: Story) -> Iterator[RenderableType]:
    from rich.text import Text

    chain = story.chain
    head = Text(f"Chain {chain.chain_uid} is {chain.stage.value}: {standing(chain)}".removesuffix(": "), style="bold")
    facts = []
    if len(story.uids) > 1:
        facts.append(f"rescheduled: {' → '.join(story.uids)}")
    if chain.waits_for or chain.deadline_at:
        until = f" until {output.when(chain.deadline_at)}" if chain.deadline_at else ""
        facts.append(f"waits for {chain.waits_for or 'the next step'}{until}")
    if story.booking is not None:
        facts.append(f"appointment {output.when(story.booking.start_at)}, at Cal.com {story.booking.status.value}")
    if story.quote is not None:
        quote = story.quote
        money = f"{format_amount(quote.gross_minor, quote.currency)} ({format_amount(quote.net_minor, quote.currency)}"
        vat = f" + {quote.vat_rate_bps / 100:g} % VAT, {quote.vat_reason})"
        facts.append(f"customer {quote.customer_id} pays {money}{vat} by {quote.price_ref}")
        facts.append(f"charge moment {output.when(quote.charge_at)}, matures {output.when(quote.matures_at)}")
    facts.append(f"workflow {chain.workflow_id}")
    yield head.append("".join(f"\n  {fact}" for fact in facts), style="not bold")


def _postings(story: Story) -> Iterator[tuple[str, str, str, str, str]]:
    for entry in story.entries:
        for index, posting in enumerate(entry.postings):
            first = index == 0
            yield (
                output.when(entry.effective_at) if first else "",
                entry.key if first else "",
                posting.debit_account,
                posting.credit_account,
                format_amount(posting.amount_minor, entry.currency),
            )


def balances(title: str, rows: list[AccountBalance]) -> RenderableType:
    """Turnover and balance of accounts; the side that is larger names the balance."""
    return output.table(
        title,
        ("account", "debit", "credit", "balance", "side"),
        (
            (
                row.account,
                format_amount(row.debit_minor, row.currency),
                format_amount(row.credit_minor, row.currency),
                format_amount(abs(row.debit_minor - row.credit_minor), row.currency),
                "debit"
                if row.debit_minor > row.credit_minor
                else "credit"
                if row.credit_minor > row.debit_minor
                else "",
            )
            for row in rows
        ),
        right=("debit", "credit", "balance"),
    )
