"""The month's closing: who is claimed, paid once, parked, and which month a Schedule's run settles.

Every test has old months of its own, because a claim takes everything that matured before the month's end.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import ScheduleBackfill, ScheduleOverlapPolicy

from domain import ids
from domain.chain import ChainOutcome
from domain.model import ParkReason
from store.rows import SettlementRow
from tests.support.desk import ORDER, Desk, eventually
from workflows.models import SettlementState
from workflows.settlement import SettlementWorkflow

Paid = dict[str, tuple[int, int, str]]
"""Reseller → (amount, lines, status)."""


async def matured(desk: Desk, event_type_id: int, end_at: datetime) -> str:
    """A charged booking whose commission matured at the end of the appointment."""
    uid = await desk.begin(event_type_id, start_at=end_at - timedelta(hours=1))
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    return uid


async def settle(desk: Desk, period: str) -> SettlementState:
    workflow_id = await desk.operator.settle(period, "ops-anna")
    handle = desk.client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
    answer: SettlementState = await asyncio.wait_for(handle.result(), 20)
    return answer


async def rows(desk: Desk, period: str) -> list[SettlementRow]:
    async with desk.store.begin() as tx:
        return await tx.settlements.of(period)


async def paid(desk: Desk, period: str) -> Paid:
    return {row.reseller_id: (row.amount_minor, row.line_count, row.status.value) for row in await rows(desk, period)}


async def transfers(desk: Desk) -> int:
    return (await desk.stripe.executed()).get("transfer", 0)


async def owed_minor(desk: Desk, reseller_id: str) -> int:
    """What the ledger says the platform owes a reseller, over all bookings and months."""
    async with desk.store.begin() as tx:
        found = [row for row in await tx.ledger.trial_balance() if row.account == f"reseller:{reseller_id}"]
    return sum(row.credit_minor - row.debit_minor for row in found)


async def test_a_month_is_paid_once_to_the_cent_and_ends_at_midnight_in_berlin(desk: Desk) -> None:
    first, second, third = await asyncio.gather(
        matured(desk, 151, datetime(2021, 3, 9, 12, tzinfo=UTC)),
        matured(desk, 151, datetime(2021, 3, 31, 21, 59, tzinfo=UTC)),
        matured(desk, 152, datetime(2021, 3, 15, 9, tzinfo=UTC)),
    )
    april = await matured(desk, 151, datetime(2021, 3, 31, 22, 0, tzinfo=UTC))
    before = await transfers(desk)

    state = await settle(desk, "2021-03")

    assert state == SettlementState(period="2021-03", claims=3, paid=3, parked=0)
    assert await paid(desk, "2021-03") == {
        "r-month-a": (800, 2, "paid"),
        "r-month-b": (4000, 2, "paid"),
        "r-month-c": (2000, 1, "paid"),
    }
    assert await transfers(desk) == before + 3
    for uid in (first, second, third):
        assert {status for _, _, status in (await desk.commissions(uid)).values()} == {"settled"}
    assert {status for _, _, status in (await desk.commissions(april)).values()} == {"matured"}
    assert await owed_minor(desk, "r-month-b") == 2000
    for row in await rows(desk, "2021-03"):
        key = ids.settlement_transfer_key("2021-03", row.reseller_id, "EUR")
        async with desk.store.begin() as tx:
            transfer = await tx.money.transfer(key)
        assert transfer is not None
        at_stripe = await desk.stripe.get(f"/v1/transfers/{transfer.transfer_id}")
        assert (at_stripe["amount"], at_stripe["destination"]) == (
            row.amount_minor,
            await desk.account(row.reseller_id),
        )

    again = await settle(desk, "2021-03")
    assert (again.claims, again.paid) == (0, 3)
    assert await transfers(desk) == before + 3

    later = await settle(desk, "2021-04")
    assert later.claims == 2
    assert await paid(desk, "2021-04") == {"r-month-a": (400, 1, "paid"), "r-month-b": (2000, 1, "paid")}
    assert await owed_minor(desk, "r-month-b") == 0


@pytest.mark.parametrize(
    ("kind", "month"), [("lose_answer", 5), ("error_after", 6), ("error_before", 7)], ids=lambda value: str(value)
)
async def test_a_lost_answer_pays_once(desk: Desk, kind: str, month: int) -> None:
    await matured(desk, 152, datetime(2021, month, 9, 12, tzinfo=UTC))
    before = await transfers(desk)
    fault = await desk.stripe.fault(kind, path="/v1/transfers$", body="settlement")
    state = await settle(desk, f"2021-{month:02}")
    assert (state.claims, state.paid) == (1, 1)
    assert await desk.stripe.hits(fault) == 1
    assert await transfers(desk) == before + 1


async def test_two_runs_at_once_pay_once(desk: Desk) -> None:
    await matured(desk, 152, datetime(2021, 8, 9, 12, tzinfo=UTC))
    before = await transfers(desk)
    states = await asyncio.gather(*(settle(desk, "2021-08") for _ in range(5)))
    assert {state.paid for state in states} == {1}
    assert await transfers(desk) == before + 1


async def test_a_reseller_who_is_not_ready_is_parked_and_the_others_are_paid(desk: Desk) -> None:
    account = await desk.account("r-month-c")
    await desk.stripe.account(account, "restricted")
    await asyncio.gather(
        matured(desk, 151, datetime(2021, 9, 9, 12, tzinfo=UTC)),
        matured(desk, 152, datetime(2021, 9, 9, 12, tzinfo=UTC)),
    )
    state = await settle(desk, "2021-09")
    assert (state.claims, state.paid, state.parked) == (3, 2, 1)
    (parked,) = [row for row in await rows(desk, "2021-09") if row.reseller_id == "r-month-c"]
    assert (parked.status, parked.reason) == ("parked", ParkReason.RESELLER_NOT_READY)
    assert await owed_minor(desk, "r-month-c") == 2000
    await desk.stripe.account(account, "active")
    await desk.operator.retry_settlement("2021-09", "r-month-c", "EUR", ORDER)

    async def is_paid() -> bool:
        return (await paid(desk, "2021-09"))["r-month-c"] == (2000, 1, "paid")

    await eventually(is_paid, "the parked reseller's transfer")
    assert await owed_minor(desk, "r-month-c") == 0


async def test_a_transfer_refused_for_want_of_money_is_paid_at_a_later_try(desk: Desk) -> None:
    await matured(desk, 152, datetime(2021, 10, 9, 12, tzinfo=UTC))
    desk.expected.append("adjustment")
    drained = await desk.payments.available_balance_minor("EUR")
    await desk.stripe.post("/_sandbox/balance", {"amount_minor": -drained, "currency": "eur"})
    try:
        state = await settle(desk, "2021-10")
        assert (state.paid, state.parked) == (0, 1)
        (parked,) = await rows(desk, "2021-10")
        assert parked.reason is ParkReason.TRANSFER_REFUSED
    finally:
        desk.expected.append("topup")
        await desk.stripe.post("/_sandbox/balance", {"amount_minor": drained, "currency": "eur"})
    await desk.operator.retry_settlement("2021-10", "r-month-c", "EUR", ORDER)

    async def is_paid() -> bool:
        return (await paid(desk, "2021-10"))["r-month-c"] == (2000, 1, "paid")

    await eventually(is_paid, "the refused transfer")


async def test_rolling_back_a_settled_booking_takes_its_share_of_the_settlement_back(desk: Desk) -> None:
    kept = await matured(desk, 152, datetime(2021, 11, 9, 12, tzinfo=UTC))
    undone = await matured(desk, 152, datetime(2021, 11, 9, 13, tzinfo=UTC))
    await settle(desk, "2021-11")
    assert await owed_minor(desk, "r-month-c") == 0
    await desk.operator.roll_back(undone, ORDER)
    await desk.until_outcome(undone, ChainOutcome.ROLLED_BACK)
    assert await owed_minor(desk, "r-month-c") == 0
    assert (await desk.commissions(undone))["r-month-c"][:2] == (2000, 2000)
    assert (await desk.commissions(kept))["r-month-c"] == (2000, 0, "settled")
    async with desk.store.begin() as tx:
        transfer = await tx.money.transfer(ids.settlement_transfer_key("2021-11", "r-month-c", "EUR"))
    assert transfer is not None
    assert (transfer.amount_minor, transfer.reversed_minor) == (4000, 2000)


async def test_a_booking_whose_settlement_is_under_way_is_rolled_back_after_it(desk: Desk) -> None:
    """The settlement's amount is fixed already, so the booking's share is taken back once it was paid."""
    uid = await matured(desk, 152, datetime(2021, 12, 9, 12, tzinfo=UTC))
    await desk.stripe.fault("error_before", path="/v1/transfers$", body="settlement", times=3)
    settling = asyncio.create_task(settle(desk, "2021-12"))

    async def begun() -> bool:
        return "r-month-c" in await paid(desk, "2021-12") and "pay" in desk.failures.ran("")[-1:]

    await eventually(begun, "the settlement's transfer")
    await asyncio.sleep(0.3)
    await desk.operator.roll_back(uid, ORDER)
    row = await desk.parked(uid, ParkReason.REVERSAL_REFUSED)
    assert "settlement_under_way" in (row.detail or "")
    assert (await settling).paid == 1
    await desk.operator.retry(uid, ORDER)
    await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    assert await owed_minor(desk, "r-month-c") == 0


async def test_a_booking_that_is_rolled_back_while_its_settlement_is_parked_is_not_paid(desk: Desk) -> None:
    account = await desk.account("r-month-c")
    await desk.stripe.account(account, "restricted")
    kept, undone = await asyncio.gather(
        matured(desk, 152, datetime(2022, 4, 9, 12, tzinfo=UTC)),
        matured(desk, 152, datetime(2022, 4, 9, 12, tzinfo=UTC)),
    )
    try:
        assert (await settle(desk, "2022-04")).parked == 1
        await desk.operator.roll_back(undone, ORDER)
        await desk.until_outcome(undone, ChainOutcome.ROLLED_BACK)
        assert await owed_minor(desk, "r-month-c") == 2000
    finally:
        await desk.stripe.account(account, "active")
    await desk.operator.retry_settlement("2022-04", "r-month-c", "EUR", ORDER)

    async def is_paid() -> bool:
        return (await paid(desk, "2022-04"))["r-month-c"][::2] == (2000, "paid")

    await eventually(is_paid, "the rest of the settlement")
    assert (await desk.commissions(kept))["r-month-c"] == (2000, 0, "settled")
    assert await owed_minor(desk, "r-month-c") == 0


async def test_the_schedule_settles_the_month_before_its_nominal_time(desk: Desk) -> None:
    """Two late months, run again by hand: each run takes its month from the date that it was meant for."""
    await asyncio.gather(
        matured(desk, 152, datetime(2022, 1, 31, 12, tzinfo=UTC)),
        matured(desk, 152, datetime(2022, 2, 1, 12, tzinfo=UTC)),
    )
    before = await transfers(desk)
    schedule = desk.client.get_schedule_handle(ids.SCHEDULE_SETTLEMENT)
    late = ScheduleBackfill(
        start_at=datetime(2022, 2, 1, tzinfo=UTC),
        end_at=datetime(2022, 3, 31, tzinfo=UTC),
        overlap=ScheduleOverlapPolicy.BUFFER_ALL,
    )
    await schedule.backfill(late)

    async def both() -> bool:
        january, february = await paid(desk, "2022-01"), await paid(desk, "2022-02")
        return [*january.values(), *february.values()] == [(2000, 1, "paid"), (2000, 1, "paid")]

    await eventually(both, "January and February")
    assert await transfers(desk) == before + 2
    assert await paid(desk, "2022-03") == {}

    async def runs() -> int:
        return (await schedule.describe()).info.num_actions

    done = await runs()
    await schedule.backfill(late)

    async def ran_again() -> bool:
        return await runs() >= done + 2

    await eventually(ran_again, "the second backfill")
    for period in ("2022-01", "2022-02"):
        handle = desk.client.get_workflow_handle(ids.settlement_workflow(period))
        await asyncio.wait_for(handle.result(), 20)
    assert await transfers(desk) == before + 2
