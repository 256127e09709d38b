"""Each event × each state of its chain: late, twice, out of order, after the end."""

from __future__ import annotations

import json

import pytest

from domain.chain import ChainOutcome, ChainStage
from store.rows import InboxStatus
from tests.starter.bodies import calcom_body, meeting_body
from tests.starter.world import World

KEPT = (ChainOutcome.PAID, ChainOutcome.MATURED)
NOT_KEPT = (
    ChainOutcome.CANCELLED,
    ChainOutcome.REFUNDED,
    ChainOutcome.DECLINED,
    ChainOutcome.ROLLED_BACK,
    ChainOutcome.UNBILLABLE,
)
DELIVERED = {InboxStatus.DELIVERED: 1}


@pytest.mark.parametrize("trigger", ["BOOKING_CREATED", "BOOKING_REQUESTED"])
async def test_a_new_booking_starts_its_chain_once(world: World, trigger: str) -> None:
    raw = calcom_body(trigger, "uid-1")
    assert await world.calcom(raw) == "accepted"
    assert await world.calcom(raw) == "duplicate"
    started = world.temporal.workflows["booking-uid-1"]
    assert world.temporal.starts == ["booking-uid-1"]
    assert started.argument.chain_uid == "uid-1"
    assert started.options["task_queue"] == "billing"
    assert "uid-1" in started.options["static_summary"]
    assert started.signals == []
    assert await world.counts() == DELIVERED


@pytest.mark.parametrize("trigger", ["MEETING_STARTED", "MEETING_ENDED"])
async def test_a_meeting_starts_a_chain_whose_webhook_was_lost(world: World, trigger: str) -> None:
    await world.calcom(meeting_body(trigger, "uid-1"))
    assert world.temporal.starts == ["booking-uid-1"]


@pytest.mark.parametrize("stage", [stage for stage in ChainStage if stage is not ChainStage.CLOSED])
async def test_created_confirms_only_a_chain_that_may_wait_for_it(world: World, stage: ChainStage) -> None:
    await world.chain("uid-1", stage)
    await world.calcom(calcom_body("BOOKING_CREATED", "uid-1"))
    waits = stage in (ChainStage.INTAKE, ChainStage.AWAITING_CONFIRMATION, ChainStage.PARKED)
    assert world.signals("uid-1") == (["confirmed"] if waits else [])
    assert await world.counts() == DELIVERED


@pytest.mark.parametrize("trigger", ["BOOKING_REQUESTED", "MEETING_STARTED", "MEETING_ENDED"])
@pytest.mark.parametrize("stage", [ChainStage.INTAKE, ChainStage.AWAITING_CONFIRMATION, ChainStage.HOLD])
async def test_these_tell_a_running_chain_nothing(world: World, trigger: str, stage: ChainStage) -> None:
    await world.chain("uid-1", stage)
    await world.calcom(calcom_body(trigger, "uid-1"))
    assert world.signals("uid-1") == []
    assert await world.counts() == DELIVERED


@pytest.mark.parametrize("trigger", ["BOOKING_CREATED", "BOOKING_REQUESTED", "MEETING_ENDED"])
@pytest.mark.parametrize("outcome", list(ChainOutcome))
async def test_a_closed_chain_is_never_started_again(world: World, trigger: str, outcome: ChainOutcome) -> None:
    await world.chain("uid-1", ChainStage.CLOSED, outcome)
    world.temporal.workflows.clear()  # Temporal's retention is over: the id is free again
    await world.calcom(calcom_body(trigger, "uid-1"))
    assert world.temporal.workflows == {}
    assert await world.counts() == DELIVERED


