"""How long things take to start: the command line, a worker, the whole demo."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time

from bench.polling import until_polling
from bench.progress import Shown
from bench.report import Figure, at_most
from bench.world import World
from local.environment import ROOT

HELP_SECONDS, WORKER_SECONDS, DEMO_SECONDS = 0.4, 2.0, 15.0
DEMO_PATIENCE_SECONDS = 180
FIRST_CHAIN = "First chain ended"
"""What the demo says then."""


async def run(world: World, progress: Shown) -> list[Figure]:
    starts = world.sizes.starts
    helped, workers, demos = [], [], []
    for number in range(1, starts + 1):
        # Interleaved, so that a busy minute of the machine does not hit one of them alone.
        helped.append(await _help())
        workers.append(await _worker(world))
        demos.append(await _demo())
        progress.say(f"round {number}: --help {helped[-1]:.2f} s, worker {workers[-1]:.2f} s, demo {demos[-1]:.1f} s")
    return [
        at_most("`billing --help`", helped, HELP_SECONDS, digits=2, unit="s"),
        at_most("worker start", workers, WORKER_SECONDS, digits=2, unit="s", note="until Temporal saw it ask for work"),
        at_most(
            "cold demo, first chain ended",
            demos,
            DEMO_SECONDS,
            unit="s",
            note="from the command on: new database, new Temporal, everything set up",
        ),
    ]


async def _help() -> float:
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "--help"), cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise RuntimeError("billing --help failed")
    return time.perf_counter() - begun


async def _worker(world: World) -> float:
    begun = time.perf_counter()
    name = await asyncio.to_thread(world.env.start_worker)
    try:
        await until_polling(world, world.pid(name))
        return time.perf_counter() - begun
    finally:
        await asyncio.to_thread(world.env.tree.stop, name)


async def _demo() -> float:
    """From the command to the line that tells of the first chain; then it is ended. All its data are thrown away."""
    with tempfile.TemporaryDirectory(prefix="billing-bench-demo-") as folder:
        env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        env["PYTHONUNBUFFERED"] = "1"
        begun = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "demo", "--state-dir", f"{folder}/state"),
            cwd=ROOT,
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(DEMO_PATIENCE_SECONDS):
                return await _first_chain(process) - begun
        finally:
            await _end(process)


async def _first_chain(process: asyncio.subprocess.Process) -> float:
    """The moment of that line, by the performance counter. Raises RuntimeError with the demo's last words."""
    last = ""
    if process.stdout is None:
        raise RuntimeError("the demo has no output")
    async for line in process.stdout:
        if FIRST_CHAIN in line.decode(errors="replace"):
            return time.perf_counter()
        last = line.decode(errors="replace").strip() or last
    raise RuntimeError(f"the demo ended before its first chain: {last}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """By Ctrl-C, as a person would; the demo ends its processes. What it says meanwhile is thrown away."""
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(60):
            await process.communicate()
    except TimeoutError:
        process.kill()
        raise RuntimeError("the demo did not end when it was told to") from None
