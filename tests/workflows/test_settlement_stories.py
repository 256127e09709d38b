"""Months in other currencies, after a change of terms, and settled late: all in 2018 and 2019."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import (
    ScheduleBackfill,
)

from domain import ids
from domain.chain import ChainOutcome
from domain.effects import CarryReason, SettlementStatus
from domain.model import ParkReason
from local.setup import apply_catalogue
from store.rows import SettlementRow
from tests.support.clocks import settled_by_schedule, shift_clock
from tests.support.desk import CATALOGUE, ORDER, Desk, eventually
from tests.support.month import gross, matured, owed_minor, row_of, rows, settle

EUR_OF_SWISS, CHF_OF_SWISS, OF_JAPAN, OF_CHANGE, OF_SWITCH = 171, 172, 173, 174, 175


def noon(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T12:00:00+00:00")


async def of_reseller(desk: Desk, reseller_id: str, period: str) -> dict[str, SettlementRow]:
    """His statements of a month by currency."""
    return {row.currency: row for row in await rows(desk, period) if row.reseller_id == reseller_id}


async def at_stripe(desk: Desk, reseller_id: str, row: SettlementRow) -> tuple[int, str, str]:
    """A statement's transfer: (amount in Stripe's units, currency, destination)."""
    async with desk.store.begin() as tx:
        transfer = await tx.money.transfer(ids.settlement_transfer_key(row.period, reseller_id, row.currency))
    assert transfer is not None
    found = await desk.stripe.get(f"/v1/transfers/{transfer.transfer_id}")
    return found["amount"], found["currency"], found["destination"]


async def plenty(desk: Desk, *currencies: str) -> None:
    desk.expected += ["adjustment", "topup"]
    for currency in currencies:
        await desk.stripe.post("/_sandbox/balance", {"amount_minor": 10_000_000, "currency": currency})


@asynccontextmanager
async def catalogue_with(desk: Desk, replacing: Mapping[str, str]) -> AsyncIterator[list[str]]:
    """The tests' catalogue with other words from now on, and as it was afterwards."""
    before = CATALOGUE.read_text()
    changed = before
    for old, new in replacing.items():
        assert changed.count(old) == 1, old
        changed = changed.replace(old, new)
    try:
        yield await apply_catalogue(desk.store, changed, by="tests")
    finally:
        await apply_catalogue(desk.store, before, by="tests")


async def test_yen_have_no_smaller_unit_from_the_booking_to_the_bank(desk: Desk) -> None:
    await plenty(desk, "jpy")
    uids = await asyncio.gather(*(matured(desk, OF_JAPAN, noon(f"2018-01-{day}")) for day in (10, 11, 12)))
    for uid in uids:  # 1,999 yen: 19 % are 379.81, a quarter is 499.75
        (charge,) = await desk.charges(uid)
        intent = await desk.stripe.get(f"/v1/payment_intents/{charge.payment_intent_id}")
        assert (charge.amount_minor, charge.currency) == (2_379, "JPY")
        assert (intent["amount"], intent["amount_received"], intent["currency"]) == (2_379, 2_379, "jpy")
        assert await desk.commissions(uid) == {"r-japan": (500, 0, "matured")}
    await settle(desk, "2018-01")
    found = await of_reseller(desk, "r-japan", "2018-01")
    assert list(found) == ["JPY"]
    row = found["JPY"]
    assert (row.earned_minor, row.vat_reason, row.vat_credit_minor) == (1_500, "reverse_charge", 0)
    assert (row.payable_minor, row.status) == (1_500, SettlementStatus.PAID)
    assert await at_stripe(desk, "r-japan", row) == (1_500, "jpy", await desk.account("r-japan"))
    assert await owed_minor(desk, "r-japan") == 0


async def test_each_currency_has_a_statement_and_one_that_does_not_fit_the_account_parks(desk: Desk) -> None:
    await plenty(desk, "chf")
    euros = await matured(desk, EUR_OF_SWISS, noon("2018-02-10"))
    francs = await asyncio.gather(*(matured(desk, CHF_OF_SWISS, noon(f"2018-02-{day}")) for day in (20, 21)))
    assert await desk.commissions(euros) == {"r-swiss": (2_000, 0, "matured")}
    for uid in francs:
        (charge,) = await desk.charges(uid)
        assert (charge.amount_minor, charge.currency) == (11_899, "CHF")
        assert await desk.commissions(uid) == {"r-swiss": (2_500, 0, "matured")}
    await settle(desk, "2018-02")
    found = await of_reseller(desk, "r-swiss", "2018-02")
    assert {name: (row.payable_minor, row.status, row.reason) for name, row in found.items()} == {
        "CHF": (5_000, SettlementStatus.PAID, None),
        "EUR": (2_000, SettlementStatus.PARKED, ParkReason.CURRENCY_MISMATCH),
    }
    assert await at_stripe(desk, "r-swiss", found["CHF"]) == (5_000, "chf", await desk.account("r-swiss"))
    assert "CHF" in (found["EUR"].detail or "")
    async with desk.store.begin() as tx:
        key = ids.settlement_transfer_key("2018-02", "r-swiss", "EUR")
        assert await tx.money.transfer(key) is None
        balances = {one.currency: one.owed_minor for one in await tx.settlements.account_balance("r-swiss")}
    assert balances == {"CHF": 0, "EUR": 2_000}


