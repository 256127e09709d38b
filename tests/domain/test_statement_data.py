"""CSV and JSON of a statement: complete, adding up, and what a spreadsheet opens."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.closing import Earning, Left, Terms
from domain.effects import AdjustmentDirection, SettlementStatus
from domain.settlement import Statement
from domain.statement_data import COLUMNS, as_json, csv_lines, decimal, movements
from tests.domain import statement_samples as samples


def rows(of: Statement) -> list[dict[str, str]]:
    """What a spreadsheet reads."""
    text = "".join(csv_lines(of))
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=";"))


def everything() -> Statement:
    """A statement with something of each kind."""
    gone, stated = samples.clawed(9)
    return samples.statement(
        [samples.earning(1), samples.earning(2, 245, level=1), samples.own_transfer(3, 700), gone],
        stated=stated,
        adjustments=[
            samples.adjustment(5_000, AdjustmentDirection.CREDIT, "bonus; agreed"),
            samples.adjustment(300, AdjustmentDirection.DEBIT, '=HYPERLINK("x")'),
        ],
        left=[Left(period="2026-02", credit_minor=400)],
    )


def test_every_kind_of_movement_is_a_row_with_its_side() -> None:
    found = [(row["what"], row["booking"], int(row["credit_minor"]), int(row["debit_minor"])) for row in
             rows(everything())]  # fmt: skip
    assert found == [
        ("brought forward", "", 400, 0),
        ("commission", "booking-001", 1_225, 0),
        ("override", "booking-002", 245, 0),
        ("commission", "booking-003", 700, 0),
        ("paid already", "booking-003", 0, 700),
        ("clawback", "booking-009", 0, 1_225),
        ("correction", "", 5_000, 0),
        ("correction", "", 0, 300),
        ("VAT", "", 180, 0),
        ("payable", "", 0, 5_525),
    ]


def test_the_columns_are_the_same_in_every_row() -> None:
    text = "".join(csv_lines(everything())).removeprefix("\ufeff")
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=";"):
        assert len(row) == len(COLUMNS)
    assert text.count("\r\n") == len(rows(everything())) + 1
    assert "\n" not in text.replace("\r\n", "")


def test_amounts_are_readable_and_exact() -> None:
    for row in rows(everything()):
        for side in ("credit", "debit"):
            assert int(row[side].replace(",", "")) == int(row[f"{side}_minor"])
            assert row[side][-3] == ","
    assert decimal(1_234_567, "EUR") == "12345,67"
    assert decimal(5, "EUR") == "0,05"
    assert decimal(1_234, "JPY") == "1234"


def test_a_text_that_a_spreadsheet_would_run_is_only_text() -> None:
    explained = [row["explanation"] for row in rows(everything())]
    assert 'Correction A-300: =HYPERLINK("x")' in explained
    hostile = samples.statement([samples.earning(1, chain_uid="-1-2")])
    assert rows(hostile)[0]["booking"] == "'-1-2"
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows(hostile) for cell in row.values())


def test_days_are_those_of_berlin() -> None:
    late = samples.earning(1, matures_at=samples.BOUNDARY.replace(hour=21, minute=59))
    (row, *_) = rows(samples.statement([late]))
    assert (row["matured"], row["appointment"]) == ("2026-03-31", "2026-03-10")


ways = st.sampled_from(["monthly", "own transfer", "clawed"])


@given(
    st.lists(st.tuples(ways, st.integers(1, 100_000), st.integers(0, 2)), max_size=12),
    st.integers(0, 5_000),
    st.integers(0, 5_000),
    st.sampled_from([1_900, 0]),
)
def test_credit_and_debit_are_equal_whatever_happened(
    lives: list[tuple[str, int, int]], credit: int, debt: int, rate_bps: int
) -> None:
    earnings: list[Earning] = []
    stated = {}
    for number, (way, amount_minor, level) in enumerate(lives, 1):
        if way == "clawed":
            gone, before = samples.clawed(number, amount_minor)
            earnings.append(gone)
            stated.update(before)
        else:
            make = samples.earning if way == "monthly" else samples.own_transfer
            earnings.append(make(number, amount_minor, level=level))
    left = [Left(period="2026-02", credit_minor=credit + 1), Left(period="2026-01", debt_minor=debt)]
    terms = Terms(vat_rate_bps=rate_bps, vat_reason="standard", minimum_payout_minor=2_000)
    made = samples.statement(earnings, stated=stated, left=left, terms=terms)
    moved = list(movements(made))
    assert sum(one.credit_minor for one in moved) == sum(one.debit_minor for one in moved)
    assert moved[-1].amount_minor == made.due_minor + made.carried_debt_minor


def test_json_has_the_whole_frozen_record_and_reads_back() -> None:
    made = samples.paid(everything())
    found = json.loads(json.dumps(as_json(made), ensure_ascii=False))
    bare = {**found, "lines": [dict(line) for line in found["lines"]], "taxes": [dict(tax) for tax in found["taxes"]]}
    assert bare.pop("readable")["amounts"]["payable"] == "55,25 €"
    assert bare.pop("due_minor") == made.due_minor
    for part in (*bare["lines"], *bare["taxes"]):
        part.pop("readable")
    for line in bare["lines"]:
        line.pop("kind")
    assert Statement.model_validate(bare) == made


def test_json_says_in_words_what_each_amount_is() -> None:
    found = as_json(everything())
    assert found["party"]["name"] == "Example Sales GmbH"
    assert found["lines"][0]["readable"]["how"] == "25 % of 49,00 €"
    assert {line["kind"] for line in found["lines"]} == {"earned", "clawback"}
    assert found["taxes"][0]["readable"] == "19 % Umsatzsteuer"
    assert found["readable"]["document"].startswith("Self-billed credit note (Gutschrift")


@pytest.mark.parametrize(("currency", "readable"), [("EUR", "123,45 €"), ("CHF", "123,45 CHF"), ("JPY", "12.345 JPY")])
def test_currencies_with_and_without_cents(currency: str, readable: str) -> None:
    made = samples.statement([samples.earning(1, 12_345)], currency=currency)
    assert int(rows(made)[0]["credit"].replace(",", "")) == 12_345
    assert as_json(made)["readable"]["amounts"]["earned"] == readable


def test_nothing_to_pay_closes_with_zero() -> None:
    made = samples.statement(
        [samples.own_transfer(1)], terms=Terms(vat_rate_bps=0, vat_reason="small_business"),
        status=SettlementStatus.CARRIED_OVER,
    )  # fmt: skip
    assert [(row["what"], row["debit_minor"]) for row in rows(made)][-1] == ("payable", "0")


def test_a_long_statement_is_written_piece_by_piece() -> None:
    made = samples.statement([samples.earning(number) for number in range(1, 20_001)])
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in csv_lines(made))
        assert len(list(islice(csv_lines(made), 3))) == 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 2_000_000
    assert peak < size / 4
