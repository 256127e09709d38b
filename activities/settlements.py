"""Close a month: claim what matured into statements, and pay each statement once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.models import (
    Answer,
    Claimed,
    ClaimInput,
    ClaimResult,
    EffectResult,
    LogInput,
    Page,
    PageInput,
    ParkSettlementInput,
    Progress,
    SettleInput,
    SettlementOrder,
    SettlementRun,
    Unpaid,
)
from activities.transfers import TransferSender
from domain import ids
from domain.effects import EffectStatus, SettlementStatus
from domain.model import ParkReason
from domain.orders import NotAllowed
from domain.ports import PaymentGateway, Transfer
from domain.pricing import period_bounds

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import SettlementRow, TransferRow

HEARTBEAT_SECONDS = 4.0
"""Well below the steps' heartbeat time-out."""

LISTED_PAGE = 500

ON_ITS_WAY = timedelta(minutes=10)
"""A request to Stripe older than this has arrived or never will: its limit is 20 seconds, that of its step a minute."""


class SettlementActivities:
    """Database steps of a month's closing; `SettlementPayments` moves the money.

    `issuer`: the platform as the statements' documents name it, frozen with each closing. `approval_from_minor`: for
    closings that don't say themselves from which payment on a second person has to approve.
    """

    def __init__(
        self, store: Store, *, approval_from_minor: Mapping[str, int], issuer: Mapping[str, Any] | None = None
    ) -> None:
        self._store = store
        self._issuer = issuer
        self._approval_from_minor = approval_from_minor

    @activity.defn
    async def claim(self, order: ClaimInput) -> ClaimResult:
        """Freeze a statement for everybody to whom something matured before the month's end (Europe/Berlin).

        No lower bound: a late commission goes into the next run. A second call claims nothing more.
        """
        async with _heartbeats():
            try:
                statements = await self._claim(order)
            except NotAllowed as refusal:
                raise ApplicationError(str(refusal), type="SetupError", non_retryable=True) from None
        claims = await self._all_unpaid(order) if order.listed else ()
        return ClaimResult(period=order.period, claims=claims, statements=statements)

    async def _claim(self, order: ClaimInput) -> int:
        _, boundary = period_bounds(order.period)
        limits = self._approval_from_minor if order.approval_from_minor is None else order.approval_from_minor
        async with self._store.begin() as tx:
            summary = await tx.settlements.claim(
                order.period,
                order.sequence,
                boundary,
                requested_by=order.requested_by,
                negative_months=order.negative_months,
                approval_from_minor=limits,
                issuer=self._issuer,
            )
            await tx.log.write(
                actor=order.requested_by,
                action="settled",
                target=_target(order),
                reason="monthly settlement" if order.sequence == 1 else "supplement",
                details={"settlements": summary.statements, "is_new": summary.is_new},
            )
        return summary.statements

    async def _all_unpaid(self, order: ClaimInput) -> tuple[Claimed, ...]:
        found: list[Claimed] = []
        after = 0
        while True:
            async with self._store.begin() as tx:
                rows = await tx.settlements.unpaid(order.period, order.sequence, after=after, limit=LISTED_PAGE)
            found += [
                Claimed(reseller_id=row.reseller_id, currency=row.currency, amount_minor=row.payable_minor)
                for row in rows
            ]
            if len(rows) < LISTED_PAGE:
                return tuple(found)
            after = rows[-1].id

    @activity.defn
    async def unpaid(self, wanted: PageInput) -> Page:
        """The next statements to pay, in the order of their numbers, and how far the closing is."""
        async with self._store.begin() as tx:
            rows = await tx.settlements.unpaid(wanted.period, wanted.sequence, after=wanted.after, limit=wanted.limit)
            progress = await _progress(tx, wanted)
        return Page(unpaid=tuple(_unpaid(row) for row in rows), progress=progress)

    @activity.defn
    async def count(self, run: SettlementRun) -> Progress:
        async with self._store.begin() as tx:
            return await _progress(tx, run)

    @activity.defn
    async def progress(self, period: str) -> Progress:
        """`count` for the month's own closing."""
        return await self.count(SettlementRun(period=period))

    @activity.defn
    async def park(self, order: ParkSettlementInput) -> None:
        """Note that a statement waits, for a person or (with `waiting_since`) for the balance."""
        status = SettlementStatus.PARKED if order.waiting_since is None else SettlementStatus.WAITING
        async with self._store.begin() as tx:
            row = await _row(tx, order)
            if row.status in (SettlementStatus.PAID, SettlementStatus.CARRIED_OVER):
                return
            await tx.settlements.finish(
                row.id, status=status, reason=order.reason, detail=order.detail, waiting_since=order.waiting_since
            )

    @activity.defn
    async def approve(self, order: SettlementOrder) -> Answer:
        """A second person lets a payment go. Refused for everybody who asked for it; twice by one person is once."""
        return await self._decide(order, lambda tx, row: tx.settlements.approve(row.id, order.who), "approved")

    @activity.defn
    async def carry_over(self, order: SettlementOrder) -> Answer:
        """A person leaves the amount for the next month. Refused while its transfer is under way, or done."""
        return await self._decide(order, lambda tx, row: tx.settlements.carry_over(row.id, order.who), "carried over")

    async def _decide(
        self, order: SettlementOrder, step: Callable[[Tx, SettlementRow], Awaitable[object]], action: str
    ) -> Answer:
        """A person's decision and its line in the audit log, in one transaction; what is not allowed is an answer."""
        try:
            async with self._store.begin() as tx:
                await step(tx, await _row(tx, order))
                await _log(tx, order, action)
        except NotAllowed as refusal:
            return Answer(done=False, told=str(refusal))
        return Answer(done=True)

    @activity.defn(name="log_retry")
    async def log_order(self, line: LogInput) -> None:
        """Who ordered what and why, for orders that change nothing in the database themselves."""
        async with self._store.begin() as tx:
            await tx.log.write(actor=line.actor, action=line.action, target=line.target, reason=line.why, details={})


