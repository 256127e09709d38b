"""What is ordered of onboardings: begin, a fresh link, retry, stop; and telling one that its reseller changed."""

from __future__ import annotations

import asyncio

from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from domain import ids
from settings import Settings
from starter.orders import UPDATE_TIMEOUT, OrderRefused, Orders, explained, refused
from starter.settlement_news import ACCOUNT_CHANGED, waiting_workflows
from store.reseller_rows import LinkRow
from workflows import visibility
from workflows.models import OperatorOrder
from workflows.onboarding import OnboardingWorkflow
from workflows.onboarding_models import OnboardingInput, OnboardingOptions

DETAILS = (
    "Takes a reseller on: checks his master data, makes his account at Stripe, gives him links and reminds him until "
    "he can be paid. Takes the updates `link`, `retry` and `stop` (who, why)."
)


class NoLink(OrderRefused):
    """There is no link to give. `is_early`: the last one was made a moment ago."""

    def __init__(self, why: str, *, is_early: bool = False) -> None:
        super().__init__(why)
        self.is_early = is_early


def onboarding_options(settings: Settings) -> OnboardingOptions:
    """The settings an onboarding freezes at its start."""
    return OnboardingOptions(
        step_timeout_seconds=settings.step_timeout_seconds,
        park_recheck_seconds=settings.park_recheck_seconds,
        poll_seconds=settings.onboarding_poll_seconds,
        reminder_seconds=settings.onboarding_reminders,
        base_url=settings.onboarding_address,
    )


class Onboarding(Orders):
    """All raise OrderRefused with a sentence for a person; RPCError where Temporal does not answer."""

    async def start(self, reseller_id: str, order: OperatorOrder) -> str:
        """Begins to take a reseller on, or goes on with the one that runs; returns the workflow's id."""
        workflow_id = ids.onboarding_workflow(reseller_id)
        await self._client.start_workflow(
            OnboardingWorkflow.run,
            OnboardingInput(reseller_id=reseller_id, order=order, options=onboarding_options(self._settings)),
            id=workflow_id,
            task_queue=ids.TASK_QUEUE_CHAIN,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Take reseller {reseller_id} on",
            static_details=DETAILS,
            search_attributes=visibility.of_reseller(reseller_id),
            rpc_timeout=UPDATE_TIMEOUT,
        )
        return workflow_id

    async def link(self, reseller_id: str, order: OperatorOrder) -> LinkRow:
        """A fresh link; begins to take him on where nobody did. SECRET."""
        await self.start(reseller_id, order)
        return await self._link(reseller_id, "link", order)

    async def renew(self, reseller_id: str) -> LinkRow:
        """A fresh link for the browser of a reseller who is being taken on. Raises NoLink. SECRET."""
        return await self._link(reseller_id, "renew")

    async def _link(self, reseller_id: str, name: str, *args: OperatorOrder) -> LinkRow:
        workflow_id = ids.onboarding_workflow(reseller_id)
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            async with asyncio.timeout(UPDATE_TIMEOUT.total_seconds()):
                link_id = await handle.execute_update(name, args=list(args), result_type=int)
        except WorkflowUpdateFailedError as error:
            is_early = isinstance(error.cause, ApplicationError) and error.cause.type == "TooSoon"
            raise NoLink(str(refused(error)), is_early=is_early) from error
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            raise OrderRefused(f"workflow {workflow_id} did not answer in time: is a worker running?") from error
        except RPCError as error:
            raise explained(error, workflow_id) from error
        async with self._store.begin() as tx:
            return await tx.resellers.link(link_id)

    async def retry(self, reseller_id: str, order: OperatorOrder) -> str:
        """Lets a parked onboarding go on."""
        return await self._update([ids.onboarding_workflow(reseller_id)], "retry", order)

    async def stop(self, reseller_id: str, order: OperatorOrder) -> str:
        """Ends an onboarding; an account that was made stays."""
        return await self._update([ids.onboarding_workflow(reseller_id)], "stop", order)

    async def tell_changed(self, reseller_id: str) -> list[str]:
        """Tell whoever waits for this reseller that his data changed, or that he was resumed; returns who heard it."""
        told = []
        signals = [(ids.onboarding_workflow(reseller_id), "reseller_changed")]
        signals += [(one, ACCOUNT_CHANGED) for one in await waiting_workflows(self._store, reseller_id)]
        for workflow_id, signal in signals:
            try:
                await self._client.get_workflow_handle(workflow_id).signal(signal, rpc_timeout=UPDATE_TIMEOUT)
                told.append(workflow_id)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        return told
