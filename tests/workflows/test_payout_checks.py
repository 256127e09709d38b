"""What a booking's own transfer looks at before it goes: the same as a statement's, but for the platform's balance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from domain.chain import ChainOutcome
from domain.model import ParkReason, PayoutMode
from domain.ports import ConnectedAccount
from tests.support.desk import ORDER, Desk


@asynccontextmanager
async def payout_mode(desk: Desk, reseller_id: str, mode: PayoutMode) -> AsyncIterator[None]:
    """A reseller's present mode, and the one that he had before afterwards."""
    change = text("UPDATE resellers SET payout_mode = :mode WHERE id = :id")
    async with desk.store.begin() as tx:
        before = (await tx.catalog.reseller(reseller_id)).payout_mode
        await tx.catalog._execute(change, mode=mode.value, id=reseller_id)
    try:
        yield
    finally:
        async with desk.store.begin() as tx:
            await tx.catalog._execute(change, mode=before.value, id=reseller_id)


@pytest.mark.parametrize(
    ("change", "reason", "code"),
    [
        ({"default_currency": "CHF"}, ParkReason.CURRENCY_MISMATCH, "account_in_CHF"),
        ({"default_currency": None}, ParkReason.CURRENCY_MISMATCH, "account_in_None"),
        ({"payouts_enabled": False}, ParkReason.RESELLER_NOT_READY, "payouts_disabled"),
        (
            {"payouts_enabled": False, "disabled_reason": "requirements.past_due"},
            ParkReason.RESELLER_NOT_READY,
            "requirements.past_due",
        ),
    ],
)
async def test_an_account_that_could_not_use_the_money_gets_none(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: ParkReason, code: str
) -> None:
    real = desk.payments.get_account

    async def changed(account_id: str) -> ConnectedAccount:
        return (await real(account_id)).model_copy(update=change)

    before = (await desk.stripe.executed()).get("transfer", 0)
    with monkeypatch.context() as patch:
        patch.setattr(desk.payments, "get_account", changed)
        uid = await desk.begin(111)
        row = await desk.parked(uid, reason)
        assert row.detail == f"r-direct: {code}"
        assert (await desk.stripe.executed()).get("transfer", 0) == before
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert (await desk.stripe.executed()).get("transfer", 0) == before + 1


async def test_who_is_on_hold_now_gets_nothing_for_a_booking_that_was_quoted_before(desk: Desk) -> None:
    uid = await desk.book(111)
    desk.failures.plan("transfer", uid, "before")
    await desk.start(uid)
    await desk.parked(uid, ParkReason.SETUP_ERROR)
    before = (await desk.stripe.executed()).get("transfer", 0)
    async with payout_mode(desk, "r-direct", PayoutMode.ON_HOLD):
        await desk.operator.retry(uid, ORDER)
        row = await desk.parked(uid, ParkReason.RESELLER_NOT_READY)
        assert row.detail == "r-direct: reseller_on_hold"
        assert (await desk.stripe.executed()).get("transfer", 0) == before
    await desk.operator.retry(uid, ORDER)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    assert (await desk.stripe.executed()).get("transfer", 0) == before + 1
