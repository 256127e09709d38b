"""What people order of the month's end: close it, look first, stop it, approve, carry over, correct, write off."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from temporalio.client import WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from domain import ids
from domain.effects import AdjustmentDirection, AdjustmentKind
from domain.orders import RESERVED, NotAllowed
from domain.pricing import period_bounds, period_of
from domain.settlement import Adjustment
from settings import Settings
from starter.orders import UPDATE_TIMEOUT, OrderRefused, Orders, explained, refused
from store.database import Store
from store.rows import SettlementRow
from workflows.adjustment import AdjustmentWorkflow
from workflows.booking import chain_options
from workflows.models import AdjustmentOrder, OperatorOrder, SettlementInput, SettlementState
from workflows.settlement import SettlementWorkflow, settlement_terms


async def preview(store: Store, settings: Settings, period: str, *, supplement: bool = False) -> list[SettlementRow]:
    """The statements that `settle` would freeze now; those of a month that is closed already, as they are.

    Writes nothing and needs no Temporal. The running month may be looked at. Raises OrderRefused.
    """
    terms = _closing(settings, period, "preview").terms
    _check_over(period, early=True)
    sequence = await _next_supplement(store, period) if supplement else 1
    async with store.begin() as tx:
        return await tx.settlements.preview(
            period,
            period_bounds(period)[1],
            sequence=sequence,
            requested_by="preview",
            negative_months=terms.negative_months,
            approval_from_minor=terms.approval_from_minor,
            issuer=settings.document_issuer,
        )


def _closing(settings: Settings, period: str, requested_by: str) -> SettlementInput:
    options, terms = chain_options(settings), settlement_terms(settings)
    try:
        return SettlementInput(period=period, requested_by=requested_by, options=options, terms=terms)
    except ValidationError as error:
        wrong = ", ".join(str(problem["loc"][0]) for problem in error.errors())
        raise OrderRefused(f"{wrong}: a month is written YYYY-MM, and somebody has to order it") from error


def _check_over(period: str, *, early: bool) -> None:
    """Refuses a month that is not over in Berlin: the running one without `early`, one that has not begun always.

    What a closing leaves over waits for a later month's: one of a far month would hold it for years.
    """
    running = period_of(datetime.now(UTC))
    if period > running:
        raise OrderRefused(f"{period} has not begun yet: there is nothing to close")
    if period == running and not early:
        raise OrderRefused(
            f"{period} is not over yet: what matures after its closing would wait for the next month. "
            "Order it early (--early) if that is meant"
        )


async def _next_supplement(store: Store, period: str) -> int:
    """The newest closing's number while it has open statements and is a supplement, or the next one."""
    async with store.begin() as tx:
        newest = await tx.settlements.latest_sequence(period)
        if newest == 0:
            raise OrderRefused(f"{period} is not closed yet: close it first, a supplement comes after that")
        unfinished = newest > 1 and (await tx.settlements.progress(period, newest)).open > 0
    return newest if unfinished else newest + 1


