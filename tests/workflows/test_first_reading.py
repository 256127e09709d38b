"""The first reading: at once where Cal.com answers, a dispatched step with its tries in sight where it does not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from domain.chain import ChainOutcome
from domain.model import ParkReason
from domain.ports import CalBooking, OutcomeUnknown, RateLimited
from gateways.calcom import CalcomGateway
from tests.support.desk import Desk

SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
MARKER = EventType.EVENT_TYPE_MARKER_RECORDED


async def rows(desk: Desk, uid: str) -> Counter[tuple[str, str]]:
    """What the Web UI lists of the chain: (kind, step)."""
    found: Counter[tuple[str, str]] = Counter()
    for event in (await desk.handle(uid).fetch_history()).events:
        if event.event_type == SCHEDULED:
            found["dispatched", event.activity_task_scheduled_event_attributes.activity_type.name] += 1
        elif event.event_type == MARKER:
            details = event.marker_recorded_event_attributes.details["data"].payloads[0].data.decode()
            found["at once", "take_in" if "take_in" in details else "other"] += 1
    return found


def at_first(monkeypatch: pytest.MonkeyPatch, trouble: Callable[[], Awaitable[None]]) -> list[float]:
    """The first question to Cal.com meets this trouble. Returns the moments of all questions, as they are asked."""
    read, asked_at = CalcomGateway.get_booking, list[float]()

    async def get_booking(self: CalcomGateway, wanted: str) -> CalBooking:
        asked_at.append(time.monotonic())
        if len(asked_at) == 1:
            await trouble()
        return await read(self, wanted)

    monkeypatch.setattr(CalcomGateway, "get_booking", get_booking)
    return asked_at


async def test_a_booking_that_cal_com_tells_at_once_needs_no_dispatched_step(desk: Desk) -> None:
    uid = await desk.begin(101)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    found = await rows(desk, uid)
    assert (found["at once", "take_in"], found["dispatched", "take_in"]) == (1, 0)
    assert found["dispatched", "bill_and_charge"] == 1
    assert desk.failures.ran(uid).count("take_in") == 1


async def test_without_an_answer_it_is_dispatched_and_says_what_it_waits_for(desk: Desk) -> None:
    uid = await desk.book(101)
    for _ in range(3):
        desk.failures.plan("take_in", uid, "before", final=False)
    await desk.start(uid)

    async def pending() -> tuple[str, int, str]:
        described = (await desk.handle(uid).describe()).raw_description
        (step,) = described.pending_activities or [None]
        return (step.activity_type.name, step.attempt, step.last_failure.message) if step else ("", 0, "")

    for _ in range(200):
        name, attempt, why = await pending()
        if attempt > 1:
            break
    assert (name, attempt > 1) == ("take_in", True)
    assert "planned failure before take_in" in why
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert (await rows(desk, uid))["dispatched", "take_in"] == 1
    assert desk.failures.ran(uid).count("take_in") == 4


async def test_a_slow_answer_is_waited_for_by_the_dispatched_step(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflows.policies.AT_ONCE_TIMEOUT", timedelta(milliseconds=300))
    monkeypatch.setattr("activities.intake.AT_ONCE_PAUSE_SECONDS", 0.0)
    uid = await desk.book(101)

    async def slow() -> None:
        await asyncio.sleep(2)

    readings = at_first(monkeypatch, slow)
    await desk.start(uid)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert (await rows(desk, uid))["dispatched", "take_in"] == 1
    assert len(readings) == 2
    assert len(await desk.charges(uid)) == 1


async def test_a_definite_no_is_not_asked_again(desk: Desk) -> None:
    await desk.start("never-heard-of")
    await desk.parked("never-heard-of", ParkReason.BOOKING_NOT_FOUND)
    assert desk.failures.ran("never-heard-of") == ["take_in", "record"]
    assert await desk.roll_back("never-heard-of") is ChainOutcome.UNBILLABLE


async def test_a_chain_from_before_reads_by_a_dispatched_step(desk: Desk) -> None:
    uid = await desk.book(101)
    await desk.start(uid, reads_at_once=False)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert (await rows(desk, uid))["dispatched", "take_in"] == 1


async def test_while_cal_com_is_slow_other_bookings_are_dispatched_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.intake.AT_ONCE_PAUSE_SECONDS", 2.0)

    async def away() -> None:
        raise OutcomeUnknown("no_answer", "Cal.com did not answer")

    at_first(monkeypatch, away)
    first = await desk.begin(101)
    assert await desk.outcome(first) is ChainOutcome.MATURED
    second = await desk.begin(101)
    assert await desk.outcome(second) is ChainOutcome.MATURED
    for uid in (first, second):
        assert (await rows(desk, uid))["dispatched", "take_in"] == 1
    await asyncio.sleep(2)
    third = await desk.begin(101)
    assert await desk.outcome(third) is ChainOutcome.MATURED
    assert (await rows(desk, third))["dispatched", "take_in"] == 0


async def test_a_rate_limit_is_kept_before_the_booking_is_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.intake.AT_ONCE_PAUSE_SECONDS", 0.5)

    async def limited() -> None:
        raise RateLimited("429", "too many", retry_after_seconds=2)

    asked_at = at_first(monkeypatch, limited)
    uid = await desk.begin(101)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert len(asked_at) == 2
    assert asked_at[1] - asked_at[0] >= 1.9
