"""kill -9 of the worker at every step of closing a month of 50 resellers, and two runs of a month at once, 100 times.

Afterwards: one statement and at most one transfer for each reseller and month, and the audit is green. Run by
`make chaos`.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.engine import make_url

from domain import ids
from domain.chain import ChainOutcome
from starter.operator import Operator, OrderRefused
from tests.support.desk import eventually
from tests.support.system import System, running
from workflows.models import OperatorOrder, SettlementInput, SettlementState
from workflows.settlement import SettlementWorkflow, settlement_terms

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

RESELLERS = 50
NOT_READY = ("r-07", "r-23", "r-41")
"""Parked in each month, so that handing over is killed as well."""
FIRST_EVENT_TYPE = 2_000
SETTINGS = {
    "SWEEP_INTERVAL_SECONDS": "600",
    "STEP_TIMEOUT_SECONDS": "120",
    "RELAY_INTERVAL_SECONDS": "0.5",
    "STRIPE_CALLS_PER_SECOND": "25",
}
_MONTHS = count(0)


def catalogue() -> str:
    """Fifty resellers with a customer and an event type each: 80.00 EUR net, of which 20.00 are theirs."""
    numbers = range(1, RESELLERS + 1)
    lines = [
        "version: 1",
        "platform: {name: Example Platform GmbH, country: DE, currency: EUR}",
        "resellers:",
        *(f"  - {{id: r-{n:02}, name: Reseller {n} Example, email: r{n}@example.com}}" for n in numbers),
        "customers:",
        *(
            f"  - {{id: c-{n:02}, name: Customer {n} Example, email: c{n}@example.com, reseller_id: r-{n:02},"
            " payment_method: pm_card_bypassPending}"
            for n in numbers
        ),
        "mappings:",
        "  event_types:",
        *(f"    {FIRST_EVENT_TYPE + n}: c-{n:02}" for n in numbers),
        "price_books:",
        "  - id: platform",
        "    owner: {kind: platform}",
        "    version: 1",
        "    effective_from: 2020-01-01",
        "    currency: EUR",
        "    prices:",
        "      - {kind: fixed, net_minor: 8000, charge_moment: at_booking, hold_days: 0, vat_rate_bps: 1900,",
        "         terms: {free_until_hours_before: 24}}",
        "default_agreements:",
        "  - {version: 1, effective_from: 2020-01-01, currency: EUR, own: {kind: percentage, rate_bps: 2500},",
        "     ceiling_bps: 4000}",
    ]
    return "\n".join(lines) + "\n"


@pytest_asyncio.fixture(scope="module")
async def system() -> AsyncIterator[System]:
    top = Path(tempfile.mkdtemp(prefix="billing-chaos-"))
    top.chmod(0o755)
    file = top / "catalogue.yaml"
    file.write_text(catalogue())
    try:
        async with running(top / "state", settings=SETTINGS, persistent=True, catalogue=file) as system:
            topped_up = {"amount_minor": 100_000_000, "currency": "eur"}
            await system.stripe.post("/_sandbox/balance", topped_up)
            yield system
    finally:
        threading.Thread(target=shutil.rmtree, args=(top, True)).start()


def next_month() -> str:
    """An old month that no other test has."""
    number = next(_MONTHS)
    return f"{2020 + number // 12}-{number % 12 + 1:02}"


async def month(system: System) -> str:
    """A month in which each reseller earned something; all of it has matured."""
    period = next_month()
    end = datetime.strptime(f"{period}-15 12", "%Y-%m-%d %H").replace(tzinfo=UTC)
    await matured(system, range(1, RESELLERS + 1), end)
    return period


async def matured(system: System, resellers: Iterable[int], start_at: datetime) -> None:
    """A booking of each of these resellers' customers, charged, its commission matured."""
    specs = [
        system.calcom.booking(
            FIRST_EVENT_TYPE + number, start_at=start_at, webhook=True, updated_at=datetime.now(UTC).isoformat()
        )
        for number in resellers
    ]
    uids = await system.calcom.plant(*specs)

    async def all_matured() -> bool:
        return await system.ends(uids) == {ChainOutcome.MATURED.value: len(uids)}

    await eventually(all_matured, f"the bookings of {start_at:%Y-%m}", 120)


