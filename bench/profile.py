"""`python -m bench.profile`: where a worker's CPU time goes while chains run, seen by py-spy from outside.

Two tables: by package (a sample counts for the package of the innermost frame that is not the standard library's), and
by function with everything that it calls. Only what holds the interpreter's lock is counted: Temporal's core works in
threads of its own, beside it. Needs the right to look into another process: root,
or `kernel.yama.ptrace_scope=0`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.progress import Shown
from bench.report import Table, render_table
from bench.subjects import in_flight
from bench.world import WISHES, Sizes, World, opened
from local.environment import ROOT, Environment

RATE = 250
"""Samples a second."""
TOP = 25

_FRAME = re.compile(r"^(?P<function>.+) \((?P<file>[^()]*?)(?::\d+)?\)$")
_PACKAGE = re.compile(r"site-packages/(?P<name>[^/]+)")
_OURS = frozenset({"activities", "domain", "gateways", "starter", "store", "workflows", "settings.py", "worker.py"})
_ROOT = "ours: worker"
"""Innermost of what is ours where the event loop itself works."""
_IMPORTING = "_find_and_load"


@dataclass(frozen=True)
class Profile:
    """Samples of running code, as shares of 1."""

    samples: int
    by_package: Sequence[tuple[str, float]]
    by_function: Sequence[tuple[str, float]]


async def record(world: World, chains: int, output: Path) -> float:
    """Chains in flight while py-spy writes stacks to a file; returns chains a second. Raises RuntimeError."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise RuntimeError("py-spy is not installed: it is part of the extra `bench`")
    warm = [f"profile-warm-{index}" for index in range(world.sizes.in_flight)]
    busy = [f"profile-{index}" for index in range(chains)]
    await world.plant([*warm, *busy])
    await in_flight(world.ours, warm, world.sizes.in_flight)
    # 10 minutes at most: it is ended when the chains have.
    options = (
        "--gil",
        "--format",
        "raw",
        "--full-filenames",
        "--rate",
        str(RATE),
        "--duration",
        "600",
        "--output",
        str(output),
    )
    spy = await asyncio.create_subprocess_exec(
        *(program, "record", "--pid", str(world.pid()), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    await asyncio.sleep(1)
    if spy.returncode is None:
        seconds = await in_flight(world.ours, busy, world.sizes.in_flight)
        spy.send_signal(2)
    said, _ = await spy.communicate()
    if not await asyncio.to_thread(output.is_file):
        raise RuntimeError(f"py-spy could not look into the worker: {said.decode(errors='replace').strip()[-300:]}")
    return chains / seconds


def read(lines: Iterable[str]) -> Profile:
    """py-spy's raw format: `outermost (file:line);…;innermost (file:line) samples` a line."""
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in lines:
        stack, _, told = line.rstrip("\n").rpartition(" ")
        if not told.isdigit():
            continue
        frames = [found for part in stack.split(";") if (found := _FRAME.match(part))]
        if not frames:
            continue
        count = int(told)
        packages[_package_of(frames)] += count
        owned = [frame for frame in frames if _owner(frame["file"]) not in (None, _ROOT)]
        for name in {f"{frame['function']} ({_short(frame['file'])})" for frame in owned}:
            functions[name] += count
    total = packages.total()
    return Profile(
        total,
        [(name, count / total) for name, count in packages.most_common()],
        [(name, count / total) for name, count in functions.most_common()],
    )


def _package_of(frames: Sequence[re.Match[str]]) -> str:
    """Who is to blame for a sample: importing, else the innermost frame's package, the standard library's apart."""
    if any(frame["function"] == _IMPORTING for frame in frames):
        return "importing modules"
    for frame in reversed(frames):
        name = _owner(frame["file"])
        if name is not None:
            return "event loop" if name == _ROOT else name
    return "standard library"


def _owner(file: str) -> str | None:
    """`sqlalchemy`, `ours: store`, or None for the standard library."""
    package = _PACKAGE.search(file)
    if package is not None:
        return package["name"].removesuffix(".py")
    try:
        first = Path(file).relative_to(ROOT).parts[0]
    except ValueError:
        return None
    return f"ours: {first.removesuffix('.py')}" if first in _OURS else None


def _short(file: str) -> str:
    package = _PACKAGE.search(file)
    if package is not None:
        return file[package.start("name") :]
    try:
        return str(Path(file).relative_to(ROOT))
    except ValueError:
        return "/".join(Path(file).parts[-2:])


def tables(profile: Profile) -> list[Table]:
    """What is worth printing."""

    def rows(found: Sequence[tuple[str, float]]) -> list[tuple[str, str]]:
        return [(name, f"{share:.1%}") for name, share in found[:TOP]]

    return [
        Table("CPU of the worker, by package", ("package", "share"), rows(profile.by_package), frozenset({"share"})),
        Table(
            "By function, with what it calls", ("function", "share"), rows(profile.by_function), frozenset({"share"})
        ),
    ]


async def _run(env: Environment, chains: int, output: Path) -> float:
    async with opened(env, Sizes()) as world:
        return await record(world, chains, output)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--chains", type=int, default=600)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="also keep py-spy's raw stacks, for a flame graph")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="billing-profile-") as folder, Shown(console) as progress:
        with Environment(Path(folder), WISHES, say=progress.say) as env:
            progress.part("profile")
            env.start()
            output = Path(folder) / "stacks.txt"
            speed = asyncio.run(_run(env, arguments.chains, output))
        lines = output.read_text().splitlines(keepends=True)
    if arguments.keep is not None:
        arguments.keep.write_text("".join(lines))
    profile = read(lines)
    console.print(f"{profile.samples} samples at {RATE} a second, {speed:.1f} chains/s under observation\n")
    for table in tables(profile):
        console.print("\n".join(render_table(table)) + "\n", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
