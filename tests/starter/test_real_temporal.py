"""Against the real Temporal server: uniqueness of starts, signals before starts, schedules, orders of operators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, ScheduleOverlapPolicy, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from local.temporal import find_temporal
from settings import Settings
from starter import operator as operator_module
from starter.dispatch import Dispatcher
from starter.metrics import Metrics
from starter.operator import Operator, OrderRefused
from starter.relay import Relay
from starter.schedules import ensure_schedules
from starter.temporal import TemporalUnavailable, connect, register_search_attributes
from starter.webhooks import Deps, create_app
from store import Store
from store.rows import InboxStatus
from tests.starter.bodies import calcom_body
from tests.starter.world import settings_for
from workflows.models import BookingInput, ChainState, OperatorOrder
from workflows.undo import UndoInput
from workflows.visibility import SEARCH_ATTRIBUTES

ORDER = OperatorOrder(who="ops-anna", why="the customer called")


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[str]:
    """Address of a real server with the search attributes registered."""
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=str(find_temporal())) as environment:
        await register_search_attributes(environment.client, "default", SEARCH_ATTRIBUTES)
        yield environment.client.service_client.config.target_host


@pytest.fixture
def config(server: str, database_url: str) -> Settings:
    return settings_for(database_url, temporal_address=server)


@pytest.fixture
async def client(config: Settings) -> Client:
    return await connect(config)


def relay_of(store: Store, client: Client, config: Settings) -> Relay:
    dispatcher = Dispatcher(store=store, client=client, settings=config)
    return Relay(store=store, dispatcher=dispatcher, settings=config, metrics=Metrics())


async def put(store: Store, event_id: str, event_type: str, uid: str, **payload: Any) -> None:
    async with store.begin() as tx:
        await tx.inbox.add(event_id, "calcom", event_type, uid, calcom_body(event_type, uid, **payload))


async def signals(client: Client, workflow_id: str) -> list[str]:
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    history = client.get_workflow_handle(workflow_id).fetch_history_events()
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        async for event in history
        if event.event_type == kind
    ]


async def test_fifty_events_of_one_booking_at_once_make_one_chain(
    store: Store, client: Client, config: Settings
) -> None:
    for number in range(50):
        await put(store, f"fifty-{number}", "MEETING_STARTED", "fifty")
    relays = [relay_of(store, client, config) for _ in range(5)]
    await asyncio.gather(*(relay.run_once() for relay in relays))
    async with store.begin() as tx:
        assert (await tx.inbox.counts())[InboxStatus.DELIVERED] == 50
    described = await client.get_workflow_handle("booking-fifty").describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    assert await described.static_summary() == "Bill booking fifty"
    assert described.search_attributes["BillingStage"] == ["intake"]
    assert described.search_attributes["BillingBooking"] == ["fifty"]
    assert await signals(client, "booking-fifty") == []


async def test_cancelled_before_created(store: Store, client: Client, config: Settings) -> None:
    relay = relay_of(store, client, config)
    await put(store, "before-1", "BOOKING_CANCELLED", "before")
    await relay.run_once()
    await put(store, "before-2", "BOOKING_CREATED", "before")
    await put(store, "before-3", "BOOKING_RESCHEDULED", "after", rescheduleUid="before")
    await relay.run_once()
    told = await signals(client, "booking-before")
    assert told[0] == "cancelled"
    assert sorted(told[1:]) == ["confirmed", "rescheduled"]
    async with store.begin() as tx:
        assert (await tx.inbox.counts())[InboxStatus.DELIVERED] == 3


async def test_closed_workflows_are_not_started_again(store: Store, client: Client, config: Settings) -> None:
    relay = relay_of(store, client, config)
    await put(store, "closed-1", "BOOKING_CREATED", "closed")
    await relay.run_once()
    await client.get_workflow_handle("booking-closed").terminate("test")
    async with store.begin() as tx:
        await tx.chains.update("closed", stage=ChainStage.CLOSED, outcome=ChainOutcome.PAID)
    await put(store, "closed-2", "MEETING_ENDED", "closed")
    await put(store, "closed-3", "BOOKING_CANCELLED", "closed")
    await relay.run_once()
    async with store.begin() as tx:
        counts = await tx.inbox.counts()
    assert (counts[InboxStatus.DELIVERED], counts[InboxStatus.HELD]) == (2, 1)
    described = await client.get_workflow_handle("booking-closed").describe()
    assert described.status is WorkflowExecutionStatus.TERMINATED


async def test_a_lost_database_row_does_not_start_a_closed_workflow_again(
    store: Store, client: Client, config: Settings
) -> None:
    relay = relay_of(store, client, config)
    await put(store, "lost-1", "BOOKING_CREATED", "lost")
    await relay.run_once()
    await client.get_workflow_handle("booking-lost").terminate("test")
    await put(store, "lost-2", "BOOKING_CANCELLED", "lost")
    await relay.run_once()
    async with store.begin() as tx:
        row = await tx.inbox.get("lost-2")
    assert row is not None
    assert row.status is InboxStatus.RECEIVED
    assert row.last_error == "workflow booking-lost has ended, but its chain is not closed"


async def test_search_attributes_are_registered_once(client: Client) -> None:
    assert await register_search_attributes(client, "default", SEARCH_ATTRIBUTES) == []
    assert await register_search_attributes(client, "default", {"StarterTest": "Keyword"}) == ["StarterTest"]
    with pytest.raises(ValueError, match="StarterTest"):
        await register_search_attributes(client, "default", {"StarterTest": "Int"})


async def test_schedules_are_created_then_updated_and_stay_paused(client: Client, config: Settings) -> None:
    assert await ensure_schedules(client, config) == [ids.SCHEDULE_SETTLEMENT, ids.SCHEDULE_SWEEP]
    settlement = client.get_schedule_handle(ids.SCHEDULE_SETTLEMENT)
    await settlement.pause(note="the auditors are here")
    changed = config.model_copy(update={"settlement_day": 5, "settlement_hour": 4, "sweep_interval_seconds": 60.0})
    assert await ensure_schedules(client, changed) == []
    found = (await settlement.describe()).schedule
    assert (found.state.paused, found.state.note) == (True, "the auditors are here")
    assert found.spec.time_zone_name == "Europe/Berlin"
    assert found.spec.calendars[0].day_of_month[0].start == 5
    assert found.spec.calendars[0].hour[0].start == 4
    assert found.policy.overlap is ScheduleOverlapPolicy.BUFFER_ALL
    assert found.policy.catchup_window == timedelta(days=10)
    assert found.policy.pause_on_failure
    sweep = (await client.get_schedule_handle(ids.SCHEDULE_SWEEP).describe()).schedule
    assert sweep.spec.intervals[0].every == timedelta(seconds=60)
    assert sweep.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert not sweep.state.paused


async def test_next_settlements_are_at_the_hour_of_berlin(client: Client, config: Settings) -> None:
    await ensure_schedules(client, config)
    times = (await client.get_schedule_handle(ids.SCHEDULE_SETTLEMENT).describe()).info.next_action_times
    berlin = [at.astimezone(ZoneInfo("Europe/Berlin")) for at in times[:8]]
    assert {(at.day, at.hour, at.minute) for at in berlin} == {(config.settlement_day, config.settlement_hour, 0)}
    assert len({at.utcoffset() for at in berlin}) == 2, "eight months hold a change of the clock"


async def readyz(deps: Deps) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_app(deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://webhooks.example.com") as http:
        return await http.get("/readyz")


async def test_readiness_names_what_is_missing(store: Store, client: Client, config: Settings) -> None:
    relay = relay_of(store, client, config)
    ready = await readyz(Deps(config, store, client, relay, Metrics()))
    assert ready.status_code == 200
    away = await Client.connect("127.0.0.1:1", lazy=True)
    broken = await readyz(Deps(config, store, away, relay, Metrics()))
    assert broken.status_code == 503
    assert broken.json()["checks"]["database"] == "ok"
    assert "TEMPORAL_ADDRESS" in broken.json()["checks"]["temporal"]


async def test_unready_with_an_old_schema(empty_database_url: str, client: Client, server: str) -> None:
    config = settings_for(empty_database_url, temporal_address=server)
    async with Store(config.sqlalchemy_url) as store:
        relay = relay_of(store, client, config)
        answer = await readyz(Deps(config, store, client, relay, Metrics()))
    assert answer.status_code == 503
    assert "billing migrate" in answer.json()["checks"]["database"]


async def test_connecting_to_nothing_says_where_and_what_to_check() -> None:
    config = settings_for("postgresql://example.com/billing")
    with pytest.raises(TemporalUnavailable, match=r"127\.0\.0\.1:1 .*TEMPORAL_ADDRESS"):
        await connect(config)
    lazy = await connect(config, lazy=True)
    assert lazy.namespace == "default"


@workflow.defn(name="BookingWorkflow")
class ParkedChain:
    """As much of a chain as an operator talks to."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    @workflow.run
    async def run(self, start: BookingInput) -> list[str]:
        await workflow.wait_condition(lambda: len(self.orders) == 2)
        return self.orders

    @workflow.update
    async def retry(self, order: OperatorOrder) -> str:
        self.orders.append(f"retry {order.who}: {order.why}")
        return "tries again"

    @retry.validator
    def _may_retry(self, order: OperatorOrder) -> None:
        if self.orders:
            raise ApplicationError("only a parked chain can retry", type="NotParked")

    @workflow.update
    async def roll_back(self, order: OperatorOrder) -> str:
        self.orders.append(f"roll back {order.who}: {order.why}")
        return "rolls back"

    @workflow.query
    def state(self) -> ChainState:
        return ChainState(
            chain_uid="c",
            booking_uid="c",
            stage=ChainStage.PARKED,
            outcome=None,
            customer_id=None,
            reseller_id=None,
            currency=None,
            gross_minor=0,
            given_back_minor=0,
            charge_attempt=0,
            charged=False,
            reason=ParkReason.NO_PRICE,
            detail="",
            waits_for="a person",
            deadline_at=None,
            steps=tuple(self.orders),
        )


