"""Answers lost after the effect, at every call that moves money: one effect each, and the books say the same."""

from __future__ import annotations

import pytest

from domain.chain import ChainOutcome, ChainStage
from tests.support.desk import ORDER, Desk, ahead
from tests.support.failures import When

JOINED = ["bill_and_charge", "mature_and_close", "take_in", "transfer"]
"""Steps of a chain as it is started today; the others are those of chains from before, one by one."""

KINDS = ["lose_answer", "error_after", "error_before"]
"""The effect happened and the connection was cut; it happened and the answer was 500; it did not happen, and 500."""


async def grown(desk: Desk, before: dict[str, int]) -> dict[str, int]:
    """Objects at Stripe that came into being since `before`."""
    now = await desk.stripe.executed()
    return {kind: count - before.get(kind, 0) for kind, count in now.items() if count != before.get(kind, 0)}


@pytest.mark.parametrize("kind", KINDS)
async def test_one_charge(desk: Desk, kind: str) -> None:
    uid = await desk.book(101)
    before = await desk.stripe.executed()
    fault = await desk.stripe.fault(kind, path="/v1/payment_intents$", body=uid)
    await desk.start(uid)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert await desk.stripe.hits(fault) == 1
    made = await grown(desk, before)
    assert (made["payment_intent.succeeded"], made["charge.succeeded"]) == (1, 1)
    assert (await desk.balances(uid))["stripe"] == ("debit", 5831 - 112)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_refund(desk: Desk, kind: str) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    before = await desk.stripe.executed()
    fault = await desk.stripe.fault(kind, path="/v1/refunds$", body=uid)
    assert await desk.roll_back(uid) is ChainOutcome.ROLLED_BACK
    assert await desk.stripe.hits(fault) == 1
    assert (await grown(desk, before))["refund.succeeded"] == 1
    await desk.assert_balanced(uid)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_transfer(desk: Desk, kind: str) -> None:
    uid = await desk.book(111)
    before = await desk.stripe.executed()
    fault = await desk.stripe.fault(kind, path="/v1/transfers$", body=uid)
    await desk.start(uid)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert await desk.stripe.hits(fault) == 1
    assert (await grown(desk, before))["transfer"] == 1
    assert (await desk.balances(uid))["stripe"] == ("debit", 5831 - 112 - 1225)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_reversal(desk: Desk, kind: str) -> None:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    before = await desk.stripe.executed()
    fault = await desk.stripe.fault(kind, path="/v1/transfers/[^/]+/reversals$", body=uid)
    await desk.operator.roll_back(uid, ORDER)
    await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    assert await desk.stripe.hits(fault) == 1
    assert (await grown(desk, before))["transfer_reversal"] == 1
    await desk.assert_balanced(uid)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_decline_is_the_same_decline(desk: Desk, when: When) -> None:
    """The worker dies after Stripe refused for want of funds: the attempt is not repeated and stays a soft refusal."""
    uid = await desk.book(132)
    desk.failures.plan("bill_and_charge", uid, when, final=False)
    await desk.start(uid)
    assert await desk.outcome(uid) is ChainOutcome.DECLINED
    rows = await desk.charges(uid)
    assert [(row.attempt, row.refusal_code) for row in rows] == [(1, "insufficient_funds"), (2, "insufficient_funds")]
    await desk.assert_balanced(uid)


@pytest.mark.parametrize("step", [*JOINED, "bill", "charge", "accrue", "mature"])
async def test_a_step_whose_result_got_lost_runs_again_and_changes_nothing(desk: Desk, step: str) -> None:
    uid = await desk.book(112)
    desk.failures.plan(step, uid, "after", final=False)
    await desk.start(uid, joined_steps=step in JOINED)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert desk.failures.ran(uid).count(step) == (3 if step == "transfer" else 2)
    assert await desk.balances(uid) == {
        "stripe": ("debit", 5831 - 112 - 1225 - 245),
        "stripe_fees": ("debit", 112),
        "revenue": ("credit", 4900),
        "vat_output": ("credit", 931),
        "commission_expense": ("debit", 1470),
    }