@pytest.mark.parametrize(
    ("trigger", "signal"),
    [
        ("BOOKING_CANCELLED", "cancelled"),
        ("BOOKING_REJECTED", "rejected"),
        ("BOOKING_NO_SHOW_UPDATED", "no_show"),
    ],
)
class TestChanges:
    async def test_before_created(self, world: World, trigger: str, signal: str) -> None:
        await world.calcom(calcom_body(trigger, "uid-1"))
        assert world.temporal.starts == ["booking-uid-1"]
        assert world.signals("uid-1") == [signal]
        await world.calcom(calcom_body("BOOKING_CREATED", "uid-1"))
        assert world.temporal.starts == ["booking-uid-1"]

    async def test_running(self, world: World, trigger: str, signal: str) -> None:
        await world.chain("uid-1", ChainStage.HOLD)
        await world.calcom(calcom_body(trigger, "uid-1"))
        assert world.signals("uid-1") == [signal]

    @pytest.mark.parametrize("outcome", [*NOT_KEPT, ChainOutcome.CANCELLED_WITH_FEE])
    async def test_closed_without_more_to_give_back(
        self, world: World, trigger: str, signal: str, outcome: ChainOutcome
    ) -> None:
        await world.chain("uid-1", ChainStage.CLOSED, outcome)
        await world.calcom(calcom_body(trigger, "uid-1"))
        assert await world.counts() == DELIVERED
        assert world.signals("uid-1") == []

    @pytest.mark.parametrize("outcome", KEPT)
    async def test_closed_with_money_needs_a_person(
        self, world: World, trigger: str, signal: str, outcome: ChainOutcome
    ) -> None:
        await world.chain("uid-1", ChainStage.CLOSED, outcome)
        await world.calcom(calcom_body(trigger, "uid-1"))
        assert await world.held_reason() == f"{_WHAT[signal]} after chain uid-1 closed as {outcome}"
        assert world.signals("uid-1") == []

    async def test_ended_at_temporal_but_not_closed_is_retried_then_stuck(
        self, world: World, trigger: str, signal: str
    ) -> None:
        await world.chain("uid-1", ChainStage.HOLD, is_running=False)
        await world.calcom(calcom_body(trigger, "uid-1"))
        for _ in range(3):
            assert await world.counts() == {InboxStatus.RECEIVED: 1}
            world.clock.advance(3_600)
            await world.deps.relay.run_once()
        assert "given up after 4 tries" in await world.held_reason()

    async def test_a_rescheduled_uid_reaches_its_chain(self, world: World, trigger: str, signal: str) -> None:
        await world.chain("uid-1", ChainStage.AWAITING_CHARGE)
        await world.calcom(calcom_body("BOOKING_RESCHEDULED", "uid-2", rescheduleUid="uid-1"))
        await world.calcom(calcom_body(trigger, "uid-2"))
        assert world.signals("uid-1") == ["rescheduled", signal]
        assert list(world.temporal.workflows) == ["booking-uid-1"]


_WHAT = {
    "cancelled": "the booking was cancelled",
    "rejected": "the booking was rejected",
    "no_show": "the attendee was reported absent",
}


