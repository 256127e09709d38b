"""The month's end: closing a million commissions beside the bare SQL floor, on the same server, in the same run.

The floor is what no closing can avoid: one `INSERT … SELECT` of the claimed lines, with the unique key that makes them
claimed, and one `GROUP BY`. A figure beside it leaves the key out, which nearly halves the floor and claims nothing.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from psycopg import AsyncConnection, sql
from sqlalchemy import URL, make_url, text

from bench.progress import Shown
from bench.report import Figure, at_most, between, middle
from bench.world import World
from domain.pricing import period_bounds
from store import Store, migrate
from store.repository import driver_of

LINES = 1_000_000
RESELLERS = 1_000
QUICK_LINES = 20_000
PERIOD = "2026-03"
MOST_RATIO = 2.0
MOST_GROWTH_MIB = 16.0
"""Of Python's memory while it claims. A row of a million would be 60 times that."""

_TEMPLATE = "bench_settlements"
_ROUND = "bench_settlements_round"

_LOAD = """
ALTER TABLE commissions DROP CONSTRAINT fk_commissions_chain_uid;
ALTER TABLE commissions DROP CONSTRAINT fk_commissions_reseller_id;
INSERT INTO resellers (id, name, email, payout_mode, country, small_business)
SELECT 'r-' || i, 'Reseller ' || i, 'r' || i || '@example.com', 'monthly', 'DE', i % 5 = 0
FROM generate_series(0, {resellers} - 1) AS i;
INSERT INTO chains (chain_uid, workflow_id, stage, outcome, closed_at)
SELECT 'bk-' || i, 'booking-bk-' || i, 'closed', 'matured', now() FROM generate_series(1, {lines}) AS i;
INSERT INTO commissions (chain_uid, reseller_id, level, currency, accrued_minor, reversed_minor, status, matures_at,
    rule, agreement_version, payout_mode)
SELECT 'bk-' || i, 'r-' || ((CAST(i AS bigint) * 7919) % {resellers}), i % 4 / 3, 'EUR', 1000 + i % 500,
    CASE WHEN i % 50 = 0 THEN 100 ELSE 0 END, 'matured',
    timestamptz '2026-03-01T00:00:00Z' + (i % 2500000) * interval '1 second',
    '{{"kind": "percentage", "rate_bps": 2500, "cap_minor": null, "floor_minor": null,
       "inputs": {{"net_minor": 5000, "ceiling_bps": 4000}}}}', 1, 'monthly'
FROM generate_series(1, {lines}) AS i;
ALTER TABLE commissions ADD CONSTRAINT fk_commissions_chain_uid FOREIGN KEY (chain_uid) REFERENCES chains (chain_uid);
ALTER TABLE commissions ADD CONSTRAINT fk_commissions_reseller_id FOREIGN KEY (reseller_id) REFERENCES resellers (id)
"""
"""Foreign keys are checked once afterwards instead of twice a row: a minute less."""

_DUE = "status = 'matured' AND transfer_key IS NULL AND matures_at < %(boundary)s"
_BARE = """
CREATE TABLE floor_lines (settlement_id bigint NOT NULL, commission_id bigint NOT NULL, sequence smallint NOT NULL,
    amount_minor bigint NOT NULL, transferred_minor bigint NOT NULL {key})
"""
_INSERT = f"""
INSERT INTO floor_lines SELECT 1, id, 0, accrued_minor - reversed_minor, 0 FROM commissions WHERE {_DUE}
"""  # noqa: S608 - a constant
_GROUP = f"""
SELECT reseller_id, currency, sum(accrued_minor - reversed_minor), count(*) FROM commissions WHERE {_DUE} GROUP BY 1, 2
"""  # noqa: S608 - a constant


@dataclass(frozen=True)
class Took:
    """Of one way to do it: wall time, and CPU of the server's process where it can be read."""

    seconds: float
    cpu_seconds: float


async def run(world: World, progress: Shown) -> list[Figure]:
    quick = world.sizes.rounds < 2
    return await claim_against_floor(
        world.settings.sqlalchemy_url, progress, lines=QUICK_LINES if quick else LINES, rounds=world.sizes.rounds
    )


async def claim_against_floor(
    database_url: str, progress: Shown, *, lines: int = LINES, resellers: int = RESELLERS, rounds: int = 3
) -> list[Figure]:
    """Load once, then claim and measure the floor in a fresh copy each round. Leaves nothing on the server."""
    url = make_url(database_url)
    bare: list[Took] = []
    keyed: list[Took] = []
    ours: list[Took] = []
    growth: list[float] = []
    progress.say(f"loading {lines:,} matured commissions of {resellers:,} resellers")
    try:
        await _load(url, lines, resellers)
        for number in range(1, rounds + 1):
            async with _copied(url) as fresh:
                bare.append(await _floor(fresh, key=""))
                keyed.append(await _floor(fresh, key=", PRIMARY KEY (commission_id, sequence)"))
                took, grown = await _claim(fresh, lines, resellers)
                ours.append(took)
                growth.append(grown)
            progress.say(
                f"round {number}: claim {ours[-1].seconds:.2f} s, floor {keyed[-1].seconds:.2f} s,"
                f" without a key {bare[-1].seconds:.2f} s"
            )
    finally:
        await _drop(url, _ROUND)
        await _drop(url, _TEMPLATE)
    return _figures(ours, bare, keyed, growth)


