"""Chains a second and the time of a lone one: all subjects in the same rounds, on the same servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.meters import CpuMeter
from bench.peers import all_peers
from bench.progress import Shown
from bench.report import Figure, Table, at_least, at_most, between, middle, percentile
from bench.subjects import Absent, Subject, in_flight, laps_ms
from bench.world import World

FLOOR, DBOS = "floor: plain asyncio", "DBOS"
FEWEST_PER_SECOND = 25
"""There Stripe's calls a second on one endpoint take over."""
MOST_SHARE_MS = 60

_COLUMNS = ("worker", "Temporal", "PostgreSQL", "stand-ins", "peer", "benchmark")


@dataclass(frozen=True)
class Round:
    """One subject's figures of one round."""

    chains_per_second: float
    lone_p50_ms: float
    cpu_ms: Mapping[str, float]
    """CPU milliseconds a chain by kind of process, while many were in flight."""


@dataclass
class Entrant:
    """A subject and how it did. `trouble` is why it takes no part, or no longer."""

    subject: Subject
    rounds: list[Round] = field(default_factory=list)
    trouble: str = ""
    absent: bool = False


async def run(world: World, progress: Shown) -> list[Figure]:
    entrants = [Entrant(subject) for subject in (*all_peers(world.env), world.ours)]
    try:
        for entrant in entrants:
            await _enter(entrant, progress)
        for number in range(world.sizes.rounds + 1):
            # Everybody is once the one that follows whom it did not follow before.
            for place in range(len(entrants)):
                await _turn(world, entrants[(place + number) % len(entrants)], number, progress)
    finally:
        for entrant in entrants:
            await _leave(entrant)
    world.tables.append(_table(entrants))
    return _figures(world, {entrant.subject.name: entrant for entrant in entrants})


async def _enter(entrant: Entrant, progress: Shown) -> None:
    try:
        await entrant.subject.start()
    except Absent as why:
        entrant.absent, entrant.trouble = True, str(why)
        progress.say(f"{entrant.subject.name} is absent: {why}")
    except Exception as error:  # noqa: BLE001 - one that fails must not keep the others
        entrant.trouble = f"did not start: {error!r}"
        progress.say(f"{entrant.subject.name} {entrant.trouble}")


async def _leave(entrant: Entrant) -> None:
    try:
        await entrant.subject.stop()
    except Exception as error:  # noqa: BLE001 - what it left running ends with the environment
        entrant.trouble = entrant.trouble or f"did not stop: {error!r}"


async def _turn(world: World, entrant: Entrant, number: int, progress: Shown) -> None:
    """One subject's turn; round 0 only warms up."""
    if entrant.trouble:
        return
    name = entrant.subject.name
    try:
        result = await _measured(world, entrant.subject, number)
    except Exception as error:  # noqa: BLE001 - one that fails must not keep the others
        told = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        entrant.trouble = f"failed in round {number}: {told!r}"
        progress.say(f"{name} {entrant.trouble}")
        return
    what = "warm-up" if number == 0 else f"round {number}"
    progress.say(f"{what}: {name}: {result.chains_per_second:.1f} chains/s, lone {result.lone_p50_ms:.0f} ms")
    if number > 0:
        entrant.rounds.append(result)


async def _measured(world: World, subject: Subject, number: int) -> Round:
    sizes = world.sizes
    chains, lone = (sizes.in_flight, 3) if number == 0 else (sizes.chains, sizes.lone)
    stem = f"chains-{number}-{subject.name.partition(':')[0].replace(' ', '-').lower()}"
    busy, single = [f"{stem}-{index}" for index in range(chains)], [f"{stem}-lone-{index}" for index in range(lone)]
    await world.plant([*busy, *single])
    meter = CpuMeter(world.env.tree)
    seconds = await in_flight(subject, busy, sizes.in_flight)
    spent = {kind: cpu_seconds * 1_000 / chains for kind, cpu_seconds in meter.used().items()}
    world.strangers_cores.append(meter.strangers() / seconds)
    laps = await laps_ms(subject, single)
    if subject is world.ours:
        world.ended(chains + lone)
        world.chains_per_second = chains / seconds
    return Round(chains / seconds, percentile(laps, 0.5), spent)


