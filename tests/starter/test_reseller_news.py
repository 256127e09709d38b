"""Events of resellers' accounts: each kind × whose account it is × whether the reseller's workflow runs."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from domain.catalog_model import CatalogReseller
from domain.chain import ChainOutcome, ChainStage
from store.rows import InboxStatus
from tests.starter.bodies import STRIPE_SECRET, stripe_body, stripe_headers
from tests.starter.fake_temporal import outage
from tests.starter.world import World, world_on

NEWS = "reseller-news-r-1"
DELIVERED = {InboxStatus.DELIVERED: 1}

ACCOUNT = {"id": "acct_1", "object": "account", "metadata": {"reseller_id": "r-1"}}
CAPABILITY = {"id": "transfers", "object": "capability", "account": "acct_1"}
APPLICATION = {"id": "ca_1", "object": "application", "name": "Platform"}
PAYOUT = {"id": "po_1", "object": "payout", "amount": 1225, "currency": "eur", "status": "paid"}

EVENTS: list[tuple[str, dict[str, Any], tuple[str, tuple[str, ...]]]] = [
    ("account.updated", ACCOUNT, ("account_changed", ())),
    ("capability.updated", CAPABILITY, ("account_changed", ())),
    ("account.application.deauthorized", APPLICATION, ("account_changed", ())),
    ("payout.created", PAYOUT, ("payout_changed", ("acct_1", "po_1"))),
    ("payout.updated", PAYOUT, ("payout_changed", ("acct_1", "po_1"))),
    ("payout.paid", PAYOUT, ("payout_changed", ("acct_1", "po_1"))),
    ("payout.failed", PAYOUT, ("payout_changed", ("acct_1", "po_1"))),
    ("payout.canceled", PAYOUT, ("payout_changed", ("acct_1", "po_1"))),
]
IDS = [row[0] for row in EVENTS]
each_event = pytest.mark.parametrize(("event_type", "thing", "signal"), EVENTS, ids=IDS)


async def add(world: World) -> None:
    reseller = CatalogReseller(id="r-1", name="One Example", email="one@example.com", stripe_account_id="acct_1")
    async with world.store.begin() as tx:
        await tx.resellers.save([reseller], saved_by="tests")


def body(event_type: str, thing: dict[str, Any], event_id: str = "evt_1", account: str | None = "acct_1") -> bytes:
    return stripe_body(event_id, event_type, thing, **({} if account is None else {"account": account}))


@each_event
async def test_starts_the_resellers_workflow(
    world: World, event_type: str, thing: dict[str, Any], signal: tuple[str, tuple[str, ...]]
) -> None:
    await add(world)
    raw = body(event_type, thing)
    assert await world.stripe(raw) == "accepted"
    assert await world.stripe(raw) == "duplicate"
    started = world.temporal.workflows[NEWS]
    assert (started.argument.reseller_id, started.signals) == ("r-1", [signal])
    assert started.options["task_queue"] == "billing"
    assert await world.counts() == DELIVERED


@each_event
async def test_tells_the_one_that_runs_and_starts_one_again_after_its_end(
    world: World, event_type: str, thing: dict[str, Any], signal: tuple[str, tuple[str, ...]]
) -> None:
    await add(world)
    await world.stripe(body(event_type, thing, "evt_1"))
    await world.stripe(body(event_type, thing, "evt_2"))
    assert world.temporal.starts == [NEWS]
    assert world.temporal.workflows[NEWS].signals == [signal, signal]
    world.temporal.workflows[NEWS].is_running = False
    await world.stripe(body(event_type, thing, "evt_3"))
    assert world.temporal.starts == [NEWS, NEWS]
    assert world.temporal.workflows[NEWS].signals == [signal]


@each_event
async def test_an_account_of_nobody_is_nothing_to_us(
    world: World, event_type: str, thing: dict[str, Any], signal: tuple[str, tuple[str, ...]]
) -> None:
    await world.stripe(body(event_type, thing))
    assert world.temporal.starts == []
    assert await world.counts() == DELIVERED


@each_event
async def test_the_platforms_own_account_is_ignored(
    world: World, event_type: str, thing: dict[str, Any], signal: tuple[str, tuple[str, ...]]
) -> None:
    await add(world)
    assert await world.stripe(body(event_type, thing, account=None)) == "ignored"
    assert world.temporal.starts == []


@each_event
async def test_is_delivered_when_temporal_is_back(
    world: World, event_type: str, thing: dict[str, Any], signal: tuple[str, tuple[str, ...]]
) -> None:
    await add(world)
    world.temporal.fail_with = outage()
    await world.stripe(body(event_type, thing))
    assert await world.counts() == {InboxStatus.RECEIVED: 1}
    world.temporal.fail_with = None
    world.clock.advance(3_600)
    await world.deps.relay.run_once()
    assert world.temporal.workflows[NEWS].signals == [signal]
    assert await world.counts() == DELIVERED


async def test_events_of_connected_accounts_may_have_a_secret_of_their_own(database_url: str) -> None:
    async with world_on(database_url, stripe_connect_webhook_secret="whsec_connect") as world:
        raw = body("account.updated", ACCOUNT)
        for secret, status_code in (("whsec_connect", 200), (STRIPE_SECRET, 200), ("whsec_another", 400)):
            headers = stripe_headers(raw, world.clock(), secret)
            assert (await world.http.post("/webhooks/stripe", content=raw, headers=headers)).status_code == status_code


async def test_a_payout_event_without_its_payout_needs_a_person(world: World) -> None:
    await add(world)
    await world.stripe(body("payout.paid", {"id": "x_1", "object": "thing"}))
    for _ in range(3):
        world.clock.advance(7_200)
        await world.deps.relay.run_once()
    assert "names no payout" in await world.held_reason()


KEY = "transfer:uid-1:r-1"


def reversed_of(amount_minor: int, transfer_id: str = "tr_1", key: str = KEY) -> dict[str, Any]:
    metadata = {"billing_key": key, "reseller_id": "r-1"}
    return {"id": transfer_id, "object": "transfer", "amount_reversed": amount_minor, "metadata": metadata}


async def transferred(world: World, status: str, reversed_minor: int = 0) -> None:
    """A booking's transfer of 1225 to the reseller, as its chain would have recorded it."""
    await add(world)
    await world.chain("uid-1", ChainStage.CLOSED, ChainOutcome.PAID)
    row = {"key": KEY, "status": status, "id": "tr_1" if status == "succeeded" else None, "back": reversed_minor}
    async with world.store.begin() as tx:
        await tx.money._execute(
            text(
                "INSERT INTO transfers (key, kind, chain_uid, reseller_id, currency, amount_minor, reversed_minor,"
                " destination_account_id, status, transfer_id, finished_at)"
                " VALUES (:key, 'booking', 'uid-1', 'r-1', 'EUR', 1225, :back, 'acct_1', :status, :id,"
                " CASE WHEN :status = 'started' THEN NULL ELSE now() END)"
            ),
            **row,
        )


