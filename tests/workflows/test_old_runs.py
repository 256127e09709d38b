"""Closings that began before statements had sequences, terms and approvals, and meet the present worker and store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHandle

from activities.settlements import SettlementActivities
from domain import ids
from domain.model import ParkReason
from domain.pricing import period_bounds
from store.rows import SettlementRow, SettlementStatus
from tests.support.desk import ORDER, Desk
from tests.support.month import (
    account_in,
    actions,
    balance_of,
    gross,
    matured,
    operator_with,
    row_of,
    settle,
    transfers,
    until_status,
    wait_for_workflow,
)
from workflows.models import OperatorOrder
from workflows.reseller_settlement import ResellerSettlementWorkflow

SECOND = OperatorOrder(who="ops-bernd", why="looked at every line")

OPTIONS = {
    "dunning_attempts": 3,
    "dunning_interval_seconds": 259_200,
    "step_timeout_seconds": 30,
    "park_recheck_seconds": 86_400,
    "payment_poll_seconds": 86_400,
}
"""As the inputs of those runs held them."""


def before(*unknown: str) -> Callable[[str], bool]:
    """`workflow.patched` of a worker that did not know these changes yet."""
    real = workflow.patched
    return lambda change: change not in unknown and real(change)


async def claimed(desk: Desk, period: str, **more: Any) -> None:
    async with desk.store.begin() as tx:
        await tx.settlements.claim(period, 1, period_bounds(period)[1], requested_by="ops-anna", **more)


async def parked_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, period: str, reseller_id: str
) -> tuple[WorkflowHandle[Any, Any], SettlementRow]:
    """One reseller's run by the code and with the input of then, parked for his account."""
    row = await row_of(desk, period, reseller_id)
    start = {
        "period": period,
        "reseller_id": reseller_id,
        "currency": "EUR",
        "amount_minor": row.payable_minor,
        "options": OPTIONS,
    }
    workflow_id = ids.reseller_settlement_workflow(period, reseller_id, "EUR")
    with monkeypatch.context() as patch:
        patch.setattr("temporalio.workflow.patched", before("statement-of-its-own", "news-during-a-try"))
        async with account_in(desk, reseller_id, "restricted"):
            await desk.client.start_workflow(
                "ResellerSettlementWorkflow", start, id=workflow_id, task_queue=ids.TASK_QUEUE_CHAIN
            )
            row = await until_status(desk, period, reseller_id, SettlementStatus.PARKED)
    handle = desk.client.get_workflow_handle_for(ResellerSettlementWorkflow.run, workflow_id)
    history = await handle.fetch_history()
    assert not any("statement-of-its-own" in str(event) for event in history.events)
    return handle, row


