"""`billing reseller …` on a real database: adding, importing with every error at once, showing, pausing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.onboarding import OnboardingReason, OnboardingStatus
from domain.ports import ConnectedAccount, Payout, PayoutStatus
from store import Store
from tests.cli.conftest import Billing
from tests.store import seed

COMPLETE = {
    "--name": "New Example",
    "--email": "new@example.com",
    "--address-line1": "Weg 1",
    "--postal-code": "20095",
    "--city": "Hamburg",
    "--tax-status-from": "2026-01-31",
    "--tax-status-proof": "letter 17",
    "--vat-id": "DE136695976",
}
HEADER = "id;name;email;parent_id;country;vat_id;agreement_like"
ROWS = (
    "r-a;Ä Beispiel;a@example.com;;DE;DE136695976;r-leaf",
    "r-b;B Beispiel;b@example.com;r-a;AT;ATU12345675;",
)


def options(*more: str) -> list[str]:
    """All options of a reseller who is complete; `more` goes before them."""
    given = {**COMPLETE, **dict(zip(more[::2], more[1::2], strict=True))}
    return [part for pair in given.items() for part in pair]


def table(billing: Billing, *lines: str, encoding: str = "utf-8-sig") -> str:
    path = billing.folder / "resellers.csv"
    path.write_bytes("\r\n".join([HEADER, *lines, ""]).encode(encoding))
    return str(path)


async def apply(store: Store) -> None:
    await seed.apply(store)


async def known(store: Store) -> list[str]:
    async with store.begin() as tx:
        return [row.id for row in await tx.resellers.all()]


def test_adding_and_changing(billing: Billing, planted: Callable[..., Any]) -> None:
    first = billing("reseller", "add", "r-new", *options())
    assert (first.exit_code, first.stderr) == (0, "")
    assert "reseller r-new: new" in first.stdout
    assert "has no agreement" in first.stdout
    again = billing("reseller", "add", "r-new", *options())
    assert "1 unchanged" in again.stdout
    changed = billing("reseller", "add", "r-new", "--city", "Kiel", "--minimum-payout-minor", "EUR=2500 JPY=5000")
    assert "reseller r-new: changed address, minimum_payouts" in changed.stdout
    shown = billing("reseller", "show", "r-new").stdout
    for word in ("New Example", "20095 Kiel", "25,00", "DE136695976", "31.01.2026", "letter 17", "earned nothing yet"):
        assert word in shown
    assert "billing reseller link r-new" in shown
    assert billing.json("reseller", "show", "r-new")["reseller"]["address"]["city"] == "Kiel"


@pytest.mark.parametrize(
    ("more", "option"),
    [
        (["--email", "nobody"], "--email"),
        (["--vat-id", "DE123"], "--vat-id"),
        (["--parent", "r-none"], "--parent"),
        (["--agreement-like", "r-none"], "--agreement-like"),
        (["--tax-status-from", "yesterday"], "--tax-status-from"),
        (["--minimum-payout-minor", "25 EUR"], "--minimum-payout-minor"),
        (["--small-business", "maybe"], "--small-business"),
        (["--stripe-account", "123"], "--stripe-account"),
        (["--payout-mode", "daily"], "--payout-mode"),
    ],
)
def test_wrong_options_are_named(billing: Billing, planted: Callable[..., Any], more: list[str], option: str) -> None:
    result = billing("reseller", "add", "r-new", *options(*more))
    assert result.exit_code == 2
    assert option in result.stderr
    assert "Nothing was changed." in result.stderr
    assert planted(known) == []


def test_a_bad_id_is_refused(billing: Billing) -> None:
    result = billing("reseller", "add", "r new", *options())
    assert (result.exit_code, "RESELLER" in result.stderr) == (2, True)


def test_a_file_is_imported_and_a_second_time_changes_nothing(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(apply)
    path = table(billing, *ROWS)
    first = billing("reseller", "import", path)
    assert first.exit_code == 0, first.stderr
    assert "reseller r-a: new, agreement like r-leaf" in first.stdout
    assert "reseller r-b has no agreement" in first.stdout
    again = billing("reseller", "import", path)
    assert (again.exit_code, "2 unchanged" in again.stdout) == (0, True)
    assert ": new" not in again.stdout
    assert {"r-a", "r-b"} <= set(planted(known))


def test_every_error_of_a_file_is_told_and_nothing_imported(billing: Billing, planted: Callable[..., Any]) -> None:
    wrong = ("r-c;;c.example.com;r-none;Germany;;", "r-d;D;d@example.com;;DE;DE136695977;r-none", ROWS[0])
    path = table(billing, ROWS[0], *wrong)
    result = billing("reseller", "import", path)
    assert result.exit_code == 2
    told = [line.removeprefix(f"{path}:").split(": ")[:2] for line in result.stderr.splitlines() if ".csv:" in line]
    assert told == [
        ["2", "agreement_like"],
        ["3", "name"],
        ["3", "email"],
        ["3", "country"],
        ["3", "parent_id"],
        ["4", "vat_id"],
        ["4", "agreement_like"],
        ["5", "id"],
        ["5", "agreement_like"],
    ]
    assert "9 errors. Nothing was changed." in result.stderr
    assert "c.example.com" not in result.output
    assert planted(known) == []


def test_what_excel_saves_in_another_encoding_is_explained(billing: Billing) -> None:
    result = billing("reseller", "import", table(billing, *ROWS, encoding="cp1252"))
    assert result.exit_code == 2
    assert "CSV UTF-8" in result.stderr


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_read(billing: Billing, name: str) -> None:
    result = billing("reseller", "import", str(Path(billing.folder) / name))
    assert (result.exit_code, "cannot be read" in result.stderr) == (2, True)


def test_agreements_beyond_a_ceiling_change_nothing(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(apply)
    rows = [f"r-{n};N {n};n{n}@example.com;{'r-leaf' if n == 1 else f'r-{n - 1}'};DE;;r-root" for n in range(1, 9)]
    result = billing("reseller", "import", table(billing, *rows))
    assert result.exit_code == 2
    assert "Nothing was changed." in result.stderr
    assert planted(known) == ["r-leaf", "r-mid", "r-root"]


def test_pausing_and_resuming_are_recorded(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(apply)
    order = ("--by", "ops-anna", "--why", "a question about his VAT id")
    assert "r-leaf is paused" in billing("reseller", "pause", "r-leaf", *order).stdout
    assert "is paused already" in billing("reseller", "pause", "r-leaf", *order).stdout
    assert "PAUSED" in billing("reseller", "list").stdout
    assert "is not paused" in billing("reseller", "resume", "r-leaf", *order).stdout
    log = billing.json("reseller", "show", "r-leaf")["log"]
    assert [(line["actor"], line["action"], line["reason"]) for line in log] == [
        ("ops-anna", "paused", order[3]),
        ("ops-anna", "resumed", order[3]),
    ]


def test_pausing_works_without_temporal(billing: Billing, planted: Callable[..., Any]) -> None:
    async def being_taken_on(store: Store) -> None:
        await seed.apply(store)
        async with store.begin() as tx:
            await tx.resellers.note_onboarding("r-leaf", OnboardingStatus.WAITING)

    planted(being_taken_on)
    result = billing("reseller", "pause", "r-leaf", "--by", "ops-anna", "--why", "test")
    assert result.exit_code == 0
    assert "is paused; Temporal does not answer" in result.stdout


@pytest.mark.parametrize("command", ["show", "link", "pause", "resume", "retry", "stop"])
def test_an_unknown_reseller_is_told(billing: Billing, command: str) -> None:
    more = [] if command == "show" else ["--by", "ops-anna", "--why", "test"]
    result = billing("reseller", command, "r-none", *more)
    assert result.exit_code in (1, 2)
    assert "r-none" in result.stderr or "Temporal" in result.stderr
    assert len(result.stderr.splitlines()) <= 2


async def troubled(store: Store) -> None:
    await seed.apply(store)
    account = ConnectedAccount(
        account_id="acct_leaf",
        transfers_active=False,
        payouts_enabled=False,
        disabled_reason="requirements.past_due",
        default_currency="EUR",
    )
    failed = Payout(
        payout_id="po_1",
        status=PayoutStatus.FAILED,
        amount_minor=122_500,
        currency="EUR",
        failure_code="account_closed",
        arrives_on=date(2026, 3, 4),
        created_at=datetime(2026, 3, 1, 8, tzinfo=UTC),
    )
    async with store.begin() as tx:
        now = await tx.resellers.now()
        await tx.resellers.note_account("r-leaf", account, now)
        await tx.resellers.note_payout("r-leaf", "acct_leaf", failed, now)
        await tx.resellers.note_onboarding(
            "r-mid", OnboardingStatus.PARKED, reason=OnboardingReason.MASTER_DATA, detail="the address is missing"
        )


def test_what_is_wrong_is_shown_and_found_by_health(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(troubled)
    shown = billing("reseller", "show", "r-leaf").stdout
    for word in ("NO: no transfers, requirements.past_due", "1.225,00", "failed", "account_closed", "04.03.2026"):
        assert word in shown
    listed = billing("reseller", "list").stdout
    assert "parked: master_data" in listed
    (check,) = [one for one in billing.json("health") if one["name"] == "resellers"]
    assert check["state"] == "attention"
    for word in ("r-leaf: account, requirements.past_due", "r-leaf: payout, po_1: account_closed", "r-mid: onboarding"):
        assert word in check["found"]


def test_a_list_without_resellers_says_what_to_do(billing: Billing) -> None:
    assert "billing reseller import" in billing("reseller", "list").stdout
