"""The worker's memory after ten thousand chains against that after one thousand."""

from __future__ import annotations

import asyncio

from bench.meters import CpuMeter
from bench.progress import Shown
from bench.report import Figure, Table
from bench.subjects import in_flight
from bench.world import World

MOST_GROWTH = 1.15
"""Flat: thousands of chains slept and woke at one moment in between; the allocator keeps some of what they took."""
BATCH = 250


async def run(world: World, progress: Shown) -> list[Figure]:
    for upto in (world.sizes.memory_from, world.sizes.memory_to):
        await fill(world, upto, progress)
        await asyncio.sleep(1)
        world.rss_mib_after[world.worker_chains] = world.worker_rss_mib()
    marks = world.rss_mib_after
    first, last = min(marks), max(marks)
    ratio = marks[last] / marks[first]
    world.tables.append(
        Table(
            "Memory of one worker process",
            ("chains ended", "MiB"),
            [(f"{count:,}", f"{marks[count]:.0f}") for count in sorted(marks)],
            frozenset({"chains ended", "MiB"}),
        )
    )
    return [
        Figure(
            f"worker memory, after {last:,} chains to after {first:,}",
            f"{ratio:.2f}",
            f"{min(marks.values()):.0f}-{max(marks.values()):.0f} MiB",
            f"≤ {MOST_GROWTH:g}",
            ratio <= MOST_GROWTH,
            f"{marks[first]:.0f} MiB, then {marks[last]:.0f} MiB",
        )
    ]


async def fill(world: World, upto: int, progress: Shown) -> None:
    """Runs chains until so many have ended on the first worker."""
    begun_at = world.worker_chains
    while world.worker_chains < upto:
        count = min(BATCH, upto - world.worker_chains)
        uids = [f"fill-{world.worker_chains}-{index}" for index in range(count)]
        await world.plant(uids)
        meter = CpuMeter(world.env.tree)
        seconds = await in_flight(world.ours, uids, world.sizes.in_flight)
        world.strangers_cores.append(meter.strangers() / seconds)
        world.chains_per_second = count / seconds
        world.ended(count)
        progress.step("chains", world.worker_chains - begun_at, upto - begun_at)
