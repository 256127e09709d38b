"""Tries of a statement that waits: what is seen of it meanwhile, and what the outside tells while one is under way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from domain import ids
from domain.effects import EffectStatus
from domain.model import ParkReason
from starter.settlement_news import ACCOUNT_CHANGED, waiting_workflows
from store.rows import SettlementRow, SettlementStatus, TransferRow
from tests.support.desk import ORDER, Desk, eventually
from tests.support.month import (
    account_in,
    balance_of,
    gross,
    matured,
    operator_with,
    row_of,
    settle,
    transfers,
    until_status,
    wait_for_workflow,
)

CANNOT = ParkReason.RESELLER_NOT_READY
RICH = 10_000_000


async def attention(desk: Desk, period: str) -> list[SettlementRow]:
    async with desk.store.begin() as tx:
        return [row for row in await tx.settlements.attention() if row.period == period]


async def transfer_of(desk: Desk, row: SettlementRow) -> TransferRow:
    async with desk.store.begin() as tx:
        found = await tx.money.transfer(row.transfer_key or "")
    assert found is not None
    return found


async def until_hit(desk: Desk, fault: int) -> None:
    async def hit() -> bool:
        return await desk.stripe.hits(fault) > 0

    await eventually(hit, f"fault {fault}")


async def test_who_waits_stays_in_sight_while_stripe_goes_on_refusing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own look says that there is enough, and Stripe says no: every time."""

    async def plenty(currency: str) -> int:
        return RICH

    await matured(desk, 161, datetime(2023, 2, 10, 12, tzinfo=UTC))
    operator = operator_with(desk, settlement_balance_retry_seconds=0.3, settlement_balance_patience_seconds=600.0)
    async with balance_of(desk, 1_000):
        with monkeypatch.context() as patch:
            patch.setattr(desk.payments, "available_balance_minor", plenty)
            assert (await settle(desk, "2023-02", operator=operator)).waiting == 1
            first = await row_of(desk, "2023-02", "r-five-1")

            async def tried_again() -> bool:
                return (await transfer_of(desk, first)).tries >= 4

            await eventually(tried_again, "more tries")
            for _ in range(20):
                row = await row_of(desk, "2023-02", "r-five-1")
                assert (row.status, row.reason) == (SettlementStatus.WAITING, ParkReason.BALANCE_INSUFFICIENT)
                assert row.waiting_since == first.waiting_since
                assert [one.id for one in await attention(desk, "2023-02")] == [row.id]
                await asyncio.sleep(0.05)
    assert await wait_for_workflow(desk, "2023-02", "r-five-1") == gross(2000)


async def test_news_of_the_account_during_a_try_lead_to_another_one(desk: Desk) -> None:
    """The try has read the account as it was; he becomes ready before its result is known."""
    await matured(desk, 162, datetime(2023, 3, 10, 12, tzinfo=UTC))
    workflow_id = ids.reseller_settlement_workflow("2023-03", "r-five-2", "EUR")
    async with account_in(desk, "r-five-2", "restricted") as account_id:
        await settle(desk, "2023-03")
        await until_status(desk, "2023-03", "r-five-2", SettlementStatus.PARKED)
        # The account's answer is made at once and comes late.
        slow = await desk.stripe.fault(
            "slow", method="GET", path=f"/v1/accounts/{account_id}$", delay_seconds=1.5, after=True
        )
        await desk.operator.retry_settlement("2023-03", "r-five-2", "EUR", ORDER)
        await until_hit(desk, slow)
    assert workflow_id in await waiting_workflows(desk.store, "r-five-2")
    await desk.client.get_workflow_handle(workflow_id).signal(ACCOUNT_CHANGED)
    assert await wait_for_workflow(desk, "2023-03", "r-five-2") == gross(2000)


async def test_news_around_a_new_run_are_not_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told while the last try of a run was under way: the next run tries instead of waiting."""
    await matured(desk, 163, datetime(2023, 4, 10, 12, tzinfo=UTC))
    workflow_id = ids.reseller_settlement_workflow("2023-04", "r-five-3", "EUR")
    handle = desk.client.get_workflow_handle(workflow_id)
    async with account_in(desk, "r-five-3", "restricted") as account_id:
        await settle(desk, "2023-04")
        await until_status(desk, "2023-04", "r-five-3", SettlementStatus.PARKED)
        first = (await handle.describe()).run_id
        slow = await desk.stripe.fault(
            "slow", method="GET", path=f"/v1/accounts/{account_id}$", delay_seconds=1.5, after=True
        )
        await desk.operator.retry_settlement("2023-04", "r-five-3", "EUR", ORDER)
        await until_hit(desk, slow)
        monkeypatch.setattr(
            "temporalio.workflow.Info.is_continue_as_new_suggested",
            lambda info: info.run_id == first,
        )
    await handle.signal(ACCOUNT_CHANGED)
    assert await wait_for_workflow(desk, "2023-04", "r-five-3") == gross(10_000)
    assert (await handle.describe()).run_id != first


async def test_who_was_handed_over_is_looked_at_soon(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told between the closing's own try and the start of his workflow reached nobody."""
    monkeypatch.setattr("workflows.reseller_settlement.FIRST_LOOK_SECONDS", 4)
    await matured(desk, 164, datetime(2023, 5, 10, 12, tzinfo=UTC))
    async with account_in(desk, "r-five-4", "restricted"):
        await settle(desk, "2023-05")
        await until_status(desk, "2023-05", "r-five-4", SettlementStatus.PARKED)
    assert await wait_for_workflow(desk, "2023-05", "r-five-4") == gross(2000)


