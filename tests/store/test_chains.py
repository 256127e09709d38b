"""Chains, bookings, quotes and the catalogue on a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from domain.chain import ChainOutcome, ChainStage
from domain.commission import retained_quote
from domain.model import ParkReason, PayoutMode
from domain.ports import BookingStatus
from store import Store
from store.rows import CatalogRefused, KeyConflict, UnknownRow
from tests.store import seed


async def test_opening_a_chain_twice_at_once_gives_one(store: Store) -> None:
    async def open_once() -> bool:
        async with store.begin() as tx:
            return await tx.chains.open("bk-1", "booking-bk-1")

    assert sorted(await asyncio.gather(*(open_once() for _ in range(8)))) == [False] * 7 + [True]
    async with store.begin() as tx:
        row = await tx.chains.get("bk-1")
        assert row is not None
        assert (row.stage, row.outcome, row.customer_id) == (ChainStage.INTAKE, None, None)
        assert await tx.chains.chain_of("bk-1") == "bk-1"


async def test_an_alias_keeps_its_chain(store: Store) -> None:
    async with store.begin() as tx:
        await tx.chains.open("bk-1", "booking-bk-1")
        await tx.chains.alias("bk-2", "bk-1")
        await tx.chains.alias("bk-2", "bk-1")
        assert await tx.chains.uids("bk-1") == ["bk-1", "bk-2"]
        assert await tx.chains.chain_of("bk-9") is None
    with pytest.raises(KeyConflict, match="bk-2 belongs to chain bk-1"):
        async with store.begin() as tx:
            await tx.chains.open("bk-2", "booking-bk-2")


async def test_update_writes_stage_and_clears_what_is_not_given(store: Store) -> None:
    deadline = datetime(2026, 3, 1, tzinfo=UTC)
    async with store.begin() as tx:
        await tx.chains.update(
            "bk-1",
            stage=ChainStage.PARKED,
            reason=ParkReason.NO_PRICE,
            detail="no price\x00 for 7",
            deadline_at=deadline,
            waits_for="a price",
        )
        row = await tx.chains.get("bk-1")
        assert row is not None
        assert (row.reason, row.detail, row.deadline_at) == (ParkReason.NO_PRICE, "no price\ufffd for 7", deadline)
        await tx.chains.update("bk-1", stage=ChainStage.CLOSED, outcome=ChainOutcome.UNBILLABLE)
        row = await tx.chains.get("bk-1")
        assert row is not None
        assert (row.outcome, row.reason, row.detail, row.deadline_at) == (ChainOutcome.UNBILLABLE, None, None, None)
        assert row.closed_at is not None
        await tx.chains.update("bk-1", stage=ChainStage.UNDOING)
        row = await tx.chains.get("bk-1")
        assert row is not None
        assert (row.outcome, row.closed_at) == (None, None)
        for wrong in ({"stage": ChainStage.CLOSED}, {"stage": ChainStage.PARKED}):
            with pytest.raises(ValueError, match="bk-1"):
                await tx.chains.update("bk-1", **wrong)  # type: ignore[arg-type]


async def test_stuck_chains_are_parked_or_overdue(store: Store) -> None:
    past, future = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    async with store.begin() as tx:
        await tx.chains.update("parked", stage=ChainStage.PARKED, reason=ParkReason.DISPUTED, deadline_at=future)
        await tx.chains.update("overdue", stage=ChainStage.HOLD, deadline_at=past)
        await tx.chains.update("waiting", stage=ChainStage.HOLD, deadline_at=future)
        await tx.chains.update("done", stage=ChainStage.CLOSED, outcome=ChainOutcome.PAID, deadline_at=past)
        assert {row.chain_uid for row in await tx.chains.list(stuck_only=True)} == {"parked", "overdue"}
        assert len(await tx.chains.list()) == 4
        assert len(await tx.chains.list(limit=2)) == 2


async def test_a_booking_read_earlier_does_not_replace_a_later_change(store: Store) -> None:
    later = seed.START + timedelta(hours=2)
    async with store.begin() as tx:
        await tx.chains.open("bk-1", "booking-bk-1")
        await tx.chains.save_booking("bk-1", seed.booking("bk-1", updated_at=later, event_type_id=8), team_ids=(5, 6))
        await tx.chains.save_booking("bk-1", seed.booking("bk-1", updated_at=seed.START, event_type_id=9))
        row = await tx.chains.booking("bk-1")
        assert row is not None
        assert (row.event_type_id, row.team_ids, row.organizer_ids) == (8, (5, 6), (31,))
        cancelled = seed.booking("bk-1", updated_at=later, status=BookingStatus.CANCELLED)
        await tx.chains.save_booking("bk-1", cancelled)
        row = await tx.chains.booking("bk-1")
        assert row is not None
        assert (row.status, row.event_type_id) == (BookingStatus.CANCELLED, 7)
        assert await tx.chains.booking("bk-9") is None


async def test_the_first_quote_of_a_booking_stands(store: Store) -> None:
    await seed.apply(store)
    first = await seed.open_quoted(store, "bk-1")
    async with store.begin() as tx:
        dearer = first.model_copy(update={"net_minor": 20_000, "gross_minor": 21_900})
        assert await tx.chains.save_quote(dearer) == first
        assert await tx.chains.quote("bk-1") == first
        chain = await tx.chains.get("bk-1")
        assert chain is not None
        assert (chain.customer_id, chain.reseller_id, chain.gross_minor, chain.period) == (
            "c-1",
            "r-leaf",
            11_900,
            "2026-03",
        )


async def test_two_tasks_freeze_one_quote(store: Store) -> None:
    await seed.apply(store)
    async with store.begin() as tx:
        await tx.chains.open("bk-1", "booking-bk-1")
        await tx.chains.save_booking("bk-1", seed.booking("bk-1"))

    async def save(net_minor: int) -> int:
        async with store.begin() as tx:
            wanted = await seed.quote_for(tx, "bk-1", net_minor=net_minor, gross_minor=net_minor + 1_900)
            return (await tx.chains.save_quote(wanted)).net_minor

    assert len(set(await asyncio.gather(*(save(10_000 + n) for n in range(6))))) == 1


async def test_rescheduling_and_retained_shares_make_new_versions(store: Store) -> None:
    await seed.apply(store)
    first = await seed.open_quoted(store, "bk-1")
    async with store.begin() as tx:
        await tx.chains.alias("bk-2", "bk-1")
        await tx.chains.save_booking("bk-1", seed.booking("bk-2"))
        moved = await tx.chains.save_quote(first.model_copy(update={"booking_uid": "bk-2", "period": "2026-04"}))
        assert await tx.chains.quote("bk-1") == moved
        half = retained_quote(moved, 5_000)
        assert await tx.chains.save_quote(half) == half
        assert await tx.chains.save_quote(half) == half
        assert await tx.chains.quote("bk-1") == half
        chain = await tx.chains.get("bk-1")
        assert chain is not None
        assert chain.gross_minor == 5_950
        versions = (await tx.connection.execute(text("SELECT count(*) FROM quotes"))).scalar()
        assert versions == 3
    with pytest.raises(UnknownRow, match="bk-7"):
        async with store.begin() as tx:
            await tx.chains.save_quote(first.model_copy(update={"booking_uid": "bk-7"}))


async def test_month_counts_leave_out_the_chain_itself_and_void_ones(store: Store) -> None:
    await seed.apply(store)
    for uid in ("bk-1", "bk-2", "bk-3"):
        await seed.open_quoted(store, uid)
    await seed.open_quoted(store, "bk-4", period="2026-04")
    async with store.begin() as tx:
        await tx.chains.update("bk-3", stage=ChainStage.CLOSED, outcome=ChainOutcome.REFUNDED)
        assert await tx.catalog.month_count_before("c-1", 7, "2026-03", "bk-1") == 1
        assert await tx.catalog.month_count_before("c-1", 7, "2026-03", "bk-new") == 2
        assert await tx.catalog.month_count_before("c-1", 8, "2026-03", "bk-new") == 0
        volume = await tx.catalog.month_volume_before(["r-root", "r-leaf", "r-x"], "2026-03", "bk-new")
        assert volume == {"r-root": 20_000, "r-leaf": 20_000, "r-x": 0}
        await tx.catalog.lock("volume:c-1:2026-03")


async def test_a_lock_by_name_makes_the_second_wait(store: Store) -> None:
    order: list[str] = []
    held = asyncio.Event()

    async def first() -> None:
        async with store.begin() as tx:
            await tx.catalog.lock("volume")
            held.set()
            await asyncio.sleep(0.1)
            order.append("first")

    async def second() -> None:
        await held.wait()
        async with store.begin() as tx:
            await tx.catalog.lock("volume")
            order.append("second")

    await asyncio.gather(second(), first())
    assert order == ["first", "second"]


async def test_applying_the_same_file_again_changes_nothing(store: Store) -> None:
    changes = await seed.apply(store)
    assert "price book platform: version 1 from 2025-12-31T23:00:00+00:00" in changes
    assert len(changes) == 3 + 2 + 4 + 1 + 3
    assert not any("example.com" in change or "Example" in change for change in changes)
    assert await seed.apply(store) == []


async def test_a_change_becomes_the_next_version_and_going_back_another(store: Store) -> None:
    await seed.apply(store)
    dearer = {"net_minor: 10000": "net_minor: 12000", "rate_bps: 500": "rate_bps: 600"}
    assert await seed.apply(store, dearer) == [
        "price book platform: version 2 from 2025-12-31T23:00:00+00:00",
        "agreement of reseller r-mid: version 2 from 2025-12-31T23:00:00+00:00",
    ]
    assert await seed.apply(store, dearer) == []
    async with store.begin() as tx:
        (book,) = await tx.catalog.price_books("c-1", ["r-leaf"], seed.START)
        assert (book.version, book.prices[0].model_dump()["net_minor"]) == (2, 12_000)
        agreements = await tx.catalog.agreements(["r-mid", "r-leaf"], seed.START)
        assert {one: agreement.version for one, agreement in agreements.items()} == {"r-mid": 2, "r-leaf": 1}
        assert await tx.catalog.price_books("c-1", [], datetime(2025, 1, 1, tzinfo=UTC)) == []
        assert await tx.catalog.agreements(["r-mid"], datetime(2025, 1, 1, tzinfo=UTC)) == {}
    assert len(await seed.apply(store)) == 2
    async with store.begin() as tx:
        (book,) = await tx.catalog.price_books(None, [], seed.START)
        assert (book.version, book.prices[0].model_dump()["net_minor"]) == (3, 10_000)


async def test_a_ceiling_is_checked_against_what_is_stored(store: Store) -> None:
    """The file alone is right, but an agreement that it no longer shows is in force at another level."""
    await seed.apply(store)
    later = {
        "effective_from: 2026-01-01\n    currency: EUR\n    own: {kind: percentage, rate_bps: 2500}\n    ceiling": (
            "effective_from: 2026-06-01\n    currency: EUR\n    own: {kind: percentage, rate_bps: 3300}\n    ceiling"
        )
    }
    await seed.apply(store, later)
    async with store.begin() as tx:
        before = (await tx.connection.execute(text("SELECT count(*) FROM catalog_versions"))).scalar()
    with pytest.raises(CatalogRefused, match="r-leaf") as caught:
        await seed.apply(store, {"rate_bps: 500": "rate_bps: 1000"})
    assert "ceiling" in caught.value.errors[0]
    async with store.begin() as tx:
        assert (await tx.connection.execute(text("SELECT count(*) FROM catalog_versions"))).scalar() == before
        assert (await tx.catalog.agreements(["r-mid"], seed.START))["r-mid"].version == 1


async def test_parties_change_in_place_and_mappings_follow_the_file(store: Store) -> None:
    await seed.apply(store)
    changes = await seed.apply(
        store,
        {
            "email: leaf@example.com, parent_id: r-mid": "email: leaf2@example.com, parent_id: r-mid, paused: true",
            "teams: {21: c-2}": "teams: {22: c-2}",
        },
    )
    assert changes == [
        "reseller r-leaf: changed email, paused",
        "team 21: no longer mapped to c-2",
        "team 22: mapped to c-2",
    ]
    async with store.begin() as tx:
        assert (await tx.catalog.reseller("r-leaf")).paused
        assert (await tx.catalog.reseller_person("r-leaf")).email == "leaf2@example.com"
        assert await tx.catalog.mapped_teams() == [22]


async def test_who_pays(store: Store) -> None:
    await seed.apply(store)
    async with store.begin() as tx:
        catalog = tx.catalog
        assert await catalog.customer_for(7, (32,), (21,)) == "c-1"
        assert await catalog.customer_for(8, (31,), (21,)) == "c-2"
        assert await catalog.customer_for(8, (99, 32, 31), ()) == "c-2"
        assert await catalog.customer_for(8, (), ()) is None
        assert [one.id for one in await catalog.reseller_path("r-leaf")] == ["r-leaf", "r-mid", "r-root"]
        assert await catalog.reseller_path("r-none") == []
        assert (await catalog.customer_person("c-1")).name == "Example Practice"
        assert len(await catalog.customers()) == 2
        assert len(await catalog.resellers()) == 3
        with pytest.raises(UnknownRow, match="c-9"):
            await catalog.customer("c-9")


async def test_provisioning_notes_what_was_set_up(store: Store) -> None:
    await seed.apply(store)
    async with store.begin() as tx:
        assert [one.customer_id for one in await tx.catalog.to_provision()] == ["c-1", "c-2"]
        await tx.catalog.set_stripe_customer("c-1", "cus_1", "pm_1")
        await tx.catalog.set_stripe_customer("c-2", "cus_2")
        assert await tx.catalog.to_provision() == []
        customer = await tx.catalog.customer("c-1")
        assert (customer.stripe_customer_id, customer.payment_method_id) == ("cus_1", "pm_1")
        await tx.catalog.set_stripe_customer("c-1", "cus_1")
        assert (await tx.catalog.customer("c-1")).payment_method_id == "pm_1"
        with pytest.raises(UnknownRow):
            await tx.catalog.set_stripe_customer("c-none", "cus_3")
    await seed.apply(store, {"pm_card_visa": "pm_card_mastercard"})
    async with store.begin() as tx:
        assert [one.payment_method_source for one in await tx.catalog.to_provision()] == ["pm_card_mastercard"]
        assert (await tx.catalog.customer("c-1")).payment_method_id == "pm_1"


REFUSED = (
    "UPDATE chains SET stage = 'nowhere'",
    "UPDATE chains SET stage = 'closed'",
    "UPDATE chains SET stage = 'parked'",
    "UPDATE chains SET gross_minor = -1",
    "UPDATE chains SET currency = 'eur'",
    "UPDATE chains SET period = '2026-13'",
    "UPDATE chains SET detail = '   '",
    "UPDATE bookings SET end_at = start_at - interval '1 second'",
    "UPDATE customers SET name = ' '",
    "UPDATE customers SET vat_rate_bps = 10001",
    "UPDATE customers SET country = 'Germany'",
    "UPDATE resellers SET parent_id = id",
    "UPDATE resellers SET payout_mode = 'never'",
    "DELETE FROM chains",
    "INSERT INTO price_books VALUES ('x', 1, 'platform', 'c-1', now(), 'EUR')",
)


async def run(store: Store, statement: str) -> None:
    async with store.begin() as tx:
        await tx.connection.execute(text(statement))
        pytest.fail(f"the database took it: {statement}")


async def test_the_database_refuses_what_makes_no_sense(store: Store) -> None:
    await seed.apply(store)
    await seed.open_quoted(store, "bk-1")
    for statement in REFUSED:
        with pytest.raises(IntegrityError):
            await run(store, statement)


async def test_payout_mode_is_frozen_with_the_quote(store: Store) -> None:
    await seed.apply(store)
    quote = await seed.open_quoted(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    assert {level.payout_mode for level in quote.levels} == {PayoutMode.PER_BOOKING}
    async with store.begin() as tx:
        assert await tx.chains.quote("bk-1") == quote
