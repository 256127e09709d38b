"""The month's closing: who is claimed, paid once, parked, and which month a Schedule's run settles."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import (
    ScheduleBackfill,
)

from domain import ids
from domain.chain import ChainOutcome
from domain.model import ParkReason
from domain.pricing import period_of, previous_period
from starter.operator import OrderRefused
from starter.settlement_news import ACCOUNT_CHANGED, waiting_workflows
from store.rows import SettlementStatus
from tests.support.clocks import settled_by_schedule, shift_clock
from tests.support.desk import ORDER, Desk, eventually
from tests.support.month import (
    account_in,
    ended,
    gross,
    matured,
    owed_minor,
    paid,
    row_of,
    settle,
    transfers,
    until_status,
)
from workflows.models import SettlementInput
from workflows.settlement import SettlementWorkflow, settlement_terms


async def test_a_month_is_paid_once_to_the_cent_and_ends_at_midnight_in_berlin(desk: Desk) -> None:
    first, second, third = await asyncio.gather(
        matured(desk, 151, datetime(2021, 3, 9, 12, tzinfo=UTC)),
        matured(desk, 151, datetime(2021, 3, 31, 21, 59, 59, tzinfo=UTC)),
        matured(desk, 152, datetime(2021, 3, 15, 9, tzinfo=UTC)),
    )
    april = await matured(desk, 151, datetime(2021, 3, 31, 22, 0, tzinfo=UTC))
    before = await transfers(desk)
    preview = await desk.operator.preview("2021-03")
    assert {row.reseller_id: row.payable_minor for row in preview} == {
        "r-month-a": gross(800),
        "r-month-b": gross(4000),
        "r-month-c": gross(2000),
    }

    state = await settle(desk, "2021-03")

    assert (state.period, state.claims, state.paid, state.parked, state.open, state.total) == ("2021-03", 3, 3, 0, 0, 3)
    assert await paid(desk, "2021-03") == {
        "r-month-a": (gross(800), "paid"),
        "r-month-b": (gross(4000), "paid"),
        "r-month-c": (gross(2000), "paid"),
    }
    assert await transfers(desk) == before + 3
    for uid in (first, second, third):
        assert {status for _, _, status in (await desk.commissions(uid)).values()} == {"settled"}
    assert {status for _, _, status in (await desk.commissions(april)).values()} == {"matured"}
    assert await owed_minor(desk, "r-month-b") == 2000
    for reseller_id in ("r-month-a", "r-month-b", "r-month-c"):
        row = await row_of(desk, "2021-03", reseller_id)
        async with desk.store.begin() as tx:
            transfer = await tx.money.transfer(ids.settlement_transfer_key("2021-03", reseller_id, "EUR"))
        assert transfer is not None
        at_stripe = await desk.stripe.get(f"/v1/transfers/{transfer.transfer_id}")
        assert (at_stripe["amount"], at_stripe["destination"]) == (row.payable_minor, await desk.account(reseller_id))

    again = await settle(desk, "2021-03")
    assert (again.claims, again.paid) == (0, 3)
    assert await transfers(desk) == before + 3

    later = await settle(desk, "2021-04")
    assert later.claims == 2
    assert await paid(desk, "2021-04") == {"r-month-a": (gross(400), "paid"), "r-month-b": (gross(2000), "paid")}
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


async def test_two_orders_at_once_are_one_run(desk: Desk) -> None:
    await matured(desk, 152, datetime(2021, 8, 9, 12, tzinfo=UTC))
    before = await transfers(desk)
    states = await asyncio.gather(*(settle(desk, "2021-08") for _ in range(5)))
    assert {state.paid for state in states} == {1}
    assert await transfers(desk) == before + 1


async def test_a_reseller_who_is_not_ready_is_parked_the_others_are_paid_and_news_set_him_free(desk: Desk) -> None:
    await asyncio.gather(
        matured(desk, 151, datetime(2021, 9, 9, 12, tzinfo=UTC)),
        matured(desk, 152, datetime(2021, 9, 9, 12, tzinfo=UTC)),
    )
    async with account_in(desk, "r-month-c", "restricted"):
        state = await settle(desk, "2021-09")
        assert (state.claims, state.paid, state.parked) == (3, 2, 1)
        parked = await row_of(desk, "2021-09", "r-month-c")
        assert (parked.status, parked.reason) == (SettlementStatus.PARKED, ParkReason.RESELLER_NOT_READY)
        assert "requirements.past_due" in (parked.detail or "")
        assert await owed_minor(desk, "r-month-c") == gross(2000)
    waiting = await waiting_workflows(desk.store, "r-month-c")
    assert waiting == [ids.reseller_settlement_workflow("2021-09", "r-month-c", "EUR")]
    await desk.client.get_workflow_handle(waiting[0]).signal(ACCOUNT_CHANGED)
    await until_status(desk, "2021-09", "r-month-c", SettlementStatus.PAID)
    assert await owed_minor(desk, "r-month-c") == 0


async def test_an_account_deauthorized_in_the_middle_is_parked_with_the_reason(desk: Desk) -> None:
    await asyncio.gather(
        matured(desk, 151, datetime(2021, 10, 9, 12, tzinfo=UTC)),
        matured(desk, 166, datetime(2021, 10, 9, 12, tzinfo=UTC)),
    )
    # The account was read, and the transfer is on its way, when the reseller cuts the connection.
    slow = await desk.stripe.fault("slow", path="/v1/transfers$", body="r-gone", delay_seconds=1.0)
    closing = asyncio.create_task(settle(desk, "2021-10"))

    async def sent() -> bool:
        return await desk.stripe.hits(slow) == 1

    await eventually(sent, "the transfer to be asked for")
    await desk.stripe.account(await desk.account("r-gone"), "deauthorized")
    state = await closing
    assert (state.paid, state.parked) == (2, 1)
    parked = await row_of(desk, "2021-10", "r-gone")
    assert (parked.status, parked.reason) == (SettlementStatus.PARKED, ParkReason.RESELLER_NOT_READY)
    assert "account_not_ready" in (parked.detail or "")
    await desk.operator.retry_settlement("2021-10", "r-gone", "EUR", ORDER)

    async def says_so() -> bool:
        return "account_deauthorized" in ((await row_of(desk, "2021-10", "r-gone")).detail or "")

    await eventually(says_so, "the reason of the second try")
    assert await owed_minor(desk, "r-gone") == gross(2000)


async def test_rolling_back_a_settled_booking_is_deducted_from_the_next_statement(desk: Desk) -> None:
    kept = await matured(desk, 152, datetime(2021, 11, 9, 12, tzinfo=UTC))
    undone = await matured(desk, 152, datetime(2021, 11, 9, 13, tzinfo=UTC))
    await settle(desk, "2021-11")
    assert await owed_minor(desk, "r-month-c") == 0
    await desk.operator.roll_back(undone, ORDER)
    await desk.until_outcome(undone, ChainOutcome.ROLLED_BACK)
    assert await owed_minor(desk, "r-month-c") == -2000
    assert (await desk.commissions(undone))["r-month-c"][:2] == (2000, 2000)
    assert (await desk.commissions(kept))["r-month-c"] == (2000, 0, "settled")
    async with desk.store.begin() as tx:
        transfer = await tx.money.transfer(ids.settlement_transfer_key("2021-11", "r-month-c", "EUR"))
    assert transfer is not None
    assert (transfer.amount_minor, transfer.reversed_minor) == (gross(4000), 0)
    await matured(desk, 152, datetime(2021, 12, 1, 12, tzinfo=UTC))
    await matured(desk, 152, datetime(2021, 12, 2, 12, tzinfo=UTC))
    await settle(desk, "2021-12")
    row = await row_of(desk, "2021-12", "r-month-c")
    assert (row.earned_minor, row.clawback_minor, row.payable_minor) == (4000, 2000, gross(2000))
    assert await owed_minor(desk, "r-month-c") == 0


async def test_a_booking_that_is_rolled_back_while_its_statement_waits_is_deducted_from_the_next(desk: Desk) -> None:
    """What is frozen is paid as it stands: the reseller's statement and his bank account show the same."""
    async with account_in(desk, "r-month-c", "restricted"):
        kept, undone = await asyncio.gather(
            matured(desk, 152, datetime(2022, 4, 9, 12, tzinfo=UTC)),
            matured(desk, 152, datetime(2022, 4, 9, 12, tzinfo=UTC)),
        )
        assert (await settle(desk, "2022-04")).parked == 1
        await desk.operator.roll_back(undone, ORDER)
        await desk.until_outcome(undone, ChainOutcome.ROLLED_BACK)
    await desk.operator.retry_settlement("2022-04", "r-month-c", "EUR", ORDER)
    row = await until_status(desk, "2022-04", "r-month-c", SettlementStatus.PAID)
    assert row.payable_minor == gross(4000)
    assert (await desk.commissions(kept))["r-month-c"] == (2000, 0, "settled")
    await matured(desk, 152, datetime(2022, 5, 9, 12, tzinfo=UTC))
    await settle(desk, "2022-05")
    row = await row_of(desk, "2022-05", "r-month-c")
    assert (row.payable_minor, row.status, row.carried_debt_minor) == (0, SettlementStatus.CARRIED_OVER, 0)
    assert await owed_minor(desk, "r-month-c") == 0


