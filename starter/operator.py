"""What operators order of chains: try again, roll back. Each order carries who and why, and is recorded."""

from __future__ import annotations

from typing import Final

from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from starter.orders import UPDATE_TIMEOUT, OrderRefused, explained
from starter.settlement_orders import SettlementOrders
from store.rows import ChainRow
from workflows.booking import BookingWorkflow, chain_options
from workflows.models import ChainState, OperatorOrder
from workflows.undo import UndoInput, UndoWorkflow

__all__ = ["Operator", "OrderRefused"]

NOTHING_TO_UNDO: Final = frozenset({ChainOutcome.CANCELLED, ChainOutcome.ROLLED_BACK, ChainOutcome.UNBILLABLE})


class Operator(SettlementOrders):
    """Orders to chains, and those of `SettlementOrders`. Methods take a chain's uid or any that its booking ever had.

    All raise OrderRefused with a sentence for a person; RPCError where Temporal does not answer.
    """

    async def retry(self, uid: str, order: OperatorOrder) -> str:
        """Lets a parked chain go on, also one that parked while it was undone; returns what it answered."""
        chain_uid, chain = await self._chain(uid)
        if chain is not None and chain.stage is ChainStage.CLOSED:
            raise OrderRefused(f"chain {chain_uid} has ended as {chain.outcome}: there is nothing to try again")
        workflow_ids = [ids.booking_workflow(chain_uid)]
        if chain is not None and chain.stage in (ChainStage.UNDOING, ChainStage.PARKED):
            workflow_ids.append(ids.undo_workflow(chain_uid))
        return await self._update(workflow_ids, "retry", order)

    async def roll_back(self, uid: str, order: OperatorOrder) -> str:
        """Undoes everything of a chain; one that has ended is undone by a workflow of its own, at most once."""
        chain_uid, chain = await self._chain(uid)
        if chain is None or chain.stage is not ChainStage.CLOSED:
            return await self._update([ids.booking_workflow(chain_uid)], "roll_back", order)
        if chain.outcome in NOTHING_TO_UNDO:
            raise OrderRefused(f"chain {chain_uid} has ended as {chain.outcome}: there is nothing to undo")
        return await self._undo_closed(chain_uid, order)

    async def state(self, uid: str) -> ChainState:
        """The chain's own account of itself, also after it has ended (while Temporal remembers it)."""
        chain_uid, _ = await self._chain(uid)
        handle = self._client.get_workflow_handle_for(BookingWorkflow.run, ids.booking_workflow(chain_uid))
        try:
            return await handle.query(BookingWorkflow.state, rpc_timeout=UPDATE_TIMEOUT)
        except RPCError as error:
            raise explained(error, ids.booking_workflow(chain_uid)) from error

    async def _chain(self, uid: str) -> tuple[str, ChainRow | None]:
        if not ids.is_safe(uid):
            raise OrderRefused("that is no uid of a booking: 1 to 120 of A-Z a-z 0-9 _ . : -")
        async with self._store.begin() as tx:
            own = await tx.chains.get(uid)
            if own is not None:
                return uid, own
            chain_uid = await tx.chains.chain_of(uid) or uid
            return chain_uid, await tx.chains.get(chain_uid)

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