class SettlementOrders(Orders):
    """Months are `YYYY-MM` in Europe/Berlin; `sequence` 1 is a month's own closing, from 2 on its supplements.

    All raise OrderRefused with a sentence for a person; RPCError where Temporal does not answer.
    """

    # --- closing a month ---

    async def settle(self, period: str, requested_by: str, *, supplement: bool = False, early: bool = False) -> str:
        """Closes one month now; returns the workflow's id. A month that is not over only `early`, if it has begun.

        While a run of this month is under way that one is meant; a run after it pays nothing twice. `supplement` closes
        what came later than the month's closing; one that is not finished yet goes on instead of a new one. Who ordered
        it is recorded by the run.
        """
        start = _closing(self._settings, period, requested_by)
        if start.requested_by in RESERVED:
            raise OrderRefused(f"{start.requested_by} is how the system itself is recorded: give your own login")
        _check_over(period, early=early)
        if supplement:
            start = start.model_copy(update={"sequence": await _next_supplement(self._store, period)})
        workflow_id = ids.settlement_workflow(period, start.sequence)
        await self._client.start_workflow(
            SettlementWorkflow.run,
            start,
            id=workflow_id,
            task_queue=ids.TASK_QUEUE_CHAIN,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Settle {period}" + (f", supplement {start.sequence}" if supplement else ""),
            rpc_timeout=UPDATE_TIMEOUT,
        )
        return workflow_id

    async def preview(self, period: str, *, supplement: bool = False) -> list[SettlementRow]:
        """The module's `preview`."""
        return await preview(self._store, self._settings, period, supplement=supplement)

    async def closing_state(self, period: str, sequence: int = 1) -> SettlementState:
        """How far a closing is, by its own account."""
        workflow_id = self._checked(ids.settlement_workflow, period, sequence)
        handle = self._client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
        try:
            return await handle.query(SettlementWorkflow.state, rpc_timeout=UPDATE_TIMEOUT)
        except RPCError as error:
            raise explained(error, workflow_id) from error

    async def pause_settlement(self, period: str, order: OperatorOrder, sequence: int = 1) -> str:
        """Starts no further transfer of this closing; those that wait on their own are not held."""
        return await self._update([self._checked(ids.settlement_workflow, period, sequence)], "pause", order)

    async def resume_settlement(self, period: str, order: OperatorOrder, sequence: int = 1) -> str:
        return await self._update([self._checked(ids.settlement_workflow, period, sequence)], "resume", order)

    # --- one reseller's statement ---

    async def retry_settlement(
        self, period: str, reseller_id: str, currency: str, order: OperatorOrder, sequence: int = 1
    ) -> str:
        """Lets a parked or waiting statement try again now; returns what it answered."""
        return await self._tell_statement("retry", period, reseller_id, currency, sequence, order)

    async def approve_settlement(
        self, period: str, reseller_id: str, currency: str, order: OperatorOrder, sequence: int = 1
    ) -> str:
        """Lets a payment go, as the second person. Refused for everybody who asked for it."""
        return await self._tell_statement("approve", period, reseller_id, currency, sequence, order)

    async def carry_over(
        self, period: str, reseller_id: str, currency: str, order: OperatorOrder, sequence: int = 1
    ) -> str:
        """Leaves a waiting amount for the reseller's next statement."""
        return await self._tell_statement("carry_over", period, reseller_id, currency, sequence, order)

    async def _tell_statement(
        self, update: str, period: str, reseller_id: str, currency: str, sequence: int, order: OperatorOrder
    ) -> str:
        workflow_id = self._checked(ids.reseller_settlement_workflow, period, reseller_id, currency, sequence)
        return await self._update([workflow_id], update, order)

    # --- adjustments ---

    async def adjust(
        self,
        reseller_id: str,
        currency: str,
        amount_minor: int,
        direction: AdjustmentDirection,
        order: OperatorOrder,
        *,
        adjustment_id: str | None = None,
    ) -> tuple[str, str]:
        """Asks for a correction of what a reseller is owed; somebody else decides. Returns its id and a sentence.

        The same `adjustment_id` again is the same request; refused where it was another one, or is decided already.
        """
        fields = {
            "adjustment_id": adjustment_id or f"A-{secrets.token_hex(4)}",
            "reseller_id": reseller_id,
            "currency": currency,
            "amount_minor": amount_minor,
            "direction": direction,
        }
        return await self._ask(order, fields)

    async def write_off(self, reseller_id: str, currency: str, order: OperatorOrder) -> tuple[str, str]:
        """Asks to give up what an account holds open, whoever owes it; somebody else decides. Id and sentence.

        Refused where nothing is open, where something is on no statement yet or not paid yet, and while another
        write-off of the account waits.
        """
        try:
            async with self._store.begin() as tx:
                direction, amount_minor = await tx.settlements.to_write_off(reseller_id, currency)
        except NotAllowed as refusal:
            raise OrderRefused(str(refusal)) from refusal
        fields = {
            "adjustment_id": f"A-{secrets.token_hex(4)}",
            "reseller_id": reseller_id,
            "currency": currency,
            "amount_minor": amount_minor,
            "direction": direction,
            "kind": AdjustmentKind.WRITE_OFF,
        }
        return await self._ask(order, fields)

    async def decide_adjustment(self, adjustment_id: str, order: OperatorOrder, *, approved: bool = True) -> str:
        """Approves or rejects a correction or write-off, as the second person."""
        workflow_id = self._checked(ids.adjustment_workflow, adjustment_id)
        return await self._update([workflow_id], "approve" if approved else "reject", order)

    async def _ask(self, order: OperatorOrder, fields: dict[str, Any]) -> tuple[str, str]:
        try:
            start = AdjustmentOrder(**fields, order=order, options=chain_options(self._settings))
        except ValidationError as error:
            wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
            raise OrderRefused(wrong) from error
        workflow_id = ids.adjustment_workflow(start.adjustment_id)
        operation = WithStartWorkflowOperation(
            AdjustmentWorkflow.run,
            start,
            id=workflow_id,
            task_queue=ids.TASK_QUEUE_CHAIN,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"{start.kind.value.replace('_', '-').capitalize()} for reseller {start.reseller_id}",
        )
        try:
            told = await self._client.execute_update_with_start_workflow(
                "recorded", start_workflow_operation=operation, result_type=str, rpc_timeout=UPDATE_TIMEOUT
            )
        except WorkflowUpdateFailedError as error:
            raise refused(error) from error
        except WorkflowAlreadyStartedError as error:
            known = await self._known(start)
            became = "was refused" if known is None else f"was {known.status.value} by {known.decided_by}"
            raise OrderRefused(
                f"adjustment {start.adjustment_id} {became} before: a new request takes another id"
            ) from error
        except RPCError as error:
            raise explained(error, workflow_id) from error
        await self._known(start)
        return start.adjustment_id, str(told)

    async def _known(self, start: AdjustmentOrder) -> Adjustment | None:
        """What is recorded under the id. A workflow that ran already answers whatever it is asked for anew: refused
        where that is something else.
        """
        async with self._store.begin() as tx:
            known = await tx.settlements.adjustment(start.adjustment_id)
        if known is None:
            return None
        wanted = {
            **start.model_dump(include={"reseller_id", "currency", "amount_minor", "direction", "kind"}),
            "requested_by": start.order.who,
            "why": start.order.why,
        }
        other = ", ".join(name for name, value in wanted.items() if getattr(known, name) != value)
        if other:
            raise OrderRefused(
                f"adjustment {start.adjustment_id} is another request already (other {other}): take another id"
            )
        return known

    @staticmethod
    def _checked(make: Any, *parts: str | int) -> str:
        """A workflow's id from what a person typed."""
        try:
            return str(make(*parts))
        except ValueError as error:
            raise OrderRefused(f"nothing has such a name: {error}") from error
