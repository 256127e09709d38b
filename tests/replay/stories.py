"""The lives of chains whose histories are recorded: each takes another way through the workflows' code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from domain.effects import AdjustmentDirection
from domain.model import ParkReason
from domain.onboarding import OnboardingReason, OnboardingStatus
from starter.settlement_news import ACCOUNT_CHANGED
from store.rows import SettlementStatus
from tests.support.desk import ORDER, Desk, ago, ahead, eventually
from tests.support.month import account_in, balance_of, ended, operator_with, settle, until_status
from tests.support.month import matured as matured_at
from tests.support.resellers import candidate, deliver, tell_account
from workflows.models import OperatorOrder

Story = Callable[[Desk], Awaitable[str]]
"""Lives a story to its end and returns the id of the workflow to record."""


SECOND = OperatorOrder(who="ops-bernd", why="looked at it")


async def matured_of(desk: Desk, event_type_id: int, period: str) -> str:
    return await matured_at(desk, event_type_id, datetime.fromisoformat(f"{period}-10T12:00:00+00:00"))


async def matured(desk: Desk) -> str:
    uid = await desk.begin(101)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    return ids.booking_workflow(uid)


async def calcom_away(desk: Desk) -> str:
    """The first reading, at once, has no answer: the dispatched one has."""
    uid = await desk.book(101)
    desk.failures.plan("take_in", uid, "before", final=False)
    await desk.start(uid)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    return ids.booking_workflow(uid)


async def paid(desk: Desk) -> str:
    uid = await desk.begin(112)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    return ids.booking_workflow(uid)


async def dunned_and_declined(desk: Desk) -> str:
    uid = await desk.begin(132)
    assert await desk.outcome(uid) is ChainOutcome.DECLINED
    return ids.booking_workflow(uid)


async def confirmed_rescheduled_cancelled(desk: Desk) -> str:
    uid = await desk.begin(105, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.AWAITING_CONFIRMATION)
    await desk.calcom.confirm(uid)
    await desk.signal(uid, "confirmed")
    await desk.until(uid, ChainStage.HOLD)
    new_uid = await desk.calcom.reschedule(uid, ahead(days=5))
    await desk.calcom.confirm(new_uid)
    await desk.signal(uid, "rescheduled", new_uid)

    async def moved() -> bool:
        return any(new_uid in step for step in (await desk.state(uid)).steps)

    await eventually(moved, "the rescheduling")
    await desk.calcom.cancel(new_uid)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.REFUNDED
    return ids.booking_workflow(uid)


async def cancelled_late_before_the_charge(desk: Desk) -> str:
    uid = await desk.begin(102, start_at=ago(minutes=10))
    await desk.until(uid, ChainStage.AWAITING_CHARGE)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")

    async def holds() -> bool:
        return (await desk.state(uid)).stage is ChainStage.HOLD

    await eventually(holds, "the hold")
    assert await desk.roll_back(uid) is ChainOutcome.ROLLED_BACK
    return ids.booking_workflow(uid)


async def authenticated(desk: Desk) -> str:
    uid = await desk.begin(134)
    await desk.parked(uid, ParkReason.AUTHENTICATION_REQUIRED)
    (row,) = await desk.charges(uid)
    assert row.payment_intent_id is not None
    await desk.stripe.authenticate(row.payment_intent_id, await desk.payment_method("c-sca"))
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    return ids.booking_workflow(uid)


async def sepa(desk: Desk) -> str:
    uid = await desk.begin(135)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    return ids.booking_workflow(uid)


async def parked_and_rolled_back(desk: Desk) -> str:
    uid = await desk.book(112)
    desk.failures.plan("transfer", uid, "after", skip=1)
    await desk.start(uid)
    await desk.parked(uid, ParkReason.SETUP_ERROR)
    assert await desk.roll_back(uid) is ChainOutcome.ROLLED_BACK
    return ids.booking_workflow(uid)


async def unbillable(desk: Desk) -> str:
    uid = await desk.begin(141)
    await desk.parked(uid, ParkReason.NO_PRICE)
    assert await desk.roll_back(uid) is ChainOutcome.UNBILLABLE
    return ids.booking_workflow(uid)


async def undone_after_the_end(desk: Desk) -> str:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    await desk.operator.roll_back(uid, ORDER)
    await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    await desk.client.get_workflow_handle(ids.undo_workflow(uid)).result()
    return ids.undo_workflow(uid)


async def settled(desk: Desk) -> str:
    uid = await desk.begin(152, start_at=datetime(2021, 3, 9, 12, tzinfo=UTC))
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    workflow_id = await desk.operator.settle("2021-03", "ops-anna")
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


async def reseller_parked_and_settled(desk: Desk) -> str:
    account = await desk.account("r-month-c")
    await desk.stripe.account(account, "restricted")
    uid = await desk.begin(152, start_at=datetime(2021, 5, 9, 12, tzinfo=UTC))
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    await desk.client.get_workflow_handle(await desk.operator.settle("2021-05", "ops-anna")).result()
    await desk.stripe.account(account, "active")
    await desk.operator.retry_settlement("2021-05", "r-month-c", "EUR", ORDER)
    workflow_id = ids.reseller_settlement_workflow("2021-05", "r-month-c", "EUR")
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


async def waited_for_the_balance(desk: Desk) -> str:
    """Approved by a second person, retried by one while the balance is too low, late, and paid in the end."""
    await matured_of(desk, 163, "2020-02")
    operator = operator_with(
        desk,
        settlement_approval_from_minor="EUR=1000",
        settlement_balance_retry_seconds=1.0,
        settlement_balance_patience_seconds=0.5,
    )
    workflow_id = ids.reseller_settlement_workflow("2020-02", "r-five-3", "EUR")
    async with balance_of(desk, 1_000):
        await settle(desk, "2020-02", operator=operator)
        await operator.approve_settlement("2020-02", "r-five-3", "EUR", SECOND)
        await until_status(desk, "2020-02", "r-five-3", SettlementStatus.WAITING)
        await operator.retry_settlement("2020-02", "r-five-3", "EUR", ORDER)
        await asyncio.sleep(2.5)
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


async def carried_over(desk: Desk) -> str:
    await matured_of(desk, 161, "2020-03")
    workflow_id = ids.reseller_settlement_workflow("2020-03", "r-five-1", "EUR")
    async with account_in(desk, "r-five-1", "restricted"):
        await settle(desk, "2020-03")
        await desk.client.get_workflow_handle(workflow_id).signal(ACCOUNT_CHANGED)
        await asyncio.sleep(0.5)
        await desk.operator.carry_over("2020-03", "r-five-1", "EUR", ORDER)
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


async def paused_and_settled(desk: Desk) -> str:
    """A supplement that is paused in the middle, with a reseller that is handed over."""
    await asyncio.gather(*(matured_of(desk, event_type_id, "2020-04") for event_type_id in (161, 162)))
    await settle(desk, "2020-04")
    await asyncio.gather(*(matured_of(desk, event_type_id, "2020-04") for event_type_id in (161, 164, 165)))
    hold = await desk.stripe.fault("slow", method="GET", path="/v1/balance$", delay_seconds=1.0, times=3)
    async with account_in(desk, "r-five-4", "restricted"):
        workflow_id = await desk.operator.settle("2020-04", "ops-anna", supplement=True)

        async def under_way() -> bool:
            return await desk.stripe.hits(hold) > 0

        await eventually(under_way, "the first payments")
        await desk.operator.pause_settlement("2020-04", SECOND, 2)
        await desk.operator.resume_settlement("2020-04", ORDER, 2)
        await ended(desk, workflow_id)
    await desk.operator.retry_settlement("2020-04", "r-five-4", "EUR", ORDER, 2)
    return workflow_id


async def adjustment_approved(desk: Desk) -> str:
    adjustment_id, _ = await desk.operator.adjust("r-five-1", "EUR", 1_250, AdjustmentDirection.CREDIT, ORDER)
    await desk.operator.decide_adjustment(adjustment_id, SECOND)
    workflow_id = ids.adjustment_workflow(adjustment_id)
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


async def onboarded(desk: Desk) -> str:
    r = await candidate(desk, "story-onboarded", onboarding_reminder_seconds="1,2")
    await r.start()
    await r.until(OnboardingStatus.WAITING, OnboardingReason.NO_ANSWER)
    await r.onboarding.link(r.id, ORDER)
    await r.account("active")
    await r.tell()
    await r.handle.result()
    return ids.onboarding_workflow(r.id)


async def onboarding_parked_and_stopped(desk: Desk) -> str:
    r = await candidate(desk, "story-stopped", save=False)
    await r.save(tax_status_proof=None)
    await r.start()
    await r.until(OnboardingStatus.PARKED, OnboardingReason.MASTER_DATA)
    await r.save()
    await r.onboarding.retry(r.id, ORDER)
    await r.until(OnboardingStatus.WAITING)
    await r.account("rejected")
    await r.tell()
    await r.until(OnboardingStatus.PARKED, OnboardingReason.ACCOUNT_REJECTED)
    await r.onboarding.stop(r.id, ORDER)
    await r.handle.result()
    return ids.onboarding_workflow(r.id)


async def account_followed(desk: Desk) -> str:
    async with account_in(desk, "r-restricted", "restricted") as account_id:
        uid = await desk.begin(142)
        await desk.parked(uid, ParkReason.RESELLER_NOT_READY)
    await tell_account(desk, account_id)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    workflow_id = ids.reseller_news_workflow("r-restricted")
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


async def transfer_taken_back(desk: Desk) -> str:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    async with desk.store.begin() as tx:
        (row,) = await tx.money.chain_transfers(uid)
    path = f"/v1/transfers/{row.transfer_id}"
    await desk.stripe._client.post(f"{path}/reversals", data={"amount": 500})
    await deliver(desk, "transfer.reversed", None, await desk.stripe.get(path))
    workflow_id = ids.reseller_news_workflow("r-direct")
    await desk.client.get_workflow_handle(workflow_id).result()
    return workflow_id


STORIES: tuple[Story, ...] = (
    matured,
    calcom_away,
    paid,
    dunned_and_declined,
    confirmed_rescheduled_cancelled,
    cancelled_late_before_the_charge,
    authenticated,
    sepa,
    parked_and_rolled_back,
    unbillable,
    undone_after_the_end,
    settled,
    reseller_parked_and_settled,
    waited_for_the_balance,
    carried_over,
    paused_and_settled,
    adjustment_approved,
    onboarded,
    onboarding_parked_and_stopped,
    account_followed,
    transfer_taken_back,
)
