"""Stripe's events × what our records say × whether the chain has ended."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from domain.chain import ChainOutcome, ChainStage
from store.rows import ChargeStatus, InboxStatus, RefundState
from tests.starter.bodies import payment_intent, stripe_body
from tests.starter.world import World

NUMBER = itertools.count(1)
TOLD = ["payment_changed"]
DELIVERED = {InboxStatus.DELIVERED: 1}


def event(event_type: str, thing: dict[str, Any], **more: Any) -> bytes:
    return stripe_body(f"evt_{next(NUMBER)}", event_type, thing, **more)


def refund(refund_id: str, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    return {"id": refund_id, "object": "refund", "status": status, "payment_intent": "pi_1", "metadata": {}, **fields}


def dispute() -> dict[str, Any]:
    return {"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1", "metadata": {}}


@pytest.mark.parametrize(
    ("status", "event_type", "is_news"),
    [
        (ChargeStatus.STARTED, "payment_intent.succeeded", True),
        (ChargeStatus.PROCESSING, "payment_intent.succeeded", True),
        (ChargeStatus.PROCESSING, "payment_intent.payment_failed", True),
        (ChargeStatus.PROCESSING, "payment_intent.processing", False),
        (ChargeStatus.REFUSED, "payment_intent.succeeded", True),
        (ChargeStatus.REFUSED, "payment_intent.payment_failed", False),
        (ChargeStatus.REFUSED, "payment_intent.canceled", True),
        (ChargeStatus.SUCCEEDED, "payment_intent.succeeded", False),
        (ChargeStatus.SUCCEEDED, "payment_intent.processing", False),
        (ChargeStatus.SUCCEEDED, "payment_intent.payment_failed", False),
        (ChargeStatus.SUCCEEDED, "payment_intent.canceled", True),
        (ChargeStatus.CANCELED, "payment_intent.canceled", False),
        (ChargeStatus.CANCELED, "payment_intent.succeeded", True),
    ],
)
async def test_a_running_chain_hears_only_news(
    world: World, status: ChargeStatus, event_type: str, is_news: bool
) -> None:
    await world.chain("uid-1", ChainStage.CHARGING)
    await world.charge("uid-1", status)
    await world.stripe(event(event_type, payment_intent("pi_1", "uid-1")))
    assert world.signals("uid-1") == (TOLD if is_news else [])
    assert await world.counts() == DELIVERED


@pytest.mark.parametrize(
    ("status", "event_type", "is_held"),
    [
        (ChargeStatus.SUCCEEDED, "payment_intent.succeeded", False),
        (ChargeStatus.REFUSED, "payment_intent.payment_failed", False),
        (ChargeStatus.REFUSED, "payment_intent.canceled", False),
        (ChargeStatus.REFUSED, "payment_intent.succeeded", True),
        (ChargeStatus.REFUSED, "payment_intent.processing", True),
        (ChargeStatus.CANCELED, "payment_intent.succeeded", True),
        (ChargeStatus.SUCCEEDED, "payment_intent.canceled", True),
        (ChargeStatus.PROCESSING, "payment_intent.payment_failed", True),
    ],
)
async def test_a_closed_chain_disturbs_a_person_only_for_money(
    world: World, status: ChargeStatus, event_type: str, is_held: bool
) -> None:
    await world.chain("uid-1", ChainStage.CLOSED, ChainOutcome.DECLINED)
    await world.charge("uid-1", status)
    await world.stripe(event(event_type, payment_intent("pi_1", "uid-1")))
    assert await world.counts() == {InboxStatus.HELD if is_held else InboxStatus.DELIVERED: 1}
    if is_held:
        assert await world.held_reason() == f"{event_type} of pi_1 after chain uid-1 closed as declined"


async def test_ids_at_stripe_find_the_chain_without_metadata(world: World) -> None:
    await world.chain("uid-1", ChainStage.HOLD)
    await world.charge("uid-1", ChargeStatus.SUCCEEDED, charge_id="ch_1")
    await world.stripe(event("charge.dispute.created", dispute()))
    await world.stripe(event("refund.created", refund("re_by_hand")))
    assert world.signals("uid-1") == TOLD * 2


async def test_metadata_finds_the_chain_before_the_ids_are_recorded(world: World) -> None:
    await world.chain("uid-1", ChainStage.CHARGING)
    await world.charge("uid-1", ChargeStatus.STARTED)
    await world.stripe(event("payment_intent.succeeded", payment_intent("pi_new", "uid-1")))
    assert world.signals("uid-1") == TOLD


@pytest.mark.parametrize("event_type", ["charge.dispute.created", "charge.dispute.closed"])
async def test_a_dispute_after_the_end_needs_a_person(world: World, event_type: str) -> None:
    await world.chain("uid-1", ChainStage.CLOSED, ChainOutcome.PAID)
    await world.charge("uid-1", ChargeStatus.SUCCEEDED, charge_id="ch_1")
    await world.stripe(event(event_type, dispute()))
    assert await world.held_reason() == f"{event_type} of dp_1 after chain uid-1 closed as paid"


@pytest.mark.parametrize(
    ("ours", "event_type", "thing", "is_held"),
    [
        (RefundState.SUCCEEDED, "refund.created", refund("re_1"), False),
        (RefundState.PENDING, "refund.updated", refund("re_1"), False),
        (RefundState.SUCCEEDED, "refund.failed", refund("re_1", "failed"), True),
        (RefundState.SUCCEEDED, "refund.updated", refund("re_1", "failed"), True),
        (RefundState.SUCCEEDED, "charge.refund.updated", refund("re_1", "canceled"), True),
        (RefundState.SUCCEEDED, "refund.created", refund("re_by_hand"), True),
        (RefundState.SUCCEEDED, "charge.refunded", {"id": "ch_1", "object": "charge", "amount_refunded": 1_000}, False),
        (RefundState.SUCCEEDED, "charge.refunded", {"id": "ch_1", "object": "charge", "amount_refunded": 1_500}, True),
        (RefundState.FAILED, "charge.refunded", {"id": "ch_1", "object": "charge", "amount_refunded": 1_000}, True),
    ],
)
async def test_refunds_after_the_end(
    world: World, ours: RefundState, event_type: str, thing: dict[str, Any], is_held: bool
) -> None:
    await world.chain("uid-1", ChainStage.CLOSED, ChainOutcome.CANCELLED_WITH_FEE)
    await world.charge("uid-1", ChargeStatus.SUCCEEDED, charge_id="ch_1")
    await world.refund("uid-1", ours, 1_000, "re_1")
    await world.stripe(event(event_type, thing))
    assert await world.counts() == {InboxStatus.HELD if is_held else InboxStatus.DELIVERED: 1}


async def test_a_refund_under_way_is_known_by_its_key(world: World) -> None:
    await world.chain("uid-1", ChainStage.UNDOING)
    await world.charge("uid-1", ChargeStatus.SUCCEEDED, charge_id="ch_1")
    await world.refund("uid-1", RefundState.STARTED, 1_000, None)
    await world.stripe(event("refund.created", refund("re_1", metadata={"billing_key": "refund:uid-1:1"})))
    assert world.signals("uid-1") == []
    assert await world.counts() == DELIVERED


async def test_a_chain_that_is_undone_after_its_end_hears_it(world: World) -> None:
    await world.chain("uid-1", ChainStage.UNDOING, is_running=False)
    await world.charge("uid-1", ChargeStatus.SUCCEEDED, charge_id="ch_1")
    await world.chain("other", ChainStage.HOLD)
    undoing = world.temporal.workflows.pop("booking-other")
    world.temporal.workflows["undo-uid-1"] = undoing
    await world.stripe(event("refund.failed", refund("re_1", "failed")))
    assert world.temporal.signals("undo-uid-1") == TOLD


async def test_an_object_of_nobody_is_retried_then_stuck(world: World) -> None:
    await world.stripe(event("payment_intent.succeeded", payment_intent("pi_foreign")))
    for _ in range(3):
        assert await world.counts() == {InboxStatus.RECEIVED: 1}
        world.clock.advance(3_600)
        await world.deps.relay.run_once()
    assert await world.held_reason() == "given up after 4 tries: no chain of ours knows pi_foreign"


async def test_an_event_before_its_chain_is_open_waits_for_it(world: World) -> None:
    await world.stripe(event("payment_intent.succeeded", payment_intent("pi_1", "uid-1")))
    assert await world.counts() == {InboxStatus.RECEIVED: 1}
    await world.chain("uid-1", ChainStage.CHARGING)
    world.clock.advance(2)
    await world.deps.relay.run_once()
    assert world.signals("uid-1") == TOLD


@pytest.mark.parametrize("event_type", ["account.updated", "payout.failed", "transfer.updated", "new.kind"])
async def test_other_types_are_stored_and_ignored(world: World, event_type: str) -> None:
    assert await world.stripe(event(event_type, {"id": "x_1", "object": "account"})) == "ignored"
    assert await world.counts() == {InboxStatus.IGNORED: 1}
