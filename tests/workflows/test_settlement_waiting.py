"""Statements that wait: for the balance, for a second person, for the account, and closings that a person stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from domain import ids
from domain.model import ParkReason
from starter.operator import OrderRefused
from store.rows import SettlementStatus
from tests.support.desk import ORDER, Desk, ahead, eventually
from tests.support.month import (
    account_in,
    actions,
    balance_of,
    ended,
    gross,
    matured,
    operator_with,
    owed_minor,
    paid,
    row_of,
    set_balance,
    settle,
    transfers,
    until_status,
    wait_for_workflow,
)
from workflows import visibility
from workflows.models import OperatorOrder
from workflows.reseller_settlement import ResellerSettlementWorkflow

BERND = OperatorOrder(who="ops-bernd", why="looked at every line")
ANNA = OperatorOrder(who="ops-anna", why="it is mine")
FIVE = (161, 162, 163, 164, 165)
QUICK = {"settlement_balance_retry_seconds": 1.0, "settlement_balance_patience_seconds": 86_400.0}


async def month_of_five(desk: Desk, period: str) -> None:
    """One booking each of five resellers; the third one's is five times as large."""
    at = datetime.strptime(f"{period}-10 12", "%Y-%m-%d %H").replace(tzinfo=UTC)
    await asyncio.gather(*(matured(desk, event_type_id, at) for event_type_id in FIVE))


async def attributes(desk: Desk, period: str, reseller_id: str) -> tuple[object, object]:
    """What the list of workflows shows: (needs attention, reason)."""
    workflow_id = ids.reseller_settlement_workflow(period, reseller_id, "EUR")
    found = (await desk.client.get_workflow_handle(workflow_id).describe()).typed_search_attributes
    return found.get(visibility.ATTENTION), found.get(visibility.REASON)


async def test_the_balance_is_too_low_for_the_third_of_five_who_is_paid_later(desk: Desk) -> None:
    await month_of_five(desk, "2020-02")
    operator = operator_with(desk, **QUICK)
    async with balance_of(desk, 4 * gross(2000) + 1_000):
        state = await settle(desk, "2020-02", operator=operator)
        assert (state.waiting, state.open) == (1, 0)
        found = await paid(desk, "2020-02")
        assert {name: found[f"r-five-{name}"] for name in (1, 2, 4, 5)} == dict.fromkeys(
            (1, 2, 4, 5), (gross(2000), "paid")
        )
        assert found["r-five-3"] == (gross(10_000), "waiting")
        row = await row_of(desk, "2020-02", "r-five-3")
        assert row.reason is ParkReason.BALANCE_INSUFFICIENT
        assert row.waiting_since is not None
        assert "since" in (row.detail or "")
        assert await attributes(desk, "2020-02", "r-five-3") == (False, ParkReason.BALANCE_INSUFFICIENT)
        await asyncio.sleep(1.5)
        assert (await row_of(desk, "2020-02", "r-five-3")).waiting_since == row.waiting_since
        await set_balance(desk, gross(10_000))
        assert await wait_for_workflow(desk, "2020-02", "r-five-3") == gross(10_000)
    row = await row_of(desk, "2020-02", "r-five-3")
    assert (row.status, row.reason) == (SettlementStatus.PAID, None)


async def test_who_waits_longer_than_the_patience_asks_for_a_person(desk: Desk) -> None:
    await matured(desk, 163, datetime(2020, 3, 10, 12, tzinfo=UTC))
    operator = operator_with(desk, settlement_balance_retry_seconds=0.5, settlement_balance_patience_seconds=1.0)
    async with balance_of(desk, 1_000):
        assert (await settle(desk, "2020-03", operator=operator)).waiting == 1

        async def asks() -> bool:
            return await attributes(desk, "2020-03", "r-five-3") == (True, ParkReason.BALANCE_INSUFFICIENT)

        await eventually(asks, "attention")
    # Retried by hand or by itself, whichever comes first.
    assert await wait_for_workflow(desk, "2020-03", "r-five-3") == gross(10_000)
    assert await attributes(desk, "2020-03", "r-five-3") == (False, None)


