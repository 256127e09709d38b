"""Double-entry ledger: chart of accounts, entries, their builders and their reversals.

A posting moves a positive amount from `credit_account` to `debit_account`, so an entry cannot be unbalanced. Nothing is
ever changed: what is undone is mirrored by a new entry that names the old one. In the builders' texts `a ← b` means
debit `a`, credit `b`. Builders that can find nothing to post (a booking for 0,00 €, a share that rounds to nothing)
return None; the others refuse an amount of zero with a ValueError.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from domain.ids import entry_key
from domain.model import Currency, Frozen, Id, Level, UtcDatetime
from domain.money import MAX_AMOUNT_MINOR, share

Refs = Mapping[str, str] | None
"""Ids that explain an entry (`payment_intent`, `charge`, `invoice` …). No personal data."""

STRIPE: Final = "stripe"
"""The platform's balance at Stripe, available and pending together."""
REVENUE: Final = "revenue"
VAT_OUTPUT: Final = "vat_output"
VAT_INPUT: Final = "vat_input"
COMMISSION_EXPENSE: Final = "commission_expense"
STRIPE_FEES: Final = "stripe_fees"
DISPUTE_LOSSES: Final = "dispute_losses"
DISPUTED: Final = "disputed"
"""Funds that Stripe withdrew while a dispute is open."""
SUSPENSE: Final = "suspense"
"""Found at Stripe and not explained yet."""
WRITE_OFFS: Final = "write_offs"

_FIXED = (REVENUE, VAT_OUTPUT, VAT_INPUT, COMMISSION_EXPENSE, DISPUTE_LOSSES, DISPUTED, SUSPENSE, WRITE_OFFS)
FIXED_ACCOUNTS: Final = (STRIPE, STRIPE_FEES, *_FIXED)

_ACCOUNT = rf"^({'|'.join(FIXED_ACCOUNTS)}|(customer|customer_credit|reseller):[A-Za-z0-9_.:-]{{1,120}})$"
Account = Annotated[str, StringConstraints(pattern=_ACCOUNT)]


def customer(customer_id: str) -> str:
    """Receivable from a customer."""
    return f"customer:{customer_id}"


def customer_credit(customer_id: str) -> str:
    """What we owe a customer without having refunded it."""
    return f"customer_credit:{customer_id}"


def reseller(reseller_id: str) -> str:
    """Payable to a reseller: earned and not transferred yet."""
    return f"reseller:{reseller_id}"


class EntryKind(StrEnum):
    BILLED = "billed"
    CHARGED = "charged"
    FEE = "fee"
    ACCRUED = "accrued"
    TRANSFERRED = "transferred"
    REFUNDED = "refunded"
    INVOICE_CORRECTED = "invoice_corrected"
    COMMISSION_REVERSED = "commission_reversed"
    TRANSFER_REVERSED = "transfer_reversed"
    COMMISSION_VAT = "commission_vat"
    ADJUSTED = "adjusted"
    WRITTEN_OFF = "written_off"
    REVERSAL = "reversal"


class Posting(Frozen):
    debit_account: Account
    credit_account: Account
    amount_minor: Annotated[int, Field(gt=0, le=MAX_AMOUNT_MINOR)]

    @model_validator(mode="after")
    def _two_accounts(self) -> Self:
        if self.debit_account == self.credit_account:
            raise ValueError("a posting needs two different accounts")
        return self

    def mirrored(self, amount_minor: int | None = None) -> Posting:
        """The posting the other way round, in full or with another amount."""
        return Posting(
            debit_account=self.credit_account,
            credit_account=self.debit_account,
            amount_minor=self.amount_minor if amount_minor is None else amount_minor,
        )


