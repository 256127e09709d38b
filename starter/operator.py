"""What operators order: try again, roll back, settle a month. Each order carries who and why, and is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from pydantic import ValidationError
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from settings import Settings
from store.database import Store
from store.rows import ChainRow
from workflows.booking import BookingWorkflow, chain_options
from workflows.models import ChainState, OperatorOrder, SettlementInput
from workflows.settlement import SettlementWorkflow
from workflows.undo import UndoInput, UndoWorkflow

UPDATE_TIMEOUT: Final = timedelta(seconds=20)
"""An update needs a worker: without one it would wait for ever."""

NOTHING_TO_UNDO: Final = frozenset({ChainOutcome.CANCELLED, ChainOutcome.ROLLED_BACK, ChainOutcome.UNBILLABLE})


class OrderRefused(Exception):
    """The order cannot be carried out; nothing was done. `str()` says why, for the operator."""


class Operator:
    """Orders to chains and settlements. Methods take a chain's uid or any uid that its booking ever had.

    All raise OrderRefused with a sentence for a person; RPCError where Temporal does not answer.
    """

    def __init__(self, *, store: Store, client: Client, settings: Settings) -> None:
        self._store = store
        self._client = client
        self._settings = settings

    async def retry(self, uid: str, order: OperatorOrder) -> str:
        """Lets a parked chain go on, also one that parked while it was undone; returns what it answered."""
        chain_uid, chain = await self._chain(uid)
        if chain is not None and chain.stage is ChainStage.CLOSED:
            raise OrderRefused(f"chain {chain_uid} has ended as {chain.outcome}: there is nothing to try again")
        workflow_ids = [ids.booking_workflow(chain_uid)]
        if chain is not None and chain.stage in (ChainStage.UNDOING, ChainStage.PARKED):
            workflow_ids.append(ids.undo_workflow(chain_uid))
        return await self._update(workflow_ids, "retry", order)

    async def retry_settlement(self, period: str, reseller_id: str, currency: str, order: OperatorOrder) -> str:
        """Lets a parked settlement of one reseller's month go on; returns what it answered."""
        try:
            workflow_id = ids.reseller_settlement_workflow(period, reseller_id, currency)
        except ValueError as error:
            raise OrderRefused(f"no settlement has such a name: {error}") from error
        return await self._update([workflow_id], "retry", order)

    async def roll_back(self, uid: str, order: OperatorOrder) -> str:
        """Undoes everything of a chain; one that has ended is undone by a workflow of its own, at most once."""
        chain_uid, chain = await self._chain(uid)
        if chain is None or chain.stage is not ChainStage.CLOSED:
            return await self._update([ids.booking_workflow(chain_uid)], "roll_back", order)
        if chain.outcome in NOTHING_TO_UNDO:
            raise OrderRefused(f"chain {chain_uid} has ended as {chain.outcome}: there is nothing to undo")
        return await self._undo_closed(chain_uid, order)

    async def settle(self, period: str, requested_by: str) -> str:
        """Settles one month (`YYYY-MM`, Europe/Berlin) now; returns the workflow's id.

        While a run of this month is under way that one is meant; a run after it pays nothing twice. Who ordered it is
        recorded by the run.
        """
        options = chain_options(self._settings)
        try:
            start = SettlementInput(period=period, requested_by=requested_by, options=options)
        except ValidationError as error:
            wrong = ", ".join(str(problem["loc"][0]) for problem in error.errors())
            raise OrderRefused(f"{wrong}: a month is written YYYY-MM, and somebody has to order it") from error
        workflow_id = ids.settlement_workflow(period)
        await self._client.start_workflow(
            SettlementWorkflow.run,
            start,
            id=workflow_id,
            task_queue=ids.TASK_QUEUE_CHAIN,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Settle {period}",
            rpc_timeout=UPDATE_TIMEOUT,
        )
        return workflow_id

    async def state(self, uid: str) -> ChainState:
        """The chain's own account of itself, also after it has ended (while Temporal remembers it)."""
        chain_uid, _ = await self._chain(uid)
        handle = self._client.get_workflow_handle_for(BookingWorkflow.run, ids.booking_workflow(chain_uid))
        try:
            return await handle.query(BookingWorkflow.state, rpc_timeout=UPDATE_TIMEOUT)
        except RPCError as error:
            raise _explained(error, ids.booking_workflow(chain_uid)) from error

    async def _chain(self, uid: str) -> tuple[str, ChainRow | None]:
        if not ids.is_safe(uid):
            raise OrderRefused("that is no uid of a booking: 1 to 120 of A-Z a-z 0-9 _ . : -")
        async with self._store.begin() as tx:
            own = await tx.chains.get(uid)
            if own is not None:
                return uid, own
            chain_uid = await tx.chains.chain_of(uid) or uid
            return chain_uid, await tx.chains.get(chain_uid)

    async def _update(self, workflow_ids: Sequence[str], name: str, order: OperatorOrder) -> str:
        """Sends an update to the first of these workflows that runs."""
        for workflow_id in workflow_ids:
            handle = self._client.get_workflow_handle(workflow_id)
            try:
                async with asyncio.timeout(UPDATE_TIMEOUT.total_seconds()):
                    return str(await handle.execute_update(name, order, result_type=str))
            except WorkflowUpdateFailedError as error:
                cause = error.cause
                raise OrderRefused(cause.message if isinstance(cause, ApplicationError) else str(cause)) from error
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
                raise OrderRefused(_NO_ANSWER.format(workflow_id)) from error
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise _explained(error, workflow_id) from error
        raise OrderRefused(_NOT_RUNNING.format(workflow_ids[0]))

    async def _undo_closed(self, chain_uid: str, order: OperatorOrder) -> str:
        try:
            await self._client.start_workflow(
                UndoWorkflow.run,
                UndoInput(chain_uid=chain_uid, order=order, options=chain_options(self._settings)),
                id=ids.undo_workflow(chain_uid),
                task_queue=ids.TASK_QUEUE_CHAIN,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=f"Undo booking {chain_uid}",
                rpc_timeout=UPDATE_TIMEOUT,
            )
        except WorkflowAlreadyStartedError as error:
            undo_id = ids.undo_workflow(chain_uid)
            raise OrderRefused(f"chain {chain_uid} is being undone, or was: see workflow {undo_id}") from error
        return f"chain {chain_uid} has ended and is undone by {ids.undo_workflow(chain_uid)}"


_NOT_RUNNING: Final = "Temporal runs no workflow {}"
_NO_ANSWER: Final = "workflow {} did not answer in time: is a worker running?"


def _explained(error: RPCError, workflow_id: str) -> Exception:
    """The error for a person where we know what it means."""
    if error.status is RPCStatusCode.NOT_FOUND:
        return OrderRefused(_NOT_RUNNING.format(workflow_id))
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION):
        return OrderRefused(_NO_ANSWER.format(workflow_id))
    return error
