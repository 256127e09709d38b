"""`billing statement`, and the parts of the month's end that need no Temporal: on a real database."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from cli.settlement_tables import what_next
from domain.effects import AdjustmentDirection, AdjustmentKind, SettlementStatus
from domain.model import ParkReason
from settings import load
from store import Store
from store.rows import SettlementRow
from tests.cli.conftest import Billing
from tests.store import closing, seed

WHO = ("--by", "fin-anna", "--why", "asked for")


async def a_closed_month(store: Store) -> None:
    """Two bookings of March settled: r-leaf is paid, r-mid has a correction that waits for its second person."""
    await seed.apply(store)
    await closing.matured(store, "one-1", "two-1")
    rows = await closing.claim(store)
    await closing.paid(store, rows["r-leaf"])
    async with store.begin() as tx:
        await tx.settlements.adjust(
            "A-1",
            reseller_id="r-mid",
            currency="EUR",
            amount_minor=1_250,
            direction=AdjustmentDirection.CREDIT,
            kind=AdjustmentKind.CORRECTION,
            why="bonus",
            requested_by="fin-anna",
        )


@pytest.fixture
def closed(billing: Billing, planted: Callable[..., Any]) -> Billing:
    planted(a_closed_month)
    return billing


def test_the_page(closed: Billing) -> None:
    result = closed("statement", "r-leaf", "2026-03")
    assert result.exit_code == 0, result.stderr
    for part in ("STATEMENT S-2026-03-r-leaf-EUR-1", "Leaf GmbH", "one-1", "25 % of 100,00 €", "25,00 €",
                 "19 % Umsatzsteuer on 50,00 € net", "59,50 €", "10.03.2026",
                 "tr_settlement_2026-03_r-leaf_EUR_1"):  # fmt: skip
        assert part in result.stdout, part


def test_the_csv_is_the_same_statement_byte_for_byte(closed: Billing) -> None:
    result = closed("statement", "r-leaf", "2026-03", "--format", "csv")
    assert result.stdout_bytes.startswith(b"\xef\xbb\xbfstatement;month;")
    assert b"\r\n" in result.stdout_bytes
    assert b"\r\r\n" not in result.stdout_bytes
    text = result.stdout_bytes.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))
    assert [(row["what"], row["booking"], row["credit"]) for row in rows[:2]] == [
        ("commission", "one-1", "25,00"),
        ("commission", "two-1", "25,00"),
    ]
    assert sum(int(row["credit_minor"]) for row in rows) == sum(int(row["debit_minor"]) for row in rows) == 5_950


def test_the_json_holds_the_frozen_party(closed: Billing) -> None:
    found = json.loads(closed("statement", "r-leaf", "2026-03", "--format", "json").stdout)
    assert found["id"] == "S-2026-03-r-leaf-EUR-1"
    assert found["payable_minor"] == 5_950
    assert found["party"]["name"] == "Leaf GmbH"
    assert found == closed.json("statement", "r-leaf", "2026-03")


def test_what_was_renamed_later_stands_as_it_was(closed: Billing, planted: Callable[..., Any]) -> None:
    before = closed("statement", "r-leaf", "2026-03").stdout

    async def renamed(store: Store) -> None:
        await seed.apply(store, {"Leaf GmbH": "Other GmbH"})

    planted(renamed)
    assert closed("statement", "r-leaf", "2026-03").stdout == before


def test_all_of_a_reseller(closed: Billing) -> None:
    told = closed("statement", "r-mid").stdout
    assert "S-2026-03-r-mid-EUR-1" in told
    assert "A-1" in told
    assert "requested" in told
    assert "Account in EUR: we owe 11,90 € (11,90 € on statements, not transferred)" in told
    found = closed.json("statement", "r-mid")
    assert [one["amount_minor"] for one in found["adjustments"]] == [1_250]
    assert found["accounts"][0]["owed_minor"] == 1_190


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("statement", "r-nobody", "2026-03"), "No reseller has the id r-nobody"),
        (("statement", "r-nobody"), "No reseller has the id r-nobody"),
        (("statement", "r-leaf", "2026-02"), "no such statement for 2026-02. The last ones: S-2026-03-r-leaf-EUR-1"),
        (("statement", "r-leaf", "2026-03", "--currency", "CHF"), "no such statement"),
        (("statement", "r-leaf", "2026-03", "--supplement", "2"), "no such statement"),
        (("approve", "settlement", "r-leaf", "--month", "2026-03", *WHO), "S-2026-03-r-leaf-EUR-1 is paid"),
        (("carry-over", "r-leaf", "--month", "2026-03", *WHO), "is paid: there is nothing to carry over"),
    ],
)
def test_what_is_not_there_is_said_with_exit_code_1(closed: Billing, arguments: tuple[str, ...], told: str) -> None:
    result = closed(*arguments)
    assert result.exit_code == 1
    assert told in result.stderr


def test_a_reseller_without_a_statement(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(seed.apply)
    assert "r-leaf has no statement yet" in billing("statement", "r-leaf", "2026-03").stderr
    assert "r-leaf has no statement yet, and nothing open" in billing("statement", "r-leaf").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statement", "r-1", "2026-13"], "YYYY-MM"),
        (["statement", "r-1", "2026-03", "--format", "pdf"], "one of text, csv, json"),
        (["settle", "--month", "2026-03", "--dry-run", "--pause"], "Choose one"),
        (["settle", "--month", "2026-03", "--pause"], "--by"),
        (["approve", "settlement", "r-1"], "--month"),
        (["approve", "adjustment", "A-1", "--by", "anna"], "--why"),
        (["reject", "adjustment", "A-1", "--by", "anna", "--why", " "], "--why"),
        (["adjust", "r-1", "--amount", "5", *WHO], "--credit"),
        (["adjust", "r-1", "--amount", "5", "--credit", "--debit", *WHO], "--credit"),
        (["adjust", "r-1", "--amount", "1.250", "--credit", *WHO], "thousands separators"),
        (["adjust", "r-1", "--amount", "-5", "--credit", *WHO], "without a sign"),
        (["adjust", "r-1", "--amount", "0,00", "--credit", *WHO], "changes nothing"),
        (["adjust", "r-1", "--amount", "12.5", "--credit", *WHO], "with 2 decimals"),
        (["adjust", "r-1", "--amount", "12.50", "--currency", "JPY", "--credit", *WHO], "with 0 decimals"),
        (["adjust", "r-1", "--amount", "12.50", "--currency", "XXX", "--credit", *WHO], "one of CHF, EUR"),
        (["write-off", "r-1", "--currency", "eur", *WHO], "one of CHF, EUR"),
    ],
)
def test_wrong_arguments_end_with_2(unconfigured: Billing, arguments: list[str], told: str) -> None:
    result = unconfigured(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("adjust", "r-mid", "--amount", "12,50", "--credit", *WHO),
        ("write-off", "r-mid", *WHO),
        ("approve", "adjustment", "A-1", *WHO),
        ("approve", "settlement", "r-mid", "--month", "2026-03", *WHO),
        ("settle", "--month", "2026-03", "--pause", *WHO),
    ],
)
def test_orders_without_temporal_say_so(closed: Billing, arguments: tuple[str, ...]) -> None:
    result = closed(*arguments)
    assert result.exit_code == 1
    assert "Temporal does not answer" in result.stderr


def test_looking_first_needs_no_temporal(billing: Billing, planted: Callable[..., Any]) -> None:
    async def matured(store: Store) -> None:
        await seed.apply(store)
        await closing.matured(store, "one-1")

    planted(matured)
    result = billing("settle", "--month", "2026-03", "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Dry run: nothing is written, nobody is paid." in result.stdout
    assert "3 statements in EUR: 38,08 € payable, 0,00 € carried over" in result.stdout
    assert billing.json("settle", "--month", "2026-02", "--dry-run") == []
    assert "There is nothing to settle" in billing("settle", "--month", "2026-02", "--dry-run").stdout
    early = billing("settle", "--month", "2026-03", "--dry-run", "--supplement")
    assert (early.exit_code, "close it first" in early.stderr) == (1, True)


def test_health_lists_what_waits_of_all_months(closed: Billing, planted: Callable[..., Any]) -> None:
    checks = {check["name"]: check for check in closed.json("health")}
    assert (checks["settlements"]["state"], checks["settlements"]["found"]) == ("ok", "no statement waits")
    assert checks["adjustments"]["state"] == "attention"
    assert checks["adjustments"]["found"] == "A-1 of r-mid (12,50 €, by fin-anna)"
    assert "billing approve adjustment" in checks["adjustments"]["to_do"]

    async def waiting(store: Store) -> None:
        async with store.begin() as tx:
            mid = await tx.settlements.get("2026-03", "r-mid", "EUR")
            root = await tx.settlements.get("2026-03", "r-root", "EUR")
        assert mid is not None
        assert root is not None
        await closing.finish(store, mid, SettlementStatus.PARKED, ParkReason.RESELLER_NOT_READY)
        await closing.finish(store, root, SettlementStatus.WAITING)
        async with store.begin() as tx:
            await tx.settlements.decide_adjustment("A-1", "fin-ben", approved=False)

    planted(waiting)
    checks = {check["name"]: check for check in closed.json("health")}
    assert checks["adjustments"]["found"] == "none waits for a second person"
    assert checks["settlements"]["state"] == "attention"
    assert "S-2026-03-r-mid-EUR-1 reseller_not_ready" in checks["settlements"]["found"]
    assert "S-2026-03-r-root-EUR-1 balance_insufficient since " in checks["settlements"]["found"]


@pytest.fixture
def row(database_url: str, planted: Callable[..., Any]) -> SettlementRow:
    async def one(store: Store) -> SettlementRow:
        await a_closed_month(store)
        async with store.begin() as tx:
            found = await tx.settlements.get("2026-03", "r-mid", "EUR")
        assert found is not None
        return found

    found: SettlementRow = planted(one)
    return found


def test_every_reason_to_wait_has_a_next_step(row: SettlementRow) -> None:
    for reason in ParkReason:
        waits = row.model_copy(update={"status": SettlementStatus.PARKED, "reason": reason, "sequence": 2})
        told = what_next(waits)
        assert told, reason
        assert "{" not in told
    refused = row.model_copy(update={"status": SettlementStatus.PARKED, "reason": ParkReason.TRANSFER_REFUSED})
    assert "billing retry r-mid --settlement 2026-03 --currency EUR --by" in what_next(refused)
    assert what_next(row) == ""


def test_the_issuer_of_credit_notes_comes_from_the_settings(billing: Billing) -> None:
    assert load().document_issuer is None
    billing.set(
        DOCUMENT_ISSUER_NAME="Example Platform GmbH",
        DOCUMENT_ISSUER_ADDRESS="Musterallee 2 | 20095 Hamburg|",
        DOCUMENT_ISSUER_VAT_ID="DE136695976",
    )
    assert load().document_issuer == {
        "name": "Example Platform GmbH",
        "address": ["Musterallee 2", "20095 Hamburg"],
        "vat_id": "DE136695976",
    }