class TestOpenTries:
    """Between `begin` and the transfer the worker died; Stripe has never heard of it."""

    async def crashed(self, desk: Desk, event_type_id: int, period: str, reseller_id: str) -> SettlementRow:
        """A statement whose try was begun, was never sent, and is parked for a person."""
        at = datetime.fromisoformat(f"{period}-10T12:00:00+00:00")
        await matured(desk, event_type_id, at)
        async with account_in(desk, reseller_id, "restricted") as account_id:
            await settle(desk, period)
            row = await until_status(desk, period, reseller_id, SettlementStatus.PARKED)
        key = ids.settlement_transfer_key(period, reseller_id, "EUR")
        async with desk.store.begin() as tx:
            await tx.settlements.begin(row.id, key=key, destination_account_id=account_id)
            await tx.settlements.finish(
                row.id, status=SettlementStatus.PARKED, reason=ParkReason.OUTCOME_UNKNOWN, detail="transfer: no answer"
            )
        return await row_of(desk, period, reseller_id)

    async def age(self, desk: Desk, row: SettlementRow, minutes: int) -> None:
        async with desk.store.begin() as tx:
            await tx.money._execute(
                text("UPDATE transfers SET begun_at = now() - :age WHERE key = :key"),
                age=timedelta(minutes=minutes),
                key=row.transfer_key,
            )

    async def retried(self, desk: Desk, row: SettlementRow) -> SettlementRow:
        """The person's retry, until the statement is parked for the reseller."""
        await desk.operator.retry_settlement(row.period, row.reseller_id, "EUR", ORDER)

        async def parked() -> SettlementRow | None:
            now = await row_of(desk, row.period, row.reseller_id)
            return now if (now.status, now.reason) == (SettlementStatus.PARKED, CANNOT) else None

        found: SettlementRow = await eventually(parked, "parked for the reseller", 30)
        return found

    async def test_one_that_is_long_over_ends_as_refused_and_may_be_carried_over(self, desk: Desk) -> None:
        row = await self.crashed(desk, 165, "2023-06", "r-five-5")
        await self.age(desk, row, 15)
        before = await transfers(desk)
        async with account_in(desk, "r-five-5", "restricted"):
            await self.retried(desk, row)
            assert (await transfer_of(desk, row)).status is EffectStatus.REFUSED
            await desk.operator.carry_over("2023-06", "r-five-5", "EUR", ORDER)
        assert await wait_for_workflow(desk, "2023-06", "r-five-5") == 0
        assert await transfers(desk) == before

    async def test_one_whose_request_may_be_on_its_way_stays_open_and_is_not_sent(self, desk: Desk) -> None:
        row = await self.crashed(desk, 161, "2023-07", "r-five-1")
        before = await transfers(desk)
        async with account_in(desk, "r-five-1", "restricted"):
            await self.retried(desk, row)
            assert (await transfer_of(desk, row)).status is EffectStatus.STARTED
            assert await transfers(desk) == before
        await desk.operator.retry_settlement("2023-07", "r-five-1", "EUR", ORDER)
        assert await wait_for_workflow(desk, "2023-07", "r-five-1") == gross(2000)
        assert (await transfer_of(desk, row)).tries == 1

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [("paused", True, "reseller_paused"), ("payout_mode", "on_hold", "reseller_on_hold")],
    )
    async def test_what_a_person_ordered_since_counts(self, desk: Desk, field: str, value: object, code: str) -> None:
        month = {"paused": "08", "payout_mode": "09"}[field]
        row = await self.crashed(desk, 162, f"2023-{month}", "r-five-2")
        await self.age(desk, row, 15)
        usual = {"paused": False, "payout_mode": "monthly"}[field]
        change = text(f"UPDATE resellers SET {field} = :value WHERE id = 'r-five-2'")
        async with desk.store.begin() as tx:
            await tx.money._execute(change, value=value)
        before = await transfers(desk)
        try:
            assert (await self.retried(desk, row)).detail == f"r-five-2: {code}"
            assert await transfers(desk) == before
        finally:
            async with desk.store.begin() as tx:
                await tx.money._execute(change, value=usual)
        await desk.operator.retry_settlement(row.period, "r-five-2", "EUR", ORDER)
        assert await wait_for_workflow(desk, row.period, "r-five-2") == gross(2000)
        assert await transfers(desk) == before + 1