async def test_the_schedule_settles_the_month_before_its_nominal_time(desk: Desk) -> None:
    """Two late months, run again by hand: each run takes its month from the date that it was meant for."""
    await asyncio.gather(
        matured(desk, 152, datetime(2022, 1, 31, 12, tzinfo=UTC)),
        matured(desk, 152, datetime(2022, 2, 1, 12, tzinfo=UTC)),
    )
    before = await transfers(desk)
    schedule = desk.client.get_schedule_handle(ids.SCHEDULE_SETTLEMENT)
    late = ScheduleBackfill(start_at=datetime(2022, 2, 1, tzinfo=UTC), end_at=datetime(2022, 3, 31, tzinfo=UTC))
    await schedule.backfill(late)

    async def both() -> bool:
        january, february = await paid(desk, "2022-01"), await paid(desk, "2022-02")
        return [*january.values(), *february.values()] == [(gross(2000), "paid"), (gross(2000), "paid")]

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
        await ended(desk, ids.settlement_workflow(period))
    assert await transfers(desk) == before + 2


async def test_a_manual_trigger_settles_the_month_before_today(desk: Desk) -> None:
    period = previous_period(period_of(datetime.now(UTC)))
    await desk.client.get_schedule_handle(ids.SCHEDULE_SETTLEMENT).trigger()

    async def closed() -> bool:
        async with desk.store.begin() as tx:
            return await tx.settlements.latest_sequence(period) == 1

    await eventually(closed, f"{period} to be closed")
    assert (await ended(desk, ids.settlement_workflow(period))).period == period