@pytest.mark.parametrize(
    ("known_minor", "told_minor", "signals"),
    [
        (0, 500, [("transfer_changed", ("tr_1",))]),
        (500, 525, [("transfer_changed", ("tr_1",))]),
        (525, 500, [("transfer_changed", ("tr_1",))]),  # late: the transfer itself is what counts
        (500, 500, None),
        (1225, 1225, None),
    ],
)
async def test_what_was_taken_back_wakes_only_where_it_is_news(
    world: World, known_minor: int, told_minor: int, signals: list[tuple[str, tuple[str, ...]]] | None
) -> None:
    await transferred(world, "succeeded", known_minor)
    await world.stripe(body("transfer.reversed", reversed_of(told_minor), account=None))
    news = world.temporal.workflows.get(NEWS)
    assert (None if news is None else news.signals) == signals
    assert await world.counts() == DELIVERED


@pytest.mark.parametrize("status", ["started", "refused"])
@pytest.mark.parametrize("key", [KEY, f"{KEY}~2"])
async def test_what_was_taken_back_of_a_transfer_without_an_answer_waits_for_it(
    world: World, status: str, key: str
) -> None:
    await transferred(world, status)
    await world.stripe(body("transfer.reversed", reversed_of(500, key=key), account=None))
    assert await world.counts() == {InboxStatus.RECEIVED: 1}
    async with world.store.begin() as tx:
        await tx.money._execute(text("UPDATE transfers SET status = 'succeeded', transfer_id = 'tr_1'"))
    world.clock.advance(60)
    await world.deps.relay.run_once()
    assert world.temporal.workflows[NEWS].signals == [("transfer_changed", ("tr_1",))]
    assert await world.counts() == DELIVERED


async def test_a_transfer_of_somebody_else_is_nothing_to_us(world: World) -> None:
    await transferred(world, "succeeded")
    await world.stripe(body("transfer.reversed", reversed_of(500, "tr_other", "other:1"), account=None))
    assert NEWS not in world.temporal.workflows
    assert await world.counts() == DELIVERED


async def test_a_reversal_that_names_no_transfer_is_shown_to_a_person(world: World) -> None:
    await world.stripe(body("transfer.reversed", {"id": "trr_1", "object": "transfer_reversal"}, account=None))
    for _ in range(3):
        world.clock.advance(3_600)
        await world.deps.relay.run_once()
    assert "the event names no transfer" in await world.held_reason()


async def test_a_connected_accounts_own_transfer_is_ignored(world: World) -> None:
    await transferred(world, "succeeded")
    assert await world.stripe(body("transfer.reversed", reversed_of(500))) == "ignored"
    assert NEWS not in world.temporal.workflows
