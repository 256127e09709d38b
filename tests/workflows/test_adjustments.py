"""Corrections and write-offs: nothing moves before a second person decides; then the next statement lists it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from domain import ids
from domain.chain import ChainOutcome
from domain.effects import AdjustmentDirection
from domain.model import ParkReason
from domain.pricing import period_of
from starter.operator import OrderRefused
from store.rows import SettlementStatus
from tests.support.desk import ORDER, Desk
from tests.support.month import actions, gross, matured, owed_minor, row_of, set_balance, settle, wait_for_workflow
from workflows import visibility
from workflows.models import OperatorOrder

BERND = OperatorOrder(who="ops-bernd", why="looked at it")
CLARA = OperatorOrder(who="ops-clara", why="looked at the statement")
CREDIT, DEBIT = AdjustmentDirection.CREDIT, AdjustmentDirection.DEBIT


async def outcome(desk: Desk, adjustment_id: str) -> str:
    handle = desk.client.get_workflow_handle(ids.adjustment_workflow(adjustment_id), result_type=str)
    return str(await asyncio.wait_for(handle.result(), 20))


async def test_a_correction_waits_for_a_second_person_and_stands_on_the_next_statement(desk: Desk) -> None:
    await set_balance(desk, 10_000_000)
    before = await owed_minor(desk, "r-root")
    adjustment_id, told = await desk.operator.adjust("r-root", "EUR", 1_250, CREDIT, ORDER)
    assert adjustment_id in told
    assert await owed_minor(desk, "r-root") == before
    handle = desk.client.get_workflow_handle(ids.adjustment_workflow(adjustment_id))
    shown = (await handle.describe()).typed_search_attributes
    assert shown.get(visibility.REASON) == ParkReason.APPROVAL_REQUIRED
    assert shown.get(visibility.ATTENTION) is True
    for decide in (True, False):
        with pytest.raises(OrderRefused, match="second person"):
            await desk.operator.decide_adjustment(adjustment_id, ORDER, approved=decide)
    told = await desk.operator.decide_adjustment(adjustment_id, BERND)
    assert "approved" in told
    assert await outcome(desk, adjustment_id) == "approved"
    assert await owed_minor(desk, "r-root") == before + 1_250
    log = await actions(desk, f"adjustment:{adjustment_id}")
    assert [(who, what) for who, what, _ in log] == [(ORDER.who, "requested"), ("ops-bernd", "approved")]
    with pytest.raises(OrderRefused):
        await desk.operator.decide_adjustment(adjustment_id, BERND)

    assert (await settle(desk, "2020-01")).parked == 1
    row = await row_of(desk, "2020-01", "r-root")
    assert (row.adjustment_credit_minor, row.status) == (1_250, SettlementStatus.PARKED)
    assert row.reason is ParkReason.APPROVAL_REQUIRED
    # Neither who asked for the closing nor who asked for the correction may let it go.
    for who in ("ops-anna", ORDER.who):
        with pytest.raises(OrderRefused, match="second person"):
            await desk.operator.approve_settlement("2020-01", "r-root", "EUR", OperatorOrder(who=who, why="mine"))
    await desk.operator.approve_settlement("2020-01", "r-root", "EUR", CLARA)
    assert await wait_for_workflow(desk, "2020-01", "r-root") == row.payable_minor
    assert await owed_minor(desk, "r-root") == before


async def test_a_rejected_correction_moves_nothing(desk: Desk) -> None:
    before = await owed_minor(desk, "r-mid")
    adjustment_id, _ = await desk.operator.adjust("r-mid", "EUR", 900, DEBIT, ORDER)
    await desk.operator.decide_adjustment(adjustment_id, BERND, approved=False)
    assert await outcome(desk, adjustment_id) == "rejected"
    assert await owed_minor(desk, "r-mid") == before


async def test_the_same_request_again_is_one_and_another_under_its_id_is_refused(desk: Desk) -> None:
    first = await desk.operator.adjust("r-mid", "EUR", 700, CREDIT, ORDER, adjustment_id="A-twice")
    again = await desk.operator.adjust("r-mid", "EUR", 700, CREDIT, ORDER, adjustment_id="A-twice")
    assert first == again
    with pytest.raises(OrderRefused, match=r"another request already .*amount_minor"):
        await desk.operator.adjust("r-mid", "EUR", 70_000, CREDIT, ORDER, adjustment_id="A-twice")
    with pytest.raises(OrderRefused, match=r"another request already .*direction, requested_by"):
        await desk.operator.adjust("r-mid", "EUR", 700, DEBIT, CLARA, adjustment_id="A-twice")
    await desk.operator.decide_adjustment("A-twice", BERND, approved=False)
    assert await outcome(desk, "A-twice") == "rejected"
    with pytest.raises(OrderRefused, match="was rejected by ops-bernd before"):
        await desk.operator.adjust("r-mid", "EUR", 700, CREDIT, ORDER, adjustment_id="A-twice")
    with pytest.raises(OrderRefused, match="another request already"):
        await desk.operator.adjust("r-mid", "EUR", 70_000, CREDIT, ORDER, adjustment_id="A-twice")


async def test_an_id_whose_request_was_refused_is_used_up(desk: Desk) -> None:
    for match in ("r-nobody does not exist", "was refused before"):
        with pytest.raises(OrderRefused, match=match):
            await desk.operator.adjust("r-nobody", "EUR", 100, CREDIT, ORDER, adjustment_id="A-nobody")
        assert (await outcome(desk, "A-nobody")).startswith("refused")


@pytest.mark.parametrize("who", ["schedule", " Preview "])
async def test_nobody_closes_a_month_as_the_system(desk: Desk, who: str) -> None:
    with pytest.raises(OrderRefused, match="own login"):
        await desk.operator.settle("2020-01", who)


async def test_a_month_that_is_not_over_is_closed_early_at_most(desk: Desk) -> None:
    running = period_of(datetime.now(UTC))
    later = f"{int(running[:4]) + 1}{running[4:]}"
    with pytest.raises(OrderRefused, match="is not over yet"):
        await desk.operator.settle(running, "ops-anna")
    for early in (True, False):
        with pytest.raises(OrderRefused, match="has not begun"):
            await desk.operator.settle(later, "ops-anna", early=early)
    with pytest.raises(OrderRefused, match="has not begun"):
        await desk.operator.preview(later)
    await desk.operator.preview(running)


@pytest.mark.parametrize(
    ("reseller_id", "currency", "amount_minor"),
    [("r-nobody", "EUR", 100), ("r-mid", "XXX", 100), ("r-mid", "EUR", 0)],
)
async def test_what_cannot_be_is_refused_with_the_reason(
    desk: Desk, reseller_id: str, currency: str, amount_minor: int
) -> None:
    with pytest.raises(OrderRefused):
        await desk.operator.adjust(reseller_id, currency, amount_minor, CREDIT, ORDER)


async def test_a_debt_of_a_reseller_who_left_is_written_off_by_two_people(desk: Desk) -> None:
    uid = await matured(desk, 162, datetime(2020, 1, 20, 12, tzinfo=UTC))
    await settle(desk, "2020-01", supplement=True)
    before = await owed_minor(desk, "r-five-2")
    await desk.operator.roll_back(uid, ORDER)
    await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    await settle(desk, "2020-01", supplement=True)
    assert await owed_minor(desk, "r-five-2") == before - gross(2000)
    adjustment_id, _ = await desk.operator.write_off("r-five-2", "EUR", ORDER)
    with pytest.raises(OrderRefused, match="second person"):
        await desk.operator.decide_adjustment(adjustment_id, ORDER)
    await desk.operator.decide_adjustment(adjustment_id, BERND)
    assert await owed_minor(desk, "r-five-2") == before
    with pytest.raises(OrderRefused, match="nothing open"):
        await desk.operator.write_off("r-five-2", "EUR", ORDER)
    await settle(desk, "2020-01", supplement=True)
    async with desk.store.begin() as tx:
        latest = await tx.settlements.latest_sequence("2020-01")
    row = await row_of(desk, "2020-01", "r-five-2", latest)
    assert (row.payable_minor, row.opening_debt_minor, row.adjustment_credit_minor) == (0, gross(2000), gross(2000))
