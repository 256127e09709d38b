"""What is measured: a way to run a chain to its end. Ours is here, its peers are in `bench/peers`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from temporalio.client import Client, WorkflowHandle

from bench.waiting import Waiting
from domain import ids
from domain.chain import ChainOutcome
from settings import Settings
from store import Store
from store.repository import driver_of
from workflows import visibility
from workflows.booking import BookingWorkflow, booking_input

PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.04
LOOK_FOR_ONE_SECONDS = 0.002
_ENDED = "SELECT chain_uid, outcome FROM chains WHERE chain_uid = ANY(%s) AND outcome IS NOT NULL"


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

    def __init__(self, client: Client, settings: Settings, store: Store) -> None:
        self._client = client
        self._settings = settings
        self._store = store
        self._asked = Waiting()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The worker processes are the environment's."""

    async def stop(self) -> None:
        """Client and store belong to whoever made them."""

    async def chain(self, uid: str) -> None:
        """Started as the webhook app does it, and ended when our database says so: nobody in the product keeps a call
        to Temporal open for each chain.
        """
        ended = self._asked.ask(uid)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await self.begin(uid)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await ended
        finally:
            self._asked.answer(uid)

    async def until_closed(self, uids: Sequence[str]) -> None:
        """Until Temporal has closed the workflows of these chains as well: what it does after the last step counts."""
        handles = [self._client.get_workflow_handle(ids.booking_workflow(uid)) for uid in uids]
        await asyncio.gather(*(handle.result() for handle in handles))

    async def _look(self) -> None:
        """Until nobody waits any more. Many are looked up together, one alone at once."""
        while self._asked:
            await asyncio.sleep(LOOK_SECONDS if len(self._asked) > 1 else LOOK_FOR_ONE_SECONDS)
            try:
                async with self._store.begin() as tx:
                    found = await driver_of(tx.connection).execute(_ENDED, (self._asked.keys,))
                    rows = await found.fetchall()
            except Exception as error:  # noqa: BLE001 - whoever waits has to hear of it
                self._asked.answer_all(repr(error))
                return
            for uid, outcome in rows:
                self._asked.answer(uid, "" if outcome == ChainOutcome.MATURED else f"ended as {outcome}")

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
    if isinstance(subject, Ours):
        await subject.until_closed(uids[-most:])
    return time.perf_counter() - begun


async def laps_ms(subject: Subject, uids: Sequence[str]) -> list[float]:
    """One chain after the other; the milliseconds of each."""
    laps = []
    for uid in uids:
        begun = time.perf_counter()
        await subject.chain(uid)
        if isinstance(subject, Ours):
            await subject.until_closed([uid])
        laps.append((time.perf_counter() - begun) * 1_000)
    return laps
