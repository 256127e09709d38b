"""What tests of the month's end share: bookings of old months, closings, and what became of each statement.

Every test has old months of its own, because a claim takes everything that matured before the month's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from domain import ids
from domain.chain import ChainOutcome
from starter.operator import Operator
from store.rows import SettlementRow, SettlementStatus
from tests.support.desk import Desk, eventually
from workflows.models import SettlementState
from workflows.settlement import SettlementWorkflow

Paid = dict[str, tuple[int, str]]
"""Reseller → (payable amount with VAT, status)."""


def gross(net_minor: int) -> int:
    """What a German reseller gets for a net commission: 19 % VAT on top."""
    return net_minor + (net_minor * 19 + 50) // 100


async def matured(desk: Desk, event_type_id: int, end_at: datetime) -> str:
    """A charged booking whose commission matured at the end of the appointment."""
    uid = await desk.begin(event_type_id, start_at=end_at - timedelta(hours=1))
    assert await desk.outcome(uid) is ChainOutcome.MATURED
    return uid


async def ended(desk: Desk, workflow_id: str, timeout_seconds: float = 30) -> SettlementState:
    """The result of a closing."""
    handle = desk.client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
    answer: SettlementState = await asyncio.wait_for(handle.result(), timeout_seconds)
    return answer


async def settle(
    desk: Desk, period: str, *, operator: Operator | None = None, supplement: bool = False
) -> SettlementState:
    """Order a closing and wait for its end."""
    return await ended(desk, await (operator or desk.operator).settle(period, "ops-anna", supplement=supplement))


def operator_with(desk: Desk, **settings: object) -> Operator:
    """An operator whose closings freeze other settings."""
    changed = desk.settings.model_copy(update=settings)
    return Operator(store=desk.store, client=desk.client, settings=changed)


async def rows(desk: Desk, period: str, sequence: int = 1) -> list[SettlementRow]:
    async with desk.store.begin() as tx:
        return await tx.settlements.of(period, sequence)


async def row_of(desk: Desk, period: str, reseller_id: str, sequence: int = 1) -> SettlementRow:
    async with desk.store.begin() as tx:
        row = await tx.settlements.get(period, reseller_id, "EUR", sequence)
    assert row is not None
    return row


async def paid(desk: Desk, period: str, sequence: int = 1) -> Paid:
    return {row.reseller_id: (row.payable_minor, row.status.value) for row in await rows(desk, period, sequence)}


async def until_status(
    desk: Desk, period: str, reseller_id: str, status: SettlementStatus, sequence: int = 1
) -> SettlementRow:
    async def look() -> SettlementRow | None:
        row = await row_of(desk, period, reseller_id, sequence)
        return row if row.status is status else None

    found: SettlementRow = await eventually(look, f"{reseller_id} of {period} to be {status}")
    return found


async def transfers(desk: Desk) -> int:
    """Transfers at Stripe, however often they were asked for."""
    return (await desk.stripe.executed()).get("transfer", 0)


async def owed_minor(desk: Desk, reseller_id: str) -> int:
    """What the ledger says the platform owes a reseller; negative: he owes."""
    async with desk.store.begin() as tx:
        found = [row for row in await tx.ledger.trial_balance() if row.account == f"reseller:{reseller_id}"]
    return sum(row.credit_minor - row.debit_minor for row in found)


async def actions(desk: Desk, target: str) -> list[tuple[str, str, str]]:
    """The audit log of a target: (who, what, why)."""
    async with desk.store.begin() as tx:
        return [(row.actor, row.action, row.reason) for row in await tx.log.of(target)]


async def wait_for_workflow(desk: Desk, period: str, reseller_id: str, sequence: int = 1) -> int:
    """The end of a statement's own workflow: what it transferred."""
    workflow_id = ids.reseller_settlement_workflow(period, reseller_id, "EUR", sequence)
    return int(await asyncio.wait_for(desk.client.get_workflow_handle(workflow_id, result_type=int).result(), 20))


@asynccontextmanager
async def account_in(desk: Desk, reseller_id: str, state: str) -> AsyncIterator[str]:
    """A reseller's account at Stripe in another state, and active again afterwards."""
    account = await desk.account(reseller_id)
    await desk.stripe.account(account, state)
    try:
        yield account
    finally:
        await desk.stripe.account(account, "active")


@asynccontextmanager
async def balance_of(desk: Desk, amount_minor: int) -> AsyncIterator[None]:
    """So much available balance in EUR; afterwards there is plenty again."""
    await set_balance(desk, amount_minor)
    try:
        yield
    finally:
        await set_balance(desk, 10_000_000)


async def set_balance(desk: Desk, amount_minor: int) -> None:
    """Money that comes or goes at Stripe without us: the audit tells of it."""
    desk.expected += ["adjustment", "topup"]
    available_minor = await desk.payments.available_balance_minor("EUR")
    body = {"amount_minor": amount_minor - available_minor, "currency": "eur"}
    await desk.stripe.post("/_sandbox/balance", body)
