"""Whose account does an event at Stripe speak of? Its reseller's workflow reads again what changed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy

from domain import ids
from gateways.stripe_webhooks import BadWebhook, NotUnderstood, VerifiedEvent, parse_stripe
from settings import Settings
from starter.outcomes import Delivered, NotYet, Outcome
from store.database import Store
from store.rows import InboxRow
from workflows.onboarding_models import ResellerNewsInput
from workflows.reseller_news import ResellerNewsWorkflow

RPC_TIMEOUT: Final = timedelta(seconds=10)


class ResellerNews:
    """Tells `ResellerNewsWorkflow`, which is started where it does not run: no order of events loses one."""

    def __init__(self, *, store: Store, client: Client, settings: Settings) -> None:
        self._store = store
        self._client = client
        self._settings = settings

    async def tell_account(self, row: InboxRow) -> Outcome:
        """Any event that names the account: what it says is not looked at."""
        return await self._tell(_event(row), "account_changed")

    async def tell_payout(self, row: InboxRow) -> Outcome:
        event = _event(row)
        if event.object_id is None or event.object_type != "payout":
            raise NotYet("the event names no payout")
        return await self._tell(event, "payout_changed", str(event.account), event.object_id)

    async def tell_transfer(self, row: InboxRow) -> Outcome:
        """Something was taken back of a transfer. What our own records say already wakes nobody."""
        event = _event(row)
        if event.object_id is None or event.object_type != "transfer":
            raise NotYet("the event names no transfer")
        async with self._store.begin() as tx:
            known = await tx.money.transfer_of(event.object_id)
            begun = await tx.money.transfer(ids.of_try(event.related.get("billing_key", "")))
        if known is None and begun is not None:
            raise NotYet(f"it is not recorded yet that transfer {event.object_id} happened")
        if known is None:
            return Delivered("no transfer of ours")
        if known.reversed_minor == _amount_reversed(row.raw or b""):
            return Delivered("our records say the same")
        return await self._start(known.reseller_id, "transfer_changed", event.object_id)

    async def _tell(self, event: VerifiedEvent, signal: str, *args: str) -> Outcome:
        if event.account is None:
            return Delivered("of the platform's own account")
        async with self._store.begin() as tx:
            reseller_id = await tx.resellers.of_account(event.account)
        if reseller_id is None:
            # Also one that was made a moment ago and is not stored yet: who made it reads it afterwards.
            return Delivered("no reseller has this account")
        return await self._start(reseller_id, signal, *args)

    async def _start(self, reseller_id: str, signal: str, *args: str) -> Outcome:
        """Signal-with-start: no order of events can lose the signal."""
        await self._client.start_workflow(
            ResellerNewsWorkflow.run,
            ResellerNewsInput(
                reseller_id=reseller_id,
                step_timeout_seconds=self._settings.step_timeout_seconds,
                recheck_seconds=self._settings.park_recheck_seconds,
            ),
            id=ids.reseller_news_workflow(reseller_id),
            task_queue=ids.TASK_QUEUE_CHAIN,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            start_signal=signal,
            start_signal_args=list(args),
            static_summary=f"Follow the account of reseller {reseller_id}",
            rpc_timeout=RPC_TIMEOUT,
        )
        return Delivered(f"told the reseller's workflow: {signal}")


def _amount_reversed(raw: bytes) -> object:
    """What the event says was taken back of the transfer so far; compared only."""
    thing = json.loads(raw)["data"]["object"]
    return thing.get("amount_reversed")


def _event(row: InboxRow) -> VerifiedEvent:
    try:
        return parse_stripe(row.raw or b"")
    except (BadWebhook, NotUnderstood) as problem:
        raise NotYet(f"the stored body is not understood: {problem.reason}") from problem
