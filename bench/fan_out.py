"""The month's end through the workflows: many resellers, one transfer each, at Stripe's 25 a second.

A second environment on a database of its own, because Stripe's limit holds in it: for all workers together, and in the
stand-in, which answers 429 to a 26th call of an endpoint within any second. `python -m bench.fan_out` measures all
10,000 resellers (about eight minutes), as a part of the benchmark 500.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psycopg
from psycopg import sql
from rich.console import Console
from sqlalchemy import make_url, text
from temporalio.client import Client

from bench.meters import CpuMeter, shares
from bench.progress import Shown
from bench.report import Figure, at_most
from bench.world import WISHES, World
from local import ports
from local.environment import ROOT, SANDBOX_STRIPE_KEY, Environment
from local.postgres import EmbeddedPostgres
from local.setup import set_up
from settings import Settings
from starter.operator import Operator
from starter.temporal import connect
from store import Store
from workflows.models import SettlementState
from workflows.settlement import SettlementWorkflow

RESELLERS = 500
FULL_RESELLERS = 10_000
QUICK_RESELLERS = 40
PER_SECOND = 25
MOST_RATIO = 1.15
PERIOD = "2026-03"
EMPTY_PERIOD = "2026-01"

_DATABASE = "bench_fan_out"
_AT_ONCE = 16
_ACCOUNT = {
    "country": "DE",
    "controller[fees][payer]": "application",
    "controller[losses][payments]": "application",
    "controller[requirement_collection]": "application",
    "controller[stripe_dashboard][type]": "none",
    "capabilities[transfers][requested]": "true",
}

_LOAD = """
INSERT INTO resellers (id, name, email, payout_mode, country, small_business, stripe_account_id)
SELECT 'r-' || i, 'Reseller ' || i, 'r' || i || '@example.com', 'monthly', 'DE', i % 5 = 0, accounts[i]
FROM (SELECT CAST(:accounts AS text[]) AS accounts) AS given, generate_series(1, :resellers) AS i;
INSERT INTO chains (chain_uid, workflow_id, stage, outcome, closed_at)
SELECT 'bk-' || i, 'booking-bk-' || i, 'closed', 'matured', now() FROM generate_series(1, :lines) AS i;
INSERT INTO commissions (chain_uid, reseller_id, level, currency, accrued_minor, reversed_minor, status, matures_at,
    rule, agreement_version, payout_mode)
SELECT 'bk-' || i, 'r-' || (i % :resellers + 1), 0, 'EUR', 1000 + i % 500, 0, 'matured',
    timestamptz '2026-03-01T00:00:00Z' + (i % 2500000) * interval '1 second',
    '{"kind": "percentage", "rate_bps": 2500, "cap_minor": null, "floor_minor": null,
       "inputs": {"net_minor": 5000, "ceiling_bps": 4000}}', 1, 'monthly'
FROM generate_series(1, :lines) AS i
"""
_BUSIEST = text("""
SELECT coalesce(max(within), 0) FROM (
    SELECT count(*) OVER (ORDER BY finished_at RANGE BETWEEN interval '999 milliseconds' PRECEDING AND CURRENT ROW)
        AS within FROM transfers
) AS counted
""")


@dataclass(frozen=True)
class Closed:
    """How one closing went."""

    seconds: float
    state: SettlementState
    busiest_second: int
    """Most transfers that were recorded within any one second."""
    refused_calls: int
    """Answers 429: calls beyond Stripe's limit. None of them has an effect."""
    events: list[int]
    """Of each run of the month's workflow."""
    cpu: str


async def run(world: World, progress: Shown) -> list[Figure]:
    quick = world.sizes.rounds < 2
    return await fan_out(progress, world.settings.sqlalchemy_url, resellers=QUICK_RESELLERS if quick else RESELLERS)


async def fan_out(progress: Shown, database_url: str, *, resellers: int = RESELLERS) -> list[Figure]:
    """Close a month of so many resellers with two commissions each, and compare with what the limit alone costs."""
    with _own_database(database_url), tempfile.TemporaryDirectory(prefix="billing-fan-out-") as folder:
        wishes = replace(
            WISHES,
            settings={**WISHES.settings, "STRIPE_CALLS_PER_SECOND": str(PER_SECOND)},
            stripe_options=("--endpoint-rate-per-second", str(PER_SECOND)),
        )
        progress.say(f"making {resellers:,} connected accounts")
        accounts = await _accounts(Path(folder), resellers)
        with Environment(Path(folder), wishes, say=progress.say) as env:
            await asyncio.to_thread(env.start)
            settings = env.settings()
            await set_up(settings, None, provision=False)
            async with Store(settings.sqlalchemy_url, pool_size=4) as store:
                await _load(store, accounts)
                await asyncio.to_thread(env.start_worker)
                closed = await _close(env, settings, store, progress)
    return _figures(closed, resellers)


def _figures(closed: Closed, resellers: int) -> list[Figure]:
    if (closed.state.paid, closed.state.total) != (resellers, resellers):
        raise RuntimeError(f"not all were paid: {closed.state}")
    floor_seconds = resellers / PER_SECOND
    return [
        Figure(
            f"closing of {resellers:,} resellers through the workflows, s", f"{closed.seconds:.1f}", note=closed.cpu
        ),
        at_most(
            f"{resellers:,} resellers, to what {PER_SECOND} transfers a second alone cost",
            [closed.seconds / floor_seconds],
            MOST_RATIO,
            digits=3,
        ),
        Figure(
            "most transfers within a second",
            str(closed.busiest_second),
            note=f"{closed.refused_calls} calls were too many and answered 429",
        ),
        Figure(
            "longest history of the month's workflow, events",
            str(max(closed.events)),
            note=f"{len(closed.events)} runs",
        ),
    ]