class SettlementPayments:
    """The one step of a settlement that calls Stripe."""

    def __init__(self, store: Store, payments: PaymentGateway, *, per_second: float) -> None:
        self._store = store
        self._sender = TransferSender(store, payments, per_second=per_second)

    @activity.defn
    async def pay(self, order: SettleInput) -> EffectResult:
        """One transfer of the frozen amount. What keeps it from going is a result, and moves nothing.

        A second call finds it done, also where something was taken back of the transfer since: it is never sent again.
        Amount 0 without a code: it was carried over, nothing is to be paid.
        """
        async with _heartbeats():
            return await self._pay(order)

    async def _pay(self, order: SettleInput) -> EffectResult:
        async with self._store.begin() as tx:
            row = await _row(tx, order)
            known = await tx.money.transfer(row.transfer_key) if row.transfer_key is not None else None
            if known is not None and known.status is EffectStatus.SUCCEEDED:
                await tx.settlements.finish(row.id, status=SettlementStatus.PAID)
                return EffectResult(amount_minor=known.amount_minor)
            if row.status is SettlementStatus.CARRIED_OVER:
                return EffectResult()
            account = await self._sender.destination(tx, order.reseller_id)
        if known is not None and known.status is EffectStatus.STARTED:
            await self._sender.turn()
            return await self._end_open_try(order, row, known, account)
        if row.needs_approval and row.approved_by is None:
            return EffectResult(refused_code="needs_approval", reason=ParkReason.APPROVAL_REQUIRED)
        if isinstance(account, EffectResult):
            return account
        if row.needs_approval and await self._is_for_another_account(row, account):
            return EffectResult(refused_code="account_changed", reason=ParkReason.APPROVAL_REQUIRED)
        await self._sender.turn()
        obstacle = await self._sender.obstacle(account, currency=row.currency, amount_minor=row.payable_minor)
        if obstacle is not None:
            return obstacle
        key = ids.settlement_transfer_key(order.period, order.reseller_id, order.currency, order.sequence)
        async with self._store.begin() as tx:
            begun = await tx.settlements.begin(row.id, key=key, destination_account_id=account)
        if begun.status is EffectStatus.SUCCEEDED:
            return EffectResult(amount_minor=begun.amount_minor)
        return await self._sent(row, begun, await self._sender.send(begun, group=_group(order)))

    async def _is_for_another_account(self, row: SettlementRow, account_id: str) -> bool:
        """Whoever agreed did so to the account of then: with another one it waits for a second person again."""
        async with self._store.begin() as tx:
            if not await tx.settlements.withdraw_approval(row.id, account_id):
                return False
            await tx.log.write(
                actor="workflow",
                action="approval withdrawn",
                target=_target(row),
                reason="the reseller's account at Stripe is not the approved one any more",
                details={"approved": row.approved_account_id, "now": account_id, "approved_by": row.approved_by},
            )
        return True

    async def _end_open_try(
        self, order: SettleInput, row: SettlementRow, known: TransferRow, account: str | EffectResult
    ) -> EffectResult:
        """An earlier try whose answer got lost: what Stripe says to it counts, whatever has changed since.

        Where Stripe knows nothing of it, it is sent as it was, if it would be sent today. If not, it ends as refused
        once no request of it can be on its way any more, so that a person may decide otherwise.
        """
        answer: Transfer | EffectResult | None = await self._sender.find(known, group=_group(order))
        if answer is None:
            obstacle = await self._obstacle_today(known, account)
            if obstacle is not None:
                is_over = datetime.now(UTC) - known.begun_at > ON_ITS_WAY
                return await self._sender.refuse(known, obstacle) if is_over else obstacle
            answer = await self._sender.send(known, group=_group(order))
        return await self._sent(row, known, answer)

    async def _obstacle_today(self, known: TransferRow, account: str | EffectResult) -> EffectResult | None:
        if isinstance(account, EffectResult):
            return account
        if account != known.destination_account_id:
            return EffectResult(refused_code="account_replaced", reason=ParkReason.RESELLER_NOT_READY)
        return await self._sender.obstacle(account, currency=known.currency, amount_minor=known.amount_minor)

    async def _sent(self, row: SettlementRow, transfer: TransferRow, answer: Transfer | EffectResult) -> EffectResult:
        if isinstance(answer, EffectResult):
            return answer
        async with self._store.begin() as tx:
            await self._sender.record_in(tx, transfer, answer)
            await tx.settlements.finish(row.id, status=SettlementStatus.PAID)
        if answer.amount_reversed_minor:
            await self._sender.follow_reversals(transfer.key)
        return EffectResult(amount_minor=transfer.amount_minor)