async def test_a_booking_in_another_currency_than_the_agreement_parks_before_it_is_charged(desk: Desk) -> None:
    uid = await desk.begin(EUR_OF_SWISS, start_at=noon("2018-03-10"))
    row = await desk.parked(uid, ParkReason.CURRENCY_MISMATCH)
    assert "agreement v2 of reseller r-swiss is in CHF, not EUR" in (row.detail or "")
    assert await desk.charges(uid) == []


async def test_other_terms_after_a_booking_change_nothing_of_what_was_earned_before(desk: Desk) -> None:
    """Price, rates and the tree change, as if they had always been so: for bookings that are quoted from now on."""
    earned, given_back = await asyncio.gather(*(matured(desk, OF_CHANGE, noon("2018-04-10")) for _ in range(2)))
    under_way = await desk.book(OF_CHANGE, start_at=noon("2018-04-11"))
    desk.failures.plan("bill_and_charge", under_way, "before")
    await desk.start(under_way)
    await desk.parked(under_way, ParkReason.SETUP_ERROR)
    before = {"r-change": (2_000, 0, "matured"), "r-top": (400, 0, "matured")}
    assert await desk.commissions(earned) == await desk.commissions(given_back) == before
    changes = {
        "email: change@example.com, parent_id: r-top": "email: change@example.com, parent_id: r-other-top",
        "{reseller_id: r-change, version: 1, effective_from: 2018-01-01, currency: EUR,\n"
        "     own: {kind: percentage, rate_bps: 2500}": "{reseller_id: r-change, version: 2,"
        " effective_from: 2018-01-01, currency: EUR,\n     own: {kind: percentage, rate_bps: 1000}",
        "id: c-change}\n    version: 1\n    effective_from: 2018-01-01\n    currency: EUR\n    prices:\n"
        "      - {kind: fixed, net_minor: 8000": "id: c-change}\n    version: 2\n    effective_from: 2018-01-01\n"
        "    currency: EUR\n    prices:\n      - {kind: fixed, net_minor: 6000",
    }
    async with catalogue_with(desk, changes) as told:
        assert sorted(line.split(" from")[0] for line in told) == [
            "agreement of reseller r-change: version 2",
            "price book change: version 2",
            "reseller r-change: changed parent_id",
        ]
        await desk.operator.retry(under_way, ORDER)
        assert await desk.outcome(under_way) is ChainOutcome.MATURED
        new = await matured(desk, OF_CHANGE, noon("2018-04-12"))
        await desk.operator.roll_back(given_back, ORDER)
        await desk.until_outcome(given_back, ChainOutcome.ROLLED_BACK)
        assert await desk.commissions(earned) == await desk.commissions(under_way) == before
        assert {name: sums[:2] for name, sums in (await desk.commissions(given_back)).items()} == {
            "r-change": (2_000, 2_000),
            "r-top": (400, 400),
        }
        assert await desk.commissions(new) == {"r-change": (600, 0, "matured"), "r-other-top": (300, 0, "matured")}
        await settle(desk, "2018-04")
        payable = {row.reseller_id: row.payable_minor for row in await rows(desk, "2018-04") if row.payable_minor}
        assert payable == {"r-change": gross(4_600), "r-top": gross(800), "r-other-top": gross(300)}
        await desk.operator.roll_back(earned, ORDER)
        await desk.until_outcome(earned, ChainOutcome.ROLLED_BACK)
        await settle(desk, "2018-05")
        for reseller_id, minor in (("r-change", 2_000), ("r-top", 400)):
            row = await row_of(desk, "2018-05", reseller_id)
            assert (row.clawback_minor, row.carried_debt_minor) == (minor, gross(minor))
    # The debts are worked off, so that nothing of this is left to other months.
    await asyncio.gather(*(matured(desk, OF_CHANGE, noon("2018-06-10")) for _ in range(2)))
    await settle(desk, "2018-06")
    assert (await row_of(desk, "2018-06", "r-top")).payable_minor > 0


