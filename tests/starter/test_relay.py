"""The relay: pauses, outages, giving up, leases, several relays at once."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.chain import ChainStage
from starter.outcomes import NotYet
from starter.relay import BATCH, is_outage, pause_seconds
from store import Store
from store.rows import InboxRow, InboxStatus, StoreError
from tests.starter.bodies import calcom_body, payment_intent, stripe_body
from tests.starter.fake_temporal import outage
from tests.starter.world import World, world_on

CREATED = calcom_body("BOOKING_CREATED", "uid-1")


async def only_row(world: World) -> InboxRow:
    """The one row, also when it is due in the future (seen from the test's clock)."""
    world.clock.advance(100_000)
    async with world.store.begin() as tx:
        (row,) = await tx.inbox.claim_due(10, world.clock(), lease_seconds=0.001)
    return row


def test_pauses_double_up_to_their_limit() -> None:
    assert [pause_seconds(attempt) for attempt in (1, 2, 3, 4, 12)] == [1, 2, 4, 8, 2_048]
    assert pause_seconds(13) == pause_seconds(1_000_000) == 3_600
    assert pause_seconds(20, 60) == 60


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (outage(), True),
        (RPCError("slow down", RPCStatusCode.RESOURCE_EXHAUSTED, b""), True),
        (RPCError("too late", RPCStatusCode.DEADLINE_EXCEEDED, b""), True),
        (RPCError("no such attribute", RPCStatusCode.INVALID_ARGUMENT, b""), False),
        (RPCError("no such workflow", RPCStatusCode.NOT_FOUND, b""), False),
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (NotYet("unknown"), False),
        (KeyError("bug"), False),
        (RuntimeError("bug"), False),
        (StoreError("bug"), False),
    ],
)
def test_what_counts_as_an_outage(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


async def test_errors_of_the_real_libraries_count_as_outages() -> None:
    client = await Client.connect("127.0.0.1:1", lazy=True)
    with pytest.raises(RuntimeError) as temporal_away:
        await client.get_workflow_handle("booking-uid-1").signal("confirmed", rpc_timeout=timedelta(seconds=2))
    assert is_outage(temporal_away.value)
    async with Store("postgresql://nobody@127.0.0.1:1/nothing") as store:
        with pytest.raises(Exception) as database_away:
            await store.ping()
    assert type(database_away.value).__name__ == "OperationalError"
    assert is_outage(database_away.value)


async def test_an_outage_of_temporal_is_outlived_however_long(world: World) -> None:
    world.temporal.fail_with = outage()
    await world.calcom(CREATED)
    for _ in range(20):
        world.clock.advance(60)
        assert await world.deps.relay.run_once() == 1
    row = await only_row(world)
    assert (row.status, row.attempts) == (InboxStatus.RECEIVED, 0)
    world.temporal.fail_with = None
    world.clock.advance(60)
    await world.deps.relay.run_once()
    assert world.temporal.starts == ["booking-uid-1"]
    assert await world.counts() == {InboxStatus.DELIVERED: 1}


async def test_tries_of_an_outage_do_not_use_up_the_events_own(world: World) -> None:
    world.temporal.fail_with = outage()
    await world.calcom(CREATED)
    for _ in range(10):
        world.clock.advance(60)
        await world.deps.relay.run_once()
    world.temporal.fail_with = None
    await world.chain("uid-1", ChainStage.AWAITING_CONFIRMATION, is_running=False)
    world.clock.advance(60)
    await world.deps.relay.run_once()
    assert await world.counts() == {InboxStatus.RECEIVED: 1}


async def test_an_event_that_fails_for_itself_is_given_up_with_its_last_error(world: World) -> None:
    world.temporal.fail_with = KeyError("a body's content must not reach the database")
    await world.calcom(CREATED)
    due_after_seconds = []
    for _ in range(3):
        row_due = (await world.rows_due())[0]
        due_after_seconds.append(round((row_due - world.clock()).total_seconds()))
        world.clock.at = row_due
        await world.deps.relay.run_once()
    assert due_after_seconds == [1, 2, 4]
    assert await world.held_reason() == "given up after 4 tries: KeyError"
    world.clock.advance(100_000)
    assert await world.deps.relay.run_once() == 0


async def test_a_person_lets_it_try_again(world: World) -> None:
    await world.stripe(stripe_body("evt_1", "payment_intent.succeeded", payment_intent("pi_1", "uid-1")))
    for _ in range(3):
        world.clock.advance(3_600)
        await world.deps.relay.run_once()
    assert "given up" in await world.held_reason()
    await world.chain("uid-1", ChainStage.CHARGING)
    async with world.store.begin() as tx:
        assert await tx.inbox.again("evt_1")
    await world.deps.relay.run_once()
    assert world.signals("uid-1") == ["payment_changed"]


async def test_rows_of_a_crashed_relay_are_due_again_after_their_lease(world: World) -> None:
    async with world.store.begin() as tx:
        await tx.inbox.add("e1", "calcom", "BOOKING_CREATED", "uid-1", CREATED)
    async with world.store.begin() as tx:
        assert len(await tx.inbox.claim_due(10, world.clock(), lease_seconds=180)) == 1
    world.clock.advance(170)
    assert await world.deps.relay.run_once() == 0
    world.clock.advance(20)
    assert await world.deps.relay.run_once() == 1
    assert world.temporal.starts == ["booking-uid-1"]


async def test_several_relays_share_a_backlog_without_doing_it_twice(world: World) -> None:
    rows = BATCH * 2 + 7
    async with world.store.begin() as tx:
        for number in range(rows):
            uid = f"uid-{number}"
            await tx.inbox.add(f"e{number}", "calcom", "MEETING_ENDED", uid, calcom_body("MEETING_ENDED", uid))
    async with world_on(world.deps.settings.database_url) as other:
        other.temporal.workflows, other.temporal.starts = world.temporal.workflows, world.temporal.starts
        claimed = 0
        for _ in itertools.repeat(None, 3):
            claimed += sum(await asyncio.gather(world.deps.relay.run_once(), other.deps.relay.run_once()))
    assert claimed == rows
    assert len(world.temporal.starts) == len(set(world.temporal.starts)) == rows
    assert await world.counts() == {InboxStatus.DELIVERED: rows}


async def test_the_loop_outlives_a_database_that_goes_away() -> None:
    async with world_on("postgresql://nobody@127.0.0.1:1/nothing", relay_interval_seconds=0.01) as world:
        loop = asyncio.create_task(world.deps.relay.run())
        await asyncio.sleep(0.2)
        assert not loop.done()
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop
