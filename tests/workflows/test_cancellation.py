"""Cancellations, no-shows and confirmations: what is charged, given back, and who still earns what."""

from __future__ import annotations

import pytest

from domain.chain import ChainOutcome, ChainStage
from tests.support.desk import Desk, ago, ahead, eventually

KEPT, GIVEN_BACK = 1943, 3888
"""A third (3,333 bps) of 58,31 EUR is kept of a late cancellation."""


async def test_cancelled_in_time_before_the_charge_is_free(desk: Desk) -> None:
    uid = await desk.begin(102, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.AWAITING_CHARGE)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.CANCELLED
    assert await desk.balances(uid) == {}
    assert await desk.charges(uid) == []


async def test_cancelled_late_before_the_charge_costs_the_kept_share(desk: Desk) -> None:
    uid = await desk.begin(102, start_at=ago(minutes=10))
    await desk.until(uid, ChainStage.AWAITING_CHARGE)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")

    async def holds() -> bool:
        return (await desk.state(uid)).stage is ChainStage.HOLD

    await eventually(holds, "the hold")
    assert [row.amount_minor for row in await desk.charges(uid)] == [KEPT]
    assert await desk.commissions(uid) == {
        "r-leaf": (1225, 817, "accrued"),
        "r-mid": (245, 163, "accrued"),
        "r-root": (245, 163, "accrued"),
    }
    fee_minor = await desk.fee_minor(uid)
    balances = await desk.balances(uid)
    assert balances["stripe"] == ("debit", KEPT - fee_minor)
    assert balances["commission_expense"] == ("debit", 1715 - 817 - 163 - 163)
    assert balances["revenue"][1] + balances["vat_output"][1] == KEPT


async def test_cancelled_in_time_in_the_hold_is_refunded_in_full(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.REFUNDED
    await desk.assert_balanced(uid)
    assert {status for _, _, status in (await desk.commissions(uid)).values()} == {"reversed"}


async def test_cancelled_late_in_the_hold_is_refunded_in_proportion_on_every_level(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ahead(hours=2))
    await desk.until(uid, ChainStage.HOLD)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")

    async def corrected() -> bool:
        balances = await desk.balances(uid)
        sold = balances["revenue"][1] + balances["vat_output"][1]
        return (balances.get("stripe"), sold) == (("debit", KEPT - 112), KEPT)

    await eventually(corrected, "the refund and the corrected invoice")
    assert await desk.commissions(uid) == {
        "r-leaf": (1225, 817, "accrued"),
        "r-mid": (245, 163, "accrued"),
        "r-root": (245, 163, "accrued"),
    }
    state = await desk.state(uid)
    assert (state.given_back_minor, state.stage) == (GIVEN_BACK, ChainStage.HOLD)
    assert await desk.roll_back(uid) is ChainOutcome.ROLLED_BACK
    await desk.assert_balanced(uid)


async def test_cancelled_without_a_refund_changes_nothing(desk: Desk) -> None:
    uid = await desk.begin(103, start_at=ahead(hours=2))
    await desk.until(uid, ChainStage.HOLD)
    before = await desk.balances(uid)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")

    async def decided() -> bool:
        return any(step.startswith("cancelled: keeps 58,31") for step in (await desk.state(uid)).steps)

    await eventually(decided, "the terms")
    assert (await desk.state(uid)).stage is ChainStage.HOLD
    assert await desk.balances(uid) == before
    async with desk.store.begin() as tx:
        assert await tx.money.chain_refunds(uid) == []


async def test_a_no_show_keeps_its_share(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ago(hours=3))
    await desk.until(uid, ChainStage.HOLD)
    await desk.calcom.mark_absent(uid)
    await desk.signal(uid, "no_show")

    async def refunded() -> bool:
        return (await desk.balances(uid)).get("stripe") == ("debit", 4665 - 112)

    await eventually(refunded, "the refund")
    assert await desk.commissions(uid) == {
        "r-leaf": (1225, 245, "accrued"),
        "r-mid": (245, 49, "accrued"),
        "r-root": (245, 49, "accrued"),
    }
    await desk.signal(uid, "no_show")
    await desk.signal(uid, "no_show")
    assert await desk.roll_back(uid) is ChainOutcome.ROLLED_BACK
    async with desk.store.begin() as tx:
        refunds = await tx.money.chain_refunds(uid)
    assert [row.amount_minor for row in refunds] == [5831 - 4665, 4665]


async def test_a_rejected_booking_costs_nothing(desk: Desk) -> None:
    uid = await desk.begin(105, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.AWAITING_CONFIRMATION)
    await desk.calcom.decline(uid)
    await desk.signal(uid, "rejected")
    assert await desk.outcome(uid) is ChainOutcome.CANCELLED
    assert await desk.balances(uid) == {}


async def test_a_pending_booking_is_charged_once_it_is_confirmed(desk: Desk) -> None:
    uid = await desk.begin(105, start_at=ahead(days=3))
    row = await desk.until(uid, ChainStage.AWAITING_CONFIRMATION)
    assert row.waits_for == "confirmation"
    assert await desk.charges(uid) == []
    await desk.calcom.confirm(uid)
    await desk.signal(uid, "confirmed")
    await desk.until(uid, ChainStage.HOLD)
    assert [row.amount_minor for row in await desk.charges(uid)] == [5831]


async def test_cancelled_before_its_creation_was_announced_costs_nothing(desk: Desk) -> None:
    uid = await desk.book(101, start_at=ahead(days=3))
    await desk.calcom.cancel(uid)
    await desk.start(uid)
    assert await desk.outcome(uid) is ChainOutcome.CANCELLED
    assert await desk.charges(uid) == []


@pytest.mark.parametrize("event_type_id", [101, 102], ids=["in the hold", "before the charge"])
async def test_an_announced_cancellation_that_cal_com_stores_later_is_waited_for(
    desk: Desk, event_type_id: int
) -> None:
    uid = await desk.begin(event_type_id, start_at=ahead(days=3))
    charged = event_type_id == 101
    await desk.until(uid, ChainStage.HOLD if charged else ChainStage.AWAITING_CHARGE)
    await desk.signal(uid, "cancelled")

    async def read_again() -> bool:
        return desk.failures.ran(uid).count("read_booking") >= 2

    await eventually(read_again, "the booking to be read")
    await desk.calcom.cancel(uid)
    assert await desk.outcome(uid) is (ChainOutcome.REFUNDED if charged else ChainOutcome.CANCELLED)
    await desk.assert_balanced(uid)
