"""A small demo on the real processes: every kind of booking ends as it must, and no history knows a person.

One run serves all tests here; each looks at another side of it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from temporalio.client import Client

from domain.catalog import parse_catalog
from domain.chain import ChainStage
from domain.effects import CarryReason, SettlementStatus
from domain.model import ParkReason
from domain.pricing import period_bounds, period_of, previous_period
from local.demo import WISHES, demo, play, start_everything
from local.demo_plan import KINDS, Plan, people, priced_catalogue
from local.demo_report import Result, show, sums
from local.environment import Environment
from local.setup import CATALOGUE
from starter.temporal import connect
from tests.conftest import create_database, drop_database, url_of

ANYWHERE = replace(WISHES, temporal_port=0, ui_port=0, webhook_port=0, stripe_port=0, calcom_port=0, persistent=False)

LEAST = len(KINDS) + 3
"""One of each kind, and what the kinds that need several need."""

ENDS = {
    "paid": 10,
    "matured": 8,
    "declined": 2,
    "cancelled": 3,
    "cancelled_with_fee": 1,
    "refunded": 1,
    "rolled_back": 2,
    "parked: authentication_required": 1,
    "parked: unmapped_customer": 1,
    "awaiting_confirmation": 1,
    "awaiting_charge": 2,
    "hold": 2,
}
"""How many of the smallest demo's chains end how."""


