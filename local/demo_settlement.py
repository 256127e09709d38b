"""The demo's month end: what finance, a second person and Stripe do until every reseller is paid or carried over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from domain.effects import AdjustmentDirection, SettlementStatus
from domain.model import ParkReason
from domain.money import format_amount
from domain.settlement import Figures, Statement
from local.demo_world import DemoFailed, World
from starter.operator import OrderRefused
from store.rows import SettlementRow
from workflows.models import OperatorOrder
from workflows.settlement import SettlementWorkflow

SETTINGS = {
    "SETTLEMENT_APPROVAL_FROM_MINOR": "EUR=500000",
    "DOCUMENT_ISSUER_NAME": "Terminwerk GmbH",
    "DOCUMENT_ISSUER_ADDRESS": "Musterallee 2|20095 Hamburg|DE",
    "DOCUMENT_ISSUER_VAT_ID": "DE123456789",
}

CURRENCY = "EUR"
NOT_READY = "r-west"
"""Stripe asks him for a document on the day of the settlement."""
BELOW_MINIMUM = "r-insel"
ADJUSTED = "r-hamburg"
BONUS_MINOR = 5_000

FIRST, SECOND = "fin-anna", "fin-ben"

TIMEOUT_SECONDS = 120.0
_LOOK_SECONDS = 0.1

Say = Callable[[str], object]


@dataclass
class Settled:
    """What happened at the month's end, for the report."""

    rows: list[SettlementRow] = field(default_factory=list)
    page: Statement | None = None
    """The statement that is printed."""
    stories: dict[str, str] = field(default_factory=dict)
    """Reseller → what happened with his statement, where it was not simply paid."""
    was_parked: dict[str, ParkReason] = field(default_factory=dict)
    """Reseller → why his statement was parked at first."""
    refusals: list[str] = field(default_factory=list)
    """What somebody was told who wanted to approve what he had asked for himself."""
    payout: str = ""
    """How the money of one of them got to his bank."""
    differs_from_dry_run: list[str] = field(default_factory=list)
    """Statements whose figures are not those that the dry run showed."""


