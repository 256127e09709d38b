"""Acknowledgement of signed webhooks at 200 a second, by the real app, with its relay delivering what it took.

Arrivals are open-loop: each is sent at its moment whether or not earlier ones are answered, and its time counts from
that moment, so that a slow app cannot slow its senders down. The bodies are those that the stand-ins of Cal.com and
Stripe send. Most tell of chains that have ended, as most do in production; some start new ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.meters import CpuMeter
from bench.progress import Shown
from bench.report import Figure, at_most, between, middle, percentile
from bench.subjects import in_flight
from bench.webhook_bodies import Bodies, Request
from bench.wire import Sender
from bench.world import World

PER_SECOND = 200
REPEAT_EVERY = 5
"""Each fifth event is sent once more, at the next moment: while the first is under way."""
NEW_CHAINS_PER_SECOND = 4
MOST_P99_MS = 50
WARM_UP_SECONDS = 1.0
KNOWN = 60
"""Chains that have ended before, whose events come again."""


@dataclass(frozen=True)
class Round:
    """What one round of webhooks found."""

    acks_ms: Sequence[float]
    sent_late_ms: Sequence[float]
    """How much later than planned each was written: the generator's weakness, and part of the acknowledgements."""
    words: Counter[str]
    """Answers by their status word, `HTTP 503` and such for others."""
    events: int
    repeats: int
    rows: int
    """New rows of the inbox."""
    drained_seconds: float
    """Until the relay had delivered the last one."""
    app_cpu_ms: float
    """Of the webhook app for each webhook: checked, stored, delivered."""


async def run(world: World, progress: Shown) -> list[Figure]:
    await asyncio.to_thread(world.env.start_webhooks)
    known = [f"webhooks-known-{index}" for index in range(KNOWN)]
    await world.plant(known)
    await in_flight(world.ours, known, world.sizes.in_flight)
    world.ended(len(known))
    bodies = await Bodies.learn(world, known)
    rounds = []
    await _round(world, bodies, 0, WARM_UP_SECONDS)
    for number in range(1, world.sizes.rounds + 1):
        found = await _round(world, bodies, number, world.sizes.seconds)
        rounds.append(found)
        progress.say(
            f"round {number}: p99 {percentile(found.acks_ms, 0.99):.0f} ms, {dict(found.words)}, "
            f"delivered {found.drained_seconds:.1f} s after the last"
        )
    await _all_delivered(world)
    await asyncio.to_thread(world.env.tree.stop, "webhooks")
    return _figures(rounds)


async def _round(world: World, bodies: Bodies, number: int, seconds: float) -> Round:
    moments, events, repeats = await _planned(world, bodies, number, int(seconds * PER_SECOND))
    before = await _rows(world)
    words: Counter[str] = Counter()
    acks_ms: list[float] = []
    late_ms: list[float] = []
    sender = Sender(world.env.webhook_url)

    async def one(request: Request, due: float) -> None:
        late_ms.append((time.perf_counter() - due) * 1_000)
        words[await sender.word(request)] += 1
        acks_ms.append((time.perf_counter() - due) * 1_000)

    meter = CpuMeter(world.env.tree)
    begun = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as group:
        for place, request in enumerate(moments):
            due = begun + place / PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(request, due))
    sender.close()
    drained = await _drained(world)
    app_cpu_ms = meter.used()["webhook app"] * 1_000 / len(moments)
    return Round(acks_ms, late_ms, words, events, repeats, await _rows(world) - before, drained, app_cpu_ms)


async def _planned(world: World, bodies: Bodies, number: int, moments: int) -> tuple[list[Request], int, int]:
    """What is sent at each moment; how many events that are, and how many of them twice."""
    new_every = PER_SECOND // NEW_CHAINS_PER_SECOND
    new = [f"webhooks-new-{number}-{index}" for index in range(moments // new_every)]
    await world.plant(new)
    world.ended(len(new))
    planned: list[Request] = []
    fresh = iter(new)
    events = repeats = 0
    while len(planned) < moments:
        uid = next(fresh, None) if events % new_every == 0 else None
        request = bodies.calcom(uid) if uid or events % 2 else bodies.stripe()
        events += 1
        planned.append(request)
        if events % REPEAT_EVERY == 0 and len(planned) < moments:
            planned.append(request)
            repeats += 1
    return planned, events, repeats


async def _rows(world: World) -> int:
    return await world.count("SELECT count(*) FROM inbox")


async def _drained(world: World) -> float:
    """Seconds until nothing waits for delivery any more. Raises TimeoutError."""
    return await world.until_none("SELECT count(*) FROM inbox WHERE status = 'received'")


async def _all_delivered(world: World) -> None:
    """Raises where an event needs a person, or a chain that an event started has not ended well."""
    stuck = await world.count("SELECT count(*) FROM inbox WHERE status NOT IN ('delivered', 'ignored')")
    if stuck:
        raise RuntimeError(f"{stuck} events were not delivered")
    await world.until_none(
        "SELECT count(*) FROM chains WHERE chain_uid LIKE 'webhooks-%' AND outcome IS DISTINCT FROM 'matured'"
    )


def _figures(rounds: Sequence[Round]) -> list[Figure]:
    p99 = [percentile(one.acks_ms, 0.99) for one in rounds]
    p50 = [percentile(one.acks_ms, 0.5) for one in rounds]
    late = [percentile(one.sent_late_ms, 0.99) for one in rounds]
    events, repeats = sum(one.events for one in rounds), sum(one.repeats for one in rounds)
    rows = sum(one.rows for one in rounds)
    words = sum((one.words for one in rounds), Counter[str]())
    drained = max(one.drained_seconds for one in rounds)
    acknowledged = sum(words[word] for word in ("accepted", "ignored", "duplicate"))
    cpu_ms = [one.app_cpu_ms for one in rounds]
    note = f"of which the generator was late by {middle(late)} ms (p99)"
    said = f"{acknowledged} of {events + repeats} acknowledged; all delivered {drained:.1f} s after the last at most"
    return [
        Figure(f"webhook acknowledgement p50, {PER_SECOND}/s", f"{middle(p50)} ms", between(p50)),
        at_most(f"webhook acknowledgement p99, {PER_SECOND}/s", p99, MOST_P99_MS, unit="ms", note=note),
        Figure(
            "webhooks lost",
            str(events + repeats - acknowledged + abs(events - rows)),
            target="0",
            met=acknowledged == events + repeats and rows == events,
            note=f"{events} events are {rows} rows of the inbox; {said}",
        ),
        Figure(
            "webhooks sent twice, told as duplicates",
            f"{words['duplicate']} of {repeats}",
            target="1 : 1",
            met=words["duplicate"] == repeats and rows == events,
        ),
        Figure("webhook app, CPU of a webhook", f"{middle(cpu_ms)} ms", between(cpu_ms)),
    ]
