"""What Stripe tells of resellers' accounts later: capabilities that vanish and come back, payouts that fail."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain import ids
from domain.chain import ChainOutcome
from domain.model import ParkReason
from domain.onboarding import OnboardingStatus
from domain.ports import PayoutStatus
from store.reseller_rows import PayoutRow, ResellerRow
from store.rows import SettlementStatus
from tests.support.desk import Desk, eventually
from tests.support.month import account_in, actions, matured, settle, until_status, wait_for_workflow
from tests.support.resellers import candidate, deliver, tell_account

RESELLER = "r-month-c"
EVENT_TYPE = 152
"""Event type of a customer of his: its commission is left to the month's end."""


async def reseller(desk: Desk, reseller_id: str = RESELLER) -> ResellerRow:
    async with desk.store.begin() as tx:
        return await tx.resellers.get(reseller_id)


async def until_ready(desk: Desk, ready: bool, reseller_id: str = RESELLER) -> ResellerRow:
    async def look() -> ResellerRow | None:
        row = await reseller(desk, reseller_id)
        return row if row.account_checked_at and row.transfers_active is ready else None

    found: ResellerRow = await eventually(look, f"{reseller_id} transfers_active {ready}", 30)
    return found


@pytest.mark.parametrize("event_type", ["account.updated", "capability.updated"])
async def test_a_capability_that_vanishes_parks_the_payment_and_one_that_returns_pays(
    desk: Desk, event_type: str
) -> None:
    month = {"account.updated": 10, "capability.updated": 11}[event_type]
    period = f"2022-{month}"
    await matured(desk, EVENT_TYPE, datetime(2022, month, 9, 12, tzinfo=UTC))
    account_id = await desk.account(RESELLER)
    await tell_account(desk, account_id, event_type)
    await until_ready(desk, True)
    async with account_in(desk, RESELLER, "restricted"):
        await tell_account(desk, account_id, event_type)
        row = await until_ready(desk, False)
        assert (row.payouts_enabled, row.disabled_reason) == (False, "requirements.past_due")
        async with desk.store.begin() as tx:
            assert (RESELLER, "account") in [(one.reseller_id, one.what) for one in await tx.resellers.troubles()]
        await settle(desk, period)
        await until_status(desk, period, RESELLER, SettlementStatus.PARKED)
    await tell_account(desk, account_id, event_type)  # back: nobody orders a retry
    assert await wait_for_workflow(desk, period, RESELLER) > 0
    await until_status(desk, period, RESELLER, SettlementStatus.PAID)
    told = [(who, what) for who, what, _ in await actions(desk, f"reseller:{RESELLER}") if who == "stripe"]
    assert told[-2:] == [("stripe", "account_restricted"), ("stripe", "account_ready")]


async def test_a_waiting_payment_hears_nothing_while_he_cannot_be_paid(desk: Desk) -> None:
    await matured(desk, EVENT_TYPE, datetime(2022, 7, 9, 12, tzinfo=UTC))
    account_id = await desk.account(RESELLER)
    async with account_in(desk, RESELLER, "restricted"):
        await settle(desk, "2022-07")
        parked = await until_status(desk, "2022-07", RESELLER, SettlementStatus.PARKED)
        assert parked.reason is ParkReason.RESELLER_NOT_READY
        await tell_account(desk, account_id)
        await until_ready(desk, False)
        name = ids.reseller_settlement_workflow("2022-07", RESELLER, "EUR")
        history = str([event async for event in desk.client.get_workflow_handle(name).fetch_history_events()])
        assert "account_changed" not in history
    await tell_account(desk, account_id)
    await until_status(desk, "2022-07", RESELLER, SettlementStatus.PAID)


async def test_a_parked_chain_transfers_when_he_is_back(desk: Desk) -> None:
    async with account_in(desk, "r-restricted", "restricted") as account_id:
        uid = await desk.begin(142)
        await desk.parked(uid, ParkReason.RESELLER_NOT_READY)
        await tell_account(desk, account_id)
        await until_ready(desk, False, "r-restricted")
        assert (await desk.state(uid)).reason is ParkReason.RESELLER_NOT_READY
    await tell_account(desk, account_id)
    assert await desk.outcome(uid) is ChainOutcome.PAID


async def test_an_onboarding_hears_of_its_account(desk: Desk) -> None:
    r = await candidate(desk, "new-told")
    await r.start()
    await r.until(OnboardingStatus.WAITING)
    await r.account("active")
    await tell_account(desk, (await r.reseller()).stripe_account_id or "")
    await r.until(OnboardingStatus.COMPLETED)


async def test_an_account_that_cuts_us_off_is_noted(desk: Desk) -> None:
    r = await candidate(desk, "new-cut-off")
    await r.start()
    await r.until(OnboardingStatus.WAITING)
    await r.account("active")
    account_id = (await r.reseller()).stripe_account_id or ""
    await tell_account(desk, account_id)
    await r.until(OnboardingStatus.COMPLETED)
    await r.account("deauthorized")
    await tell_account(desk, account_id, "account.application.deauthorized")
    row = await until_ready(desk, False, r.id)
    assert row.disabled_reason == "account_gone"
    assert ("stripe", "account_restricted", "account_gone") in await actions(desk, f"reseller:{r.id}")


async def payouts_of(desk: Desk, reseller_id: str) -> list[PayoutRow]:
    async with desk.store.begin() as tx:
        return await tx.resellers.payouts(reseller_id)


async def test_a_payout_is_followed_until_it_fails_after_it_was_paid(desk: Desk) -> None:
    account_id = await desk.account(RESELLER)
    await desk.stripe.post("/_sandbox/balance", {"amount_minor": 5_000, "currency": "eur", "account": account_id})
    made = await desk.stripe._client.post(
        "/v1/payouts", data={"amount": "1225", "currency": "eur"}, headers={"Stripe-Account": account_id}
    )
    payout_id = made.json()["id"]
    stale = {"id": payout_id, "object": "payout", "status": "paid"}

    async def told(event_type: str, status: PayoutStatus) -> PayoutRow:
        await deliver(desk, event_type, account_id, stale)

        async def look() -> PayoutRow | None:
            found = [one for one in await payouts_of(desk, RESELLER) if one.payout_id == payout_id]
            return found[0] if found and found[0].status is status else None

        row: PayoutRow = await eventually(look, f"{payout_id} {status}", 30)
        return row

    # The events say `paid`; what counts is what the payout itself says when it is read.
    row = await told("payout.created", PayoutStatus.PENDING)
    assert (row.amount_minor, row.currency, row.account_id) == (1_225, "EUR", account_id)
    await desk.stripe.post(f"/_sandbox/payouts/{payout_id}", {"status": "paid"})
    await told("payout.paid", PayoutStatus.PAID)
    await desk.stripe.post(f"/_sandbox/payouts/{payout_id}", {"status": "failed", "failure_code": "no_account"})
    failed = await told("payout.failed", PayoutStatus.FAILED)
    assert failed.failure_code == "no_account"
    await told("payout.failed", PayoutStatus.FAILED)  # again
    await told("payout.paid", PayoutStatus.FAILED)  # late
    lines = [why for who, what, why in await actions(desk, f"reseller:{RESELLER}") if what == "payout_failed"]
    assert lines == ["no_account"]
    async with desk.store.begin() as tx:
        assert (RESELLER, "payout") in [(one.reseller_id, one.what) for one in await tx.resellers.troubles()]
