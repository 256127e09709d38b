"""The month's end by the command line, through the real system: look first, settle, approve, correct, carry over."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import Result

from domain.effects import SettlementStatus
from domain.settlement import Figures
from settings import Settings
from tests.cli.conftest import Billing
from tests.support import month
from tests.support.desk import Desk
from tests.support.desk import desk as open_desk

_MONTHS = itertools.count(1)
"""Old months, one for each test: a closing takes everything that matured before its end."""


class Office:
    """`billing` as people use it, on the running system. The commands run beside the worker, in a thread."""

    def __init__(self, desk: Desk, billing: Billing) -> None:
        self.desk = desk
        self._billing = billing
        self.set = billing.set

    async def __call__(self, *arguments: str, by: str = "", why: str = "test") -> Result:
        more = ("--by", by, "--why", why) if by else ()
        return await asyncio.to_thread(self._billing, *arguments, *more)

    async def json(self, *arguments: str) -> Any:
        return await asyncio.to_thread(self._billing.json, *arguments)

    async def settle(self, period: str, *arguments: str, by: str = "fin-anna") -> Result:
        return await self("settle", "--month", period, "--by", by, *arguments)


@pytest_asyncio.fixture(scope="module")
async def system() -> AsyncIterator[Desk]:
    top = Path(tempfile.mkdtemp(prefix="billing-cli-"))
    top.chmod(0o755)  # the database may run as another account
    try:
        async with open_desk(top / "state") as system:
            yield system
    finally:
        await asyncio.to_thread(shutil.rmtree, top, ignore_errors=True)


@pytest_asyncio.fixture
async def office(system: Desk, unconfigured: Billing) -> AsyncIterator[Office]:
    given = system.settings
    for name in Settings.model_fields:
        value = getattr(given, name)
        if value is not None and name not in ("webhook_port",):
            unconfigured.set(**{name.upper(): getattr(value, "get_secret_value", lambda value=value: value)()})
    system.expected.clear()
    yield Office(system, unconfigured)
    assert await system.findings() == []


@pytest.fixture
def period() -> str:
    return f"2021-{next(_MONTHS):02d}"


def when(period: str) -> datetime:
    return datetime(int(period[:4]), int(period[5:]), 10, 9, 0, tzinfo=UTC)


async def owed(office: Office, period: str, *event_types: int) -> None:
    for event_type in event_types:
        await month.matured(office.desk, event_type, when(period))


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is frozen of each statement."""
    names = {*Figures.model_fields, "period", "sequence", "reseller_id", "currency", "needs_approval"}
    return [{name: row[name] for name in names} for row in rows]


async def test_a_dry_run_shows_what_the_run_then_freezes_and_writes_nothing(office: Office, period: str) -> None:
    await owed(office, period, 151, 152, 152)
    before = await office("ledger", "--json")
    looked = await office.json("settle", "--month", period, "--dry-run")
    assert len(looked) >= 2
    assert "Dry run: nothing is written" in (await office("settle", "--month", period, "--dry-run")).stdout
    assert (await office("ledger", "--json")).stdout == before.stdout
    assert await month.rows(office.desk, period) == []
    settled = await office.settle(period, "--json")
    assert settled.exit_code == 0, settled.stdout + settled.stderr
    done = await office.json("settle", "--month", period, "--dry-run")
    assert figures(looked) == figures(done)
    assert {row["status"] for row in done} == {"paid"}
    assert (
        f"{period} is closed: these are its statements"
        in (await office("settle", "--month", period, "--dry-run")).stdout
    )


async def test_settling_again_pays_nobody_twice(office: Office, period: str) -> None:
    await owed(office, period, 152)
    first = await office.settle(period)
    assert first.exit_code == 0, first.stdout + first.stderr
    assert "1 statement in EUR: 23,80 € payable, 0,00 € carried over" in first.stdout
    before = await month.transfers(office.desk)
    assert (await office.settle(period)).stdout == first.stdout
    assert await month.transfers(office.desk) == before
    told = (await office("statement", "r-month-c", period)).stdout
    assert "23,80 € were transferred on" in " ".join(told.split())