def operator_of(system: System) -> Operator:
    return Operator(store=system.store, client=system.client, settings=system.settings)


async def numbers(system: System, statement: str, **given: object) -> list[int]:
    async with system.store.begin() as tx:
        row = (await tx.connection.execute(text(statement), given)).one()
    return [int(one) for one in row]


async def paid_count(system: System, period: str) -> int:
    (found,) = await numbers(
        system, "SELECT count(*) FROM settlements WHERE period = :period AND status = 'paid'", period=period
    )
    return found


async def all_once(system: System, period: str, parked: int = 0) -> None:
    """One statement for each, at most one transfer for each statement here and at Stripe, and the books agree."""
    found = await numbers(
        system,
        """SELECT count(*), count(DISTINCT (reseller_id, currency)), count(*) FILTER (WHERE status = 'paid'),
               count(*) FILTER (WHERE status = 'parked') FROM settlements WHERE period = :period""",
        period=period,
    )
    assert found == [RESELLERS, RESELLERS, RESELLERS - parked, parked]
    for number in range(1, RESELLERS + 1):
        reseller_id = f"r-{number:02}"
        await one_transfer(system, period, reseller_id, 0 if parked and reseller_id in NOT_READY else 1)
    assert await new_findings(system) == []


async def one_transfer(system: System, period: str, reseller_id: str, expected: int = 1) -> None:
    group = f"settlement-{period}-{reseller_id}"
    at_stripe = (await system.stripe.get(f"/v1/transfers?transfer_group={group}&limit=10"))["data"]
    assert len(at_stripe) == expected, group


async def new_findings(system: System) -> list[str]:
    """What the audit says, but for the money that the fixture gave the platform."""
    return [one for one in await system.findings() if "topup" not in one]


async def result(system: System, workflow_id: str) -> SettlementState:
    handle = system.client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
    answer: SettlementState = await asyncio.wait_for(handle.result(), 240)
    return answer


# --- where the worker is held, so that it is killed in the middle of exactly that step ---

Held = Callable[[], Awaitable[bool]]
"""Whether the worker stands in the step now."""


@asynccontextmanager
async def locked(system: System, statement: str, given: tuple[object, ...] = ()) -> AsyncIterator[Held]:
    """Somebody else holds what the step needs from PostgreSQL."""
    url = make_url(system.settings.sqlalchemy_url).set(drivername="postgresql").render_as_string(hide_password=False)
    async with (
        await psycopg.AsyncConnection.connect(url) as holder,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as looker,
    ):
        await holder.execute(statement, given)
        pid = holder.info.backend_pid

        async def held() -> bool:
            found = await looker.execute(
                "SELECT 1 FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid)) LIMIT 1", (pid,)
            )
            return await found.fetchone() is not None

        yield held
        await holder.rollback()


@asynccontextmanager
async def slow_stripe(system: System, method: str, path: str, *, after: bool = False) -> AsyncIterator[Held]:
    """Stripe takes long for these calls; `after`: it has done what was asked before it answers."""
    fault = await system.stripe.fault(
        "slow", path=path, body="", times=-1, method=method, delay_seconds=5.0, after=after
    )

    async def held() -> bool:
        return await system.stripe.hits(fault) > 2

    try:
        yield held
    finally:
        await system.stripe.delete(f"/_sandbox/faults/{fault}")


@asynccontextmanager
async def until_paid(system: System, period: str, at_least: int) -> AsyncIterator[Held]:
    async def held() -> bool:
        return await paid_count(system, period) >= at_least

    yield held


@dataclass(frozen=True)
class Step:
    name: str
    hold: Callable[[System, str], AbstractAsyncContextManager[Held]]
    from_paid: int = 0
    """The hold begins when so many are paid: steps before it need what is held, too."""


