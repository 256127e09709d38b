"""A second person's approval is for the account of that moment: nobody sends the money elsewhere on his own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sqlalchemy import text

from domain.model import ParkReason
from store.rows import SettlementStatus
from tests.support.desk import Desk
from tests.support.month import (
    account_in,
    actions,
    gross,
    matured,
    operator_with,
    settle,
    transfers,
    until_status,
    wait_for_workflow,
)
from workflows.models import OperatorOrder

PERIOD = "2022-09"
NAME = (PERIOD, "r-five-3", "EUR")
BERND = OperatorOrder(who="ops-bernd", why="looked at every line")
CLARA = OperatorOrder(who="ops-clara", why="called him about the new account")


async def put_account(desk: Desk, reseller_id: str, account_id: str | None) -> None:
    async with desk.store.begin() as tx:
        await tx.connection.execute(
            text("UPDATE resellers SET stripe_account_id = :account_id WHERE id = :id"),
            {"id": reseller_id, "account_id": account_id},
        )


async def test_another_account_after_the_approval_waits_for_a_second_person_again(desk: Desk) -> None:
    await matured(desk, 163, datetime(2022, 9, 10, 12, tzinfo=UTC))
    operator = operator_with(desk, settlement_approval_from_minor=f"EUR={gross(10_000)}")
    before = await transfers(desk)
    assert (await settle(desk, PERIOD, operator=operator)).parked == 1
    own, others = await desk.account("r-five-3"), await desk.account("r-five-4")
    async with account_in(desk, "r-five-3", "restricted"):
        await operator.approve_settlement(*NAME, BERND)
        not_ready = await until_reason(desk, ParkReason.RESELLER_NOT_READY)
        assert not_ready == ("ops-bernd", own)
    await put_account(desk, "r-five-4", None)
    await put_account(desk, "r-five-3", others)
    try:
        await operator.retry_settlement(*NAME, BERND)
        assert await until_reason(desk, ParkReason.APPROVAL_REQUIRED) == (None, None)
        assert await transfers(desk) == before
        log = [what for _, what, _ in await actions(desk, f"settlement:{'-'.join(NAME)}")]
        assert "approval withdrawn" in log
        await operator.approve_settlement(*NAME, CLARA)
        assert await wait_for_workflow(desk, PERIOD, "r-five-3") == gross(10_000)
        row = await until_status(desk, PERIOD, "r-five-3", SettlementStatus.PAID)
        assert (row.approved_by, row.approved_account_id) == ("ops-clara", others)
        assert await transfers(desk) == before + 1
    finally:
        await put_account(desk, "r-five-3", own)
        await put_account(desk, "r-five-4", others)


async def until_reason(desk: Desk, reason: ParkReason) -> tuple[str | None, str | None]:
    """Who approved it, and for which account, once it is parked for this reason."""
    async with asyncio.timeout(30):
        while True:
            row = await until_status(desk, PERIOD, "r-five-3", SettlementStatus.PARKED)
            if row.reason is reason:
                return row.approved_by, row.approved_account_id
            await asyncio.sleep(0.1)
