from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from domain import ledger
from domain.ledger import Entry, EntryKind, Posting
from domain.model import Level, PayoutMode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AMOUNTS = st.integers(1, 5_000_000)


def levels(*amounts: int) -> tuple[Level, ...]:
    return tuple(
        Level(
            reseller_id=f"r-{number}",
            level=number,
            amount_minor=amount,
            rule={},
            agreement_version=1,
            payout_mode=PayoutMode.MONTHLY,
        )
        for number, amount in enumerate(amounts)
    )


def bill(net_minor: int = 4900, vat_minor: int = 931) -> Entry:
    entry = ledger.billed(
        chain_uid="u1", customer_id="c1", currency="EUR", net_minor=net_minor, vat_minor=vat_minor, effective_at=NOW
    )
    assert entry is not None
    return entry


def accrual(*amounts: int) -> Entry:
    entry = ledger.accrued(chain_uid="u1", currency="EUR", levels=levels(*amounts), effective_at=NOW)
    assert entry is not None
    return entry


def charge(gross_minor: int = 5831) -> Entry:
    return ledger.charged(
        chain_uid="u1", attempt=1, customer_id="c1", currency="EUR", gross_minor=gross_minor, effective_at=NOW
    )


def pieces(total: int, cuts: list[int]) -> list[int]:
    """Rising cumulative amounts that end with the total."""
    return sorted({cut % total for cut in cuts if cut % total} | {total})


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    accounts = [
        *ledger.FIXED_ACCOUNTS,
        *(make(id) for make in (ledger.customer, ledger.customer_credit, ledger.reseller) for id in ("a", "b:c")),
    ]
    postings = []
    for _ in range(draw(st.integers(1, 6))):
        debit, credit = draw(st.lists(st.sampled_from(accounts), min_size=2, max_size=2, unique=True))
        postings.append(Posting(debit_account=debit, credit_account=credit, amount_minor=draw(AMOUNTS)))
    return Entry(
        key=draw(st.text(min_size=1, max_size=40)),
        kind=EntryKind.BILLED,
        chain_uid="u1",
        currency="EUR",
        postings=tuple(postings),
        effective_at=NOW,
        refs=draw(st.dictionaries(st.sampled_from(["charge", "invoice"]), st.text(max_size=10))),
    )


@given(st.lists(entries(), max_size=8))
def test_any_entries_balance_over_all_accounts(found: list[Entry]) -> None:
    sums = ledger.balances(found)
    assert sum(debit for debit, _ in sums.values()) == sum(credit for _, credit in sums.values())
    assert sum(debit for debit, _ in sums.values()) == sum(entry.amount_minor for entry in found)


@given(entries())
def test_a_reversal_brings_every_account_to_zero_and_its_own_reversal_is_the_original(entry: Entry) -> None:
    mirror = ledger.reversal(entry, key="m", effective_at=NOW)
    assert all(debit == credit for debit, credit in ledger.balances([entry, mirror]).values())
    assert mirror.reverses_key == entry.key
    assert ledger.reversal(mirror, key="mm", effective_at=NOW).postings == entry.postings


@settings(max_examples=2000)
@given(
    accrued=st.lists(st.integers(0, 200_000), min_size=1, max_size=5).filter(any),
    gross=st.integers(1, 1_000_000),
    cuts=st.lists(st.integers(0, 1_000_000), max_size=12),
)
def test_refunds_in_any_pieces_reverse_exactly_what_was_accrued_on_every_level(
    accrued: list[int], gross: int, cuts: list[int]
) -> None:
    earned = accrual(*accrued)
    booked = [earned]
    for number, refunded in enumerate(pieces(gross, cuts), start=1):
        undone = ledger.commission_reversed(
            earned,
            sequence=number,
            total_reversed_before=ledger.reversed_before(earned, booked),
            refunded_gross_minor=refunded,
            charged_gross_minor=gross,
            effective_at=NOW,
        )
        if undone is not None:
            booked.append(undone)
        for amount, done in zip([a for a in accrued if a], ledger.reversed_before(earned, booked), strict=True):
            assert abs(done * gross - amount * refunded) * 2 <= gross, "each level is within half a unit of its share"
    assert all(debit == credit for debit, credit in ledger.balances(booked).values())
    assert len({entry.key for entry in booked}) == len(booked)


