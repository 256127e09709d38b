"""Thousands of chains that sleep through their hold at once: what that costs, and whether all wake and finish.

A hold's length costs nothing in Temporal: the timer is a row with a moment, for a minute as for a month. So all holds
end at one moment some minutes ahead, which is the hardest case, because all wake at once. The worker's cache holds
fewer chains than sleep (`worker_max_cached_workflows`): most wake by replaying their history, as they would after a
month.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.memory import fill
from bench.meters import CpuMeter, shares
from bench.progress import Shown
from bench.report import Figure, Table
from bench.world import HOLD, World

AT_A_TIME = 64
"""Chains that have not fallen asleep yet."""
SPARE = 1.4
"""How much longer than at the speed of whole chains they may take to fall asleep; what is left is used."""
SETTLE_SECONDS = 3.0
LATEST_SECONDS = 2 * SETTLE_SECONDS + 2.0
"""Before they wake, all must sleep: there has to be something left to watch."""
STARTING_SECONDS = 5.0
CAUTION = 0.7
"""Share of the time left that other chains may take."""
MOST_CPU_PERCENT = 2.0
"""Of one core. An idle worker's polls take as much."""
MOST_KIB = 40.0
"""Of the worker's memory for each sleeping chain."""

_ASLEEP = "SELECT count(*) FROM chains WHERE chain_uid LIKE 'sleep-%' AND stage = 'hold' AND outcome IS NULL"
_MATURED = "SELECT count(*) FROM chains WHERE chain_uid LIKE 'sleep-%' AND outcome = 'matured'"
_RUNNING = "WorkflowType = 'BookingWorkflow' AND ExecutionStatus = 'Running'"


@dataclass(frozen=True)
class Asleep:
    """What was seen while all slept."""

    watched_seconds: float
    cpu_percent: dict[str, float]
    """Of one core, by kind of process."""
    rss_mib: float


async def run(world: World, progress: Shown) -> list[Figure]:
    await fill(world, world.sizes.memory_from, progress)
    before = await _watched(world, 3.0)
    if not world.chains_per_second:
        await fill(world, world.worker_chains + world.sizes.in_flight, progress)
    count = world.sizes.sleepers
    working_seconds = count / world.chains_per_second * SPARE
    wakes_at = time.time() + STARTING_SECONDS + working_seconds + world.sizes.watch_seconds + LATEST_SECONDS
    uids = [f"sleep-{index}" for index in range(count)]
    await world.plant(uids, end=datetime.fromtimestamp(wakes_at, UTC) - HOLD)
    begun, meter = time.monotonic(), CpuMeter(world.env.tree)
    slept = await _fall_asleep(world, uids, wakes_at, progress)
    spare_seconds = wakes_at - time.time()
    working_seconds = time.monotonic() - begun
    busy = f"{shares(meter.used(), working_seconds)}, strangers {meter.strangers() / working_seconds:.2f}"
    progress.say(f"{slept:,} asleep after {working_seconds:.0f} s, {spare_seconds:.0f} s before they wake ({busy})")
    asleep = None
    if slept == count:
        asleep = await _watched(world, min(world.sizes.watch_seconds, spare_seconds - 2 * SETTLE_SECONDS))
        world.tables.append(_table(before, asleep))
        await _go_on(world, wakes_at, progress)
    await asyncio.sleep(max(0.0, wakes_at - time.time()))
    took = await _until_finished(world, progress)
    world.ended(count)
    finished = Figure(
        "woken at one moment, finished",
        f"{slept:,}",
        target=f"{count:,}",
        met=slept == count,
        note=f"all {count:,} in the database and at Temporal, {timedelta(seconds=round(took))} after they woke"
        + ("" if slept == count else "; the machine was too slow for all to sleep at once"),
    )
    return [*_figures(world, before, asleep), finished]


