"""Resellers from a table: every way in which a spreadsheet saves it, and every error at once."""

from __future__ import annotations

from datetime import date

import pytest

from domain.catalog_model import Address, CatalogReseller
from domain.model import PayoutMode
from domain.reseller_table import Entry, Known, TableErrors, parse_resellers

HEADER = (
    "id,name,email,parent_id,payout_mode,address_line1,address_line2,postal_code,city,country,small_business,"
    "tax_status_from,tax_status_proof,vat_id,minimum_payout_minor"
)
ONE = "r-1,Eins Beispiel,one@example.com,,monthly,Weg 1,,20095,Hamburg,DE,no,2026-01-31,letter 17,DE136695976,EUR=2500"
TWO = "r-2,Zwei Beispiel,two@example.com,r-1,,Gasse 2,Hof,1010,Wien,at,ja,31.1.2026,letter 18,ATU 1234 5675,"

FIRST = CatalogReseller(
    id="r-1",
    name="Eins Beispiel",
    email="one@example.com",
    address=Address(line1="Weg 1", postal_code="20095", city="Hamburg"),
    tax_status_from=date(2026, 1, 31),
    tax_status_proof="letter 17",
    vat_id="DE136695976",
    minimum_payouts={"EUR": 2500},
)
SECOND = CatalogReseller(
    id="r-2",
    name="Zwei Beispiel",
    email="two@example.com",
    parent_id="r-1",
    payout_mode=PayoutMode.MONTHLY,
    address=Address(line1="Gasse 2", line2="Hof", postal_code="1010", city="Wien"),
    country="AT",
    small_business=True,
    tax_status_from=date(2026, 1, 31),
    tax_status_proof="letter 18",
    vat_id="ATU12345675",
)


def parse(text: str, known: Known | None = None) -> list[Entry]:
    return parse_resellers(text.encode(), known or Known())


def problems(text: str | bytes, known: Known | None = None) -> list[tuple[int, str]]:
    with pytest.raises(TableErrors) as caught:
        parse_resellers(text.encode() if isinstance(text, str) else text, known or Known())
    assert all(error.problem and error.hint for error in caught.value.errors)
    return [(error.line, error.column) for error in caught.value.errors]


TABLE = f"{HEADER}\n{ONE}\n{TWO}\n"


@pytest.mark.parametrize(
    "raw",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace(",", ";").encode("utf-8-sig"),
        ("sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n")).encode("utf-8-sig"),
        TABLE.replace(",", "\t").encode(),
        TABLE.rstrip("\n").encode(),
        (TABLE.replace("\n", ",,,\n") + "\n,,,,,,,,\n\n").encode(),
        TABLE.replace("Eins Beispiel", '"Eins Beispiel"').replace("Weg 1", "  Weg 1\u00a0").encode(),
        TABLE.replace("id,name,email,parent_id", "ID,Name,Email,Parent id", 1).encode(),
        f"{HEADER}\n{TWO}\n{ONE}\n".encode(),
    ],
)
def test_what_spreadsheets_write_is_read(raw: bytes) -> None:
    assert [entry.reseller for entry in parse_resellers(raw, Known())] == [FIRST, SECOND]


def test_lines_are_those_of_an_editor() -> None:
    header = "id,name,email,tax_status_proof,country"
    text = f'{header}\r\nr-1,One,one@example.com,"two\r\nlines",DE\r\n\r\nr-2,Two,two@example.com,x,Germany\r\n'
    assert problems(text) == [(5, "country")]


def test_empty_cells_keep_what_is_stored_and_a_dash_empties() -> None:
    known = Known({"r-1": FIRST, "r-2": SECOND})
    header = "id,name,email,parent_id,vat_id,minimum_payout_minor,city,address_line2"
    (entry,) = parse(f"{header}\nr-2,Zwei Neu,two@example.com,,,,,\n", known)
    assert entry.reseller == SECOND.model_copy(update={"name": "Zwei Neu"})
    (entry,) = parse(f"{header}\nr-2,Zwei Beispiel,two@example.com,-,-,-,Graz,-\n", known)
    assert (entry.reseller.parent_id, entry.reseller.vat_id, entry.reseller.minimum_payouts) == (None, None, {})
    assert entry.reseller.address == Address(line1="Gasse 2", postal_code="1010", city="Graz")