@settings(max_examples=300)
@given(net=st.integers(0, 500_000), vat=st.integers(0, 100_000), cuts=st.lists(st.integers(0, 1_000_000), max_size=10))
def test_corrections_in_any_pieces_follow_the_refund_to_the_cent(net: int, vat: int, cuts: list[int]) -> None:
    assume(net + vat)
    billed = bill(net, vat)
    charged = charge(net + vat)
    booked = [billed, charged]
    before = 0
    for number, total in enumerate(pieces(net + vat, cuts), start=1):
        booked.append(ledger.refunded(charged, sequence=number, amount_minor=total - before, effective_at=NOW))
        correction = ledger.invoice_corrected(
            billed,
            sequence=number,
            total_reversed_before=ledger.reversed_before(billed, booked),
            corrected_gross_minor=total,
            effective_at=NOW,
        )
        assert correction is not None
        assert correction.amount_minor == total - before
        booked.append(correction)
        before = total
        debit, credit = ledger.balances(booked)["customer:c1", "EUR"]
        assert debit == credit
    assert all(debit == credit for debit, credit in ledger.balances(booked).values())


def test_the_chart_of_accounts_of_one_booking() -> None:
    transfer = ledger.transferred(
        transfer_key="transfer:u1:r-0",
        chain_uid="u1",
        reseller_id="r-0",
        currency="EUR",
        amount_minor=1225,
        effective_at=NOW,
    )
    fee = ledger.fee(chain_uid="u1", attempt=1, currency="EUR", fee_minor=112, effective_at=NOW)
    sums = ledger.balances([bill(), charge(), fee, accrual(1225, 245), transfer])
    assert sums == {
        ("customer:c1", "EUR"): (5831, 5831),
        ("revenue", "EUR"): (0, 4900),
        ("vat_output", "EUR"): (0, 931),
        ("stripe", "EUR"): (5831, 112 + 1225),
        ("stripe_fees", "EUR"): (112, 0),
        ("commission_expense", "EUR"): (1470, 0),
        ("reseller:r-0", "EUR"): (1225, 1225),
        ("reseller:r-1", "EUR"): (0, 245),
    }


def test_nothing_to_post_gives_no_entry_and_no_posting_of_zero() -> None:
    assert (
        ledger.billed(chain_uid="u", customer_id="c", currency="EUR", net_minor=0, vat_minor=0, effective_at=NOW)
        is None
    )
    assert ledger.accrued(chain_uid="u", currency="EUR", levels=levels(0, 0), effective_at=NOW) is None
    assert ledger.accrued(chain_uid="u", currency="EUR", levels=(), effective_at=NOW) is None
    assert [posting.amount_minor for posting in bill(4900, 0).postings] == [4900]
    assert [posting.credit_account for posting in accrual(7, 0, 3).postings] == ["reseller:r-0", "reseller:r-2"]


def test_a_charge_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        charge(0)


def test_more_than_was_posted_is_never_undone() -> None:
    earned = accrual(100)
    with pytest.raises(ValueError, match="more than"):
        ledger.refunded(charge(100), sequence=1, amount_minor=101, effective_at=NOW)
    with pytest.raises(ValueError, match="cannot reverse 2/1"):
        ledger.partial_reversal(
            earned, key="k", total_reversed_before=[0], numerator=2, denominator=1, effective_at=NOW
        )
    with pytest.raises(ValueError, match="undone already"):
        ledger.partial_reversal(
            earned, key="k", total_reversed_before=[60], numerator=1, denominator=2, effective_at=NOW
        )
    with pytest.raises(ValueError, match="1 amounts"):
        ledger.partial_reversal(
            earned, key="k", total_reversed_before=[0, 0], numerator=1, denominator=2, effective_at=NOW
        )
    with pytest.raises(ValueError, match="cannot correct"):
        ledger.invoice_corrected(
            bill(), sequence=1, total_reversed_before=[0, 0], corrected_gross_minor=5832, effective_at=NOW
        )


