"""The inbox with several relays, and the audit log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from store import Store
from store.rows import InboxStatus, UnknownRow


async def add(store: Store, event_id: str, status: str = "received") -> bool:
    async with store.begin() as tx:
        return await tx.inbox.add(event_id, "stripe", "payment_intent.succeeded", "pi_1", b"\x00{}\xff", status=status)


async def claimed(store: Store, limit: int = 10, now: datetime | None = None) -> list[str]:
    async with store.begin() as tx:
        return [row.event_id for row in await tx.inbox.claim_due(limit, now or datetime.now(UTC))]


async def test_an_event_is_stored_once(store: Store) -> None:
    assert sorted(await asyncio.gather(*(add(store, "evt_1") for _ in range(8)))) == [False] * 7 + [True]
    async with store.begin() as tx:
        row = await tx.inbox.get("evt_1")
        assert row is not None
        assert (row.raw, row.status, row.attempts) == (b"\x00{}\xff", InboxStatus.RECEIVED, 0)
        assert (await tx.inbox.counts())[InboxStatus.RECEIVED] == 1
        assert (await tx.inbox.counts())[InboxStatus.HELD] == 0


async def test_relays_share_the_due_events(store: Store) -> None:
    for number in range(20):
        await add(store, f"evt_{number}")
    batches = await asyncio.gather(*(claimed(store, 7) for _ in range(4)))
    taken = [event_id for batch in batches for event_id in batch]
    assert len(taken) == len(set(taken)) == 20
    assert await claimed(store) == []
    later = datetime.now(UTC) + timedelta(seconds=61)
    assert len(await claimed(store, 100, later)) == 20


async def test_a_clock_behind_the_database_delays_nothing(store: Store) -> None:
    await add(store, "evt_1")
    assert await claimed(store, now=datetime.now(UTC) - timedelta(hours=1)) == ["evt_1"]


async def test_failed_events_come_back_when_they_are_due(store: Store) -> None:
    await add(store, "evt_1")
    await claimed(store)
    later = datetime.now(UTC) + timedelta(hours=1)
    async with store.begin() as tx:
        await tx.inbox.failed("evt_1", "no such chain", later)
    assert await claimed(store) == []
    assert await claimed(store, now=later) == ["evt_1"]
    async with store.begin() as tx:
        row = await tx.inbox.get("evt_1")
        assert row is not None
        assert (row.attempts, row.last_error) == (1, "no such chain")
        await tx.inbox.delivered("evt_1")
        await tx.inbox.delivered("evt_1")
    assert await claimed(store, now=later + timedelta(days=1)) == []


async def test_stuck_events_are_listed_and_can_be_ordered_again(store: Store) -> None:
    await add(store, "evt_held")
    await add(store, "evt_odd", "not_understood")
    await add(store, "evt_other", "ignored")
    await add(store, "evt_due")
    async with store.begin() as tx:
        await tx.inbox.held("evt_held", "given up")
        assert [row.event_id for row in await tx.inbox.stuck()] == ["evt_held", "evt_odd"]
        assert [row.event_id for row in await tx.inbox.stuck(limit=1)] == ["evt_held"]
        assert await tx.inbox.again("evt_held")
        assert not await tx.inbox.again("evt_other")
        with pytest.raises(UnknownRow):
            await tx.inbox.delivered("evt_none")
    async with store.begin() as tx:
        overdue = await tx.inbox.stuck(overdue_seconds=0)
        assert {row.event_id for row in overdue} == {"evt_held", "evt_odd", "evt_due"}
    assert set(await claimed(store)) == {"evt_held", "evt_due"}


async def test_bodies_are_forgotten_after_delivery_only(store: Store) -> None:
    await add(store, "evt_1")
    await add(store, "evt_2")
    async with store.begin() as tx:
        await tx.inbox.delivered("evt_1")
        assert await tx.inbox.forget(datetime.now(UTC) - timedelta(days=1)) == 0
        assert await tx.inbox.forget(datetime.now(UTC) + timedelta(days=1)) == 1
        forgotten, kept = await tx.inbox.get("evt_1"), await tx.inbox.get("evt_2")
        assert forgotten is not None
        assert kept is not None
        assert (forgotten.raw, kept.raw) == (None, b"\x00{}\xff")


async def test_a_cursor_moves_forward_only(store: Store) -> None:
    early, late = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    async with store.begin() as tx:
        assert await tx.inbox.cursor("calcom") is None
        await tx.inbox.set_cursor("calcom", late)
        await tx.inbox.set_cursor("calcom", early)
        assert await tx.inbox.cursor("calcom") == late


async def test_the_log_keeps_who_and_why(store: Store) -> None:
    async with store.begin() as tx:
        await tx.log.write("anna", "retry", "chain:bk-1", "card was replaced", {"attempt": 2})
        await tx.log.write("workflow", "close", "chain:bk-1")
        await tx.log.write("anna", "retry", "chain:bk-2", "x" * 5_000)
        first, second = await tx.log.of("chain:bk-1")
        assert (first.actor, first.reason, first.details) == ("anna", "card was replaced", {"attempt": 2})
        assert (second.reason, second.details) == ("", {})
        assert len((await tx.log.newest(1))[0].reason) == 2_000