def test_all_errors_of_a_file_are_told_at_once() -> None:
    lines = [
        "id,name,email,parent_id,payout_mode,address_line1,postal_code,city,country,small_business,tax_status_from,"
        "vat_id,minimum_payout_minor,stripe_account_id,agreement_like",
        "r 1,One,one@example.com,,,,,,,,,,,,",
        "r-2,,two@example,r-none,weekly,,,,Germany,perhaps,31.13.2026,,EUR 25,ac_1,r-9",
        "r-3,Three,three@example.com,,,Street 1,,,,,,DE136695977,,,",
        "r-4,Four,four@example.com,,,Street 1,1067,Dresden,,,,FR12345678901,,acct_7,",
        "r-4,Four,four@example.com,,,,,,,,,,XXX=5,acct_7,",
        "r-5,Five,five@example.com,r-6,,,,,,,,,,acct_1,",
        "r-6,Six,six@example.com,r-5,,,,,,,,,,,,,,surplus",
        "r-7,Seven,seven@example.com,-,-,,,,,,,,,,",
        "r-8,Eight,eight@example.com,r-8,,,,,,,,,,,",
    ]
    taken = CatalogReseller(id="r-x", name="X", email="x@example.com", stripe_account_id="acct_1")
    assert sorted(problems("\n".join(lines), Known({"r-x": taken}))) == sorted(
        [
            (2, "id"),
            (3, "name"),
            (3, "email"),
            (3, "parent_id"),
            (3, "payout_mode"),
            (3, "country"),
            (3, "small_business"),
            (3, "tax_status_from"),
            (3, "minimum_payout_minor"),
            (3, "stripe_account_id"),
            (3, "agreement_like"),
            (4, "postal_code"),
            (4, "city"),
            (4, "vat_id"),
            (5, "postal_code"),
            (5, "vat_id"),
            (6, "id"),
            (6, "stripe_account_id"),
            (6, "minimum_payout_minor"),
            (7, "parent_id"),
            (7, "stripe_account_id"),
            (8, ""),
            (8, "parent_id"),
            (9, "payout_mode"),
            (10, "parent_id"),
        ]
    )


def test_circles_with_what_is_stored_are_found() -> None:
    known = Known({"r-1": FIRST, "r-2": SECOND})
    found = problems("id,name,email,parent_id\nr-1,Eins Beispiel,one@example.com,r-2\n", known)
    assert found == [(2, "parent_id")]


@pytest.mark.parametrize(
    ("raw", "line", "column"),
    [
        (b"", 0, ""),
        (b"\n\n", 0, ""),
        ("id,name,email\nr-1,\u00c4,a@example.com\n".encode("cp1252"), 2, ""),
        ("id,name,email\n".encode("utf-16"), 0, ""),
        (b"PK\x03\x04\x00\x00", 0, ""),
        (b"id,name\nr-1,One\n", 1, "email"),
        (b"id,name,email,emial\nr-1,One,one@example.com,x\n", 1, "emial"),
        (b"id,name,email,id\nr-1,One,one@example.com,x\n", 1, "id"),
        (b'id,name,email\nr-1,"One"x,one@example.com\n', 2, ""),
        (b'id,name,email\nr-1,"One,one@example.com\n', 2, ""),
    ],
)
def test_files_that_are_no_table(raw: bytes, line: int, column: str) -> None:
    assert problems(raw) == [(line, column)]


def test_names_and_addresses_are_not_repeated() -> None:
    with pytest.raises(TableErrors) as caught:
        parse("id,name,email,address_line1\nr-1,Secret Person,secret at example,Secret Lane\n")
    assert "ecret" not in str(caught.value)


def test_an_agreement_to_copy_must_exist() -> None:
    text = "id,name,email,agreement_like\nr-1,One,one@example.com,r-9\n"
    assert problems(text, Known({"r-9": SECOND})) == [(2, "agreement_like")]
    (entry,) = parse(text, Known(agreed={"r-9"}))
    assert entry.agreement_like == "r-9"
