"""Ledger entries of statements and of manual adjustments: what a reseller is owed beside his commissions.

In the builders' texts `a ← b` means debit `a`, credit `b`, as in `domain.ledger`.
"""

from __future__ import annotations

from datetime import datetime

from domain.ids import entry_key
from domain.ledger import COMMISSION_EXPENSE, VAT_INPUT, WRITE_OFFS, Entry, EntryKind, Posting, Refs, reseller


def commission_vat(
    *,
    statement_id: str,
    reseller_id: str,
    currency: str,
    credit_minor: int,
    debit_minor: int,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry | None:
    """vat_input ← reseller for the VAT on what a statement pays him, the other way round for what it takes back.

    A statement with lines of several rates can do both. None without VAT. Key `commission_vat:{statement_id}`.
    """
    owed = reseller(reseller_id)
    postings = []
    if credit_minor:
        postings.append(Posting(debit_account=VAT_INPUT, credit_account=owed, amount_minor=credit_minor))
    if debit_minor:
        postings.append(Posting(debit_account=owed, credit_account=VAT_INPUT, amount_minor=debit_minor))
    if not postings:
        return None
    return Entry(
        key=entry_key("commission_vat", statement_id),
        kind=EntryKind.COMMISSION_VAT,
        chain_uid=None,
        currency=currency,
        postings=tuple(postings),
        effective_at=effective_at,
        refs=dict(refs or {}),
    )


def adjusted(
    *,
    adjustment_id: str,
    reseller_id: str,
    currency: str,
    amount_minor: int,
    is_credit: bool,
    is_write_off: bool,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry:
    """commission_expense ← reseller, or write_offs ← reseller; a debit the other way round. Key `adjusted:{id}`."""
    counter = WRITE_OFFS if is_write_off else COMMISSION_EXPENSE
    posting = Posting(debit_account=counter, credit_account=reseller(reseller_id), amount_minor=amount_minor)
    return Entry(
        key=entry_key("adjusted", adjustment_id),
        kind=EntryKind.WRITTEN_OFF if is_write_off else EntryKind.ADJUSTED,
        chain_uid=None,
        currency=currency,
        postings=(posting if is_credit else posting.mirrored(),),
        effective_at=effective_at,
        refs=dict(refs or {}),
    )