STEPS = (
    Step("claim begins", lambda system, _: locked(system, "LOCK TABLE settlement_periods")),
    Step("statements are frozen", lambda system, _: locked(system, "LOCK TABLE settlements")),
    Step("lines are claimed", lambda system, _: locked(system, "LOCK TABLE settlement_lines")),
    Step("VAT is posted", lambda system, _: locked(system, "LOCK TABLE ledger_entries")),
    Step("a page is read", lambda system, _: locked(system, "LOCK TABLE transfers")),
    Step("a turn is taken", lambda system, _: locked(system, "LOCK TABLE paces")),
    Step("accounts are read", lambda system, _: slow_stripe(system, "GET", "/v1/accounts/")),
    Step("the balance is read", lambda system, _: slow_stripe(system, "GET", "/v1/balance$")),
    Step("transfers are begun", lambda system, _: locked(system, "LOCK TABLE transfers"), from_paid=5),
    Step("Stripe is asked", lambda system, _: slow_stripe(system, "POST", "/v1/transfers$")),
    Step("Stripe has done it", lambda system, _: slow_stripe(system, "POST", "/v1/transfers$", after=True)),
    Step("it is recorded", lambda system, _: locked(system, "LOCK TABLE ledger_entries"), from_paid=5),
    Step("it is finished", lambda system, _: locked(system, "LOCK TABLE commissions"), from_paid=10),
    Step("one was handed over", lambda system, period: until_paid(system, period, 8)),
    Step("half is paid", lambda system, period: until_paid(system, period, 25)),
    Step("all is paid", lambda system, period: until_paid(system, period, RESELLERS - len(NOT_READY))),
)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
async def test_the_worker_is_killed_in_every_step_of_a_closing(system: System, step: Step) -> None:
    period = await month(system)
    accounts = [await account_of(system, reseller_id) for reseller_id in NOT_READY]
    for account in accounts:
        await system.stripe.account(account, "restricted")
    operator = operator_of(system)
    begun = asyncio.Event()

    async def start() -> str:
        begun.set()
        return await operator.settle(period, "ops-anna")

    workflow_id = ids.settlement_workflow(period)
    if step.from_paid:
        await start()

        async def far_enough() -> bool:
            return await paid_count(system, period) >= step.from_paid

        await eventually(far_enough, f"{step.from_paid} to be paid", 60)
    async with step.hold(system, period) as held:
        if not begun.is_set():
            await start()
        await eventually(held, step.name, 60)
        await asyncio.to_thread(system.environment.tree.kill, "worker-1")
    state = await result(system, workflow_id)
    assert (state.paid, state.parked, state.open) == (RESELLERS - len(NOT_READY), len(NOT_READY), 0)
    await all_once(system, period, parked=len(NOT_READY))

    for account in accounts:
        await system.stripe.account(account, "active")
    released = OperatorOrder(who="ops-anna", why="the account is ready")
    for reseller_id in NOT_READY:
        with suppress(OrderRefused):  # the webhook of the account was faster: it is tried already
            await operator.retry_settlement(period, reseller_id, "EUR", released)

    async def all_paid() -> bool:
        return await paid_count(system, period) == RESELLERS

    await eventually(all_paid, "those that were parked", 60)
    await all_once(system, period)


async def test_two_runs_of_a_month_at_once_a_hundred_times(system: System) -> None:
    """Not even one workflow id keeps them apart: the claim, the statement and the transfer's key do.

    Months of years to come, which nobody may order: each takes what two resellers earned since the one before.
    """
    terms = settlement_terms(system.settings)

    async def start(period: str, workflow_id: str) -> None:
        order = SettlementInput(period=period, requested_by="ops-anna", terms=terms)
        await system.client.start_workflow(
            SettlementWorkflow.run, order, id=workflow_id, task_queue=ids.TASK_QUEUE_CHAIN
        )

    for number in range(100):
        period = f"{2040 + number // 12}-{number % 12 + 1:02}"
        await matured(system, [1, 2], datetime.now(UTC) - timedelta(days=2))
        other = f"settlement-again-{period}"
        await asyncio.gather(start(period, ids.settlement_workflow(period)), start(period, other))
        states = await asyncio.gather(result(system, ids.settlement_workflow(period)), result(system, other))
        assert [(state.paid, state.total) for state in states] == [(2, 2), (2, 2)], period
        for reseller_id in ("r-01", "r-02"):
            await one_transfer(system, period, reseller_id)
    assert await new_findings(system) == []


async def account_of(system: System, reseller_id: str) -> str:
    async with system.store.begin() as tx:
        return (await tx.catalog.reseller(reseller_id)).stripe_account_id or ""