def _figures(ours: list[Took], bare: list[Took], keyed: list[Took], growth: list[float]) -> list[Figure]:
    def ratios(floor: list[Took]) -> list[float]:
        return [mine.seconds / least.seconds for mine, least in zip(ours, floor, strict=True)]

    def told(took: list[Took]) -> str:
        return f"{middle([one.cpu_seconds for one in took], 2)} s CPU of the server's process"

    seconds = {"claim and statements": ours, "floor of the claim": keyed, "floor without a key": bare}
    return [
        *(
            Figure(f"{name}, s", middle(values, 2), between(values, 2), note=told(took))
            for name, took in seconds.items()
            for values in ([one.seconds for one in took],)
        ),
        at_most("claim and statements, to the floor", ratios(keyed), MOST_RATIO, digits=2),
        Figure("claim and statements, to the floor without a key", middle(ratios(bare), 2), between(ratios(bare), 2)),
        at_most("memory that claiming takes in Python", growth, MOST_GROWTH_MIB, unit="MiB"),
    ]


async def _floor(url: URL, *, key: str) -> Took:
    given = {"boundary": period_bounds(PERIOD)[1]}
    async with await _connect(url) as connection:
        await connection.execute(_BARE.format(key=key))
        await _checkpoint(connection)
        pid = await _pid(connection)
        begun, cpu = time.perf_counter(), _cpu_seconds(pid)
        async with connection.transaction():
            await connection.execute(_INSERT, given)
            await (await connection.execute(_GROUP, given)).fetchall()
        took = Took(time.perf_counter() - begun, _cpu_seconds(pid) - cpu)
        await connection.execute("DROP TABLE floor_lines")
    return took


async def _claim(url: URL, lines: int, resellers: int) -> tuple[Took, float]:
    """The closing as the settlement's step does it; wrong sums are an error. Also MiB that Python grew by."""
    async with Store(url.render_as_string(hide_password=False), pool_size=1) as store:
        async with store.begin() as tx:
            await tx.connection.execute(text("SELECT 1"))
            pid = driver_of(tx.connection).info.backend_pid
        async with await _connect(url) as connection:
            await _checkpoint(connection)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, cpu = time.perf_counter(), _cpu_seconds(pid)
        async with store.begin() as tx:
            made = await tx.settlements.claim(PERIOD, 1, period_bounds(PERIOD)[1], requested_by="bench")
        took = Took(time.perf_counter() - begun, _cpu_seconds(pid) - cpu)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        async with store.begin() as tx:
            sums = await tx.connection.execute(text("SELECT sum(line_count), sum(earned_minor) FROM settlements"))
            owed = await tx.connection.execute(text("SELECT sum(accrued_minor - reversed_minor) FROM commissions"))
            counted, earned = sums.one()
            if (counted, earned, made.statements) != (lines, owed.scalar_one(), resellers):
                raise RuntimeError(f"the closing is wrong: {counted} lines over {earned} on {made.statements}")
    return took, grown


async def _load(url: URL, lines: int, resellers: int) -> None:
    await _drop(url, _TEMPLATE)
    await _make(url, _TEMPLATE, "template0")
    loaded = url.set(database=_TEMPLATE)
    await migrate(loaded.render_as_string(hide_password=False))
    async with await _connect(loaded) as connection:
        for statement in _LOAD.format(lines=lines, resellers=resellers).split(";"):
            await connection.execute(statement)
        await connection.execute("VACUUM ANALYZE")


@asynccontextmanager
async def _copied(url: URL) -> AsyncIterator[URL]:
    await _drop(url, _ROUND)
    await _make(url, _ROUND, _TEMPLATE)
    yield url.set(database=_ROUND)
    await _drop(url, _ROUND)


async def _make(url: URL, name: str, template: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    async with await _connect(url) as connection:
        await connection.execute(statement)


async def _drop(url: URL, name: str) -> None:
    async with await _connect(url) as connection:
        await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


async def _connect(url: URL) -> AsyncConnection[tuple[object, ...]]:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return await AsyncConnection.connect(plain, autocommit=True)


async def _checkpoint(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """So that nobody pays for writing what was loaded before. Not everybody may."""
    try:
        await connection.execute("CHECKPOINT")
    except psycopg.errors.InsufficientPrivilege:
        await asyncio.sleep(0)


async def _pid(connection: AsyncConnection[tuple[object, ...]]) -> int:
    return connection.info.backend_pid


def _cpu_seconds(pid: int) -> float:
    """0 where the server runs elsewhere."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            parts = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / 100
