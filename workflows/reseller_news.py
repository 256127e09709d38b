"""What Stripe tells of a reseller's account after he was taken on: capabilities that come and go, payouts that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.models import TransferRef
    from activities.onboarding import ResellerAccounts
    from activities.onboarding_models import PayoutRef, ResellerRef
    from activities.payouts import PayoutActivities
    from domain import ids
    from workflows import policies, visibility
    from workflows.control import reason_of
    from workflows.onboarding_models import ResellerNewsInput

ACCOUNT_CHANGED = "account_changed"
"""Signal that the onboarding and waiting settlements understand."""

PAYMENT_CHANGED = "payment_changed"
"""Signal that lets a parked chain try its step again."""


@workflow.defn
class ResellerNewsWorkflow:
    """Reads again what Stripe told of one reseller. Id `reseller-news-{reseller}`; started by each event that finds it
    not running, so it lives for seconds.

    1. account: read and noted, once for all events that came meanwhile. His onboarding is told, and, where he can be
       paid now, each settlement and each booking that waits for him. Where he cannot, nobody else is told: the next
       payment reads it and parks.
    2. payouts: each is read and noted; a failure stands in the audit log and in `billing health`.
    3. transfers: what was taken back of one at Stripe by hand is recorded, and never sent again.
    4. ends when nothing is left. What fails asks for attention, and is tried again at the next event or the next look.
    """

    @workflow.init
    def __init__(self, start: ResellerNewsInput) -> None:
        self._start = start
        self._account_is_new = False
        self._payouts: dict[str, PayoutRef] = {}
        self._transfers: dict[str, TransferRef] = {}
        self._is_told = False

    @workflow.signal(description="Stripe says that the account changed")
    def account_changed(self) -> None:
        self._account_is_new = self._is_told = True

    @workflow.signal(description="Stripe says that a payout of the account changed (account, payout)")
    def payout_changed(self, account_id: str, payout_id: str) -> None:
        self._payouts[payout_id] = PayoutRef(
            reseller_id=self._start.reseller_id, account_id=account_id, payout_id=payout_id
        )
        self._is_told = True

    @workflow.signal(description="Stripe says that something was taken back of a transfer to the account (transfer)")
    def transfer_changed(self, transfer_id: str) -> None:
        self._transfers[transfer_id] = TransferRef(transfer_id=transfer_id)
        self._is_told = True

    @workflow.run
    async def run(self, start: ResellerNewsInput) -> None:
        while self._account_is_new or self._payouts or self._transfers:
            if self._account_is_new:
                self._account_is_new = False
                if not await self._done(self._follow_account, "account"):
                    self._account_is_new = True
            for payout_id in list(self._payouts):
                payout = self._payouts.pop(payout_id)
                if not await self._done(partial(self._follow_payout, payout), "payout"):
                    self._payouts.setdefault(payout_id, payout)
            for transfer_id in list(self._transfers):
                transfer = self._transfers.pop(transfer_id)
                if not await self._done(partial(self._follow_transfer, transfer), "transfer"):
                    self._transfers.setdefault(transfer_id, transfer)

    async def _follow_account(self) -> None:
        news = await workflow.execute_activity_method(
            ResellerAccounts.follow_account,
            ResellerRef(reseller_id=self._start.reseller_id),
            **self._options(f"Read the account of reseller {self._start.reseller_id}, which changed"),
        )
        told = [(one, ACCOUNT_CHANGED) for one in (ids.onboarding_workflow(self._start.reseller_id), *news.settlements)]
        told += [(one, PAYMENT_CHANGED) for one in news.chains]
        for workflow_id, signal in told:
            # One that has ended needs to hear nothing.
            with suppress(FailureError):
                await workflow.get_external_workflow_handle(workflow_id).signal(signal)

    async def _follow_payout(self, payout: PayoutRef) -> None:
        await workflow.execute_activity_method(
            ResellerAccounts.follow_payout, payout, **self._options(f"Read payout {payout.payout_id}, which changed")
        )

    async def _follow_transfer(self, transfer: TransferRef) -> None:
        await workflow.execute_activity_method(
            PayoutActivities.follow_transfer,
            transfer,
            **self._options(f"Read transfer {transfer.transfer_id}, of which something was taken back"),
        )

    def _options(self, summary: str) -> dict[str, Any]:
        """After the chains' own steps: nobody waits for these."""
        return {**policies.stripe_step(self._start.step_timeout_seconds, summary), "priority": policies.AFTER_CHAINS}

    async def _done(self, step: Callable[[], Awaitable[None]], what: str) -> bool:
        """Whether the step was done. Where it failed this waits for the next event or the next look."""
        self._is_told = False
        try:
            await step()
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            reason, detail = reason_of(error, what)
        else:
            return True
        workflow.upsert_search_attributes(
            [visibility.ATTENTION.value_set(True), visibility.REASON.value_set(reason.value)]
        )
        workflow.set_current_details(f"Needs a person: {reason} - {detail}")
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._is_told,
                timeout=timedelta(seconds=self._start.recheck_seconds),
                timeout_summary=f"Failed: {reason}; looks again by itself",
            )
        workflow.upsert_search_attributes([visibility.ATTENTION.value_set(False), visibility.REASON.value_unset()])
        return False
