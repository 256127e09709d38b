"""Payments that are not decided at once: SEPA, authentication by the customer, dunning, disputes, money given back."""

from __future__ import annotations

from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from tests.support.desk import ORDER, Desk, ahead, eventually

GROSS = 3451
"""29,00 EUR with VAT."""


async def test_sepa_that_succeeds_late(desk: Desk) -> None:
    uid = await desk.begin(135)

    async def processing() -> bool:
        rows = await desk.charges(uid)
        return bool(rows) and rows[-1].status == "processing"

    await eventually(processing, "the bank's delay")
    assert await desk.commissions(uid) == {}
    assert f"charged:{uid}:1" not in await desk.entry_keys(uid)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    (row,) = await desk.charges(uid)
    assert (row.status, row.amount_minor, row.fee_minor) == ("succeeded", GROSS, 35)


async def test_sepa_that_fails_late_is_declined(desk: Desk) -> None:
    uid = await desk.begin(136)
    assert await desk.outcome(uid) is ChainOutcome.DECLINED
    assert await desk.balances(uid) == {}
    assert await desk.commissions(uid) == {}


async def test_a_roll_back_while_the_bank_decides_undoes_what_the_bank_then_pays(desk: Desk) -> None:
    uid = await desk.begin(135)

    async def processing() -> bool:
        rows = await desk.charges(uid)
        return bool(rows) and rows[-1].status == "processing"

    await eventually(processing, "the bank's delay")
    await desk.operator.roll_back(uid, ORDER)

    async def waits_or_closed() -> bool:
        row = await desk.row(uid)
        return row is not None and row.stage in (ChainStage.PARKED, ChainStage.CLOSED)

    await eventually(waits_or_closed, "the way back")
    row = await desk.row(uid)
    assert row is not None
    if row.stage is ChainStage.PARKED:
        assert row.reason is ParkReason.REFUND_REFUSED

        async def paid() -> bool:
            intent = (await desk.charges(uid))[-1].payment_intent_id
            return bool((await desk.stripe.get(f"/v1/payment_intents/{intent}"))["status"] == "succeeded")

        await eventually(paid, "the bank's answer")
        await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.ROLLED_BACK
    await desk.assert_balanced(uid)


async def test_the_customer_authenticates_and_the_chain_goes_on(desk: Desk) -> None:
    uid = await desk.begin(134)
    await desk.parked(uid, ParkReason.AUTHENTICATION_REQUIRED)
    (row,) = await desk.charges(uid)
    assert row.payment_intent_id is not None
    await desk.stripe.authenticate(row.payment_intent_id, await desk.payment_method("c-sca"))
    await desk.signal(uid, "payment_changed")
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    (paid,) = await desk.charges(uid)
    assert (paid.payment_intent_id, paid.status) == (row.payment_intent_id, "succeeded")


async def test_a_customer_who_never_authenticates_is_rolled_back_and_can_no_longer_pay(desk: Desk) -> None:
    uid = await desk.begin(134)
    await desk.parked(uid, ParkReason.AUTHENTICATION_REQUIRED)
    (row,) = await desk.charges(uid)
    assert await desk.roll_back(uid) is ChainOutcome.ROLLED_BACK
    assert await desk.balances(uid) == {}
    assert (await desk.stripe.get(f"/v1/payment_intents/{row.payment_intent_id}"))["status"] == "canceled"


async def test_insufficient_funds_are_dunned_then_declined(desk: Desk) -> None:
    uid = await desk.begin(132)
    assert await desk.outcome(uid) is ChainOutcome.DECLINED
    rows = await desk.charges(uid)
    assert [row.attempt for row in rows] == [1, 2]
    assert len({row.payment_intent_id for row in rows}) == 2
    assert {row.refusal_code for row in rows} == {"insufficient_funds"}
    assert await desk.balances(uid) == {}


async def test_insufficient_funds_are_dunned_then_paid(desk: Desk) -> None:
    uid = await desk.book(133)
    await desk.start(uid, dunning_interval_seconds=3)

    async def refused() -> bool:
        return (await desk.state(uid)).waits_for.startswith("the next charge attempt")

    await eventually(refused, "the pause before the next attempt")
    row = await desk.row(uid)
    assert row is not None
    assert (row.stage, row.waits_for) == (ChainStage.CHARGING, "the next charge attempt")
    await desk.stripe.behave(await desk.payment_method("c-payday"), "pm_card_visa")
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    rows = await desk.charges(uid)
    assert [(one.attempt, one.status) for one in rows] == [(1, "refused"), (2, "succeeded")]
    assert f"charged:{uid}:2" in await desk.entry_keys(uid)


async def test_cancelled_while_the_charge_is_dunned_leaves_nothing_owed(desk: Desk) -> None:
    uid = await desk.book(132, start_at=ahead(days=3))
    await desk.start(uid, dunning_interval_seconds=60)

    async def refused() -> bool:
        return (await desk.state(uid)).waits_for.startswith("the next charge attempt")

    await eventually(refused, "the pause before the next attempt")
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.CANCELLED
    assert await desk.balances(uid) == {}


async def test_a_dispute_in_the_hold_parks_until_it_is_won(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    (row,) = await desk.charges(uid)
    assert row.payment_intent_id is not None
    desk.expected.append("adjustment du_")
    dispute = await desk.stripe.dispute(row.payment_intent_id)
    await desk.signal(uid, "payment_changed")
    await desk.parked(uid, ParkReason.DISPUTED)
    await desk.operator.retry(uid, ORDER)
    await desk.parked(uid, ParkReason.DISPUTED)
    await desk.stripe.close_dispute(dispute, "won")
    await desk.operator.retry(uid, ORDER)
    await desk.until(uid, ChainStage.HOLD)
    assert (await desk.state(uid)).reason is None