async def test_a_supplement_settles_only_what_came_later(office: Office, period: str) -> None:
    early = await office("settle", "--month", period, "--supplement", by="fin-anna")
    assert (early.exit_code, "close it first" in early.stderr) == (1, True), early.stderr
    await owed(office, period, 152)
    await office.settle(period)
    await owed(office, period, 152, 152)
    looked = await office("settle", "--month", period, "--supplement", "--dry-run")
    assert f"S-{period}-r-month-c-EUR-2" in looked.stdout
    result = await office.settle(period, "--supplement")
    assert result.exit_code == 0, result.stdout + result.stderr
    assert "47,60 € payable" in result.stdout
    page = await office("statement", "r-month-c", period, "--supplement", "2")
    assert "supplement" in page.stdout
    listed = await office("statement", "r-month-c")
    assert all(f"S-{period}-r-month-c-EUR-{number}" in listed.stdout for number in (1, 2))


async def test_a_large_payment_needs_somebody_else_than_who_asked(office: Office, period: str) -> None:
    office.set(SETTLEMENT_APPROVAL_FROM_MINOR="EUR=2000")
    await owed(office, period, 152)
    result = await office.settle(period)
    assert result.exit_code == 1
    assert "approval_required" in result.stdout
    order = f"billing approve settlement r-month-c --month {period} --currency EUR --by YOU --why REASON"
    assert order in result.stdout
    name = ("approve", "settlement", "r-month-c", "--month", period)
    for asker in ("fin-anna", "FIN-Anna"):
        own = await office(*name, by=asker)
        assert (own.exit_code, "a second person" in own.stderr) == (1, True), own.stderr
    before = await month.transfers(office.desk)
    other = await office(*name, by="fin-ben", why="compared with the contract")
    assert other.exit_code == 0, other.stderr
    await month.until_status(office.desk, period, "r-month-c", SettlementStatus.PAID)
    assert await month.transfers(office.desk) == before + 1
    row = await month.row_of(office.desk, period, "r-month-c")
    assert row.approved_by == "fin-ben"
    again = await office(*name, by="fin-ben")
    assert (again.exit_code, "is paid: there is nothing to approve" in again.stderr) == (1, True)


async def test_a_correction_is_asked_for_by_one_and_decided_by_another(office: Office, period: str) -> None:
    asked = await office(
        *("adjust", "r-month-c", "--amount", "12,50", "--credit", "--id", f"A-{period}"), by="fin-anna", why="bonus"
    )
    assert asked.exit_code == 0, asked.stderr
    assert f"billing approve adjustment A-{period}" in asked.stdout
    own = await office("approve", "adjustment", f"A-{period}", by="fin-anna")
    assert (own.exit_code, "a second person" in own.stderr) == (1, True), own.stderr
    assert (await office("approve", "adjustment", f"A-{period}", by="fin-ben")).exit_code == 0
    await owed(office, period, 152)
    # An adjusted statement needs a second person as well: neither who asked for it, nor who settles.
    assert (await office.settle(period, by="fin-cleo")).exit_code == 1
    page = (await office("statement", "r-month-c", period)).stdout
    assert f"Correction A-{period}: bonus" in page
    name = ("approve", "settlement", "r-month-c", "--month", period)
    for person in ("fin-anna", "fin-cleo"):
        assert (await office(*name, by=person)).exit_code == 1
    assert (await office(*name, by="fin-ben")).exit_code == 0
    row = await month.until_status(office.desk, period, "r-month-c", SettlementStatus.PAID)
    assert row.payable_minor == 2_380 + 1_250


