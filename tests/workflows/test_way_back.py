"""The way back: whatever fails at whichever step, all compensations run in reverse order, every account is at zero."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowExecutionStatus

from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from starter.operator import OrderRefused
from tests.support.desk import ORDER, Desk, ahead, eventually
from tests.support.failures import When
from workflows.booking import BookingWorkflow

BILL = ["correct the invoice"]
CHARGE = ["refund the customer", *BILL]
ACCRUE = ["reverse the commission", *CHARGE]
FIRST_TRANSFER = ["reverse the transfer to r-below", *ACCRUE]
SECOND_TRANSFER = ["reverse the transfer to r-direct", *FIRST_TRANSFER]

JOINED = [
    ("take_in", 0, []),
    ("bill_and_charge", 0, ACCRUE),
    ("mature_and_close", 0, ACCRUE),
    ("transfer", 0, FIRST_TRANSFER),
    ("transfer", 1, SECOND_TRANSFER),
]
STEP_BY_STEP = [
    ("read_booking", 0, []),
    ("quote", 0, []),
    ("bill", 0, BILL),
    ("charge", 0, CHARGE),
    ("accrue", 0, ACCRUE),
    ("mature", 0, ACCRUE),
]
STEPS = [(True, *one) for one in JOINED] + [(False, *one) for one in STEP_BY_STEP]
"""Whether the chain joins its steps, step, which run of it fails, and what has to be undone then."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("joined", "step", "skip", "undone"), STEPS, ids=[f"{step}-{skip + 1}" for _, step, skip, _ in STEPS]
)
async def test_a_final_failure_parks_and_a_roll_back_undoes_everything(
    desk: Desk, joined: bool, step: str, skip: int, undone: list[str], when: When
) -> None:
    uid = await desk.book(112)
    desk.failures.plan(step, uid, when, skip=skip)
    await desk.start(uid, joined_steps=joined)
    parked = await desk.parked(uid, ParkReason.SETUP_ERROR)
    assert parked.detail is not None
    assert f"planned failure {when} {step}" in parked.detail

    outcome = await desk.roll_back(uid)

    assert outcome is (ChainOutcome.ROLLED_BACK if undone else ChainOutcome.UNBILLABLE)
    assert await desk.undone(uid) == undone
    await desk.assert_balanced(uid)
    assert all(accrued == reversed_ for accrued, reversed_, _ in (await desk.commissions(uid)).values())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("joined", "step"), [pytest.param(joined, step, id=step) for joined, step, skip, _ in STEPS if skip == 0]
)
async def test_after_a_final_failure_a_retry_goes_on_and_does_nothing_twice(
    desk: Desk, joined: bool, step: str, when: When
) -> None:
    uid = await desk.book(112)
    desk.failures.plan(step, uid, when)
    await desk.start(uid, joined_steps=joined)
    await desk.parked(uid, ParkReason.SETUP_ERROR)
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    fee_minor = await desk.fee_minor(uid)
    assert (await desk.balances(uid))["stripe"] == ("debit", 5831 - fee_minor - 1225 - 245)
    assert len(await desk.charges(uid)) == 1


async def test_a_refused_charge_is_undone_and_nobody_owes_anything(desk: Desk) -> None:
    uid = await desk.begin(131)
    assert await desk.outcome(uid) is ChainOutcome.DECLINED
    assert await desk.undone(uid) == CHARGE
    assert await desk.balances(uid) == {}
    (row,) = await desk.charges(uid)
    assert (row.status, row.refusal_code) == ("canceled", "generic_decline")


@pytest.mark.parametrize("event_type_id", [102, 101], ids=["before the charge", "in the hold"])
async def test_cancelling_the_workflow_undoes_the_chain(desk: Desk, event_type_id: int) -> None:
    uid = await desk.begin(event_type_id, start_at=ahead(days=3))
    charged = event_type_id == 101
    await desk.until(uid, ChainStage.HOLD if charged else ChainStage.AWAITING_CHARGE)
    await desk.handle(uid).cancel()
    assert await desk.outcome(uid) is ChainOutcome.ROLLED_BACK
    assert await desk.undone(uid) == (ACCRUE if charged else [])
    await desk.assert_balanced(uid)


