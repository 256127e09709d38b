"""What only a person can decide parks the chain, says why and until when, and goes on once it is decided."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowUpdateFailedError

from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from local.setup import apply_catalogue
from starter.operator import OrderRefused
from tests.support.desk import CATALOGUE, ORDER, Desk, ahead, eventually

PRICE = """
  - id: unpriced
    owner: {kind: customer, id: c-unpriced}
    version: 1
    effective_from: 2020-01-01
    currency: EUR
    prices:
      - {kind: fixed, net_minor: 4900, charge_moment: at_booking, hold_days: 0, vat_rate_bps: 1900,
         terms: {free_until_hours_before: 24}}

agreements:"""


async def test_no_price_parks_until_the_catalogue_has_one(desk: Desk) -> None:
    uid = await desk.begin(141)
    row = await desk.parked(uid, ParkReason.NO_PRICE)
    assert row.detail is not None
    changes = await apply_catalogue(desk.store, CATALOGUE.read_text().replace("\nagreements:", PRICE, 1), by="ops-anna")
    assert changes
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    assert (await desk.balances(uid))["revenue"] == ("credit", 4900)
    async with desk.store.begin() as tx:
        lines = await tx.log.of(f"chain:{uid}")
    assert [(line.actor, line.action) for line in lines if line.actor != "workflow"] == [("ops-anna", "retried")]


async def test_an_unmapped_booking_parks_and_can_be_closed_unbillable(desk: Desk) -> None:
    await desk.calcom.event_types({999: False})
    uid = await desk.begin(999)
    row = await desk.parked(uid, ParkReason.UNMAPPED_CUSTOMER)
    assert "999" in (row.detail or "")
    assert await desk.roll_back(uid) is ChainOutcome.UNBILLABLE
    assert await desk.balances(uid) == {}


async def test_a_parked_booking_that_is_cancelled_meanwhile_is_closed(desk: Desk) -> None:
    await desk.calcom.event_types({999: False})
    uid = await desk.begin(999, start_at=ahead(days=3))
    await desk.parked(uid, ParkReason.UNMAPPED_CUSTOMER)
    await desk.calcom.cancel(uid)
    await desk.signal(uid, "cancelled")
    assert await desk.outcome(uid) is ChainOutcome.CANCELLED


async def test_a_booking_that_cal_com_does_not_know_parks(desk: Desk) -> None:
    uid = "no-such-booking"
    await desk.start(uid)
    row = await desk.until(uid, ChainStage.PARKED, ParkReason.BOOKING_NOT_FOUND)
    assert row.deadline_at is not None
    assert await desk.roll_back(uid) is ChainOutcome.UNBILLABLE


async def test_a_parked_chain_looks_again_by_itself(desk: Desk) -> None:
    uid = await desk.book(101)
    desk.failures.plan("take_in", uid, "before")
    await desk.start(uid, park_recheck_seconds=2)
    await desk.parked(uid, ParkReason.SETUP_ERROR)
    assert await desk.outcome(uid) is ChainOutcome.MATURED


async def test_a_restricted_reseller_is_paid_once_he_is_active_again(desk: Desk) -> None:
    account = await desk.account("r-restricted")
    await desk.stripe.account(account, "restricted")
    uid = await desk.begin(142)
    await desk.parked(uid, ParkReason.RESELLER_NOT_READY)
    before = await desk.balances(uid)
    assert before["reseller:r-restricted"] == ("credit", 1225)
    assert before["stripe"] == ("debit", 5831 - 112)
    await desk.stripe.account(account, "active")
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert (await desk.balances(uid))["stripe"] == ("debit", 5831 - 112 - 1225)


async def test_a_refused_transfer_is_paid_at_a_later_try(desk: Desk) -> None:
    """Rejected between the look at the account and the transfer: Stripe says no, and would repeat it under this key."""
    uid = await desk.book(142)
    account = await desk.account("r-restricted")
    await desk.stripe.fault("slow", path="/v1/transfers$", body=uid, delay_seconds=1.5)
    await desk.start(uid)

    async def looked() -> bool:
        return "transfer" in desk.failures.ran(uid)

    await eventually(looked, "the transfer")
    for _ in range(10):
        await desk.stripe.get(f"/v1/accounts/{account}")
    await desk.stripe.account(account, "restricted")
    await desk.parked(uid, ParkReason.RESELLER_NOT_READY)
    await desk.stripe.account(account, "active")
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    async with desk.store.begin() as tx:
        (row,) = await tx.money.chain_transfers(uid)
    assert (row.status, row.amount_minor, row.tries) == ("succeeded", 1225, 2)


async def test_orders_are_refused_where_they_make_no_sense(desk: Desk) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    with pytest.raises(OrderRefused, match="only a parked chain can retry"):
        await desk.operator.retry(uid, ORDER)
    await desk.operator.roll_back(uid, ORDER)
    with pytest.raises(OrderRefused):
        await desk.operator.roll_back(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.ROLLED_BACK
    with pytest.raises(OrderRefused, match="nothing to undo"):
        await desk.operator.roll_back(uid, ORDER)
    with pytest.raises(OrderRefused, match="has ended"):
        await desk.operator.retry(uid, ORDER)


@pytest.mark.parametrize("order", [{"who": "", "why": "x"}, {"who": "ops-anna", "why": "   "}, {"who": "ops-anna"}])
async def test_orders_without_who_and_why_are_refused(desk: Desk, order: dict[str, str]) -> None:
    uid = await desk.begin(101, start_at=ahead(days=3))
    await desk.until(uid, ChainStage.HOLD)
    for update in ("retry", "roll_back"):
        with pytest.raises(WorkflowUpdateFailedError):
            await desk.handle(uid).execute_update(update, order)
    assert (await desk.state(uid)).stage is ChainStage.HOLD


async def test_a_parked_chain_shows_in_search_attributes_what_it_needs(desk: Desk) -> None:
    uid = await desk.book(101)
    desk.failures.plan("take_in", uid, "before")
    await desk.start(uid)
    await desk.parked(uid, ParkReason.SETUP_ERROR)
    pairs = (await desk.handle(uid).describe()).typed_search_attributes.search_attributes
    values = {pair.key.name: pair.value for pair in pairs}
    assert (values["BillingStage"], values["BillingNeedsAttention"]) == ("parked", True)
    assert values["BillingReason"] == "setup_error"
    assert await desk.roll_back(uid) is ChainOutcome.UNBILLABLE