async def _close(env: Environment, settings: Settings, store: Store, progress: Shown) -> Closed:
    client = await connect(settings)
    operator = Operator(store=store, client=client, settings=settings)
    # A closing of a month without anything: the worker is up and warm after it.
    await client.get_workflow_handle(await operator.settle(EMPTY_PERIOD, "bench")).result()
    meter = CpuMeter(env.tree)
    begun = time.perf_counter()
    workflow_id = await operator.settle(PERIOD, "bench")
    handle = client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
    ending = asyncio.create_task(handle.result())
    while not ending.done():
        await asyncio.wait([ending], timeout=10)
        async with store.begin() as tx:
            done = await tx.settlements.progress(PERIOD)
        progress.say(f"{time.perf_counter() - begun:.0f} s: {done.paid} of {done.total} paid")
    seconds = time.perf_counter() - begun
    async with store.begin() as tx:
        busiest = int((await tx.connection.execute(_BUSIEST)).scalar_one())
    return Closed(
        seconds=seconds,
        state=await ending,
        busiest_second=busiest,
        refused_calls=await _refused_calls(settings),
        events=await _events(client, workflow_id),
        cpu=shares(meter.used(), seconds),
    )


async def _events(client: Client, workflow_id: str) -> list[int]:
    """History events of each run, newest first."""
    found = []
    async for run in client.list_workflows(f"WorkflowId = '{workflow_id}'"):
        found.append(run.history_length)
    return found


async def _refused_calls(settings: Settings) -> int:
    async with _stripe(settings.stripe_base_url or "", SANDBOX_STRIPE_KEY) as stripe:
        log = (await stripe.get("/_sandbox/log")).raise_for_status().json()
    return sum(1 for one in log if one["status"] == httpx.codes.TOO_MANY_REQUESTS)


async def _accounts(state_dir: Path, count: int) -> list[str]:
    """Active accounts and plenty of balance, in the stand-in's files before it starts with its limit."""
    port = ports.choose(0, what="the Stripe stand-in", say=lambda _: None)
    data_dir = state_dir / "sandbox-stripe"
    command = [sys.executable, "-m", "sandbox.stripe", "--port", str(port), "--data-dir", str(data_dir)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL)
    gate = asyncio.Semaphore(_AT_ONCE)
    try:
        async with _stripe(f"http://{ports.LOOPBACK}:{port}", SANDBOX_STRIPE_KEY) as stripe:
            await _answers(stripe)

            async def account() -> str:
                async with gate:
                    made = (await stripe.post("/v1/accounts", data=_ACCOUNT)).raise_for_status().json()["id"]
                    (await stripe.post(f"/_sandbox/accounts/{made}", json={"state": "active"})).raise_for_status()
                return str(made)

            accounts = await asyncio.gather(*(account() for _ in range(count)))
            plenty = {"amount_minor": 100_000_000_000, "currency": "eur"}
            (await stripe.post("/_sandbox/balance", json=plenty)).raise_for_status()
    finally:
        process.terminate()
        await process.wait()
    return list(accounts)


async def _answers(stripe: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                (await stripe.get("/_sandbox/health")).raise_for_status()
                return
            except httpx.TransportError:
                await asyncio.sleep(0.1)


async def _load(store: Store, accounts: Sequence[str]) -> None:
    given = {"accounts": list(accounts), "resellers": len(accounts), "lines": 2 * len(accounts)}
    async with store.begin() as tx:
        for statement in _LOAD.split(";"):
            wanted = {name: value for name, value in given.items() if f":{name}" in statement}
            await tx.connection.execute(text(statement), wanted)


@asynccontextmanager
async def _stripe(base_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=base_url, timeout=60, trust_env=False, headers=headers) as stripe:
        yield stripe


@contextmanager
def _own_database(database_url: str) -> Iterator[None]:
    """A fresh database on the same server, for every process that is started meanwhile."""
    url = make_url(database_url).set(drivername="postgresql")
    server = url.render_as_string(hide_password=False)
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_DATABASE))
    before = os.environ.get("DATABASE_URL")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    os.environ["DATABASE_URL"] = url.set(database=_DATABASE).render_as_string(hide_password=False)
    try:
        yield
    finally:
        if before is None:
            del os.environ["DATABASE_URL"]
        else:
            os.environ["DATABASE_URL"] = before
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(drop)


def main() -> int:
    """All resellers of the target, on a PostgreSQL of its own."""
    parser = argparse.ArgumentParser(prog="python -m bench.fan_out", description=main.__doc__)
    parser.add_argument("--resellers", type=int, default=FULL_RESELLERS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="billing-fan-out-postgres-") as folder:
        Path(folder).chmod(0o755)  # the server may run as another account
        server = EmbeddedPostgres(Path(folder))
        try:
            url = server.start()
            with Shown(Console(highlight=False, soft_wrap=True)) as progress:
                progress.part("fan_out")
                for one in asyncio.run(fan_out(progress, url, resellers=arguments.resellers)):
                    target = f" (target {one.target}: {'met' if one.met else 'MISSED'})" if one.target else ""
                    progress.say(f"{one.name}: {one.value}{target} {one.note}")
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