async def test_cancelling_the_workflow_while_it_charges_finds_the_charge_and_refunds_it(desk: Desk) -> None:
    uid = await desk.book(101)
    fault = await desk.stripe.fault("slow", path="/v1/payment_intents$", body=uid, delay_seconds=1.5)
    await desk.start(uid)

    async def struck() -> int:
        return await desk.stripe.hits(fault)

    await eventually(struck, "the slow charge")
    await desk.handle(uid).cancel()
    assert await desk.outcome(uid) is ChainOutcome.ROLLED_BACK
    assert await desk.undone(uid) == ACCRUE
    await desk.assert_balanced(uid)


async def test_a_refused_refund_parks_the_way_back_until_it_goes_through(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    (charge,) = await desk.charges(uid)
    assert charge.payment_intent_id is not None
    desk.expected.append("adjustment du_")
    dispute = await desk.stripe.dispute(charge.payment_intent_id)
    await desk.operator.roll_back(uid, ORDER)
    await desk.parked(uid, ParkReason.DISPUTED)
    assert await desk.undone(uid) == ["reverse the commission"]
    await desk.stripe.close_dispute(dispute, "won")
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.ROLLED_BACK
    assert await desk.undone(uid) == ACCRUE


async def test_a_refused_reversal_parks_before_the_customer_is_refunded(desk: Desk) -> None:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    account = await desk.account("r-direct")
    await desk.stripe.post("/_sandbox/balance", {"amount_minor": -1_000_000, "currency": "eur", "account": account})
    try:
        await desk.operator.roll_back(uid, ORDER)
        await desk.parked(uid, ParkReason.REVERSAL_REFUSED)
        assert f"refunded:{uid}:1" not in await desk.entry_keys(uid)
    finally:
        await desk.stripe.post("/_sandbox/balance", {"amount_minor": 1_000_000, "currency": "eur", "account": account})
    await desk.retry_undo(uid)
    await desk.until(uid, ChainStage.CLOSED)
    await desk.assert_balanced(uid)


@pytest.mark.parametrize("event_type_id", [101, 111, 112], ids=["monthly", "one transfer", "two transfers"])
async def test_a_closed_chain_is_rolled_back_by_a_workflow_of_its_own(desk: Desk, event_type_id: int) -> None:
    uid = await desk.begin(event_type_id)
    await desk.outcome(uid)
    await desk.operator.roll_back(uid, ORDER)
    row = await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    assert row.stage is ChainStage.CLOSED
    await desk.assert_balanced(uid)
    async with desk.store.begin() as tx:
        transfers = await tx.money.chain_transfers(uid)
    assert all(transfer.reversed_minor == transfer.amount_minor for transfer in transfers)
    for transfer in transfers:
        at_stripe = await desk.stripe.get(f"/v1/transfers/{transfer.transfer_id}")
        assert at_stripe["amount_reversed"] == transfer.amount_minor
    with pytest.raises(OrderRefused, match="nothing to undo"):
        await desk.operator.roll_back(uid, ORDER)


async def test_a_bug_in_workflow_code_fails_the_task_and_undoes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: BookingWorkflow) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(BookingWorkflow, "_find_fee", broken)
        uid = await desk.begin(101)

        async def task_failed() -> bool:
            history = await desk.handle(uid).fetch_history()
            return any(event.HasField("workflow_task_failed_event_attributes") for event in history.events)

        await eventually(task_failed, "a failed workflow task")
        assert await desk.balances(uid) == {
            "stripe": ("debit", 5831 - 112),
            "stripe_fees": ("debit", 112),
            "revenue": ("credit", 4900),
            "vat_output": ("credit", 931),
            "commission_expense": ("debit", 1715),
            "reseller:r-leaf": ("credit", 1225),
            "reseller:r-mid": ("credit", 245),
            "reseller:r-root": ("credit", 245),
        }
        assert (await desk.handle(uid).describe()).status is WorkflowExecutionStatus.RUNNING
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert await desk.undone(uid) == []