class MonthEnd:
    """One settlement of the month. `say` gets one line for each thing worth seeing."""

    def __init__(self, world: World, period: str, say: Say) -> None:
        self._world = world
        self._period = period
        self._say = say
        self.settled = Settled()

    async def play(self) -> Settled:
        """Everything, until no statement waits any more. Raises DemoFailed with what did not happen."""
        account_id = await self._account(NOT_READY)
        await self._world.stripe.control(f"accounts/{account_id}", {"state": "restricted"})
        await self._adjust()
        looked = {row.statement_id: _figures(row) for row in await self._world.operator.preview(self._period)}
        await self._close()
        rows = await self._rows()
        self.settled.differs_from_dry_run = sorted(
            {row.statement_id for row in rows if looked.get(row.statement_id) != _figures(row)}
            | (looked.keys() - {row.statement_id for row in rows})
        )
        for row in rows:
            if row.status is SettlementStatus.PARKED and row.reason is not None:
                self.settled.was_parked[row.reseller_id] = row.reason
        await self._approve(rows)
        await self._release(account_id)
        await self._to_the_bank(account_id)
        self.settled.rows = await self._rows()
        await self._page()
        return self.settled

    # --- scenes ---

    async def _adjust(self) -> None:
        """A bonus: one person asks for it and may not approve it herself, another does."""
        operator, bonus = self._world.operator, format_amount(BONUS_MINOR, CURRENCY)
        adjustment_id, _ = await operator.adjust(
            ADJUSTED, CURRENCY, BONUS_MINOR, AdjustmentDirection.CREDIT, _order(FIRST, "bonus of the spring campaign")
        )
        try:
            await operator.decide_adjustment(adjustment_id, _order(FIRST, "agreed"))
        except OrderRefused as refusal:
            self.settled.refusals.append(str(refusal))
        await operator.decide_adjustment(adjustment_id, _order(SECOND, "the contract says so"))
        self._say(f"{FIRST} asked for a bonus of {bonus} for {ADJUSTED}; {SECOND} approved it")

    async def _close(self) -> None:
        """As `billing settle` orders it."""
        begun = time.monotonic()
        workflow_id = await self._world.operator.settle(self._period, FIRST)
        handle = self._world.client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                state = await handle.result()
        except TimeoutError:
            raise DemoFailed(f"{workflow_id} has not ended after {TIMEOUT_SECONDS:.0f} s") from None
        self._say(
            f"Settled {self._period} in {time.monotonic() - begun:.1f} s: {state.paid} paid, {state.carried} carried "
            f"over, {state.parked} parked, of {state.total} statements"
        )

    async def _approve(self, rows: list[SettlementRow]) -> None:
        """Who asked for the run or the bonus is refused; a second person lets the money go."""
        for row in rows:
            if row.reason is not ParkReason.APPROVAL_REQUIRED:
                continue
            name = (row.period, row.reseller_id, row.currency)
            try:
                await self._world.operator.approve_settlement(*name, _order(FIRST, "looks good to me"))
            except OrderRefused as refusal:
                self.settled.refusals.append(str(refusal))
            await self._world.operator.approve_settlement(*name, _order(SECOND, "compared with the bonus agreement"))
            await self._until_paid(row.reseller_id)
            self.settled.stories[row.reseller_id] = (
                f"approval refused for {FIRST}, who asked for it; given by {SECOND}, then paid"
            )
        self._say(f"Two persons: approval refused for {FIRST}, given by {SECOND}")

    async def _release(self, account_id: str) -> None:
        """The reseller hands in his document: Stripe's news of it lets the parked settlement go."""
        await self._world.stripe.control(f"accounts/{account_id}", {"state": "active"})
        await self._until_paid(NOT_READY)
        parked = self.settled.was_parked.get(NOT_READY)
        self.settled.stories[NOT_READY] = (
            f"parked at first ({parked}); then Stripe told that his account is ready: paid by itself"
        )
        self._say(f"{NOT_READY} was parked; Stripe told that his account is ready: paid by itself")

    async def _to_the_bank(self, account_id: str) -> None:
        """Stripe pays the reseller's bank, and tells so: the last step of the money."""
        row = await self._row(NOT_READY)
        payout_id = await self._world.stripe.pay_bank(account_id, row.payable_minor, row.currency)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            async with self._world.store.begin() as tx:
                known = {one.payout_id: one.status for one in await tx.resellers.payouts(NOT_READY)}
            if known.get(payout_id) == "paid":
                arrived = format_amount(row.payable_minor, row.currency)
                self.settled.payout = f"{arrived} arrived at the bank of {NOT_READY} (payout {payout_id})"
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise DemoFailed(f"nobody heard of payout {payout_id} of {NOT_READY} within {TIMEOUT_SECONDS:.0f} s")

    async def _page(self) -> None:
        row = await self._row(ADJUSTED)
        async with self._world.store.begin() as tx:
            self.settled.page = await tx.settlements.statement(row.id)

    # --- steps ---

    async def _rows(self) -> list[SettlementRow]:
        async with self._world.store.begin() as tx:
            return await tx.settlements.of(self._period)

    async def _account(self, reseller_id: str) -> str:
        async with self._world.store.begin() as tx:
            account_id = (await tx.catalog.reseller(reseller_id)).stripe_account_id
        if account_id is None:
            raise DemoFailed(f"reseller {reseller_id} has no account at Stripe")
        return account_id

    async def _row(self, reseller_id: str) -> SettlementRow:
        async with self._world.store.begin() as tx:
            row = await tx.settlements.get(self._period, reseller_id, CURRENCY)
        if row is None:
            raise DemoFailed(f"{reseller_id} has no statement of {self._period}")
        return row

    async def _until_paid(self, reseller_id: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            row = await self._row(reseller_id)
            if row.status is SettlementStatus.PAID:
                return
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{row.statement_id} is {row.status} after {TIMEOUT_SECONDS:.0f} s: {row.detail or ''}"
                )
            await asyncio.sleep(_LOOK_SECONDS)


def _figures(row: SettlementRow) -> dict[str, object]:
    """What is frozen of a statement."""
    return {name: getattr(row, name) for name in Figures.model_fields}


def _order(who: str, why: str) -> OperatorOrder:
    return OperatorOrder(who=who, why=why)