async def test_a_person_lets_a_waiting_transfer_try_at_once(desk: Desk) -> None:
    await matured(desk, 161, datetime(2020, 4, 10, 12, tzinfo=UTC))
    async with balance_of(desk, 1_000):
        assert (await settle(desk, "2020-04")).waiting == 1
    await desk.operator.retry_settlement("2020-04", "r-five-1", "EUR", ORDER)
    assert await wait_for_workflow(desk, "2020-04", "r-five-1") == gross(2000)
    assert (ORDER.who, "retried", ORDER.why) in await actions(desk, "settlement:2020-04-r-five-1-EUR")


async def test_a_large_amount_needs_a_second_person_who_did_not_ask_for_it(desk: Desk) -> None:
    await month_of_five(desk, "2020-05")
    operator = operator_with(desk, settlement_approval_from_minor=f"EUR={gross(10_000)}")
    before = await transfers(desk)
    state = await settle(desk, "2020-05", operator=operator)
    assert (state.paid, state.parked) == (4, 1)
    row = await row_of(desk, "2020-05", "r-five-3")
    assert (row.status, row.reason) == (SettlementStatus.PARKED, ParkReason.APPROVAL_REQUIRED)
    assert row.asked_by == ("ops-anna",)
    assert await attributes(desk, "2020-05", "r-five-3") == (True, ParkReason.APPROVAL_REQUIRED)
    for who in ("ops-anna", "OPS-Anna"):
        with pytest.raises(OrderRefused, match="second person"):
            await operator.approve_settlement("2020-05", "r-five-3", "EUR", OperatorOrder(who=who, why="mine"))
    # Trying again does not help.
    await operator.retry_settlement("2020-05", "r-five-3", "EUR", ANNA)
    await asyncio.sleep(0.3)
    assert await transfers(desk) == before + 4
    told = await operator.approve_settlement("2020-05", "r-five-3", "EUR", BERND)
    assert "2020-05-r-five-3-EUR is approved" in told
    assert await wait_for_workflow(desk, "2020-05", "r-five-3") == gross(10_000)
    row = await row_of(desk, "2020-05", "r-five-3")
    assert (row.status, row.approved_by) == (SettlementStatus.PAID, "ops-bernd")
    assert ("ops-bernd", "approved", BERND.why) in await actions(desk, "settlement:2020-05-r-five-3-EUR")
    with pytest.raises(OrderRefused):
        await operator.approve_settlement("2020-05", "r-five-3", "EUR", BERND)


async def test_what_is_carried_over_by_a_person_stands_on_the_next_statement(desk: Desk) -> None:
    owed_before = await owed_minor(desk, "r-five-2")
    await matured(desk, 162, datetime(2020, 6, 10, 12, tzinfo=UTC))
    async with balance_of(desk, 1_000):
        assert (await settle(desk, "2020-06")).waiting == 1
    told = await desk.operator.carry_over("2020-06", "r-five-2", "EUR", ORDER)
    assert "next statement" in told
    assert await wait_for_workflow(desk, "2020-06", "r-five-2") == 0
    row = await row_of(desk, "2020-06", "r-five-2")
    assert (row.status, row.carried_by) == (SettlementStatus.CARRIED_OVER, ORDER.who)
    assert (ORDER.who, "carried over", ORDER.why) in await actions(desk, "settlement:2020-06-r-five-2-EUR")
    again = await settle(desk, "2020-06")
    assert (again.claims, again.carried) == (0, 1)
    await settle(desk, "2020-07")
    row = await row_of(desk, "2020-07", "r-five-2")
    assert (row.opening_credit_minor, row.payable_minor, row.status) == (gross(2000), gross(2000), "paid")
    assert await owed_minor(desk, "r-five-2") == owed_before


@asynccontextmanager
async def account_with(desk: Desk, reseller_id: str, field: str, value: str, usual: str) -> AsyncIterator[None]:
    """A reseller's account at Stripe with another value in one field."""
    path = f"/v1/accounts/{await desk.account(reseller_id)}"
    answer = await desk.stripe._client.post(path, data={field: value})
    assert answer.status_code == 200, answer.text
    try:
        yield
    finally:
        await desk.stripe._client.post(path, data={field: usual})


