"""Bookings that go well: what is charged, who earns what, and where each cent stands afterwards."""

from __future__ import annotations

from datetime import timedelta

from domain.chain import ChainOutcome, ChainStage
from tests.support.desk import Desk, ago, ahead

PERSONAL = (b"Erika", b"erika.beispiel", b"tree@example.com", b"Tree Example", b"Organizer 1")


async def test_a_past_booking_is_charged_and_left_for_the_month(desk: Desk) -> None:
    uid = await desk.begin(101)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
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
    assert await desk.commissions(uid) == {
        "r-leaf": (1225, 0, "matured"),
        "r-mid": (245, 0, "matured"),
        "r-root": (245, 0, "matured"),
    }
    assert sorted(await desk.entry_keys(uid)) == [
        f"accrued:{uid}",
        f"billed:{uid}",
        f"charged:{uid}:1",
        f"fee:{uid}:1",
    ]
    state = await desk.state(uid)
    assert state.steps[1:] == (
        "quoted 58,31 € for customer c-tree",
        "billed 58,31 €",
        "charged 58,31 €",
        "commission accrued",
        "closed: matured",
    )
    assert (state.gross_minor, state.given_back_minor, state.charge_attempt, state.charged) == (5831, 0, 1, True)


async def test_a_per_booking_reseller_gets_a_transfer_out_of_this_charge(desk: Desk) -> None:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert await desk.balances(uid) == {
        "stripe": ("debit", 5831 - 112 - 1225),
        "stripe_fees": ("debit", 112),
        "revenue": ("credit", 4900),
        "vat_output": ("credit", 931),
        "commission_expense": ("debit", 1225),
    }
    async with desk.store.begin() as tx:
        (row,) = await tx.money.chain_transfers(uid)
    (charge,) = await desk.charges(uid)
    at_stripe = await desk.stripe.get(f"/v1/transfers/{row.transfer_id}")
    assert at_stripe["amount"] == 1225
    assert at_stripe["source_transaction"] == charge.charge_id
    assert at_stripe["destination"] == await desk.account("r-direct")
    assert await desk.commissions(uid) == {"r-direct": (1225, 0, "settled")}


async def test_every_level_that_is_paid_per_booking_gets_its_own_transfer(desk: Desk) -> None:
    uid = await desk.begin(112)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    async with desk.store.begin() as tx:
        rows = await tx.money.chain_transfers(uid)
    assert {row.reseller_id: row.amount_minor for row in rows} == {"r-below": 1225, "r-direct": 245}
    assert (await desk.balances(uid))["stripe"] == ("debit", 5831 - 112 - 1225 - 245)


async def test_a_customer_of_the_platform_earns_nobody_a_commission(desk: Desk) -> None:
    uid = await desk.begin(121)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    fee_minor = await desk.fee_minor(uid)
    assert await desk.balances(uid) == {
        "stripe": ("debit", 5243 - fee_minor),
        "stripe_fees": ("debit", fee_minor),
        "revenue": ("credit", 4900),
        "vat_output": ("credit", 343),
    }
    assert await desk.commissions(uid) == {}


async def test_a_booking_within_the_included_quota_costs_nothing_and_the_next_one_does(desk: Desk) -> None:
    start_at = ago(days=2)
    free = await desk.begin(122, start_at=start_at)
    assert await desk.outcome(free) is ChainOutcome.PAID
    assert await desk.balances(free) == {}
    assert await desk.charges(free) == []
    assert (await desk.state(free)).gross_minor == 0
    second = await desk.begin(122, start_at=start_at + timedelta(minutes=1))
    assert await desk.outcome(second) is ChainOutcome.MATURED
    assert (await desk.state(second)).gross_minor == 2261
    third = await desk.begin(122, start_at=start_at + timedelta(minutes=2))
    assert await desk.outcome(third) is ChainOutcome.MATURED
    assert (await desk.balances(third))["revenue"] == ("credit", 1700)


async def test_started_minutes_are_charged(desk: Desk) -> None:
    start_at = ago(days=2)
    end_at = start_at + timedelta(minutes=30, seconds=1)
    uid = await desk.begin(123, start_at=start_at, end=end_at.isoformat())
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert (await desk.balances(uid))["revenue"] == ("credit", 31 * 121)
    short = await desk.begin(123, start_at=start_at, minutes=5)
    assert await desk.outcome(short) is ChainOutcome.PAID
    assert (await desk.balances(short))["revenue"] == ("credit", 1500)


async def test_a_reseller_with_a_price_of_his_own_earns_the_margin(desk: Desk) -> None:
    uid = await desk.begin(124)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert await desk.commissions(uid) == {"r-margin": (2000, 0, "matured")}
    assert (await desk.balances(uid))["revenue"] == ("credit", 6900)


async def test_a_chain_waits_for_its_charge_moment(desk: Desk) -> None:
    start_at = ahead(hours=2, seconds=3)
    uid = await desk.begin(104, start_at=start_at)
    waiting = await desk.until(uid, ChainStage.AWAITING_CHARGE)
    assert waiting.deadline_at is not None
    assert abs(waiting.deadline_at - (start_at - timedelta(hours=2))) < timedelta(seconds=1)
    assert waiting.waits_for == "the charge moment"
    assert await desk.charges(uid) == []
    held = await desk.until(uid, ChainStage.HOLD)
    assert held.deadline_at is not None
    assert abs(held.deadline_at - (start_at + timedelta(hours=1))) < timedelta(seconds=1)
    assert [row.amount_minor for row in await desk.charges(uid)] == [5831]


async def test_a_chain_costs_few_events_and_tells_temporal_nothing_personal(desk: Desk) -> None:
    uid = await desk.begin(101)
    await desk.outcome(uid)
    history = await desk.handle(uid).fetch_history()
    assert len(history.events) <= 40
    dump = b"".join(event.SerializeToString() for event in history.events)
    assert uid.encode() in dump
    assert [word for word in PERSONAL if word in dump] == []


async def test_search_attributes_tell_the_story_without_the_code(desk: Desk) -> None:
    uid = await desk.begin(101)
    await desk.outcome(uid)
    found = await desk.handle(uid).describe()
    pairs = found.typed_search_attributes.search_attributes
    values = {pair.key.name: pair.value for pair in pairs if pair.key.name.startswith("Billing")}
    period = (await desk.row(uid)).period  # type: ignore[union-attr]
    assert values == {
        "BillingStage": "closed",
        "BillingBooking": uid,
        "BillingCustomer": "c-tree",
        "BillingReseller": "r-leaf",
        "BillingAmountMinor": 5831,
        "BillingPeriod": period,
    }
    assert await found.static_summary() == f"Bill booking {uid}"
