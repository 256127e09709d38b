"""The month's closing: claim what matured, freeze a statement per reseller, and pay each once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, FailureError, WorkflowAlreadyStartedError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.models import ClaimInput, LogInput, PageInput, Progress, SettleInput, SettlementRun, Unpaid
    from activities.settlements import SettlementActivities, SettlementPayments
    from domain import ids
    from domain.chain import ChainStage
    from domain.model import ParkReason
    from domain.money import MINOR_DIGITS
    from domain.pricing import period_of, previous_period
    from workflows import policies, visibility
    from workflows.control import DATABASE_PAUSE, reason_of
    from workflows.models import (
        Found,
        OperatorOrder,
        ResellerSettlementInput,
        SettlementInput,
        SettlementSoFar,
        SettlementState,
        SettlementTerms,
    )
    from workflows.reseller_settlement import ResellerSettlementWorkflow
    from workflows.settlement_before import by_children

if TYPE_CHECKING:
    from settings import Settings

Given = TypeVar("Given")
Result = TypeVar("Result")

_SCHEDULED_FOR = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")

IN_FLIGHT = 30
"""Transfers under way at a time: a little more than a second's worth of what Stripe allows, so that there is always one
whose turn it is. After `pause` at most so many still go."""

PAGE = 250
"""Unpaid statements read at a time. A run reads no further page once Temporal suggests a new one (4,096 events), so
that its history stays below 7,000 events: a statement costs three, and its workflow tasks at most three more."""

DIRECT_TRIES = 8
"""About two minutes with the pauses between them. Who takes longer gets a workflow of his own, so that one hanging
transfer keeps none of the other resellers waiting."""

LONGEST_PAUSE = timedelta(minutes=5)


def approval_limits(settings: Settings) -> dict[str, int]:
    """Currency → payment from which on a second person has to approve, in minor units; for all currencies, or empty."""
    named = dict(one.split("=") for one in settings.settlement_approval_from_minor.split(",") if one)
    approval_from_minor = {}
    if named:
        whole_units = min(int(amount) // 10 ** MINOR_DIGITS[currency] for currency, amount in named.items())
        for currency, digits in MINOR_DIGITS.items():
            approval_from_minor[currency] = int(named.get(currency, whole_units * 10**digits))
    return approval_from_minor


def settlement_terms(settings: Settings) -> SettlementTerms:
    """The settings that a closing freezes at its start."""
    return SettlementTerms(
        negative_months=settings.settlement_negative_months,
        approval_from_minor=approval_limits(settings),
        balance_retry_seconds=settings.settlement_balance_retry_seconds,
        balance_patience_seconds=settings.settlement_balance_patience_seconds,
    )


@workflow.defn
class SettlementWorkflow:
    """Closes one month. Id `settlement-{YYYY-MM}`, supplements `settlement-{YYYY-MM}-{n}`.

    1. month: as ordered, or the month before the Schedule's nominal time in Europe/Berlin; the Schedule's own run then
       only starts the month's workflow and waits for it. So a late, caught-up or backfilled run closes the right month,
       whatever any clock says.
    2. claim: a statement for everybody to whom something matured before the month's end and is on no statement yet. It
       claims once for ever: a second run, or one after a crash, finds the same statements.
    3. pay, page by page: a statement costs one step, at most `IN_FLIGHT` at a time, on the rate-capped queue. One that
       has to wait (for approval, balance, the reseller's account, or an outcome that is not known) is handed over to a
       `ResellerSettlementWorkflow` that outlives this one. Carried-over statements need nothing.
    4. continues as a new run whenever the history grows long; ends when no statement is open.

    `pause` stops it between two statements, `resume` lets it go on. Stopping the whole workflow and ordering the month
    again is safe as well.
    """

    @workflow.init
    def __init__(self, start: SettlementInput) -> None:
        self._start = start
        self._period = start.period or "0001-01"
        before = start.so_far or SettlementSoFar(after=0, claims=0, paused=None)
        self._after, self._claims, self._paused = before.after, before.claims, before.paused
        self._counts = Progress(open=0, paid=0, parked=0)
        self._has_counts = False
        self._rows: deque[Unpaid] = deque()
        self._reading = asyncio.Lock()
        self._all_read = False
        self._takes_orders = False

    # --- what people send and see ---

    @workflow.query(description="How far the month's closing is")
    def state(self) -> SettlementState:
        return SettlementState(
            period=self._period,
            sequence=self._start.sequence,
            claims=self._claims,
            paused=self._paused,
            **self._counts.model_dump(),
        )

    @workflow.update(description="Start no further transfer (who, why)")
    async def pause(self, order: OperatorOrder) -> str:
        """At most `IN_FLIGHT` transfers that are under way still go. Statements that wait on their own are not held."""
        self._paused = order
        self._show()
        await self._log("paused", order)
        return f"{self._name()} is paused"

    @pause.validator
    def _may_pause(self, order: OperatorOrder) -> None:
        if not self._takes_orders:
            raise ApplicationError("this run starts no transfers itself", type="NotRunning")
        if self._paused is not None:
            raise ApplicationError(f"it is paused by {self._paused.who}: {self._paused.why}", type="AlreadyPaused")

    @workflow.update(description="Go on after a pause (who, why)")
    async def resume(self, order: OperatorOrder) -> str:
        self._paused = None
        self._show()
        await self._log("resumed", order)
        return f"{self._name()} goes on"

    @resume.validator
    def _may_resume(self, order: OperatorOrder) -> None:
        if self._paused is None:
            raise ApplicationError("it is not paused", type="NotPaused")

    # --- 1: which month ---

    @workflow.run
    async def run(self, start: SettlementInput) -> SettlementState:
        if start.period is None:
            return await self._for_schedule(start)
        if not workflow.patched("settlement-by-pages"):
            return await by_children(start, start.period)
        self._takes_orders = True
        if start.so_far is None:
            await self._claim(start.period)
        await asyncio.gather(*(self._pay_one_after_the_other() for _ in range(IN_FLIGHT)))
        if not self._all_read:
            await self._continue(self._after)
        await self._until_none_is_open()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.state()

    async def _for_schedule(self, start: SettlementInput) -> SettlementState:
        nominal = workflow.info().typed_search_attributes.get(_SCHEDULED_FOR) or workflow.info().start_time
        period = previous_period(period_of(nominal))
        try:
            return await workflow.execute_child_workflow(
                SettlementWorkflow.run,
                start.model_copy(update={"period": period}),
                id=ids.settlement_workflow(period),
                # A month that was closed may run again: the claim in the database is what pays once.
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                static_summary=f"Settle {period}",
            )
        except WorkflowAlreadyStartedError:
            return SettlementState(period=period, claims=0, paid=0, parked=0)

    # --- 2: claim ---

    async def _claim(self, period: str) -> None:
        workflow.upsert_search_attributes([visibility.PERIOD.value_set(period)])
        terms = self._start.terms
        order = ClaimInput(
            period=period,
            sequence=self._start.sequence,
            requested_by=self._start.requested_by,
            negative_months=terms.negative_months,
            approval_from_minor=terms.approval_from_minor,
            listed=False,
        )
        summary = f"Freeze the statements of what matured until the end of {period}"
        await workflow.execute_activity_method(
            SettlementActivities.claim, order, **policies.long_database_step(summary)
        )

    # --- 3: pay ---

    async def _pay_one_after_the_other(self) -> None:
        while (row := await self._next()) is not None:
            if self._paused is not None:
                await workflow.wait_condition(lambda: self._paused is None)
            await self._pay(row)

    async def _next(self) -> Unpaid | None:
        """The next statement to pay; None when this run has no more."""
        async with self._reading:
            if not self._rows and not self._all_read and not workflow.info().is_continue_as_new_suggested():
                wanted = PageInput(period=self._period, sequence=self._start.sequence, after=self._after, limit=PAGE)
                page = await self._patiently(
                    SettlementActivities.unpaid, wanted, f"Unpaid statements after {self._after}"
                )
                self._rows.extend(page.unpaid)
                if not self._has_counts:
                    # Later pages are read while statements are being paid: these would be counted twice.
                    self._counts, self._has_counts = page.progress, True
                self._all_read = len(page.unpaid) < PAGE
                if page.unpaid:
                    self._after = page.unpaid[-1].settlement_id
                self._show()
            return self._rows.popleft() if self._rows else None

    async def _pay(self, row: Unpaid) -> None:
        if not row.waits:
            self._claims += 1
        found = None
        if not row.waits and not row.needs_approval:
            found = await self._found_in_the_way(row)
            if found is None:
                return
        await self._hand_over(row, found)
        if not row.waits:
            waits = found is not None and found.reason is ParkReason.BALANCE_INSUFFICIENT
            self._counted("waiting" if waits else "parked")

    async def _found_in_the_way(self, row: Unpaid) -> Found | None:
        """Try to pay; why it could not be done, or None: it is paid."""
        amount = visibility.money(row.amount_minor, row.currency)
        order = SettleInput(
            period=self._period, reseller_id=row.reseller_id, currency=row.currency, sequence=self._start.sequence
        )
        options = policies.settlement_step(
            self._start.options.step_timeout_seconds,
            f"Transfer {amount} for {self._period} to reseller {row.reseller_id}",
            tries=DIRECT_TRIES,
        )
        try:
            result = await workflow.execute_activity_method(SettlementPayments.pay, order, **options)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            reason, detail = reason_of(error, "transfer")
            return Found(reason=reason, detail=detail)
        if result.refused_code is not None:
            return Found(reason=result.reason or ParkReason.TRANSFER_REFUSED, detail=result.refused_code)
        self._counted("paid")
        return None

    def _counted(self, status: str) -> None:
        """One statement less is open; the database has the last word when nothing is left."""
        now = self._counts
        self._counts = now.model_copy(update={status: getattr(now, status) + 1, "open": max(0, now.open - 1)})
        self._show()

    async def _hand_over(self, row: Unpaid, found: Found | None) -> None:
        """Let a workflow of its own wait and pay. One that runs already goes on."""
        sequence = self._start.sequence
        amount = visibility.money(row.amount_minor, row.currency)
        try:
            await workflow.start_child_workflow(
                ResellerSettlementWorkflow.run,
                ResellerSettlementInput(
                    period=self._period,
                    reseller_id=row.reseller_id,
                    currency=row.currency,
                    amount_minor=row.amount_minor,
                    options=self._start.options,
                    sequence=sequence,
                    terms=self._start.terms,
                    asked_by=row.asked_by,
                    needs_approval=row.needs_approval,
                    found=found,
                ),
                id=ids.reseller_settlement_workflow(self._period, row.reseller_id, row.currency, sequence),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"Pay {amount} for {self._period} to reseller {row.reseller_id}",
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(visibility.STAGE, ChainStage.PAYOUT),
                        SearchAttributePair(visibility.RESELLER, row.reseller_id),
                        SearchAttributePair(visibility.AMOUNT, row.amount_minor),
                        SearchAttributePair(visibility.PERIOD, self._period),
                    ]
                ),
            )
        except WorkflowAlreadyStartedError:
            workflow.logger.info("a run for this reseller is under way", extra={"reseller": row.reseller_id})

    # --- 4: the end ---

    async def _continue(self, after: int) -> None:
        await workflow.wait_condition(workflow.all_handlers_finished)
        so_far = SettlementSoFar(after=after, claims=self._claims, paused=self._paused)
        workflow.continue_as_new(self._start.model_copy(update={"so_far": so_far}))

    async def _until_none_is_open(self) -> None:
        """What was handed over says soon that it waits, or is paid by its own workflow.

        Should somebody have ended that one, nothing would ever say so: after a while all open ones are taken again.
        """
        pause = timedelta(seconds=1)
        run = SettlementRun(period=self._period, sequence=self._start.sequence)
        while True:
            self._counts = await self._patiently(SettlementActivities.count, run, "How far the closing is")
            self._show()
            if self._counts.open == 0:
                return
            if pause > LONGEST_PAUSE:
                await self._continue(after=0)
            await workflow.sleep(pause, summary=f"{self._counts.open} statements under way")
            pause *= 2

    # --- shared ---

    def _name(self) -> str:
        return ids.settlement_workflow(self._period, self._start.sequence)

    def _show(self) -> None:
        now = self._counts
        done = now.paid + now.carried
        lines = [
            f"**{self._period}**"
            + (f", supplement {self._start.sequence}" if self._start.sequence > 1 else "")
            + f": {done} of {now.total} done ({now.paid} paid, {now.carried} carried over), {now.parked} parked, "
            f"{now.waiting} waiting for the balance, {now.open} open"
        ]
        if self._paused is not None:
            lines.append(f"Paused by {self._paused.who}: {self._paused.why}. Send the update `resume`.")
        workflow.set_current_details("\n".join(lines))

    async def _log(self, action: str, order: OperatorOrder) -> None:
        line = LogInput(actor=order.who, action=action, target=f"period:{self._period}", why=order.why)
        await self._patiently(SettlementActivities.log_order, line, f"Note who {action} the closing")

    async def _patiently(
        self, step: Callable[[SettlementActivities, Given], Awaitable[Result]], given: Given, summary: str
    ) -> Result:
        """A small step in our database, until it is done, however long that is away."""
        options = policies.database_step(self._start.options.step_timeout_seconds, summary)
        while True:
            try:
                return await workflow.execute_local_activity_method(step, given, **options)
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise
            await workflow.sleep(DATABASE_PAUSE, summary="Our database did not answer; tried again after this")