async def test_an_account_in_another_currency_is_parked_and_nothing_is_converted(desk: Desk) -> None:
    await matured(desk, 164, datetime(2020, 8, 10, 12, tzinfo=UTC))
    async with account_with(desk, "r-five-4", "default_currency", "chf", "eur"):
        assert (await settle(desk, "2020-08")).parked == 1
        row = await row_of(desk, "2020-08", "r-five-4")
        assert (row.status, row.reason) == (SettlementStatus.PARKED, ParkReason.CURRENCY_MISMATCH)
        assert "CHF" in (row.detail or "")
    await desk.operator.retry_settlement("2020-08", "r-five-4", "EUR", ORDER)
    await until_status(desk, "2020-08", "r-five-4", SettlementStatus.PAID)


async def test_a_reversal_made_at_stripe_never_sends_the_transfer_again(desk: Desk) -> None:
    """The answer is lost for good, and before anybody looks, a part is taken back in the dashboard."""
    await matured(desk, 165, datetime(2020, 9, 10, 12, tzinfo=UTC))
    before = await transfers(desk)
    await desk.stripe.fault("lose_answer", path="/v1/transfers$", body="settlement-2020-09-r-five-5")
    # The look-up is slow, so that there is time for the reversal.
    slow = await desk.stripe.fault("slow", method="GET", path="/v1/transfers$", delay_seconds=1.0)
    closing = asyncio.create_task(settle(desk, "2020-09"))

    async def looks() -> bool:
        return await desk.stripe.hits(slow) == 1

    await eventually(looks, "the look-up")
    found = await desk.stripe.get("/v1/transfers?limit=1")
    transfer = found["data"][0]
    answer = await desk.stripe._client.post(f"/v1/transfers/{transfer['id']}/reversals", data={"amount": 500})
    assert answer.status_code == 200, answer.text
    assert (await closing).paid == 1
    assert await transfers(desk) == before + 1
    row = await row_of(desk, "2020-09", "r-five-5")
    assert row.status is SettlementStatus.PAID
    assert [what for _, what, _ in await actions(desk, f"transfer:{row.transfer_key}")] == ["transfer_taken_back"]
    async with desk.store.begin() as tx:
        assert [one.amount_minor for one in await tx.money.reversals(row.transfer_key or "")] == [500]
    await settle(desk, "2020-09")
    assert await transfers(desk) == before + 1


async def test_a_closing_is_paused_and_goes_on(desk: Desk) -> None:
    await month_of_five(desk, "2020-10")
    before = await transfers(desk)
    hold = await desk.stripe.fault("slow", method="GET", path="/v1/balance$", delay_seconds=1.0, times=5)
    workflow_id = await desk.operator.settle("2020-10", "ops-anna")

    async def under_way() -> bool:
        return await desk.stripe.hits(hold) > 0

    await eventually(under_way, "the first payments")
    stop = OperatorOrder(who="ops-bernd", why="the rates look wrong")
    await desk.operator.pause_settlement("2020-10", stop)
    state = await desk.operator.closing_state("2020-10")
    assert state.paused == stop
    with pytest.raises(OrderRefused, match="paused by ops-bernd"):
        await desk.operator.pause_settlement("2020-10", ANNA)
    await desk.operator.resume_settlement("2020-10", ANNA)
    with pytest.raises(OrderRefused, match="not paused"):
        await desk.operator.resume_settlement("2020-10", ANNA)
    state = await ended(desk, workflow_id)
    assert (state.paid, state.paused) == (5, None)
    assert await transfers(desk) == before + 5
    log = await actions(desk, "period:2020-10")
    assert ("ops-bernd", "paused", stop.why) in log
    assert ("ops-anna", "resumed", ANNA.why) in log


