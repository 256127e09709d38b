"""Run the parts and print the table; `bench/results.md` keeps the last whole one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from rich.console import Console

from bench.progress import Shown
from bench.report import Figure, PartRun, between, machine, middle, render, versions
from bench.world import QUICK, WISHES, Sizes, World, opened
from local.environment import Environment

RESULTS = Path(__file__).with_name("results.md")

_FIRST = ("startup", "chains", "history", "workers", "ledger", "webhooks")
_MONTH_END = ("settlements", "fan_out")
PARTS = (*_FIRST, *_MONTH_END, "sleepers", "memory")
"""Modules of this package, in this order: what counts the first worker's chains comes before what needs many."""

PART_TIMEOUT_SECONDS = 900


async def run(world: World, names: Sequence[str], progress: Shown) -> list[PartRun]:
    """Every part; one that fails is told, and does not keep the others."""
    return [await _part(world, name, progress) for name in names]


async def _part(world: World, name: str, progress: Shown) -> PartRun:
    progress.part(name)
    begun = time.monotonic()
    figures: list[Figure] = []
    error = ""
    try:
        async with asyncio.timeout(PART_TIMEOUT_SECONDS):
            figures = await import_module(f"bench.{name}").run(world, progress)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it belongs into the table
        error = _told(problem)
        progress.say(f"failed: {error}")
    for figure in figures:
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        target = f"  (target {figure.target}: {verdict})" if figure.target else ""
        progress.say(f"{figure.name}: {figure.value}{target}")
    return PartRun(name, time.monotonic() - begun, figures, error)


def _told(problem: BaseException) -> str:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    first = (str(problem).splitlines() or [""])[0]
    return f"{type(problem).__name__}: {first}"[:300]


async def _all(env: Environment, sizes: Sizes, names: Sequence[str], progress: Shown) -> tuple[list[PartRun], World]:
    async with opened(env, sizes) as world:
        return await run(world, names, progress), world


def main() -> int:
    """Exit code 1: a part failed. A missed target is told by the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only whether everything works: its figures say nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, help="interleaved rounds, instead of 3")
    parser.add_argument("--chains", type=int, help="chains of a busy round")
    parser.add_argument("--in-flight", type=int, help="chains under way at a time")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Sizes()
    for name in ("rounds", "chains", "in_flight"):
        if getattr(arguments, name) is not None:
            sizes = replace(sizes, **{name: getattr(arguments, name)})
    names = [name for name in PARTS if name in (arguments.only or PARTS)]
    console = Console(highlight=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="billing-bench-"))
        progress = stack.enter_context(Shown(console))
        env = stack.enter_context(Environment(Path(folder), WISHES, say=progress.say))
        progress.part("start")
        env.start()
        runs, world = asyncio.run(_all(env, sizes, names, progress))
    report = _report(runs, world)
    console.print(report, markup=False)
    if not arguments.quick and not arguments.only:
        RESULTS.write_text(report)
    return int(any(one.error for one in runs))


def _report(runs: Sequence[PartRun], world: World) -> str:
    sizes, strangers = world.sizes, world.strangers_cores
    quiet = (
        f"{middle(strangers, 2)} ({between(strangers, 2)}) cores were busy with something else" if strangers else "?"
    )
    settings = {
        "with": versions(),
        "rounds": f"{sizes.rounds}, interleaved, after a warm-up; the value is their median",
        "quiet": f"{quiet}; from a tenth of a core on, somebody else was measured as well",
        "servers": "one PostgreSQL with fsync on, one Temporal on SQLite files (WAL, synchronous NORMAL), "
        "the stand-ins for Stripe and Cal.com",
    }
    return render(runs, world.tables, at=datetime.now(UTC), heading=f"{machine()}.", settings=settings)


if __name__ == "__main__":
    sys.exit(main())
