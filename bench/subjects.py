"""What is measured: the real chain, and its floor - the same Stripe calls and SQL in plain asyncio without Temporal."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.billing import BillingActivities
from activities.chains import ChainActivities
from activities.charging import ChargingActivities
from activities.commissions import CommissionActivities
from activities.intake import IntakeActivities
from activities.models import BookingRef, ChainRef, ChargeInput, ChargeStatus, RecordInput
from activities.quoting import QuoteActivities
from domain import ids
from domain.chain import ChainOutcome, ChainStage
from domain.ports import CalendarGateway, PaymentGateway
from settings import Settings
from store import Store
from workflows import visibility
from workflows.booking import BookingWorkflow, booking_input

Input = TypeVar("Input")
Result = TypeVar("Result")

BILLABLE = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: "start",
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: "activity",
    EventType.EVENT_TYPE_TIMER_STARTED: "timer",
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: "search attributes",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: "signal",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: "update",
}
"""Events that Temporal Cloud bills as an action each. Local activities of one workflow task count as one together."""


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
        outcome = await self._client.execute_workflow(
            BookingWorkflow.run,
            booking_input(self._settings, uid),
            id=ids.booking_workflow(uid),
            task_queue=ids.TASK_QUEUE_CHAIN,
            search_attributes=visibility.at_start(uid),
        )
        if outcome is not ChainOutcome.MATURED:
            raise RuntimeError(f"{uid} ended as {outcome}")

    async def history(self, uid: str) -> tuple[int, int, Counter[str]]:
        """Events, bytes of the history as protobuf, and billable actions by kind."""
        history = await self._client.get_workflow_handle(ids.booking_workflow(uid)).fetch_history()
        actions: Counter[str] = Counter()
        markers_since_task = False
        for event in history.events:
            if event.event_type in BILLABLE:
                actions[BILLABLE[event.event_type]] += 1
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                markers_since_task = False
            elif event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED and not markers_since_task:
                markers_since_task = True
                actions["local activities of one task"] += 1
        return len(history.events), sum(event.ByteSize() for event in history.events), actions


class Floor:
    """The same steps called in order: what Stripe, Cal.com and PostgreSQL cost without durability."""

    name = "floor: plain asyncio"

    def __init__(self, store: Store, calendar: CalendarGateway, payments: PaymentGateway) -> None:
        self._intake = IntakeActivities(store, calendar)
        self._quoting = QuoteActivities(store)
        self._billing = BillingActivities(store)
        self._charging = ChargingActivities(store, payments)
        self._commissions = CommissionActivities(store)
        self._chains = ChainActivities(store)

    async def start(self) -> None:
        """Runs in this process."""

    async def stop(self) -> None:
        """Store and gateways belong to whoever made them."""

    async def chain(self, uid: str) -> None:
        ref, chain = BookingRef(chain_uid=uid, booking_uid=uid), ChainRef(chain_uid=uid)
        await _call(self._intake.read_booking, ref)
        quote = (await _call(self._quoting.quote, ref)).quote
        if quote is None:
            raise RuntimeError(f"{uid} has no quote")
        await _call(self._billing.bill, chain)
        order = ChargeInput(chain_uid=uid, attempt=1, amount_minor=quote.gross_minor, currency=quote.currency)
        charged = await _call(self._charging.charge, order)
        if charged.status is not ChargeStatus.SUCCEEDED:
            raise RuntimeError(f"{uid} was not charged")
        await _call(self._commissions.accrue, chain)
        await _call(self._commissions.mature, chain)
        end = RecordInput(
            chain_uid=uid, stage=ChainStage.CLOSED, outcome=ChainOutcome.MATURED, action="closed: matured"
        )
        await _call(self._chains.record, end)


async def _call(step: Callable[[Input], Awaitable[Result]], given: Input) -> Result:
    """Run a step as Temporal would, in a context of its own, without Temporal."""
    return await ActivityEnvironment().run(step, given)


@dataclass(frozen=True)
class Round:
    """One subject's figures of one round."""

    chains_per_second: float
    lone_p50_ms: float


async def measure(subject: Subject, busy: Sequence[str], lone: Sequence[str], in_flight: int) -> Round:
    """`busy` chains with `in_flight` at a time, then `lone` ones one after the other."""
    gate = asyncio.Semaphore(in_flight)

    async def one(uid: str) -> None:
        async with gate:
            await subject.chain(uid)

    began = time.perf_counter()
    await asyncio.gather(*(one(uid) for uid in busy))
    seconds = time.perf_counter() - began
    laps = []
    for uid in lone:
        lap = time.perf_counter()
        await subject.chain(uid)
        laps.append((time.perf_counter() - lap) * 1_000)
    return Round(chains_per_second=len(busy) / seconds, lone_p50_ms=sorted(laps)[len(laps) // 2])
