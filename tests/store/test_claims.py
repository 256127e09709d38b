"""Who is claimed when: boundaries of months, supplements, late ones, races, adjustments."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus
from domain.pricing import period_bounds
from store import Store
from store.rows import IllegalMove, KeyConflict, NotSecondPerson, UnknownRow
from tests.store import seed
from tests.store.closing import adjusted, claim, explained, matured

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("period", "midnight"),
    [
        ("2026-03", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("2026-10", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2028-02", datetime(2028, 2, 29, 23, tzinfo=UTC)),
        ("2027-02", datetime(2027, 2, 28, 23, tzinfo=UTC)),
        ("2026-12", datetime(2026, 12, 31, 23, tzinfo=UTC)),
    ],
)
async def test_a_month_ends_at_midnight_in_berlin_to_the_second(store: Store, period: str, midnight: datetime) -> None:
    assert period_bounds(period)[1] == midnight
    assert midnight.astimezone(BERLIN).hour == 0
    await seed.apply(store)
    await matured(store, "before", matures_at=midnight - timedelta(seconds=1))
    await matured(store, "at", matures_at=midnight)
    await matured(store, "after", matures_at=midnight + timedelta(seconds=1))
    row = (await claim(store, period))["r-leaf"]
    async with store.begin() as tx:
        assert [line.chain_uid for line in await tx.settlements.lines(row.id)] == ["before"]
    following = datetime.strftime(midnight.astimezone(BERLIN), "%Y-%m")
    later = (await claim(store, following))["r-leaf"]
    async with store.begin() as tx:
        assert [line.chain_uid for line in await tx.settlements.lines(later.id)] == ["at", "after"]


async def test_what_is_late_goes_into_the_next_run_or_a_supplement(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    with pytest.raises(IllegalMove, match="nothing to supplement"):
        await claim(store, "2026-03", 2)
    march = await claim(store)
    await matured(store, "late")
    supplement = await claim(store, "2026-03", 2)
    assert {row.statement_id for row in supplement.values()} == {
        f"S-2026-03-{reseller}-EUR-2" for reseller in ("r-leaf", "r-mid", "r-root")
    }
    assert supplement["r-leaf"].earned_minor == 2_500
    assert await claim(store) == march
    await matured(store, "later")
    assert (await claim(store, "2026-04"))["r-leaf"].earned_minor == 2_500
    assert await claim(store, "2026-05") == {}
    with pytest.raises(KeyConflict, match="boundary"):
        await claim(store, "2026-05", boundary=period_bounds("2026-04")[1])
    await explained(store)


async def test_the_dry_run_shows_the_same_and_writes_nothing(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    _, boundary = period_bounds("2026-03")
    async with store.begin() as tx:
        before = await tx.ledger.trial_balance()
        shown = await tx.settlements.preview("2026-03", boundary, requested_by="ops-anna")
        assert await tx.ledger.trial_balance() == before
        assert await tx.settlements.latest_sequence("2026-03") == 0
        assert await tx.settlements.of("2026-03") == []
    made = list((await claim(store)).values())
    own = {"id", "frozen_at", "finished_at"}
    assert [row.model_dump(exclude=own) for row in shown] == [row.model_dump(exclude=own) for row in made]


async def test_reversals_while_a_month_is_claimed_are_in_it_or_in_the_next_one(store: Store) -> None:
    await seed.apply(store)
    uids = [f"bk-{number}" for number in range(12)]
    await matured(store, *uids)

    async def refund(uid: str) -> None:
        await seed.refund(store, uid, 5_950)
        await seed.refund(store, uid, 5_950, sequence=2)

    await asyncio.gather(claim(store), claim(store), *(refund(uid) for uid in uids))
    await explained(store)
    await claim(store, "2026-04")
    await explained(store)
    async with store.begin() as tx:
        for balance in await tx.settlements.account_balances():
            assert (balance.owed_minor, balance.unstated_credit_minor, balance.unstated_debt_minor) == (
                balance.unpaid_minor - balance.carried_debt_minor + balance.owing_minor,
                0,
                0,
            )


async def test_two_months_at_once_claim_each_commission_once(store: Store) -> None:
    await seed.apply(store)
    await matured(store, *(f"bk-{number}" for number in range(8)))
    made = await asyncio.gather(claim(store), claim(store, "2026-04"), claim(store, "2026-05"))
    assert sum(rows["r-leaf"].earned_minor for rows in made if "r-leaf" in rows) == 8 * 2_500
    async with store.begin() as tx:
        lines = await tx.connection.execute(
            text("SELECT count(*), count(DISTINCT commission_id) FROM settlement_lines")
        )
        assert tuple(lines.one()) == (24, 24)


async def test_what_was_earned_before_does_not_follow_the_tax_status(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    march = (await claim(store))["r-leaf"]
    assert (march.vat_rate_bps, march.vat_credit_minor) == (1_900, 475)
    async with store.begin() as tx:
        await tx.connection.execute(text("UPDATE resellers SET name = 'Other Name'"))
        await tx.connection.execute(
            text(
                "INSERT INTO reseller_tax_statuses"
                " (reseller_id, sequence, valid_from, small_business, country, recorded_by)"
                " SELECT id, 2, '2026-04-01', true, country, 'tests' FROM resellers"
            )
        )
    await seed.refund(store, "bk-1", 11_900)
    await matured(store, "bk-2", matures_at=datetime(2026, 4, 2, tzinfo=UTC))
    april = (await claim(store, "2026-04"))["r-leaf"]
    assert (april.vat_reason, april.vat_credit_minor, april.vat_debit_minor) == ("small_business", 0, 475)
    async with store.begin() as tx:
        old, new = [await tx.settlements.statement(row.id) for row in (march, april)]
        assert (old.party.name, new.party.name) == ("Leaf GmbH", "Other Name")
        assert [(tax.vat_rate_bps, tax.net_minor, tax.is_debit) for tax in new.taxes] == [
            (0, 2_500, False),
            (1_900, 2_500, True),
        ]
        assert [(line.vat_rate_bps, line.rule["rate_bps"]) for line in new.lines] == [(0, 2_500), (1_900, 2_500)]
    await explained(store)


async def test_an_adjustment_moves_nothing_before_another_person_approves_it(store: Store) -> None:
    await seed.apply(store)
    given: dict[str, Any] = {
        "reseller_id": "r-leaf",
        "currency": "EUR",
        "amount_minor": 1_000,
        "direction": AdjustmentDirection.DEBIT,
        "kind": AdjustmentKind.CORRECTION,
        "why": "paid twice elsewhere",
        "requested_by": "ops-anna",
    }
    async with store.begin() as tx:
        first = await tx.settlements.adjust("A-1", **given)
        assert await tx.settlements.adjust("A-1", **given) == first
        assert await tx.settlements.waiting_adjustments() == [first]
        assert await tx.settlements.account_balance("r-leaf") == []
    with pytest.raises(KeyConflict, match="amount_minor"):
        async with store.begin() as tx:
            await tx.settlements.adjust("A-1", **{**given, "amount_minor": 1})
    with pytest.raises(UnknownRow):
        async with store.begin() as tx:
            await tx.settlements.adjust("A-2", **{**given, "reseller_id": "r-none"})
    for spelling in ("ops-anna", "OPS-Anna", "ops-an\uff4ea "):
        with pytest.raises(NotSecondPerson):
            async with store.begin() as tx:
                await tx.settlements.decide_adjustment("A-1", spelling, approved=True)
    assert await claim(store) == {}
    for who in ("ops-bert", "ops-carl"):
        async with store.begin() as tx:
            decided = await tx.settlements.decide_adjustment("A-1", who, approved=True)
            assert (decided.status, decided.decided_by) == (AdjustmentStatus.APPROVED, "ops-bert")
    with pytest.raises(IllegalMove, match="approved by ops-bert"):
        async with store.begin() as tx:
            await tx.settlements.decide_adjustment("A-1", "ops-carl", approved=False)
    row = (await claim(store, "2026-04"))["r-leaf"]
    assert (row.adjustment_debit_minor, row.carried_debt_minor) == (1_000, 1_000)
    async with store.begin() as tx:
        assert [one.id for one in (await tx.settlements.statement(row.id)).adjustments] == ["A-1"]
    await explained(store)


async def test_a_rejected_adjustment_is_on_no_statement(store: Store) -> None:
    await seed.apply(store)
    await adjusted(store, "A-1", "r-leaf", 5, AdjustmentDirection.CREDIT)
    async with store.begin() as tx:
        await tx.settlements.adjust(
            "A-2",
            reseller_id="r-mid",
            currency="JPY",
            amount_minor=5,
            direction=AdjustmentDirection.CREDIT,
            kind=AdjustmentKind.CORRECTION,
            why="no",
            requested_by="ops-anna",
        )
        await tx.settlements.decide_adjustment("A-2", "ops-bert", approved=False)
    assert set(await claim(store)) == {"r-leaf"}
