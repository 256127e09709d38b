from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain import ids
from domain.ledger import EntryKind, balances
from domain.ledger_statements import adjusted, commission_vat

NOW = datetime(2026, 4, 3, tzinfo=UTC)


def test_vat_of_a_statement_is_owed_to_the_reseller_and_what_he_gives_back_by_him() -> None:
    name = ids.statement_id("2026-03", "r-1", "EUR", 2)
    given: dict[str, Any] = {"statement_id": name, "reseller_id": "r-1", "currency": "EUR", "effective_at": NOW}
    assert commission_vat(credit_minor=0, debit_minor=0, **given) is None
    entry = commission_vat(credit_minor=190, debit_minor=19, **given)
    assert entry is not None
    assert (entry.key, entry.kind, entry.chain_uid) == (
        "commission_vat:S-2026-03-r-1-EUR-2",
        EntryKind.COMMISSION_VAT,
        None,
    )
    assert balances([entry]) == {("vat_input", "EUR"): (190, 19), ("reseller:r-1", "EUR"): (19, 190)}


@pytest.mark.parametrize(
    ("is_credit", "is_write_off", "kind", "debit", "credit"),
    [
        (True, False, EntryKind.ADJUSTED, "commission_expense", "reseller:r-1"),
        (False, False, EntryKind.ADJUSTED, "reseller:r-1", "commission_expense"),
        (True, True, EntryKind.WRITTEN_OFF, "write_offs", "reseller:r-1"),
        (False, True, EntryKind.WRITTEN_OFF, "reseller:r-1", "write_offs"),
    ],
)
def test_an_adjustment_moves_the_account_once(
    is_credit: bool, is_write_off: bool, kind: EntryKind, debit: str, credit: str
) -> None:
    entry = adjusted(
        adjustment_id="A-1",
        reseller_id="r-1",
        currency="JPY",
        amount_minor=7,
        is_credit=is_credit,
        is_write_off=is_write_off,
        effective_at=NOW,
    )
    (posting,) = entry.postings
    assert (entry.key, entry.kind) == ("adjusted:A-1", kind)
    assert (posting.debit_account, posting.credit_account, posting.amount_minor) == (debit, credit, 7)