class Entry(Frozen):
    key: Annotated[str, StringConstraints(min_length=1, max_length=400)]
    """Business key, unique in the ledger: the same event always has the same key (`domain.ids.entry_key`)."""
    kind: EntryKind
    chain_uid: Id | None
    """The chain that it belongs to; None for what a settlement moves over many chains."""
    currency: Currency
    postings: Annotated[tuple[Posting, ...], Field(min_length=1, max_length=100)]
    effective_at: UtcDatetime
    """When it happened in the business's sense (Stripe's time of a charge), not when it was written."""
    reverses_key: str | None = None
    """Key of the entry that this one undoes, in whole or in part."""
    refs: dict[str, str] = Field(default_factory=dict)
    """Ids that explain it (`payment_intent`, `charge`, `invoice` …). No personal data."""

    @property
    def amount_minor(self) -> int:
        """Sum of all postings."""
        return sum(posting.amount_minor for posting in self.postings)


def entry_hash(entry: Entry) -> str:
    """SHA-256 (hex) of what an entry says: key, kind, chain, currency, postings in order, what it reverses, refs.

    `effective_at` is left out: a retry a minute later tells of the same event, and the first entry's time stands.
    """
    content = {
        "format": 1,
        "key": entry.key,
        "kind": entry.kind.value,
        "chain_uid": entry.chain_uid,
        "currency": entry.currency,
        "postings": [[p.debit_account, p.credit_account, p.amount_minor] for p in entry.postings],
        "reverses_key": entry.reverses_key,
        "refs": entry.refs,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def balances(entries: Iterable[Entry]) -> dict[tuple[str, str], tuple[int, int]]:
    """Debit and credit turnover per (account, currency), both non-negative. Balanced where the two are equal."""
    sums: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        for posting in entry.postings:
            sums.setdefault((posting.debit_account, entry.currency), [0, 0])[0] += posting.amount_minor
            sums.setdefault((posting.credit_account, entry.currency), [0, 0])[1] += posting.amount_minor
    return {account: (debit, credit) for account, (debit, credit) in sums.items()}


# --- what happens --------------------------------------------------------------------------------------------------


def billed(
    *,
    chain_uid: str,
    customer_id: str,
    currency: str,
    net_minor: int,
    vat_minor: int,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry | None:
    """customer gross ← revenue net + vat_output. Once per chain; key `billed:{chain_uid}`."""
    owes = customer(customer_id)
    postings = [_posting(owes, to, amount) for to, amount in ((REVENUE, net_minor), (VAT_OUTPUT, vat_minor)) if amount]
    key = entry_key("billed", chain_uid)
    return _entry(EntryKind.BILLED, key, chain_uid, currency, postings, effective_at, refs) if postings else None


def charged(
    *,
    chain_uid: str,
    attempt: int,
    customer_id: str,
    currency: str,
    gross_minor: int,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry:
    """stripe ← customer gross. Key `charged:{chain_uid}:{attempt}`, the same numbers as the charge's own key."""
    key = entry_key("charged", chain_uid, attempt)
    postings = [_posting(STRIPE, customer(customer_id), gross_minor)]
    return _entry(EntryKind.CHARGED, key, chain_uid, currency, postings, effective_at, refs)


def fee(
    *, chain_uid: str, attempt: int, currency: str, fee_minor: int, effective_at: datetime, refs: Refs = None
) -> Entry:
    """stripe_fees ← stripe. An entry of its own, because Stripe keeps the fee when the charge is refunded."""
    key = entry_key("fee", chain_uid, attempt)
    postings = [_posting(STRIPE_FEES, STRIPE, fee_minor)]
    return _entry(EntryKind.FEE, key, chain_uid, currency, postings, effective_at, refs)


def accrued(
    *, chain_uid: str, currency: str, levels: Sequence[Level], effective_at: datetime, refs: Refs = None
) -> Entry | None:
    """commission_expense ← reseller, one posting per level that earns something. Key `accrued:{chain_uid}`."""
    postings = [
        _posting(COMMISSION_EXPENSE, reseller(level.reseller_id), level.amount_minor)
        for level in levels
        if level.amount_minor
    ]
    key = entry_key("accrued", chain_uid)
    return _entry(EntryKind.ACCRUED, key, chain_uid, currency, postings, effective_at, refs) if postings else None


def transferred(
    *,
    transfer_key: str,
    chain_uid: str | None,
    reseller_id: str,
    currency: str,
    amount_minor: int,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry:
    """reseller ← stripe. `transfer_key` is the transfer's idempotency key; `chain_uid` is None for a settlement's."""
    key = entry_key("transferred", transfer_key)
    postings = [_posting(reseller(reseller_id), STRIPE, amount_minor)]
    return _entry(EntryKind.TRANSFERRED, key, chain_uid, currency, postings, effective_at, refs)


# --- what is undone ------------------------------------------------------------------------------------------------


def refunded(charge: Entry, *, sequence: int, amount_minor: int, effective_at: datetime, refs: Refs = None) -> Entry:
    """customer ← stripe: the n-th refund of a charge (from 1), of exactly the amount that Stripe sent back.

    `charge` is the entry made by `charged`. The caller knows what was refunded before; more than the charge in one
    refund is a ValueError here. Key `refunded:{chain_uid}:{sequence}`.
    """
    key = entry_key("refunded", charge.chain_uid or charge.key, sequence)
    return _part(EntryKind.REFUNDED, key, charge, amount_minor, effective_at, refs)


def transfer_reversed(
    transfer: Entry, *, sequence: int, amount_minor: int, effective_at: datetime, refs: Refs = None
) -> Entry:
    """stripe ← reseller: the n-th reversal of a transfer (from 1), of exactly the amount that Stripe took back."""
    key = entry_key("transfer_reversed", transfer.key.removeprefix("transferred:"), sequence)
    return _part(EntryKind.TRANSFER_REVERSED, key, transfer, amount_minor, effective_at, refs)


def invoice_corrected(
    bill: Entry,
    *,
    sequence: int,
    total_reversed_before: Sequence[int],
    corrected_gross_minor: int,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry | None:
    """revenue + vat_output ← customer: the bill follows what was given back. Key `invoice_corrected:{chain_uid}:{n}`.

    `corrected_gross_minor` is cumulative, this correction included; `total_reversed_before`: see `reversed_before`.
    Net is the rounded share, VAT the rest, so the customer's account moves by exactly the gross amount each time.
    """
    gross_minor = bill.amount_minor
    if not 0 <= corrected_gross_minor <= gross_minor:
        raise ValueError(f"{bill.key}: cannot correct {corrected_gross_minor} of {gross_minor}")
    first = share(bill.postings[0].amount_minor, corrected_gross_minor, gross_minor)
    targets = [first] if len(bill.postings) == 1 else [first, corrected_gross_minor - first]
    key = entry_key("invoice_corrected", bill.chain_uid or bill.key, sequence)
    postings = _missing(bill, targets, total_reversed_before)
    return _undo(EntryKind.INVOICE_CORRECTED, key, bill, postings, effective_at, refs) if postings else None


def commission_reversed(
    accrual: Entry,
    *,
    sequence: int,
    total_reversed_before: Sequence[int],
    refunded_gross_minor: int,
    charged_gross_minor: int,
    effective_at: datetime,
    refs: Refs = None,
) -> Entry | None:
    """reseller ← commission_expense, every level in proportion to what the customer got back.

    `refunded_gross_minor` is cumulative, this refund included. A full refund in any pieces mirrors the accrual exactly.
    Key `commission_reversed:{chain_uid}:{sequence}`.
    """
    return partial_reversal(
        accrual,
        key=entry_key("commission_reversed", accrual.chain_uid or accrual.key, sequence),
        total_reversed_before=total_reversed_before,
        numerator=refunded_gross_minor,
        denominator=charged_gross_minor,
        effective_at=effective_at,
        kind=EntryKind.COMMISSION_REVERSED,
        refs=refs,
    )


def reversal(entry: Entry, *, key: str, effective_at: datetime, refs: Refs = None) -> Entry:
    """The whole entry the other way round. For one that was partly undone already use `partial_reversal` with 1/1."""
    postings = [posting.mirrored() for posting in entry.postings]
    return _undo(EntryKind.REVERSAL, key, entry, postings, effective_at, refs)


def partial_reversal(
    original: Entry,
    *,
    key: str,
    total_reversed_before: Sequence[int],
    numerator: int,
    denominator: int,
    effective_at: datetime,
    kind: EntryKind = EntryKind.REVERSAL,
    refs: Refs = None,
) -> Entry | None:
    """Mirror so much of each posting that `numerator/denominator` of it is undone in total.

    The share is cumulative: it counts what earlier partial reversals undid (`total_reversed_before`, one amount for
    each posting of `original`, see `reversed_before`), and only the difference is posted. So a full reversal in any
    number of pieces is an exact mirror. A share above the whole, or below what is undone already, is a ValueError.
    """
    if not 0 <= numerator <= denominator or denominator <= 0:
        raise ValueError(f"{original.key}: cannot reverse {numerator}/{denominator} of it")
    targets = [share(posting.amount_minor, numerator, denominator) for posting in original.postings]
    postings = _missing(original, targets, total_reversed_before)
    return _undo(kind, key, original, postings, effective_at, refs) if postings else None


def reversed_before(original: Entry, entries: Iterable[Entry]) -> tuple[int, ...]:
    """What the entries that reverse `original` undid of each of its postings. Others in `entries` are ignored.

    An undoing that was itself reversed (a refund that failed later) does not count, if its reversal is in `entries`.
    Raises ValueError where more is undone than was posted, or what was never posted.
    """
    known = list(entries)
    taken_back = {entry.reverses_key for entry in known if entry.kind is EntryKind.REVERSAL}
    undone = [0 for _ in original.postings]
    for entry in known:
        if entry.reverses_key != original.key or entry.key in taken_back:
            continue
        for posting in entry.postings:
            rest_minor = posting.amount_minor
            for index, candidate in enumerate(original.postings):
                if candidate.mirrored(posting.amount_minor) == posting:
                    part_minor = min(rest_minor, candidate.amount_minor - undone[index])
                    undone[index] += part_minor
                    rest_minor -= part_minor
            if rest_minor:
                raise ValueError(f"{entry.key} reverses more of {original.key} than it posted")
    return tuple(undone)


def _posting(debit_account: str, credit_account: str, amount_minor: int) -> Posting:
    return Posting(debit_account=debit_account, credit_account=credit_account, amount_minor=amount_minor)


def _entry(
    kind: EntryKind,
    key: str,
    chain_uid: str | None,
    currency: str,
    postings: Sequence[Posting],
    effective_at: datetime,
    refs: Refs,
    reverses_key: str | None = None,
) -> Entry:
    return Entry(
        key=key,
        kind=kind,
        chain_uid=chain_uid,
        currency=currency,
        postings=tuple(postings),
        effective_at=effective_at,
        reverses_key=reverses_key,
        refs=dict(refs or {}),
    )


def _undo(
    kind: EntryKind, key: str, original: Entry, postings: Sequence[Posting], effective_at: datetime, refs: Refs
) -> Entry:
    return _entry(kind, key, original.chain_uid, original.currency, postings, effective_at, refs, original.key)


def _part(kind: EntryKind, key: str, original: Entry, amount_minor: int, effective_at: datetime, refs: Refs) -> Entry:
    """Mirror a part of an entry that has one posting."""
    (posting,) = original.postings
    if amount_minor > posting.amount_minor:
        raise ValueError(f"{original.key}: {amount_minor} is more than the {posting.amount_minor} that it posted")
    return _undo(kind, key, original, [posting.mirrored(amount_minor)], effective_at, refs)


def _missing(original: Entry, targets: Sequence[int], before: Sequence[int]) -> list[Posting]:
    """Mirrored postings that lead from what is undone already (`before`) to `targets`; nothing where they agree."""
    if len(before) != len(original.postings):
        raise ValueError(f"{original.key}: needs {len(original.postings)} amounts reversed before")
    if any(target < done for target, done in zip(targets, before, strict=True)):
        raise ValueError(f"{original.key}: more than the asked share is undone already")
    return [
        posting.mirrored(target - done)
        for posting, target, done in zip(original.postings, targets, before, strict=True)
        if target > done
    ]
