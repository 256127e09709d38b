"""What is measured: a way to run a chain to its end. Ours is here, its peers are in `bench/peers`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from temporalio.client import Client, WorkflowHandle

from domain import ids
from domain.chain import ChainOutcome
from settings import Settings
from workflows import visibility
from workflows.booking import BookingWorkflow, booking_input


class Absent(Exception):
    """A subject that cannot run on this machine; `str()` says why. Reported as such, never left out of the table."""


class Subject(Protocol):
    """One way to run a chain to its end."""

    name: str

    async def start(self) -> None:
        """Everything the chains need, processes included. Raises Absent where that cannot be had."""

    async def chain(self, uid: str) -> None:
        """One chain to its end, callable many times at once. Raises where the booking is not billed in the end."""

    async def stop(self) -> None:
        """Give everything back; also after a `start` that raised."""


class Ours:
    """The real `BookingWorkflow` on the real worker process and the local Temporal server."""

    name = "BookingWorkflow on Temporal"

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    async def start(self) -> None:
        """The worker processes are the environment's."""

    async def stop(self) -> None:
        """The client belongs to whoever made it."""

    async def chain(self, uid: str) -> None:
        outcome = await (await self.begin(uid)).result()
        if outcome is not ChainOutcome.MATURED:
            raise RuntimeError(f"{uid} ended as {outcome}")

    async def begin(self, uid: str) -> WorkflowHandle[BookingWorkflow, ChainOutcome]:
        """Starts a chain without waiting for it."""
        return await self._client.start_workflow(
            BookingWorkflow.run,
            booking_input(self._settings, uid),
            id=ids.booking_workflow(uid),
            task_queue=ids.TASK_QUEUE_CHAIN,
            static_summary=visibility.summary(uid),
            static_details=visibility.DETAILS,
            search_attributes=visibility.at_start(uid),
        )


async def in_flight(subject: Subject, uids: Sequence[str], most: int) -> float:
    """All these chains with at most so many at a time; the seconds it took. Raises what the first one raised."""
    gate = asyncio.Semaphore(most)

    async def one(uid: str) -> None:
        async with gate:
            await subject.chain(uid)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for uid in uids:
            group.create_task(one(uid))
    return time.perf_counter() - begun


async def laps_ms(subject: Subject, uids: Sequence[str]) -> list[float]:
    """One chain after the other; the milliseconds of each."""
    laps = []
    for uid in uids:
        begun = time.perf_counter()
        await subject.chain(uid)
        laps.append((time.perf_counter() - begun) * 1_000)
    return laps