@dataclass
class Run:
    """The result of the one run, and all histories with their payloads decoded, as text by workflow id."""

    result: Result
    histories: dict[str, str]


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    name = f"billing_demo_{os.getpid()}"
    create_database(postgres_url, name)
    yield url_of(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture(scope="module")
def run(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    patch = pytest.MonkeyPatch()
    patch.setenv("DATABASE_URL", database)
    # Neither may reach the demo: it plays with money.
    patch.setenv("STRIPE_SECRET_KEY", "sk_live_of_somebody")
    patch.setenv("TEMPORAL_ADDRESS", "temporal.example.com:7233")
    folder = tmp_path_factory.mktemp("a folder with spaces")
    try:
        with Environment(folder / "demo", ANYWHERE, say=lambda words: None) as environment:
            start_everything(environment)
            result = asyncio.run(play(environment, LEAST, Console(file=io.StringIO())))
            histories = asyncio.run(_histories(environment))
        yield Run(result, histories)
    finally:
        patch.undo()


async def _histories(environment: Environment) -> dict[str, str]:
    client: Client = await connect(environment.settings())
    found = {}
    async for execution in client.list_workflows():
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        history = json.loads((await handle.fetch_history()).to_json())
        listed = f"{execution.typed_search_attributes} {await execution.memo()}"
        found[f"{execution.id} {execution.run_id}"] = f"{listed} {json.dumps(_decoded(history), ensure_ascii=False)}"
    return found


def _decoded(part: Any) -> Any:
    """The same JSON with every base64 payload as text."""
    if isinstance(part, dict):
        return {name: _text(inner) if name == "data" else _decoded(inner) for name, inner in part.items()}
    if isinstance(part, list):
        return [_decoded(inner) for inner in part]
    return part


def _text(data: Any) -> Any:
    if not isinstance(data, str):
        return _decoded(data)
    try:
        return base64.b64decode(data, validate=True).decode("utf-8", errors="replace")
    except binascii.Error:
        return data


def _people(result: Result) -> set[str]:
    """Every name and address that was planted anywhere, in lower case."""
    known = {
        person[key] for group in people().values() for person in group for key in ("name", "email") if key in person
    }
    for planned in result.plan.all:
        known |= {planned.spec["attendee"]["name"], planned.attendee_email}
        known |= set(planned.spec["attendee"]["name"].split()[1:])
    catalog = parse_catalog(CATALOGUE.read_text(encoding="utf-8"))
    known |= {words for customer in catalog.customers for words in (customer.name, customer.email)}
    known |= {words for reseller in catalog.resellers for words in (reseller.name, reseller.email)}
    known |= {reseller.address.line1 for reseller in catalog.resellers if reseller.address is not None}
    return {words.lower() for words in known if words}


class TestRun:
    def test_nothing_is_wrong(self, run: Run) -> None:
        assert run.result.problems == []

    def test_every_kind_ends_as_often_as_it_must(self, run: Run) -> None:
        found = Counter(
            row.outcome.value
            if row.outcome
            else f"{row.stage.value}: {row.reason.value}"
            if row.reason
            else row.stage.value
            for row in run.result.rows.values()
        )
        assert found == ENDS
        assert sum(ENDS.values()) == len(run.result.plan.all)

    def test_every_chain_is_closed_or_waits_for_something_until_a_moment(self, run: Run) -> None:
        for row in run.result.rows.values():
            if row.stage is ChainStage.CLOSED:
                assert row.closed_at is not None
            else:
                assert row.waits_for, row.chain_uid
                assert row.deadline_at is not None, row.chain_uid
                assert row.deadline_at > datetime.now(UTC), row.chain_uid

    def test_parked_chains_say_why(self, run: Run) -> None:
        parked = {row.chain_uid: row.detail for row in run.result.rows.values() if row.stage is ChainStage.PARKED}
        assert set(parked) == {"unmapped-001", "unconfirmed-payment-001"}
        assert "event type 99" in (parked["unmapped-001"] or "")

    def test_the_audit_is_green(self, run: Run) -> None:
        assert run.result.findings == []

    def test_the_books_balance(self, run: Run) -> None:
        debit_minor, credit_minor = sums(run.result.balances)
        assert debit_minor == credit_minor > 0

    def test_every_reseller_with_a_share_was_settled(self, run: Run) -> None:
        rows = {row.reseller_id: row for row in run.result.settled.rows}
        assert {"r-altona", "r-hamburg", "r-nord", "r-west", "r-insel"} <= set(rows)
        for reseller_id, row in rows.items():
            assert run.result.earnings[reseller_id].settled_minor == (row.payable_minor if row.transfer_key else 0)

    def test_the_settlement_shows_each_way_that_a_statement_can_take(self, run: Run) -> None:
        settled = run.result.settled
        rows = {row.reseller_id: row for row in settled.rows}
        assert {row.status for row in settled.rows} == {SettlementStatus.PAID, SettlementStatus.CARRIED_OVER}
        assert settled.was_parked == {
            "r-west": ParkReason.RESELLER_NOT_READY,
            "r-hamburg": ParkReason.APPROVAL_REQUIRED,
        }
        assert (rows["r-insel"].carry_reason, rows["r-insel"].payable_minor) == (CarryReason.BELOW_MINIMUM, 0)
        assert rows["r-hamburg"].approved_by == "fin-ben"
        assert len(settled.refusals) == 2
        assert all("fin-anna" in told and "second person" in told for told in settled.refusals)
        assert settled.differs_from_dry_run == []

    def test_a_reseller_who_is_paid_per_booking_gets_only_the_vat_with_the_month(self, run: Run) -> None:
        sued = run.result.earnings["r-sued"]
        assert sued.transferred_minor > 0
        assert sued.settled_minor == sued.vat_minor > 0

    def test_a_statement_is_printed_as_its_reseller_reads_it(self, run: Run) -> None:
        printed = io.StringIO()
        show(run.result, Console(file=printed, width=80))
        told = printed.getvalue()
        for part in (
            *("STATEMENT S-", "Gutschrift", "Hanse Termine", "Terminwerk GmbH", "bonus of the spring campaign"),
            *("r-west: parked at first (reseller_not_ready)", "below his minimum payout of 50,00 €"),
        ):
            assert part in " ".join(told.split()), part

    def test_lost_answers_charge_once(self, run: Run) -> None:
        assert (run.result.told.lost_answers, run.result.told.charges_after_lost_answers) == (1, 1)

    def test_strangers_are_refused(self, run: Run) -> None:
        assert run.result.told.refused_webhooks == {400: 4, 413: 1}
        assert run.result.told.not_understood_status == 200

    def test_the_tables_name_every_kind_and_the_verdict(self, run: Run) -> None:
        printed = io.StringIO()
        show(run.result, Console(file=printed, width=200))
        for kind in run.result.plan.kinds:
            assert kind.story in printed.getvalue()
        assert "✗" not in printed.getvalue()
        assert "the invariants I1 to I8 hold" in printed.getvalue()


class TestPrivacy:
    def test_histories_were_dumped_and_decoded(self, run: Run) -> None:
        """What the next test looks through is what it thinks it is."""
        chains = [uid for uid in run.histories if uid.startswith("booking-")]
        assert len(chains) == len(run.result.plan.all)
        text = next(text for name, text in run.histories.items() if name.startswith("booking-late-fee-001 "))
        assert '"chain_uid":"late-fee-001"' in text.replace('\\"', '"')
        assert "c-studio-sued" in text

    def test_no_history_holds_a_name_or_an_address(self, run: Run) -> None:
        planted = _people(run.result)
        assert any("musterfrau" in words for words in planted)
        assert "zahnarztpraxis am spritzenplatz" in planted
        found = {(name, words) for name, text in run.histories.items() for words in planted if words in text.lower()}
        assert found == set()

    def test_no_history_holds_anything_like_an_address(self, run: Run) -> None:
        assert [name for name, text in run.histories.items() if "@example" in text or ".example.com" in text] == []


class TestPlan:
    @pytest.mark.parametrize("bookings", [1, LEAST, 220, 1000])
    @pytest.mark.parametrize(
        "now", ["2026-01-01T00:30:00+00:00", "2026-03-29T01:30:00+00:00", "2027-03-31T23:30:00+00:00"]
    )
    def test_last_month_is_over_before_its_end(self, now: str, bookings: int) -> None:
        """The longest hold, two days, ends within the month; nothing was booked in the future."""
        moment = datetime.fromisoformat(now)
        plan = Plan(bookings, moment)
        assert plan.period == previous_period(period_of(moment))
        first, after = period_bounds(plan.period)
        for planned in plan.all:
            assert datetime.fromisoformat(planned.spec["created_at"]) < moment
            if planned.kind.when.__name__ == "last_month":
                start = datetime.fromisoformat(planned.spec["start"])
                assert first <= start
                assert (after - start).total_seconds() > 3 * 86_400

    def test_a_full_demo_has_two_hundred_bookings_and_more_trouble(self) -> None:
        plan = Plan(220, datetime.now(UTC))
        assert len(plan.all) == 220
        assert len({planned.uid for planned in plan.all}) == 220
        assert all(len(plan.of_kind[kind.name]) == kind.many for kind in KINDS)

    def test_the_next_catalogue_only_adds_the_missing_price(self) -> None:
        before = parse_catalog(CATALOGUE.read_text(encoding="utf-8"))
        after = parse_catalog(priced_catalogue(CATALOGUE.read_text(encoding="utf-8")))
        assert [book.id for book in after.price_books if book not in before.price_books] == ["optik-ruhrblick"]


class TestFolder:
    def test_a_second_demo_in_the_same_folder_is_refused(self, tmp_path: Path) -> None:
        from local.demo import _alone

        told = io.StringIO()
        with _alone(tmp_path):
            assert demo(tmp_path, console=Console(file=told, width=200)) == 1
        assert "Another demo runs" in told.getvalue()

    def test_what_the_last_demo_left_is_thrown_away(self, tmp_path: Path) -> None:
        from local.demo import _alone

        (tmp_path / "demo" / "postgres").mkdir(parents=True)
        (tmp_path / "demo" / "env").write_text("DATABASE_URL=old\n")
        with _alone(tmp_path) as home:
            assert not home.exists()

    def test_a_database_in_use_is_left_alone(
        self, run: Run, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", database)
        told = io.StringIO()
        assert demo(tmp_path, wishes=ANYWHERE, console=Console(file=told, width=200)) == 1
        assert "holds a catalogue already" in told.getvalue()
        assert not (tmp_path / "env").exists()
