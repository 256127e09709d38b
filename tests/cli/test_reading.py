"""What operations and finance read: chains, the story of one, the books, the audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from store import Store
from store.rows import InboxStatus
from tests.cli.conftest import Billing
from tests.store import seed

PERSONAL = ("Erika", "erika@example.com", "c1@example.com", "Example Practice")


async def a_month(store: Store) -> None:
    """One chain that was charged and refunded in part, one parked, one overdue, and events nobody understood."""
    await seed.apply(store)
    await seed.charged_chain(store, "paid-1")
    await seed.refund(store, "paid-1", 4_760)
    async with store.begin() as tx:
        await tx.chains.alias("paid-1b", "paid-1")
        await tx.log.write("ops-anna", "retried", "chain:paid-1", "card renewed", {"stage": "hold", "detail": "soft"})
        await tx.chains.update("paid-1", stage=ChainStage.CLOSED, outcome=ChainOutcome.MATURED)
        await tx.chains.open("parked-1", "booking-parked-1")
        await tx.chains.update(
            "parked-1",
            stage=ChainStage.PARKED,
            reason=ParkReason.NO_PRICE,
            detail="event type 99",
            waits_for="a person",
        )
        await tx.chains.open("late-1", "booking-late-1")
        await tx.chains.update(
            "late-1",
            stage=ChainStage.CHARGING,
            waits_for="the charge",
            deadline_at=datetime.now(UTC) - timedelta(hours=1),
        )
        raw = b'{"attendee": "erika@example.com"}'
        await tx.inbox.add("evt-odd", "calcom", "BOOKING_ODD", None, raw, InboxStatus.NOT_UNDERSTOOD)
        await tx.inbox.add("evt-held", "stripe", "charge.dispute.created", "du_1", raw)
        await tx.inbox.held("evt-held", "dispute on a closed chain")
        await tx.inbox.add("evt-fine", "stripe", "payout.paid", "po_1", raw, InboxStatus.IGNORED)


@pytest.fixture
def month(billing: Billing, planted: Callable[..., Any]) -> Billing:
    planted(a_month)
    return billing


def test_chains_say_where_they_stand(month: Billing) -> None:
    result = month("chains")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[2:]}
    assert rows.keys() == {"paid-1", "parked-1", "late-1"}
    assert "no_price: event type 99" in rows["parked-1"]
    assert all(word in rows["paid-1"] for word in ("closed", "matured", "c-1", "r-leaf", "119,00 €"))


def test_stuck_chains_and_events_are_listed_together(month: Billing) -> None:
    result = month("chains", "--stuck")
    assert result.exit_code == 0
    for uid in ("parked-1", "late-1", "evt-odd", "evt-held", "not_understood", "dispute on a closed chain"):
        assert uid in result.stdout
    for uid in ("paid-1 ", "evt-fine"):
        assert uid not in result.stdout
    found = month.json("chains", "--stuck")
    assert {chain["chain_uid"] for chain in found["chains"]} == {"parked-1", "late-1"}
    assert {event["event_id"] for event in found["events"]} == {"evt-odd", "evt-held"}
    assert not any("raw" in event for event in found["events"])


def test_nothing_stuck_is_said(billing: Billing) -> None:
    assert "Nothing is stuck." in billing("chains", "--stuck").stdout


def test_limits_are_kept_and_told(month: Billing) -> None:
    assert len(month.json("chains", "--limit", "2")) == 2
    assert "The newest 2 are shown" in month("chains", "--limit", "2").stdout


def test_the_story_of_a_chain(month: Billing) -> None:
    result = month("show", "paid-1")
    assert result.exit_code == 0
    told = result.stdout
    for words in (
        "Chain paid-1 is closed: matured",
        "rescheduled: paid-1 → paid-1b",
        "customer c-1 pays 119,00 € (100,00 € + 19 % VAT, standard) by platform/v1#event-default",
        "charge, attempt 1: succeeded, pi_paid-1",
        "refund 1: succeeded, re_paid-1_1",
        "retried by ops-anna: card renewed (soft)",
        "commission accrued, all levels",
        "commission reversed, all levels",
        "billed:paid-1",
        "charged:paid-1:1",
    ):
        assert words in told
    assert "2026-000001" in told
    levels = [line.split() for line in told.splitlines() if line.startswith(("0  ", "1  ", "2  "))]
    assert [(row[1], row[2], row[4]) for row in levels] == [
        ("r-leaf", "25,00", "10,00"),
        ("r-mid", "5,00", "2,00"),
        ("r-root", "2,00", "0,80"),
    ]


def test_the_timeline_is_in_order(month: Billing) -> None:
    lines = month("show", "paid-1").stdout.split("Timeline")[1].split("Commission")[0].splitlines()[2:]
    moments = [datetime.strptime(line[:19], "%d.%m.%Y %H:%M:%S") for line in lines if line.strip()]  # noqa: DTZ007
    assert len(moments) >= 6
    assert moments == sorted(moments)


def test_any_uid_of_a_chain_finds_it(month: Billing) -> None:
    assert month("show", "paid-1b").stdout == month("show", "paid-1").stdout


def test_a_parked_chain_says_why(month: Billing) -> None:
    told = month("show", "parked-1").stdout
    assert "Chain parked-1 is parked: no_price: event type 99" in told
    assert "waits for a person" in told


def test_the_story_as_json(month: Billing) -> None:
    story = month.json("show", "paid-1")
    assert story["chain"]["outcome"] == "matured"
    assert [charge["amount_minor"] for charge in story["charges"]] == [11_900]
    assert {"billed:paid-1", "charged:paid-1:1"} <= {entry["key"] for entry in story["entries"]}


def test_an_unknown_uid_is_said(month: Billing) -> None:
    result = month("show", "nobody")
    assert result.exit_code == 1
    assert "No chain has the uid nobody" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["chains"], ["chains", "--stuck"], ["show", "paid-1"], ["ledger"], ["ledger", "stripe"]]
)
def test_nothing_personal_is_printed(month: Billing, arguments: list[str]) -> None:
    told = month(*arguments).stdout + month(*arguments, "--json").stdout
    assert not [word for word in PERSONAL if word in told]


def test_the_trial_balance(month: Billing) -> None:
    result = month("ledger")
    assert result.exit_code == 0
    rows = {line.split()[0]: " ".join(line.split()) for line in result.stdout.splitlines()[2:] if line.strip()}
    assert rows["customer:c-1"].startswith("customer:c-1 166,60 € 119,00 € 47,60 € debit")
    assert rows["reseller:r-leaf"] == "reseller:r-leaf 10,00 € 25,00 € 15,00 € credit"
    assert rows["Sum:"].endswith(": balanced")
    balances = month.json("ledger")
    assert sum(row["debit_minor"] for row in balances) == sum(row["credit_minor"] for row in balances) > 0


def test_the_postings_of_one_account(month: Billing) -> None:
    lines = month.json("ledger", "stripe")
    assert {line["entry_key"] for line in lines} == {"charged:paid-1:1", "fee:paid-1:1", "refunded:paid-1:1"}
    told = month("ledger", "stripe", "--limit", "1").stdout
    assert "The newest 1 are shown" in told


def test_a_misspelt_account_is_helped(month: Billing) -> None:
    result = month("ledger", "reseller:r-lief")
    assert result.exit_code == 1
    assert "Did you mean reseller:r-leaf" in result.stderr


async def sound(store: Store) -> None:
    await seed.apply(store)
    await seed.charged_chain(store, "paid-1")
    async with store.begin() as tx:
        await tx.chains.update(
            "paid-1",
            stage=ChainStage.HOLD,
            waits_for="the end of the refund window",
            deadline_at=datetime.now(UTC) + timedelta(days=1),
        )


def test_the_audit_of_sound_books_is_green(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(sound)
    result = billing("audit", "--offline")
    assert (result.exit_code, result.stdout) == (0, "I1 to I8 hold; I1 was compared with our own records.\n")
    assert billing.json("audit", "--offline") == []


def test_the_audit_tells_its_findings(month: Billing) -> None:
    """`late-1` waits past its deadline: I4. Young as it is, a chain under way would not be judged yet."""
    result = month("audit", "--offline", "--grace", "0")
    assert result.exit_code == 1
    assert "I4 chain late-1" in result.stdout
    assert "   → " in result.stdout
    findings = json.loads(month("audit", "--offline", "--grace", "0", "--json").stdout)
    assert any(finding["invariant"] == "I4" and "late-1" in finding["where"] for finding in findings)


def test_the_audit_against_stripe_out_of_reach_is_said(billing: Billing, planted: Callable[..., Any]) -> None:
    planted(sound)
    result = billing("audit")
    assert result.exit_code == 1
    assert "Stripe" in result.stderr
    assert "--offline" in result.stderr


def test_health_tells_what_is_late_from_what_a_person_decides(month: Billing, planted: Callable[..., Any]) -> None:
    checks = {check["name"]: check for check in month.json("health")}
    assert checks["chains"]["state"] == "broken"
    assert checks["chains"]["found"] == "past their deadline: 1; parked: 1 no_price"
    assert checks["inbox"]["state"] == "attention"
    assert checks["inbox"]["found"].startswith("held or not understood: 2 ")

    async def moved_on(store: Store) -> None:
        async with store.begin() as tx:
            await tx.chains.update("late-1", stage=ChainStage.CLOSED, outcome=ChainOutcome.CANCELLED)

    planted(moved_on)
    checks = {check["name"]: check for check in month.json("health")}
    assert (checks["chains"]["state"], checks["chains"]["found"]) == ("attention", "parked: 1 no_price")
    assert checks["ledger"]["state"] == "ok"
