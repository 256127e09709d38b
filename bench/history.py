"""The history of one chain that is settled monthly and really sleeps in its hold: what it costs and what that buys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from bench.actions import Step, steps
from bench.progress import Shown
from bench.report import Figure, Table
from bench.world import HOLD, World
from domain import ids

MOST_EVENTS, MOST_BYTES, MOST_ACTIONS = 32, 8_000, 7
SLEEP = timedelta(seconds=6)
PATIENCE_SECONDS = 120

_BUYS = {
    "workflow execution started": "the chain, once and for ever under its id; findable from the first moment",
    "workflow tasks": "the places where a crash resumes: one for each answer from outside and for the end of the hold",
    "local activity take_in": "Cal.com: a row of its own in the Web UI, dispatched where it fails; the frozen quote",
    "activity bill_and_charge": "Stripe: a row of its own, one rate for all workers, one key for repeats; the books",
    "timer": "the hold of a day or a month: a row in the server, no memory and no worker",
    "upsert workflow search attributes": "lists by stage, customer, reseller, amount and month",
    "workflow execution completed": "the outcome in every list, until the retention is over",
    "patch": "running chains keep the old order of steps",
    "local activity mature_and_close": "what is due now, what the month's settlement pays; where the chain stands",
}


async def run(world: World, progress: Shown) -> list[Figure]:
    uid = "history-1"
    ends = datetime.now(UTC) + SLEEP - HOLD
    await world.plant([uid], end=ends)
    progress.say(f"a chain whose hold ends in {SLEEP.seconds} s")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await (await world.ours.begin(uid)).result()
    world.ended(1)
    history = await world.client.get_workflow_handle(ids.booking_workflow(uid)).fetch_history()
    found = steps(history.events)
    if not any(step.name == "timer" for step in found):
        raise RuntimeError(
            "the hold was over before the chain came to it: the machine is too slow for this measurement"
        )
    events, size, actions = (
        sum(step.events for step in found),
        sum(step.size_bytes for step in found),
        sum(step.actions for step in found),
    )
    world.tables.append(_table(found))
    return [
        _counted("history events", events, MOST_EVENTS, "settled monthly, with hold timer and search attributes"),
        _counted("history bytes", size, MOST_BYTES, "as protobuf, before the server compresses it"),
        _counted("billable actions", actions, MOST_ACTIONS, "local activities of one workflow task are one"),
    ]


def _counted(name: str, count: int, most: int, note: str) -> Figure:
    return Figure(f"{name} a chain", f"{count:,}", target=f"≤ {most:,}", met=count <= most, note=note)


def _table(found: list[Step]) -> Table:
    rows = [
        (
            step.name,
            str(step.events),
            f"{step.size_bytes:,}",
            str(step.actions) if step.actions else "",
            _BUYS.get(step.name, ""),
        )
        for step in found
    ]
    rows.append(
        (
            "together",
            str(sum(step.events for step in found)),
            f"{sum(step.size_bytes for step in found):,}",
            str(sum(step.actions for step in found)),
            "",
        )
    )
    text = "All local activities of one workflow task are one action; it stands with the first of them."
    return Table(
        "History: what each step costs and buys",
        ("step", "events", "bytes", "actions", "what it buys"),
        rows,
        frozenset({"events", "bytes", "actions"}),
        text,
    )