def test_a_reversal_of_more_than_the_original_is_found() -> None:
    earned = accrual(100)
    twice = [ledger.reversal(earned, key=key, effective_at=NOW) for key in ("a", "b")]
    twice = [entry.model_copy(update={"kind": EntryKind.COMMISSION_REVERSED}) for entry in twice]
    with pytest.raises(ValueError, match="b reverses more of accrued:u1"):
        ledger.reversed_before(earned, twice)


def test_a_refund_that_failed_later_does_not_count_as_refunded() -> None:
    charged = charge(100)
    first = ledger.refunded(charged, sequence=1, amount_minor=40, effective_at=NOW)
    failed = ledger.reversal(first, key="reversal:refunded:u1:1:1", effective_at=NOW)
    second = ledger.refunded(charged, sequence=2, amount_minor=100, effective_at=NOW)
    assert ledger.reversed_before(charged, [charged, first]) == (40,)
    assert ledger.reversed_before(charged, [charged, first, failed]) == (0,)
    assert ledger.reversed_before(charged, [charged, first, failed, second]) == (100,)


def test_the_hash_sees_every_change_of_content_but_not_the_time_of_a_retry() -> None:
    entry = bill()
    other = {
        "key": entry.model_copy(update={"key": "x"}),
        "amount": bill(4901),
        "kind": entry.model_copy(update={"kind": EntryKind.CHARGED}),
        "chain": entry.model_copy(update={"chain_uid": None}),
        "currency": entry.model_copy(update={"currency": "CHF"}),
        "order": entry.model_copy(update={"postings": entry.postings[::-1]}),
        "reverses": entry.model_copy(update={"reverses_key": "y"}),
        "refs": entry.model_copy(update={"refs": {"charge": "ch_1"}}),
    }
    hashes = {name: ledger.entry_hash(changed) for name, changed in other.items()}
    assert ledger.entry_hash(entry) not in hashes.values()
    assert len(set(hashes.values())) == len(other)
    later = entry.model_copy(update={"effective_at": NOW + timedelta(minutes=1)})
    assert ledger.entry_hash(later) == ledger.entry_hash(entry)


def test_the_hash_is_stable_over_releases() -> None:
    """Stored hashes outlive this code: a new format needs a new number, and a look at how old entries are compared."""
    content = (
        '{"chain_uid":"u1","currency":"EUR","format":1,"key":"billed:u1","kind":"billed",'
        '"postings":[["customer:c1","revenue",4900],["customer:c1","vat_output",931]],"refs":{},"reverses_key":null}'
    )
    assert ledger.entry_hash(bill()) == hashlib.sha256(content.encode()).hexdigest()


@pytest.mark.parametrize(
    "account", ["cash", "customer:", "customer", "reseller:a b", "stripe:x", "reseller:ä", "stripe\n"]
)
def test_accounts_outside_the_chart_are_refused(account: str) -> None:
    with pytest.raises(ValidationError):
        Posting(debit_account=account, credit_account="revenue", amount_minor=1)


def test_an_entry_needs_between_one_and_a_hundred_postings_of_two_accounts_each() -> None:
    posting = bill().postings[0]
    fields = bill().model_dump()
    for count in (0, 101):
        with pytest.raises(ValidationError):
            Entry.model_validate({**fields, "postings": [posting] * count})
    with pytest.raises(ValidationError, match="two different accounts"):
        Posting(debit_account="stripe", credit_account="stripe", amount_minor=1)


def test_keys_are_made_from_the_business() -> None:
    transfer = ledger.transferred(
        transfer_key="transfer:u1:r-0",
        chain_uid="u1",
        reseller_id="r-0",
        currency="EUR",
        amount_minor=9,
        effective_at=NOW,
    )
    made = [
        bill(),
        charge(),
        accrual(5),
        ledger.refunded(charge(), sequence=2, amount_minor=1, effective_at=NOW),
        transfer,
        ledger.transfer_reversed(transfer, sequence=1, amount_minor=4, effective_at=NOW),
    ]
    assert [entry.key for entry in made] == [
        "billed:u1",
        "charged:u1:1",
        "accrued:u1",
        "refunded:u1:2",
        "transferred:transfer:u1:r-0",
        "transfer_reversed:transfer:u1:r-0:1",
    ]
    assert Counter(entry.kind for entry in made).most_common(1)[0][1] == 1
