"""One, two and three worker processes on this machine: where it peaks, and what then limits."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from statistics import median

from bench.meters import CpuMeter, shares
from bench.polling import until_polling
from bench.progress import Shown
from bench.report import Figure, Table, between, middle
from bench.subjects import in_flight
from bench.world import World

MOST = 3
BUSY = 0.9
"""From this share of all processors on they are what limits."""

_KINDS = ("worker", "Temporal", "PostgreSQL", "stand-ins", "benchmark")


async def run(world: World, progress: Shown) -> list[Figure]:
    speeds: dict[int, list[float]] = defaultdict(list)
    cores: dict[int, list[Mapping[str, float]]] = defaultdict(list)
    others = len(world.strangers_cores)
    for number in range(1, world.sizes.rounds + 1):
        more: list[str] = []
        try:
            for count in range(1, MOST + 1):
                if count > 1:
                    more.append(await asyncio.to_thread(world.env.start_worker))
                    await until_polling(world, world.pid(more[-1]))
                speed, busy = await _measured(world, number, count)
                speeds[count].append(speed)
                cores[count].append(busy)
                progress.say(f"round {number}: {count} worker{'s' if count > 1 else ''}: {speed:.1f} chains/s")
        finally:
            for name in more:
                await asyncio.to_thread(world.env.tree.stop, name)
    world.tables.append(_table(speeds, cores))
    return _figures(speeds, cores, median(world.strangers_cores[others:]))


async def _measured(world: World, number: int, count: int) -> tuple[float, Mapping[str, float]]:
    """Chains a second, and how many cores each kind of process kept busy. A new worker warms up before."""
    chains, most = max(world.sizes.chains // 2, 1), world.sizes.in_flight * count
    stem = f"workers-{number}-{count}"
    warm, busy = [f"{stem}-warm-{index}" for index in range(most)], [f"{stem}-{index}" for index in range(chains)]
    await world.plant([*warm, *busy])
    await in_flight(world.ours, warm, most)
    meter, begun = CpuMeter(world.env.tree), time.perf_counter()
    await in_flight(world.ours, busy, most)
    seconds = time.perf_counter() - begun
    world.strangers_cores.append(meter.strangers() / seconds)
    if count == 1:
        world.chains_per_second = chains / seconds
    world.ended((len(warm) + len(busy)) // count)
    return chains / seconds, {kind: spent / seconds for kind, spent in meter.used().items()}


def _table(speeds: Mapping[int, list[float]], cores: Mapping[int, list[Mapping[str, float]]]) -> Table:
    rows = []
    for count, found in speeds.items():
        shown = [middle([one.get(kind, 0.0) for one in cores[count]], 2) for kind in _KINDS]
        together = median([sum(one.values()) for one in cores[count]])
        rows.append((str(count), middle(found), between(found), *shown, f"{together:.2f} of {os.cpu_count()}"))
    return Table(
        "Worker processes: cores that each kind of process keeps busy",
        ("workers", "chains/s", "lowest-highest", *_KINDS, "together"),
        rows,
        frozenset({"chains/s", "lowest-highest", *_KINDS}),
        "More chains in flight with more workers.",
    )


def _figures(
    speeds: Mapping[int, list[float]], cores: Mapping[int, list[Mapping[str, float]]], strangers: float
) -> list[Figure]:
    peak = max(speeds, key=lambda count: median(speeds[count]))
    at_peak = {kind: median([one.get(kind, 0.0) for one in cores[peak]]) for kind in _KINDS}
    full = sum(at_peak.values()) + strangers >= BUSY * (os.cpu_count() or 1)
    limit = "the processors limit" if full else "the processors are not full: waiting limits"
    figures = [
        Figure(f"chains/s, {count} worker process{'es' if count > 1 else ''}", middle(found), between(found))
        for count, found in speeds.items()
    ]
    note = f"{limit}: {shares(at_peak, 1)}"
    return [*figures, Figure("chains/s at the peak", middle(speeds[peak]), between(speeds[peak]), note=note)]