@workflow.defn(name="UndoWorkflow")
class Undone:
    @workflow.run
    async def run(self, start: UndoInput) -> str:
        return f"{start.chain_uid}: {start.order.who}, {start.order.why}"


@pytest.fixture
async def orders(store: Store, client: Client, config: Settings) -> AsyncIterator[Operator]:
    """An operator before a worker that runs the two workflows above."""
    worker = Worker(
        client,
        task_queue=ids.TASK_QUEUE_CHAIN,
        workflows=[ParkedChain, Undone],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        yield Operator(store=store, client=client, settings=config)


async def parked(store: Store, client: Client, config: Settings, uid: str) -> None:
    await put(store, f"{uid}-1", "BOOKING_CREATED", uid)
    await relay_of(store, client, config).run_once()
    async with store.begin() as tx:
        await tx.chains.open(uid, ids.booking_workflow(uid))
        await tx.chains.alias(f"{uid}-moved", uid)
        await tx.chains.update(uid, stage=ChainStage.PARKED, reason=ParkReason.NO_PRICE)


async def test_orders_reach_the_chain_with_who_and_why(
    orders: Operator, store: Store, client: Client, config: Settings
) -> None:
    await parked(store, client, config, "ordered")
    assert await orders.retry("ordered-moved", ORDER) == "tries again"
    assert (await orders.state("ordered")).steps == ("retry ops-anna: the customer called",)
    with pytest.raises(OrderRefused, match="only a parked chain can retry"):
        await orders.retry("ordered", ORDER)
    assert await orders.roll_back("ordered", ORDER) == "rolls back"
    assert await client.get_workflow_handle("booking-ordered").result() == [
        "retry ops-anna: the customer called",
        "roll back ops-anna: the customer called",
    ]


async def test_a_closed_chain_is_undone_once_by_its_own_workflow(
    orders: Operator, store: Store, client: Client
) -> None:
    async with store.begin() as tx:
        await tx.chains.update("ended", stage=ChainStage.CLOSED, outcome=ChainOutcome.PAID)
    with pytest.raises(OrderRefused, match="has ended as paid"):
        await orders.retry("ended", ORDER)
    assert "undo-ended" in await orders.roll_back("ended", ORDER)
    assert await client.get_workflow_handle("undo-ended").result() == "ended: ops-anna, the customer called"
    with pytest.raises(OrderRefused, match="is being undone, or was"):
        await orders.roll_back("ended", ORDER)


@pytest.mark.parametrize("outcome", [ChainOutcome.CANCELLED, ChainOutcome.ROLLED_BACK, ChainOutcome.UNBILLABLE])
async def test_nothing_to_undo_is_refused(orders: Operator, store: Store, outcome: ChainOutcome) -> None:
    async with store.begin() as tx:
        await tx.chains.update("nothing", stage=ChainStage.CLOSED, outcome=outcome)
    with pytest.raises(OrderRefused, match="nothing to undo"):
        await orders.roll_back("nothing", ORDER)


async def test_orders_for_what_does_not_exist_are_refused(orders: Operator) -> None:
    for order in (orders.retry("no-such", ORDER), orders.roll_back("no-such", ORDER), orders.state("no-such")):
        with pytest.raises(OrderRefused, match="booking-no-such"):
            await order
    with pytest.raises(OrderRefused, match="no uid"):
        await orders.retry("no such/uid", ORDER)
    with pytest.raises(OrderRefused, match="settlement-2026-01-r-1-EUR"):
        await orders.retry_settlement("2026-01", "r-1", "EUR", ORDER)
    with pytest.raises(OrderRefused, match="such a name"):
        await orders.retry_settlement("2026-01", "r 1", "EUR", ORDER)


async def test_an_order_without_a_worker_says_so(
    store: Store, client: Client, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator_module, "UPDATE_TIMEOUT", timedelta(seconds=1))
    await parked(store, client, config, "alone")
    alone = Operator(store=store, client=client, settings=config)
    with pytest.raises(OrderRefused, match="is a worker running"):
        await alone.retry("alone", ORDER)
    with pytest.raises(OrderRefused, match="is a worker running"):
        await alone.state("alone")


async def test_settling_a_month_twice_at_once_is_one_run(store: Store, client: Client, config: Settings) -> None:
    ordering = Operator(store=store, client=client, settings=config)
    first, second = await asyncio.gather(ordering.settle("2026-01", "ops-anna"), ordering.settle("2026-01", "ops-ben"))
    assert first == second == "settlement-2026-01"
    with pytest.raises(OrderRefused, match="YYYY-MM"):
        await ordering.settle("2026-13", "ops-anna")
