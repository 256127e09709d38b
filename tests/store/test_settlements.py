"""The monthly claim: each matured commission once, net of what was reversed, races included."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from domain.model import CommissionStatus, ParkReason, PayoutMode
from domain.pricing import period_bounds
from store import Store
from store.rows import EffectStatus, IllegalMove, SettlementRow, SettlementStatus, TransferRow
from tests.store import seed

MARCH = period_bounds("2026-03")[1]
APRIL = period_bounds("2026-04")[1]


async def matured(store: Store, *uids: str, mode: PayoutMode = PayoutMode.MONTHLY, **changed: object) -> None:
    for uid in uids:
        await seed.charged_chain(store, uid, mode=mode, **changed)
        async with store.begin() as tx:
            await tx.money.mature(uid)


async def claim(store: Store, period: str = "2026-03", boundary: datetime = MARCH) -> dict[str, SettlementRow]:
    async with store.begin() as tx:
        rows = await tx.settlements.claim(period, boundary)
    return {row.reseller_id: row for row in rows}


async def begin(store: Store, row: SettlementRow) -> TransferRow | None:
    async with store.begin() as tx:
        return await tx.settlements.begin(
            row.id, key=f"settlement:{row.period}:{row.reseller_id}:EUR", destination_account_id="acct_x"
        )


async def finish(store: Store, row: SettlementRow, status: SettlementStatus, reason: ParkReason | None = None) -> None:
    async with store.begin() as tx:
        await tx.settlements.finish(row.id, status=status, reason=reason, detail="because")


async def test_a_month_is_claimed_once_whoever_asks(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    await seed.charged_chain(store, "bk-3")
    results = await asyncio.gather(*(claim(store) for _ in range(6)))
    assert all(result == results[0] for result in results)
    assert {one: row.amount_minor for one, row in results[0].items()} == {
        "r-leaf": 5_000,
        "r-mid": 1_000,
        "r-root": 400,
    }
    async with store.begin() as tx:
        await tx.money.mature("bk-3")
        lines = await tx.settlements.lines(results[0]["r-leaf"].id)
        assert [(line.chain_uid, line.amount_minor) for line in lines] == [("bk-1", 2_500), ("bk-2", 2_500)]
    assert await claim(store) == results[0]
    late = await claim(store, "2026-04", APRIL)
    assert {one: row.amount_minor for one, row in late.items()} == {"r-leaf": 2_500, "r-mid": 500, "r-root": 200}


async def test_what_is_not_claimed(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "own", mode=PayoutMode.PER_BOOKING)
    await matured(store, "later", matures_at=MARCH)
    await matured(store, "reversed")
    async with store.begin() as tx:
        for row in await tx.money.commissions("reversed"):
            await tx.money.set_reversed(row.id, row.accrued_minor)
    assert await claim(store) == {}
    assert set(await claim(store, "2026-04", APRIL)) == {"r-leaf", "r-mid", "r-root"}


async def test_a_reseller_on_hold_is_claimed_when_a_person_lifts_it(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", mode=PayoutMode.ON_HOLD)
    async with store.begin() as tx:
        await tx.connection.execute(text("UPDATE resellers SET payout_mode = 'on_hold' WHERE id = 'r-leaf'"))
    assert set(await claim(store)) == {"r-mid", "r-root"}
    async with store.begin() as tx:
        await tx.connection.execute(text("UPDATE resellers SET payout_mode = 'monthly' WHERE id = 'r-leaf'"))
    assert set(await claim(store, "2026-04", APRIL)) == {"r-leaf"}


async def test_a_settlement_is_paid_once(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    row = (await claim(store))["r-leaf"]
    with pytest.raises(IllegalMove, match="no transfer"):
        await finish(store, row, SettlementStatus.PAID)
    transfers = await asyncio.gather(*(begin(store, row) for _ in range(12)))
    assert {one.amount_minor for one in transfers if one is not None} == {5_000}
    with pytest.raises(IllegalMove, match="started"):
        await finish(store, row, SettlementStatus.CARRIED_OVER)
    async with store.begin() as tx:
        await tx.money.finish_transfer(
            "settlement:2026-03:r-leaf:EUR", status=EffectStatus.SUCCEEDED, transfer_id="tr_1"
        )
    for _ in range(2):
        await finish(store, row, SettlementStatus.PAID)
    async with store.begin() as tx:
        paid = await tx.settlements.get("2026-03", "r-leaf", "EUR")
        assert paid is not None
        assert (paid.status, paid.amount_minor, paid.transfer_key) == (
            SettlementStatus.PAID,
            5_000,
            "settlement:2026-03:r-leaf:EUR",
        )
        assert [one.status for one in await tx.money.commissions("bk-1")] == [
            CommissionStatus.SETTLED,
            CommissionStatus.MATURED,
            CommissionStatus.MATURED,
        ]
        assert [one.period for one in await tx.settlements.of_reseller("r-leaf")] == ["2026-03"]
    with pytest.raises(IllegalMove):
        await finish(store, row, SettlementStatus.PARKED, ParkReason.TRANSFER_REFUSED)
    known = await begin(store, row)
    assert known is not None
    assert (known.transfer_id, known.status) == ("tr_1", EffectStatus.SUCCEEDED)


async def test_a_refund_between_claim_and_transfer_lowers_the_amount(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    row = (await claim(store))["r-leaf"]
    await seed.refund(store, "bk-1", 5_950)
    begun = await begin(store, row)
    assert begun is not None
    assert begun.amount_minor == 3_750
    await seed.refund(store, "bk-2", 11_900)
    async with store.begin() as tx:
        lines = await tx.settlements.lines(row.id)
        assert [line.amount_minor for line in lines] == [1_250, 2_500]
        leaf = (await tx.money.commissions("bk-2"))[0]
        assert (leaf.status, leaf.owed_minor, leaf.settled_minor) == (CommissionStatus.REVERSED, 0, 2_500)
        assert leaf.transfer_key == "settlement:2026-03:r-leaf:EUR"
        await tx.money.finish_transfer(leaf.transfer_key, status=EffectStatus.SUCCEEDED, transfer_id="tr_1")
        await tx.money.begin_reversal(
            key="reversal:x:1", transfer_key=leaf.transfer_key, chain_uid="bk-2", sequence=1, amount_minor=2_500
        )
        await tx.money.finish_reversal("reversal:x:1", status=EffectStatus.SUCCEEDED, reversal_id="trr_1")
        assert (await tx.money.commissions("bk-2"))[0].settled_minor == 0
        assert (await tx.money.commissions("bk-1"))[0].settled_minor == 1_250


async def test_a_settlement_that_became_nothing_has_no_transfer(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-leaf"]
    await seed.refund(store, "bk-1", 11_900)
    assert await begin(store, row) is None
    await finish(store, row, SettlementStatus.CARRIED_OVER)
    assert await claim(store, "2026-04", APRIL) == {}


async def test_a_refused_transfer_parks_and_is_tried_again_under_its_key(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-mid"]
    begun = await begin(store, row)
    assert begun is not None
    async with store.begin() as tx:
        await tx.money.finish_transfer(begun.key, status=EffectStatus.REFUSED, refusal_code="account_not_ready")
    await finish(store, row, SettlementStatus.PARKED, ParkReason.RESELLER_NOT_READY)
    async with store.begin() as tx:
        (_, parked, _) = await tx.settlements.of("2026-03")
        assert (parked.reason, parked.detail) == (ParkReason.RESELLER_NOT_READY, "because")
        assert (await tx.money.commissions("bk-1"))[1].transfer_key is None
    again = await begin(store, row)
    assert again is not None
    assert (again.key, again.status, again.amount_minor) == (begun.key, EffectStatus.STARTED, 500)
    async with store.begin() as tx:
        (_, reopened, _) = await tx.settlements.of("2026-03")
        assert (reopened.status, reopened.reason) == (SettlementStatus.OPEN, None)


async def test_what_is_carried_over_goes_into_the_next_month(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-root"]
    await finish(store, row, SettlementStatus.CARRIED_OVER)
    with pytest.raises(IllegalMove, match="carried over"):
        await begin(store, row)
    await matured(store, "bk-2", matures_at=datetime(2026, 4, 2, tzinfo=UTC))
    following = (await claim(store, "2026-04", APRIL))["r-root"]
    assert (following.amount_minor, following.line_count) == (400, 2)
    async with store.begin() as tx:
        assert len(await tx.settlements.lines(following.id)) == 2
        assert await tx.settlements.lines(row.id) == []
        (_, _, carried) = await tx.settlements.of("2026-03")
        assert (carried.status, carried.amount_minor) == (SettlementStatus.CARRIED_OVER, 200)