def _group(order: SettleInput) -> str:
    """Stripe's transfer_group: all transfers of a reseller's month, supplements and other currencies included."""
    return f"settlement-{order.period}-{order.reseller_id}"


def _target(run: ClaimInput | SettlementOrder | SettlementRow) -> str:
    """The audit log's name of a closing, or of one statement in it."""
    names = [run.period] if isinstance(run, ClaimInput) else [run.period, run.reseller_id, run.currency]
    if run.sequence > 1:
        names.append(str(run.sequence))
    return f"{'period' if isinstance(run, ClaimInput) else 'settlement'}:{'-'.join(names)}"


async def _row(tx: Tx, order: SettleInput) -> SettlementRow:
    row = await tx.settlements.get(order.period, order.reseller_id, order.currency, order.sequence)
    if row is None:
        raise ApplicationError("no such settlement", type="SetupError", non_retryable=True)
    return row


async def _log(tx: Tx, order: SettlementOrder, action: str) -> None:
    await tx.log.write(actor=order.who, action=action, target=_target(order), reason=order.why, details={})


async def _progress(tx: Tx, run: SettlementRun) -> Progress:
    found = await tx.settlements.progress(run.period, run.sequence)
    return Progress(
        open=found.open,
        paid=found.paid,
        parked=found.parked,
        carried=found.carried,
        waiting=found.waiting,
        total=found.total,
    )


def _unpaid(row: SettlementRow) -> Unpaid:
    return Unpaid(
        settlement_id=row.id,
        reseller_id=row.reseller_id,
        currency=row.currency,
        amount_minor=row.payable_minor,
        waits=row.status in (SettlementStatus.PARKED, SettlementStatus.WAITING),
        needs_approval=row.needs_approval and row.approved_by is None,
        asked_by=row.asked_by,
    )


@asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Tell Temporal that this worker lives: should it die, another one takes over within the heartbeat time-out."""

    async def beat() -> None:
        while True:
            # Most steps are over before: they cost no call.
            await asyncio.sleep(HEARTBEAT_SECONDS)
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
