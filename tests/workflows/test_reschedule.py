"""Reschedulings: one chain across all uids, never charged twice."""

from __future__ import annotations

from datetime import timedelta

from domain.chain import ChainOutcome, ChainStage
from tests.support.desk import Desk, ahead, eventually


async def moved(desk: Desk, uid: str, new_uid: str) -> None:
    """Wait until the chain goes by the new uid."""

    async def look() -> bool:
        state = await desk.state(uid)
        return state.booking_uid == new_uid and any(new_uid in step for step in state.steps)

    await eventually(look, f"{uid} moved to {new_uid}")


async def test_before_the_charge_the_new_time_is_quoted_and_charged(desk: Desk) -> None:
    uid = await desk.begin(102, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.AWAITING_CHARGE)
    start_at = ahead(days=5)
    new_uid = await desk.calcom.reschedule(uid, start_at)
    await desk.signal(uid, "rescheduled", new_uid)
    await moved(desk, uid, new_uid)
    row = await desk.until(uid, ChainStage.AWAITING_CHARGE)
    assert row.deadline_at is not None
    assert abs(row.deadline_at - (start_at + timedelta(hours=1))) < timedelta(seconds=1)
    async with desk.store.begin() as tx:
        quote = await tx.chains.quote(uid)
        assert await tx.chains.chain_of(new_uid) == uid
    assert quote is not None
    assert quote.booking_uid == new_uid
    await desk.calcom.cancel(new_uid)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.CANCELLED


async def test_after_the_charge_only_the_refund_window_moves_however_often(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    current = uid
    for days in (5, 9):
        start_at = ahead(days=days)
        new_uid = await desk.calcom.reschedule(current, start_at)
        await desk.signal(uid, "rescheduled", new_uid)
        await moved(desk, uid, new_uid)
        row = await desk.until(uid, ChainStage.HOLD)
        assert row.deadline_at is not None
        assert abs(row.deadline_at - (start_at + timedelta(days=1, hours=1))) < timedelta(seconds=1)
        current = new_uid
    async with desk.store.begin() as tx:
        rows = await tx.money.commissions(uid)
        uids = await tx.chains.uids(uid)
    assert {row.matures_at for row in rows} == {(await desk.row(uid)).deadline_at}  # type: ignore[union-attr]
    assert (len(uids), uids[0], uids[-1]) == (3, uid, current)
    assert len(await desk.charges(uid)) == 1
    await desk.calcom.cancel(current)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.REFUNDED
    await desk.assert_balanced(uid)


async def test_a_rescheduling_whose_signal_got_lost_is_followed_all_the_same(desk: Desk) -> None:
    uid = await desk.book(101, start_at=ahead(days=3))
    new_uid = await desk.calcom.reschedule(uid, ahead(days=5))
    newest_uid = await desk.calcom.reschedule(new_uid, ahead(days=6))
    await desk.start(uid)
    await desk.until(uid, ChainStage.HOLD)
    assert (await desk.state(uid)).booking_uid == newest_uid
    async with desk.store.begin() as tx:
        assert set(await tx.chains.uids(uid)) == {uid, new_uid, newest_uid}
        quote = await tx.chains.quote(uid)
    assert quote is not None
    assert quote.booking_uid == newest_uid