async def _fall_asleep(world: World, uids: Sequence[str], wakes_at: float, progress: Shown) -> int:
    """Starts all chains; returns how many slept at once. Those that come too late for that don't sleep at all."""
    started, asleep = 0, 0
    while asleep < len(uids) and wakes_at - time.time() > LATEST_SECONDS:
        more = uids[started : asleep + AT_A_TIME]
        started += len(more)
        await asyncio.gather(*(world.ours.begin(uid) for uid in more))
        await asyncio.sleep(0.05)
        asleep = await world.count(_ASLEEP)
        progress.step("falling asleep", asleep, len(uids))
    for begin in range(started, len(uids), AT_A_TIME):
        await asyncio.gather(*(world.ours.begin(uid) for uid in uids[begin : begin + AT_A_TIME]))
    return asleep


async def _go_on(world: World, wakes_at: float, progress: Shown) -> None:
    """Other chains meanwhile, as many of those that the memory is measured by as there is time for."""
    seconds = wakes_at - time.time() - SETTLE_SECONDS
    most = world.sizes.memory_to - world.sizes.sleepers - world.worker_chains
    count = min(most, int(seconds * world.chains_per_second * CAUTION))
    if count > world.sizes.in_flight:
        await fill(world, world.worker_chains + count, progress)


async def _watched(world: World, seconds: float) -> Asleep:
    """What the processes take while nothing is to be done."""
    await asyncio.sleep(SETTLE_SECONDS)
    meter, begun = CpuMeter(world.env.tree), time.monotonic()
    await asyncio.sleep(seconds)
    watched = time.monotonic() - begun
    used = {kind: spent / watched * 100 for kind, spent in meter.used().items()}
    return Asleep(watched, used, world.worker_rss_mib())


async def _until_finished(world: World, progress: Shown) -> float:
    """Seconds from the moment of waking to the last chain's end, in the database and at Temporal."""
    begun = time.monotonic()
    count = world.sizes.sleepers
    patience_seconds = 60 + 5 * count / world.chains_per_second
    while left := count - await world.count(_MATURED):
        progress.step("awake and finished", count - left, count)
        if time.monotonic() - begun > patience_seconds:
            raise TimeoutError(f"{left} of {count} chains have not finished {patience_seconds:.0f} s after they woke")
        await asyncio.sleep(0.2)
    took = time.monotonic() - begun
    while running := (await world.client.count_workflows(_RUNNING)).count:
        if time.monotonic() - begun > patience_seconds:
            raise TimeoutError(f"{running} workflows still run, though their chains have ended")
        await asyncio.sleep(0.2)
    return took


def _table(before: Asleep, asleep: Asleep) -> Table:
    kinds = ("worker", "Temporal", "PostgreSQL", "stand-ins")
    rows = [
        (what, f"{seen.rss_mib:.0f}", *(f"{seen.cpu_percent.get(kind, 0.0):.1f}" for kind in kinds))
        for what, seen in (("nothing to do", before), ("all asleep", asleep))
    ]
    return Table(
        "Sleeping chains: CPU in percent of one core",
        ("", "worker's memory, MiB", *kinds),
        rows,
        frozenset({"worker's memory, MiB", *kinds}),
        "The worker keeps as many chains in memory as its cache has places, asleep or not; the others are a row each.",
    )


def _figures(world: World, before: Asleep, asleep: Asleep | None) -> list[Figure]:
    count = world.sizes.sleepers
    cpu, memory = f"worker CPU, {count:,} chains asleep", "worker memory for each chain asleep"
    if asleep is None:
        return [Figure(name, "unknown", target="none worth measuring", met=False) for name in (cpu, memory)]
    percent, without = asleep.cpu_percent.get("worker", 0.0), before.cpu_percent.get("worker", 0.0)
    each_kib = max(0.0, asleep.rss_mib - before.rss_mib) * 1024 / count
    cached = min(count, world.settings.worker_max_cached_workflows)
    watched = f"of one core, over {asleep.watched_seconds:.0f} s; {without:.1f} % without"
    return [
        Figure(cpu, f"{percent:.1f} %", "", f"≤ {MOST_CPU_PERCENT:g} %", percent <= MOST_CPU_PERCENT, watched),
        Figure(
            memory,
            f"{each_kib:.0f} KiB",
            target=f"≤ {MOST_KIB:g} KiB",
            met=each_kib <= MOST_KIB,
            note=f"{asleep.rss_mib:.0f} MiB, {before.rss_mib:.0f} MiB without; the cache keeps {cached:,} of them",
        ),
    ]