async def test_one_that_is_parked_is_paid(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await matured(desk, 161, datetime(2025, 10, 10, 12, tzinfo=UTC))
    await claimed(desk, "2025-10")
    _, row = await parked_before(desk, monkeypatch, "2025-10", "r-five-1")
    assert row.reason is ParkReason.RESELLER_NOT_READY
    sent = await transfers(desk)
    await desk.operator.retry_settlement("2025-10", "r-five-1", "EUR", ORDER)
    assert await wait_for_workflow(desk, "2025-10", "r-five-1") == gross(2000)
    assert (await row_of(desk, "2025-10", "r-five-1")).status is SettlementStatus.PAID
    assert await transfers(desk) == sent + 1
    assert (await settle(desk, "2025-10")).claims == 0


async def test_one_that_is_carried_over_does_not_say_that_it_transferred(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await matured(desk, 162, datetime(2025, 11, 10, 12, tzinfo=UTC))
    await claimed(desk, "2025-11")
    handle, _ = await parked_before(desk, monkeypatch, "2025-11", "r-five-2")
    sent = await transfers(desk)
    await desk.operator.carry_over("2025-11", "r-five-2", "EUR", ORDER)
    assert await wait_for_workflow(desk, "2025-11", "r-five-2") == 0
    assert (await row_of(desk, "2025-11", "r-five-2")).status is SettlementStatus.CARRIED_OVER
    steps = (await handle.query(ResellerSettlementWorkflow.state)).steps
    assert steps[-1] == "carried over: nothing to transfer"
    assert not any("transferred" in step for step in steps)
    assert await transfers(desk) == sent


async def test_one_that_needs_an_approval_by_now_gets_none_by_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await matured(desk, 163, datetime(2025, 12, 10, 12, tzinfo=UTC))
    await claimed(desk, "2025-12", approval_from_minor={"EUR": 1_000})
    _, row = await parked_before(desk, monkeypatch, "2025-12", "r-five-3")
    assert row.reason is ParkReason.APPROVAL_REQUIRED
    sent = await transfers(desk)
    await desk.operator.retry_settlement("2025-12", "r-five-3", "EUR", ORDER)
    await asyncio.sleep(0.5)
    assert await transfers(desk) == sent
    await desk.operator.approve_settlement("2025-12", "r-five-3", "EUR", SECOND)
    assert await wait_for_workflow(desk, "2025-12", "r-five-3") == gross(10_000)
    assert ("ops-bernd", "approved", SECOND.why) in await actions(desk, "settlement:2025-12-r-five-3-EUR")
    assert (await settle(desk, "2025-12")).open == 0


async def test_one_that_meets_a_low_balance_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await matured(desk, 164, datetime(2025, 1, 10, 12, tzinfo=UTC))
    await claimed(desk, "2025-01")
    await parked_before(desk, monkeypatch, "2025-01", "r-five-4")
    async with balance_of(desk, 1_000):
        await desk.operator.retry_settlement("2025-01", "r-five-4", "EUR", ORDER)

        async def low() -> bool:
            return (await row_of(desk, "2025-01", "r-five-4")).reason is ParkReason.BALANCE_INSUFFICIENT

        for _ in range(100):
            if await low():
                break
            await asyncio.sleep(0.05)
        assert await low()
    await desk.operator.retry_settlement("2025-01", "r-five-4", "EUR", ORDER)
    assert await wait_for_workflow(desk, "2025-01", "r-five-4") == gross(2000)


async def test_one_that_waits_without_hearing_goes_on_as_it_began(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun after approvals came, before news during a try counted."""
    await matured(desk, 165, datetime(2025, 2, 10, 12, tzinfo=UTC))
    operator = operator_with(desk, settlement_balance_retry_seconds=0.3, settlement_balance_patience_seconds=600.0)
    with monkeypatch.context() as patch:
        patch.setattr("temporalio.workflow.patched", before("news-during-a-try"))
        async with balance_of(desk, 1_000):
            assert (await settle(desk, "2025-02", operator=operator)).waiting == 1
            await asyncio.sleep(1)
    assert await wait_for_workflow(desk, "2025-02", "r-five-5") == gross(2000)


@pytest.mark.parametrize("by_children", [True, False])
async def test_a_schedule_that_says_no_terms_asks_for_approval_as_the_worker_is_set(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, by_children: bool
) -> None:
    """The input of a Schedule from then: without terms nobody would have been asked."""
    period = "2025-03" if by_children else "2025-04"
    at = datetime.fromisoformat(f"{period}-10T12:00:00+00:00")
    await asyncio.gather(*(matured(desk, event_type_id, at) for event_type_id in (161, 163)))
    unknown = ("settlement-by-pages", "statement-of-its-own", "news-during-a-try") if by_children else ()
    start = {"period": period, "requested_by": "schedule", "options": OPTIONS}
    with monkeypatch.context() as patch:
        # The worker's setting: a property goes before what its own activities hold.
        limits = property(lambda _: {"EUR": gross(10_000)}, lambda *_: None)
        patch.setattr(SettlementActivities, "_approval_from_minor", limits, raising=False)
        patch.setattr("temporalio.workflow.patched", before(*unknown))
        handle = await desk.client.start_workflow(
            "SettlementWorkflow", start, id=ids.settlement_workflow(period), task_queue=ids.TASK_QUEUE_CHAIN
        )
        await asyncio.wait_for(handle.result(), 30)
    row = await row_of(desk, period, "r-five-3")
    assert (row.status, row.reason) == (SettlementStatus.PARKED, ParkReason.APPROVAL_REQUIRED)
    assert (await row_of(desk, period, "r-five-1")).status is SettlementStatus.PAID
    await desk.operator.approve_settlement(period, "r-five-3", "EUR", SECOND)
    assert await wait_for_workflow(desk, period, "r-five-3") == gross(10_000)