async def test_who_is_put_on_hold_with_chains_under_way_gets_it_all_when_he_is_released(desk: Desk) -> None:
    done = await matured(desk, OF_SWITCH, noon("2018-07-10"))
    under_way = await desk.book(OF_SWITCH, start_at=noon("2018-07-11"))
    desk.failures.plan("bill_and_charge", under_way, "before")
    await desk.start(under_way)
    await desk.parked(under_way, ParkReason.SETUP_ERROR)
    line = "id: r-switch, name: Switch Example, email: switch@example.com"
    async with catalogue_with(desk, {line: f"{line}, payout_mode: on_hold"}):
        await desk.operator.retry(under_way, ORDER)
        assert await desk.outcome(under_way) is ChainOutcome.MATURED
        begun_on_hold = await matured(desk, OF_SWITCH, noon("2018-07-12"))
        await settle(desk, "2018-07")
        row = await row_of(desk, "2018-07", "r-switch")
        assert (row.earned_minor, row.payable_minor, row.carried_credit_minor) == (6_000, 0, gross(6_000))
        assert (row.status, row.carry_reason) == (SettlementStatus.CARRIED_OVER, CarryReason.ON_HOLD)
    await settle(desk, "2018-08")
    row = await row_of(desk, "2018-08", "r-switch")
    assert (row.opening_credit_minor, row.earned_minor, row.payable_minor) == (gross(6_000), 0, gross(6_000))
    assert row.status is SettlementStatus.PAID
    assert await at_stripe(desk, "r-switch", row) == (gross(6_000), "eur", await desk.account("r-switch"))
    for uid in (done, under_way, begun_on_hold):
        assert await desk.commissions(uid) == {"r-switch": (2_000, 0, "settled")}
    assert await owed_minor(desk, "r-switch") == 0


async def test_a_backfill_of_a_month_after_a_later_one_was_closed_settles_that_month_only(desk: Desk) -> None:
    await matured(desk, OF_SWITCH, noon("2018-11-10"))
    await settle(desk, "2018-11")
    later = await row_of(desk, "2018-11", "r-switch")
    assert later.payable_minor == gross(2_000)
    october, november = await asyncio.gather(
        matured(desk, OF_SWITCH, noon("2018-10-31")), matured(desk, OF_SWITCH, noon("2018-11-01"))
    )
    schedule = desk.client.get_schedule_handle(ids.SCHEDULE_SETTLEMENT)
    # The Schedule's run of 3 November is October's.
    await schedule.backfill(
        ScheduleBackfill(start_at=datetime(2018, 11, 2, tzinfo=UTC), end_at=datetime(2018, 11, 4, tzinfo=UTC))
    )

    async def is_paid() -> bool:
        found = await of_reseller(desk, "r-switch", "2018-10")
        return {row.status for row in found.values()} == {SettlementStatus.PAID}

    await eventually(is_paid, "October")
    row = await row_of(desk, "2018-10", "r-switch")
    assert (row.earned_minor, row.payable_minor, row.line_count) == (2_000, gross(2_000), 1)
    assert (await desk.commissions(october))["r-switch"][2] == "settled"
    assert (await desk.commissions(november))["r-switch"][2] == "matured"
    assert await row_of(desk, "2018-11", "r-switch") == later
    async with desk.store.begin() as tx:
        assert [await tx.settlements.latest_sequence(period) for period in ("2018-09", "2018-11")] == [0, 1]
    assert (await settle(desk, "2018-11", supplement=True)).paid == 1


async def test_a_worker_whose_clock_is_two_hours_fast_settles_the_same_month(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour before midnight in Berlin: by that clock it is the month after, and this month could be closed."""
    shift_clock(monkeypatch, hours=2)
    await matured(desk, OF_SWITCH, datetime(2019, 2, 28, 22, 59, 59, tzinfo=UTC))
    march = await matured(desk, OF_SWITCH, datetime(2019, 2, 28, 23, 0, 0, tzinfo=UTC))
    evening = datetime(2019, 3, 31, 20, tzinfo=UTC)

    async def is_paid() -> bool:
        found = await of_reseller(desk, "r-switch", "2019-02")
        return [row.status for row in found.values()] == [SettlementStatus.PAID]

    async with settled_by_schedule(
        desk, "fast-clock", day=31, hour=23, minute=30, since=evening, until=evening + timedelta(hours=3)
    ):
        await eventually(is_paid, "February")
    assert (await row_of(desk, "2019-02", "r-switch")).payable_minor == gross(2_000)
    assert (await desk.commissions(march))["r-switch"][2] == "matured"
    async with desk.store.begin() as tx:
        assert await tx.settlements.latest_sequence("2019-03") == 0
    assert (await settle(desk, "2019-03")).paid == 1