# --- the table --------------------------------------------------------------------------------------------------------


def _table(entrants: Sequence[Entrant]) -> Table:
    rows = []
    for entrant in entrants:
        name = entrant.subject.name
        if not entrant.rounds:
            rows.append((name, "absent" if entrant.absent else "failed", *[""] * (1 + len(_COLUMNS))))
            continue
        speed = _with_spread([one.chains_per_second for one in entrant.rounds], 1)
        lap = _with_spread([one.lone_p50_ms for one in entrant.rounds], 0)
        costs = [middle([one.cpu_ms.get(kind, 0.0) for one in entrant.rounds]) for kind in _COLUMNS]
        rows.append((name, speed, lap, *costs))
    text = (
        "CPU milliseconds a chain with many in flight, by process. The floor runs in the benchmark's own process, "
        "which for the others starts chains and waits for them. Peers stay up while others have their turn."
    )
    troubles = [f"{entrant.subject.name}: {entrant.trouble}." for entrant in entrants if entrant.trouble]
    return Table(
        "Chains: everybody in the same rounds",
        ("subject", "chains/s", "lone chain p50, ms", *(f"{kind}, CPU ms" for kind in _COLUMNS)),
        rows,
        frozenset(f"{kind}, CPU ms" for kind in _COLUMNS),
        " ".join([text, *troubles]),
    )


def _with_spread(values: Sequence[float], digits: int) -> str:
    return middle(values, digits) + (f" ({between(values, digits)})" if len(values) > 1 else "")


def _figures(world: World, entrants: Mapping[str, Entrant]) -> list[Figure]:
    ours = entrants[world.ours.name]
    if not ours.rounds:
        raise RuntimeError(f"{ours.subject.name}: {ours.trouble}")
    speeds = [one.chains_per_second for one in ours.rounds]
    in_all = f"{world.sizes.in_flight} in flight, {world.sizes.chains} a round"
    figures = [at_least("chains/s", speeds, FEWEST_PER_SECOND, note=in_all)]
    for name, entrant in entrants.items():
        if entrant is not ours:
            figures.append(_ratio(ours, entrant, name))
    floor = entrants[FLOOR]
    pairs = list(zip(ours.rounds, floor.rounds, strict=False))
    if pairs:
        lone = [one.lone_p50_ms - base.lone_p50_ms for one, base in pairs]
        note = f"lone chain p50 {middle([one.lone_p50_ms for one in ours.rounds], 0)} ms, minus the floor's"
        figures.append(at_most("lone chain, Temporal's share", lone, MOST_SHARE_MS, digits=0, unit="ms", note=note))
    else:
        figures.append(Figure("lone chain, Temporal's share", "unknown", target=f"≤ {MOST_SHARE_MS} ms", met=False))
    worker = [one.cpu_ms.get("worker", 0.0) for one in ours.rounds]
    everything = [sum(one.cpu_ms.get(kind, 0.0) for kind in _COLUMNS if kind != "peer") for one in ours.rounds]
    note = f"all its processes together {middle(everything)} ms"
    figures.append(Figure("worker CPU a chain", f"{middle(worker)} ms", between(worker), note=note))
    return figures


def _ratio(ours: Entrant, other: Entrant, name: str) -> Figure:
    """Ours to another one, round by round. Only DBOS is a target."""
    target = "≥ 1" if name == DBOS else ""
    figure = f"chains/s, ours to {name.partition(':')[0]}"
    pairs = list(zip(ours.rounds, other.rounds, strict=False))
    if not pairs:
        return Figure(figure, "absent" if other.absent else "failed", target=target, note=other.trouble)
    ratios = [one.chains_per_second / base.chains_per_second for one, base in pairs]
    if target:
        return at_least(figure, ratios, 1, digits=2, note=other.trouble)
    return Figure(figure, middle(ratios, 2), between(ratios, 2), note=other.trouble)