class TestReschedulings:
    async def test_running_chain_goes_on_under_both_uids(self, world: World) -> None:
        await world.chain("uid-1", ChainStage.AWAITING_CHARGE)
        await world.calcom(calcom_body("BOOKING_RESCHEDULED", "uid-2", rescheduleUid="uid-1"))
        await world.calcom(calcom_body("BOOKING_RESCHEDULED", "uid-3", rescheduleUid="uid-2"))
        assert world.temporal.workflows["booking-uid-1"].signals == [
            ("rescheduled", ("uid-2",)),
            ("rescheduled", ("uid-3",)),
        ]
        async with world.store.begin() as tx:
            assert await tx.chains.uids("uid-1") == ["uid-1", "uid-2", "uid-3"]

    async def test_before_created(self, world: World) -> None:
        await world.calcom(calcom_body("BOOKING_RESCHEDULED", "uid-2", rescheduleUid="uid-1"))
        await world.calcom(calcom_body("BOOKING_CREATED", "uid-1"))
        assert world.temporal.starts == ["booking-uid-1"]

    @pytest.mark.parametrize("trigger", ["BOOKING_CREATED", "BOOKING_REQUESTED", "BOOKING_CANCELLED"])
    async def test_other_events_that_name_the_earlier_uid_keep_one_chain(self, world: World, trigger: str) -> None:
        await world.chain("uid-1", ChainStage.AWAITING_CHARGE)
        await world.calcom(calcom_body(trigger, "uid-2", rescheduleUid="uid-1"))
        assert world.signals("uid-1")[0] == "rescheduled"
        assert list(world.temporal.workflows) == ["booking-uid-1"]

    async def test_a_lost_rescheduling_is_seen_at_the_meeting(self, world: World) -> None:
        await world.chain("uid-1", ChainStage.HOLD)
        await world.calcom(meeting_body("MEETING_STARTED", "uid-2", fromReschedule="uid-1"))
        assert world.signals("uid-1") == ["rescheduled"]

    @pytest.mark.parametrize("outcome", NOT_KEPT)
    async def test_after_an_end_without_money_a_new_chain_starts(self, world: World, outcome: ChainOutcome) -> None:
        await world.chain("uid-1", ChainStage.CLOSED, outcome)
        raw = calcom_body("BOOKING_RESCHEDULED", "uid-2", rescheduleUid="uid-1")
        await world.calcom(raw)
        await world.calcom(raw + b"\n")  # not byte-equal: a second event
        assert world.temporal.starts == ["booking-uid-1", "booking-uid-2"]
        await world.calcom(calcom_body("BOOKING_CANCELLED", "uid-2"))
        assert world.signals("uid-2") == ["cancelled"]

    @pytest.mark.parametrize("outcome", [*KEPT, ChainOutcome.CANCELLED_WITH_FEE])
    async def test_after_an_end_with_money_a_person_decides(self, world: World, outcome: ChainOutcome) -> None:
        await world.chain("uid-1", ChainStage.CLOSED, outcome)
        await world.calcom(calcom_body("BOOKING_RESCHEDULED", "uid-2", rescheduleUid="uid-1"))
        assert await world.held_reason() == f"rescheduled to uid-2 after chain uid-1 closed as {outcome}"
        assert world.temporal.starts == ["booking-uid-1"]

    async def test_two_chains_of_one_booking_are_shown_to_a_person(self, world: World) -> None:
        await world.chain("uid-1", ChainStage.AWAITING_CHARGE)
        await world.chain("uid-2", ChainStage.AWAITING_CHARGE)
        await world.calcom(calcom_body("BOOKING_RESCHEDULED", "uid-2", rescheduleUid="uid-1"))
        assert "a chain each" in await world.held_reason()
        assert world.signals("uid-1") == world.signals("uid-2") == []


class TestSweep:
    async def test_unknown_booking_is_started(self, world: World) -> None:
        await world.sweep("uid-1")
        assert world.temporal.starts == ["booking-uid-1"]

    @pytest.mark.parametrize("stage", [ChainStage.INTAKE, ChainStage.HOLD, ChainStage.PARKED])
    async def test_running_chain_reads_again(self, world: World, stage: ChainStage) -> None:
        await world.chain("uid-1", stage)
        await world.sweep("uid-1")
        assert world.signals("uid-1") == ["changed"]

    async def test_lost_rescheduling_is_followed(self, world: World) -> None:
        await world.chain("uid-1", ChainStage.AWAITING_CHARGE)
        raw = json.dumps({"status": "accepted", "rescheduled_from_uid": "uid-1"}).encode()
        await world.sweep("uid-2", raw)
        await world.sweep("uid-2", raw + b" ")
        assert world.signals("uid-1") == ["rescheduled", "changed"]
        assert list(world.temporal.workflows) == ["booking-uid-1"]

    async def test_cancelled_after_the_end_needs_a_person(self, world: World) -> None:
        await world.chain("uid-1", ChainStage.CLOSED, ChainOutcome.PAID)
        await world.sweep("uid-1", json.dumps({"status": "accepted"}).encode())
        assert await world.counts() == DELIVERED
        await world.sweep("uid-1", json.dumps({"status": "cancelled"}).encode())
        assert "cancelled after chain uid-1 closed as paid" in await world.held_reason()

    @pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b'{"rescheduled_from_uid": "no id"}'])
    async def test_a_body_that_says_nothing(self, world: World, raw: bytes) -> None:
        await world.sweep("uid-1", raw)
        assert world.temporal.starts == ["booking-uid-1"]