async def test_a_rejected_correction_moves_nothing(office: Office, period: str) -> None:
    asked = await office(
        "adjust", "r-month-c", "--amount", "5", "--debit", "--id", f"A-{period}-no", by="fin-anna", why="a mistake"
    )
    assert asked.exit_code == 0, asked.stderr
    before = await month.owed_minor(office.desk, "r-month-c")
    rejected = await office("reject", "adjustment", f"A-{period}-no", by="fin-ben", why="not agreed")
    assert rejected.exit_code == 0, rejected.stderr
    assert await month.owed_minor(office.desk, "r-month-c") == before
    late = await office("approve", "adjustment", f"A-{period}-no", by="fin-ben")
    assert late.exit_code == 1
    listed = await office.json("statement", "r-month-c")
    assert [one["status"] for one in listed["adjustments"] if one["id"] == f"A-{period}-no"] == ["rejected"]


async def test_what_cannot_be_paid_is_carried_over_by_order(office: Office, period: str) -> None:
    await owed(office, period, 152)
    async with month.account_in(office.desk, "r-month-c", "restricted"):
        result = await office.settle(period)
        assert result.exit_code == 1
        assert "reseller_not_ready" in result.stdout
        carried = await office("carry-over", "r-month-c", "--month", period, by="fin-anna", why="he changes his bank")
        assert carried.exit_code == 0, carried.stderr
        await month.until_status(office.desk, period, "r-month-c", SettlementStatus.CARRIED_OVER)
    page = " ".join((await office("statement", "r-month-c", period)).stdout.split())
    assert "23,80 € are not transferred, by a decision on our side" in page
    assert "Nothing matured" in (await office.settle(period, "--supplement")).stdout
    await owed(office, period, 152)
    supplement = await office.settle(period, "--supplement")
    assert supplement.exit_code == 0, supplement.stdout + supplement.stderr
    assert "47,60 € payable" in supplement.stdout


async def test_a_write_off_gives_up_what_is_open(office: Office, period: str) -> None:
    await owed(office, period, 165)
    unstated = await office("write-off", "r-five-5", by="fin-anna", why="he left and does not answer")
    assert (unstated.exit_code, "stand on no statement" in unstated.stderr) == (1, True), unstated.stderr
    async with month.account_in(office.desk, "r-five-5", "restricted"):
        assert (await office.settle(period)).exit_code == 1
        unpaid = await office("write-off", "r-five-5", by="fin-anna", why="he left and does not answer")
        assert (unpaid.exit_code, "carry it over first" in unpaid.stderr) == (1, True), unpaid.stderr
        carried = await office("carry-over", "r-five-5", "--month", period, by="fin-anna", why="he left")
        assert carried.exit_code == 0, carried.stderr
    asked = await office("write-off", "r-five-5", by="fin-anna", why="he left and does not answer")
    assert asked.exit_code == 0, asked.stderr
    (number,) = [word for word in asked.stdout.split() if word.startswith("A-")][:1]
    twice = await office("write-off", "r-five-5", by="fin-anna", why="he left and does not answer")
    assert (twice.exit_code, f"{number} of r-five-5 in EUR waits already" in twice.stderr) == (1, True), twice.stderr
    decided = await office("approve", "adjustment", number.strip(":.,"), by="fin-ben")
    assert decided.exit_code == 0, decided.stderr
    assert await month.owed_minor(office.desk, "r-five-5") == 0
    assert "nothing open" in (await office("statement", "r-five-5")).stdout
    nothing = await office("write-off", "r-five-5", by="fin-anna")
    assert (nothing.exit_code, "nothing open" in nothing.stderr) == (1, True), nothing.stderr
    await office.settle(period, "--supplement")
    row = await month.row_of(office.desk, period, "r-five-5", 2)
    assert (row.payable_minor, row.carried_credit_minor, row.carried_debt_minor) == (0, 0, 0)


async def test_what_does_not_run_cannot_be_paused(office: Office, period: str) -> None:
    result = await office("settle", "--month", period, "--pause", by="fin-anna")
    assert result.exit_code == 1
    assert f"settlement-{period}" in result.stderr
