"""How many bookings a month fit, and what ends first: a simulation of the busiest day, from measured figures.

`python -m bench.capacity` prints the tables of docs/scaling.md; `--write` puts them there. The simulation takes one day
in steps of a minute: chains become due, most of them on the quarter hours at which appointments end, and wait in line
for the scarcest part: processors, Stripe's calls a second, or the ledger. The last in line sees the longest wait.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- bench.capacity: begin -->", "<!-- bench.capacity: end -->"

DAY_MINUTES = 1_440


@dataclass(frozen=True)
class Measured:
    """What one chain costs, settled monthly. Rounded up from bench/results.md; times are CPU milliseconds.

    A chain with a hold has one more workflow task than the chains of the benchmark's rounds: a tenth more of worker and
    Temporal is added for it (assumed, as is the size of the inbox's rows).
    """

    worker_cpu_ms: float = 15.0
    temporal_cpu_ms: float = 15.5
    postgres_cpu_ms: float = 5.0
    webhook_cpu_ms: float = 5.0
    """Two webhooks of Cal.com and one of Stripe, checked, stored and delivered: 1.6 each."""
    history_events: int = 20
    history_bytes: int = 4_407
    billable_actions: int = 7
    ledger_entries: int = 4
    ledger_entries_per_second: float = 5_000
    """As chains post them, eight connections, fsync on."""
    database_bytes: int = 9_000
    """Rows and indexes of one chain: 6,200, and three rows of the inbox."""
    stripe_calls_per_endpoint: int = 1
    """Calls on the busiest endpoint: one payment intent a booking."""

    @property
    def cpu_ms(self) -> float:
        return self.worker_cpu_ms + self.temporal_cpu_ms + self.postgres_cpu_ms + self.webhook_cpu_ms


USABLE = 0.8
"""Share of processors and database that chains may take; the rest is for people, audits and the unforeseen."""

STRIPE_CALLS_PER_SECOND = 25
"""Stripe's limit on one endpoint of one account."""

LONGEST_WAIT_SECONDS = 900
"""The chains of one quarter hour are through before those of the next come."""


BASE = 1_000_000
"""Bookings a month that are called 1x: far within what one 2-core machine carries."""


@dataclass(frozen=True)
class Demand:
    """How bookings spread over a month. Assumptions, not measurements: change them to yours."""

    busy_day_share: float = 0.055
    """Share of a month's appointments on its busiest day; an even month of 22 working days has 0.045."""
    quarter_share: float = 0.7
    """Appointments that end, and are charged, on a quarter hour; the others end at any minute."""
    hours: tuple[float, ...] = (0, 0, 0, 0, 0, 0, 0, 2, 6, 9, 11, 11, 7, 7, 9, 10, 10, 8, 5, 3, 2, 0, 0, 0)
    """Weight of each hour of the day, Europe/Berlin."""


@dataclass(frozen=True)
class Plant:
    """What serves the demand. None: more of it than anybody needs."""

    cores: float | None = None
    stripe_accounts: int | None = None
    postgres_servers: int | None = None
    temporal_cores: int | None = None
    """Cores of the Temporal server alone, its database not counted."""

    def chains_per_second(self, measured: Measured) -> float:
        """The scarcest part decides."""
        limits = []
        if self.cores is not None:
            limits.append(self.cores * USABLE * 1_000 / measured.cpu_ms)
        if self.stripe_accounts is not None:
            limits.append(self.stripe_accounts * STRIPE_CALLS_PER_SECOND / measured.stripe_calls_per_endpoint)
        if self.postgres_servers is not None:
            entries = self.postgres_servers * USABLE * measured.ledger_entries_per_second
            limits.append(entries / measured.ledger_entries)
        if self.temporal_cores is not None:
            limits.append(self.temporal_cores * USABLE * 1_000 / measured.temporal_cpu_ms)
        return min(limits)


@dataclass(frozen=True)
class Day:
    """The busiest day of a month with so many bookings."""

    bookings_per_month: int
    peak_per_second: float
    """Chains finished in the fullest minute, a second."""
    longest_wait_seconds: float


def arrivals(bookings: float, demand: Demand) -> list[float]:
    """Chains that become due at the beginning of each minute of the day."""
    due = []
    for weight in demand.hours:
        count = bookings * weight / sum(demand.hours)
        on_mark, at_any = count * demand.quarter_share / 4, count * (1 - demand.quarter_share) / 60
        due += [at_any + (on_mark if minute % 15 == 0 else 0) for minute in range(60)]
    assert len(due) == DAY_MINUTES
    return due


def simulate(bookings_per_month: int, plant: Plant, measured: Measured, demand: Demand) -> Day:
    """One line, served at the speed of the scarcest part, first come first served."""
    rate = plant.chains_per_second(measured)
    waiting = longest = fullest = 0.0
    for new in arrivals(bookings_per_month * demand.busy_day_share, demand):
        waiting += new
        longest = max(longest, waiting / rate)
        done = min(waiting, rate * 60)
        fullest = max(fullest, done)
        waiting -= done
    return Day(bookings_per_month, fullest / 60, longest)


def in_time(bookings_per_month: int, plant: Plant, measured: Measured, demand: Demand) -> bool:
    return simulate(bookings_per_month, plant, measured, demand).longest_wait_seconds <= LONGEST_WAIT_SECONDS


def smallest(fails: Callable[[int], bool]) -> int:
    """The smallest number from 1 that does not fail, where all larger ones do not fail either."""
    high = 1
    while fails(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return high


def capacity(plant: Plant, measured: Measured, demand: Demand) -> Day:
    """The largest month, in steps of 1,000 bookings, in which nobody waits longer than `LONGEST_WAIT_SECONDS`."""
    first_too_many = smallest(lambda thousands: in_time(thousands * 1_000, plant, measured, demand))
    return simulate((first_too_many - 1) * 1_000, plant, measured, demand)


ACTION_PRICES = ((5, 50), (10, 45), (20, 40), (50, 35), (100, 30), (200, 25))
"""Temporal Cloud, pay as you go on the Business plan: US dollars a million actions, up to so many millions a month
(docs.temporal.io/cloud/pricing, read in November 2026). Beyond the last one the last price is taken."""


def cloud_dollars(actions_per_month: float) -> float:
    """What a month's actions cost on Temporal Cloud, without plan fee and storage."""
    dollars, before = 0.0, 0.0
    for index, (up_to_millions, price) in enumerate(ACTION_PRICES):
        last = index == len(ACTION_PRICES) - 1
        until = actions_per_month if last else min(actions_per_month, up_to_millions * 1e6)
        dollars += max(0.0, until - before) * price / 1e6
        before = max(before, until)
    return dollars


def ends(measured: Measured, demand: Demand) -> list[tuple[str, ...]]:
    """Where each part ends while the others are large enough."""
    parts = {
        "two cores for everything": Plant(cores=2),
        "Stripe, one account": Plant(stripe_accounts=1),
        "Temporal's server, two cores of its own": Plant(temporal_cores=2),
        "the ledger on one PostgreSQL": Plant(postgres_servers=1),
    }
    days = {name: capacity(plant, measured, demand) for name, plant in parts.items()}
    return [(name, f"{day.bookings_per_month:,}", f"{day.peak_per_second:,.0f}") for name, day in days.items()]


def scales(measured: Measured, demand: Demand) -> list[tuple[str, ...]]:
    """What 1, 10, 100 and 1,000 times `BASE` need."""
    return [_scale(factor, BASE * factor, measured, demand) for factor in (1, 10, 100, 1_000)]


def _scale(factor: int, bookings: int, measured: Measured, demand: Demand) -> tuple[str, ...]:
    def needed(plant: Callable[[int], Plant]) -> int:
        return smallest(lambda count: not in_time(bookings, plant(count), measured, demand))

    cores = needed(lambda count: Plant(cores=count))
    accounts = needed(lambda count: Plant(stripe_accounts=count))
    servers = needed(lambda count: Plant(postgres_servers=count))
    day = simulate(bookings, Plant(cores, accounts, servers), measured, demand)
    worker_share = (measured.worker_cpu_ms + measured.webhook_cpu_ms) / measured.cpu_ms
    dollars = cloud_dollars(bookings * measured.billable_actions)
    return (
        f"{factor:,}x",
        f"{bookings:,}",
        f"{day.peak_per_second:,.0f}",
        f"{cores:,}",
        f"{math.ceil(cores * worker_share):,}",
        f"{accounts:,}",
        f"{servers:,}",
        _size(bookings * 12 * measured.database_bytes),
        _size(bookings * measured.history_bytes),
        f"{dollars:,.0f}",
        f"{dollars / bookings * 100:.3f}",
    )


def _size(count_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count_bytes < 1_000 or unit == "TB":
            break
        count_bytes /= 1_000
    return f"{count_bytes:,.1f} {unit}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def report(measured: Measured, demand: Demand) -> str:
    """Both tables, as they stand in docs/scaling.md."""
    return "\n\n".join(
        (
            _table(("alone", "bookings a month", "chains/s in the fullest minute"), ends(measured, demand)),
            _table(
                (
                    "scale",
                    "bookings a month",
                    "peak chains/s",
                    "cores",
                    "of them workers and webhook apps",
                    "Stripe accounts",
                    "PostgreSQL servers",
                    "PostgreSQL a year",
                    "Temporal histories a month",
                    "Temporal Cloud, $ a month",
                    "cents a booking",
                ),
                scales(measured, demand),
            ),
        )
    )


def document_with(tables: str, document: str) -> str:
    """The document with these tables between its two marks. ValueError where the marks are missing."""
    before, found, rest = document.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"docs/scaling.md needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md")
    tables = report(Measured(), Demand())
    if parser.parse_args().write:
        DOCUMENT.write_text(document_with(tables, DOCUMENT.read_text()))
    sys.stdout.write(f"{tables}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
