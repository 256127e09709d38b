"""How an order reaches a workflow: an update with an answer, or a sentence that says why not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from settings import Settings
from store.database import Store

UPDATE_TIMEOUT: Final = timedelta(seconds=20)
"""An update needs a worker: without one it would wait for ever."""

_NOT_RUNNING: Final = "Temporal runs no workflow {}"
_NO_ANSWER: Final = "workflow {} did not answer in time: is a worker running?"


class OrderRefused(Exception):
    """The order cannot be carried out; nothing was done. `str()` says why, for the operator."""


class Orders:
    """What sends orders to workflows."""

    def __init__(self, *, store: Store, client: Client, settings: Settings) -> None:
        self._store = store
        self._client = client
        self._settings = settings

    async def _update(self, workflow_ids: Sequence[str], name: str, *args: Any) -> str:
        """Sends an update to the first of these workflows that runs; returns its answer."""
        for workflow_id in workflow_ids:
            handle = self._client.get_workflow_handle(workflow_id)
            try:
                async with asyncio.timeout(UPDATE_TIMEOUT.total_seconds()):
                    return str(await handle.execute_update(name, args=list(args), result_type=str))
            except WorkflowUpdateFailedError as error:
                raise refused(error) from error
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
                raise OrderRefused(_NO_ANSWER.format(workflow_id)) from error
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise explained(error, workflow_id) from error
        raise OrderRefused(_NOT_RUNNING.format(workflow_ids[0]))


def refused(error: WorkflowUpdateFailedError) -> OrderRefused:
    """What the workflow itself says."""
    cause = error.cause
    return OrderRefused(cause.message if isinstance(cause, ApplicationError) else str(cause))


def explained(error: RPCError, workflow_id: str) -> Exception:
    """The error for a person where we know what it means."""
    if error.status is RPCStatusCode.NOT_FOUND:
        return OrderRefused(_NOT_RUNNING.format(workflow_id))
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.FAILED_PRECONDITION):
        return OrderRefused(_NO_ANSWER.format(workflow_id))
    return error