async def test_a_worker_whose_clock_is_two_hours_slow_settles_the_same_month(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour after midnight in Berlin: by that clock it is still the month before."""
    shift_clock(monkeypatch, hours=-2)
    await matured(desk, 152, datetime(2022, 3, 31, 21, 59, 59, tzinfo=UTC))
    late = await matured(desk, 152, datetime(2022, 3, 31, 22, 0, 1, tzinfo=UTC))
    evening = datetime(2022, 3, 31, 20, tzinfo=UTC)

    async def is_paid() -> bool:
        return await paid(desk, "2022-03") == {"r-month-c": (gross(2000), "paid")}

    async with settled_by_schedule(
        desk, "slow-clock", day=1, hour=0, minute=30, since=evening, until=evening + timedelta(hours=6)
    ):
        await eventually(is_paid, "March")
    async with desk.store.begin() as tx:
        assert await tx.settlements.latest_sequence("2022-02") <= 1
    assert (await desk.commissions(late))["r-month-c"][2] == "matured"


async def test_a_supplement_takes_what_came_later_and_never_rewrites(desk: Desk) -> None:
    with pytest.raises(OrderRefused, match="not closed yet"):
        await desk.operator.settle("2022-06", "ops-anna", supplement=True)
    await matured(desk, 152, datetime(2022, 6, 9, 12, tzinfo=UTC))
    await settle(desk, "2022-06")
    closed = await row_of(desk, "2022-06", "r-month-c")
    await matured(desk, 152, datetime(2022, 6, 10, 12, tzinfo=UTC))
    assert (await settle(desk, "2022-06")).claims == 0
    (preview,) = await desk.operator.preview("2022-06", supplement=True)
    before = await transfers(desk)
    state = await settle(desk, "2022-06", supplement=True)
    assert (state.sequence, state.claims, state.paid) == (2, 1, 1)
    supplement = await row_of(desk, "2022-06", "r-month-c", 2)
    assert (supplement.payable_minor, supplement.status) == (preview.payable_minor, SettlementStatus.PAID)
    assert supplement.transfer_key == ids.settlement_transfer_key("2022-06", "r-month-c", "EUR", 2)
    assert await transfers(desk) == before + 1
    assert await row_of(desk, "2022-06", "r-month-c") == closed


async def test_two_runs_of_one_month_at_once_pay_once_again_and_again(desk: Desk) -> None:
    """Not even one workflow id keeps them apart here: only the claim, the statement and the transfer's key do."""
    months = [f"2024-{month:02}" for month in range(1, 13)]
    await asyncio.gather(
        *(
            matured(desk, event_type_id, datetime.strptime(f"{one}-15 12", "%Y-%m-%d %H").replace(tzinfo=UTC))
            for one in months
            for event_type_id in (151, 152)
        )
    )
    for period in months:
        before = await transfers(desk)
        order = SettlementInput(period=period, requested_by="ops-anna", terms=settlement_terms(desk.settings))
        other = f"settlement-again-{period}"
        await asyncio.gather(
            desk.operator.settle(period, "ops-anna"),
            desk.client.start_workflow(SettlementWorkflow.run, order, id=other, task_queue=ids.TASK_QUEUE_CHAIN),
        )
        states = await asyncio.gather(ended(desk, ids.settlement_workflow(period)), ended(desk, other))
        assert [(state.paid, state.open, state.total) for state in states] == [(3, 0, 3)] * 2
        assert await paid(desk, period) == {
            "r-month-a": (gross(400), "paid"),
            "r-month-b": (gross(2000), "paid"),
            "r-month-c": (gross(2000), "paid"),
        }
        assert await transfers(desk) == before + 3