async def test_a_paused_closing_starts_no_transfer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one transfer under way at a time, four of five are still to be paid when it is paused."""
    monkeypatch.setattr("workflows.settlement.IN_FLIGHT", 1)
    await month_of_five(desk, "2020-11")
    before = await transfers(desk)
    hold = await desk.stripe.fault("slow", method="GET", path="/v1/balance$", delay_seconds=1.0)
    workflow_id = await desk.operator.settle("2020-11", "ops-anna")

    async def under_way() -> bool:
        return await desk.stripe.hits(hold) == 1

    await eventually(under_way, "the first payment")
    await desk.operator.pause_settlement("2020-11", BERND)
    await asyncio.sleep(2)
    assert await transfers(desk) == before + 1
    state = await desk.operator.closing_state("2020-11")
    assert (state.paid, state.open, state.total) == (1, 4, 5)
    await desk.operator.resume_settlement("2020-11", ANNA)
    assert (await ended(desk, workflow_id)).paid == 5
    assert await transfers(desk) == before + 5


async def test_a_closing_continues_as_new_runs_with_what_it_knows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflows.settlement.PAGE", 2)
    monkeypatch.setattr("workflows.settlement.IN_FLIGHT", 1)
    monkeypatch.setattr(
        "temporalio.workflow.Info.is_continue_as_new_suggested", lambda info: info.get_current_history_length() > 14
    )
    await month_of_five(desk, "2020-12")
    async with account_in(desk, "r-five-4", "restricted"):
        workflow_id = await desk.operator.settle("2020-12", "ops-anna")
        first = (await desk.client.get_workflow_handle(workflow_id).describe()).run_id
        state = await ended(desk, workflow_id)
    assert (state.claims, state.paid, state.parked, state.total) == (5, 4, 1, 5)
    last = await desk.client.get_workflow_handle(workflow_id).describe()
    assert last.run_id != first
    assert last.typed_search_attributes.get(visibility.PERIOD) == "2020-12"
    await desk.operator.retry_settlement("2020-12", "r-five-4", "EUR", ORDER)
    await until_status(desk, "2020-12", "r-five-4", SettlementStatus.PAID)


async def test_a_statement_that_waits_for_long_continues_as_new_runs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "temporalio.workflow.Info.is_continue_as_new_suggested", lambda info: info.get_current_history_length() > 14
    )
    await matured(desk, 163, datetime(2021, 1, 10, 12, tzinfo=UTC))
    operator = operator_with(
        desk,
        settlement_approval_from_minor="EUR=1000",
        settlement_balance_retry_seconds=0.3,
        settlement_balance_patience_seconds=600.0,
    )
    workflow_id = ids.reseller_settlement_workflow("2021-01", "r-five-3", "EUR")
    async with balance_of(desk, 1_000):
        assert (await settle(desk, "2021-01", operator=operator)).parked == 1
        first = (await desk.client.get_workflow_handle(workflow_id).describe()).run_id
        await operator.approve_settlement("2021-01", "r-five-3", "EUR", BERND)
        row = await until_status(desk, "2021-01", "r-five-3", SettlementStatus.WAITING)

        async def continued() -> bool:
            return (await desk.client.get_workflow_handle(workflow_id).describe()).run_id != first

        await eventually(continued, "a new run")
        handle = desk.client.get_workflow_handle_for(ResellerSettlementWorkflow.run, workflow_id)
        state = await handle.query(ResellerSettlementWorkflow.state)
        assert state.deadline_at is None or state.deadline_at < ahead(minutes=1)
        assert (await row_of(desk, "2021-01", "r-five-3")).waiting_since == row.waiting_since
    assert await wait_for_workflow(desk, "2021-01", "r-five-3") == gross(10_000)


async def test_a_statement_whose_own_workflow_was_ended_by_hand_is_taken_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.settlement.LONGEST_PAUSE", timedelta(seconds=1))
    await matured(desk, 161, datetime(2021, 2, 10, 12, tzinfo=UTC))
    # It cannot even note that it is parked: the statement stays open.
    desk.failures.plan("park", "", "before")
    noted = desk.failures.ran("").count("park")
    async with account_in(desk, "r-five-1", "restricted"):
        workflow_id = await desk.operator.settle("2021-02", "ops-anna")
        own = desk.client.get_workflow_handle(ids.reseller_settlement_workflow("2021-02", "r-five-1", "EUR"))

        async def struck() -> bool:
            return desk.failures.ran("").count("park") > noted

        await eventually(struck, "the note that failed")
        await own.terminate("by mistake")
    state = await ended(desk, workflow_id)
    assert (state.paid, state.open, state.total) == (1, 0, 1)
