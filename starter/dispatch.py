"""From an inbox row to its effect on a chain: which chain is it, may it be started, what is it told?

Every action may run twice for the same event, and in any order among events: starts are unique by workflow id and by
the chain's row in the database, signals only say "read it again".
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from gateways.calcom_webhooks import BadWebhook, NotUnderstood, parse_calcom
from settings import Settings
from starter.outcomes import Delivered, Held, NotYet, Outcome
from starter.payments import PaymentNews
from starter.reseller_news import ResellerNews
from starter.routing import SOURCE_CALCOM, Action, action_for
from store.database import Store
from store.rows import ChainRow, InboxRow, KeyConflict
from workflows import visibility
from workflows.booking import BookingWorkflow, booking_input

RPC_TIMEOUT: Final = timedelta(seconds=10)

WAITS_FOR_BOOKING: Final = frozenset({ChainStage.INTAKE, ChainStage.AWAITING_CONFIRMATION, ChainStage.PARKED})
"""Stages in which a confirmed booking is news to the chain."""

NOTHING_KEPT: Final = frozenset(
    {
        ChainOutcome.CANCELLED,
        ChainOutcome.REFUNDED,
        ChainOutcome.DECLINED,
        ChainOutcome.ROLLED_BACK,
        ChainOutcome.UNBILLABLE,
    }
)
"""Outcomes after which no money of the booking is kept."""

SETTLED_BY_CANCELLING: Final = NOTHING_KEPT | {ChainOutcome.CANCELLED_WITH_FEE}
"""Outcomes that a late cancellation does not change: nothing was kept, or the terms were applied already."""


@dataclass(frozen=True, slots=True)
class BookingNews:
    """What an event says of a booking: `uid` is what it is about, `earlier_uid` the booking that it replaces."""

    uid: str
    earlier_uid: str | None = None
    cancelled: bool = False
    """Found cancelled or rejected by the sweep, and not because it was rescheduled."""


def booking_news(row: InboxRow) -> BookingNews:
    """The ids in a row; nothing else is read from a body. Raises NotYet where it names no booking."""
    if row.object_id is None or not ids.is_safe(row.object_id):
        raise NotYet("the event names no booking")
    if row.raw is None:
        return BookingNews(row.object_id)
    if row.source == SOURCE_CALCOM:
        try:
            event = parse_calcom(row.raw)
        except (BadWebhook, NotUnderstood) as problem:
            raise NotYet(f"the stored body is not understood: {problem.reason}") from problem
        return BookingNews(row.object_id, event.reschedule_uid)
    return _sweep_news(row.object_id, row.raw)


def _sweep_news(uid: str, raw: bytes) -> BookingNews:
    """Body of a sweep's row: JSON `{"status": …, "rescheduled_from_uid": …, "rescheduled_to_uid": …}`, all optional."""
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        return BookingNews(uid)
    earlier = body.get("rescheduled_from_uid")
    cancelled = body.get("status") in ("cancelled", "rejected") and not body.get("rescheduled_to_uid")
    return BookingNews(uid, earlier if isinstance(earlier, str) and ids.is_safe(earlier) else None, cancelled)


class Dispatcher:
    """Delivers events. `deliver` raises NotYet: try later, then ask a person; anything else is an outage or a bug."""

    def __init__(self, *, store: Store, client: Client, settings: Settings) -> None:
        self._store = store
        self._client = client
        self._settings = settings
        self._payments = PaymentNews(store)
        self._resellers = ResellerNews(store=store, client=client, settings=settings)
        self._actions: dict[Action, Callable[[InboxRow], Awaitable[Outcome]]] = {
            Action.START_OR_CONFIRM: self._start_or_confirm,
            Action.START_IF_UNKNOWN: self._start_if_unknown,
            Action.START_OR_CHANGED: self._start_or_changed,
            Action.CANCEL: self._cancel,
            Action.REJECT: self._reject,
            Action.RESCHEDULE: self._reschedule,
            Action.NO_SHOW: self._no_show,
            Action.PAYMENT: self._payment,
            Action.ACCOUNT: self._account,
            Action.PAYOUT: self._payout,
            Action.TRANSFER: self._transfer,
            Action.IGNORE: self._ignore,
        }

    async def deliver(self, row: InboxRow) -> Outcome:
        """Acts on one event. Running it twice for one event does the same as once."""
        return await self._actions[action_for(row.source, row.type)](row)

    # --- the booking exists ---

    async def _start_or_confirm(self, row: InboxRow) -> Outcome:
        news = booking_news(row)
        if news.earlier_uid is not None:
            return await self._follow(news.uid, news.earlier_uid)
        chain_uid, chain = await self._chain_of(news.uid)
        started = await self._start(chain_uid, chain)
        if started is not None:
            return started
        if chain is not None and chain.stage not in WAITS_FOR_BOOKING:
            return Delivered("the chain is past its confirmation")
        return await self._tell(chain_uid, "confirmed")

    async def _start_if_unknown(self, row: InboxRow) -> Outcome:
        news = booking_news(row)
        if news.earlier_uid is not None:
            return await self._follow(news.uid, news.earlier_uid)
        chain_uid, chain = await self._chain_of(news.uid)
        return await self._start(chain_uid, chain) or Delivered("the chain is known")

    async def _start_or_changed(self, row: InboxRow) -> Outcome:
        news = booking_news(row)
        if news.earlier_uid is not None and not await self._is_known(news.uid):
            return await self._follow(news.uid, news.earlier_uid)
        chain_uid, chain = await self._chain_of(news.uid)
        if chain is not None and chain.stage is ChainStage.CLOSED and news.cancelled:
            return _after_close(chain, "the booking was cancelled")
        started = await self._start(chain_uid, chain)
        return started or await self._tell(chain_uid, "changed")

    async def _start(self, chain_uid: str, chain: ChainRow | None) -> Outcome | None:
        """Starts the chain unless it is known. None: it runs already (or Temporal still remembers that it ended).

        The database goes first: after Temporal's retention the id is free again, the chain's row is for ever.
        """
        if chain is not None and chain.stage is ChainStage.CLOSED:
            return Delivered("the chain has ended")
        if chain is not None and chain.stage is not ChainStage.INTAKE:
            return None
        try:
            await self._client.start_workflow(
                BookingWorkflow.run,
                booking_input(self._settings, chain_uid),
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                **_options(chain_uid),
            )
        except WorkflowAlreadyStartedError:
            return None
        return Delivered("started the chain")

    # --- the booking changed ---

    async def _cancel(self, row: InboxRow) -> Outcome:
        return await self._change(booking_news(row), "cancelled", "the booking was cancelled")

    async def _reject(self, row: InboxRow) -> Outcome:
        return await self._change(booking_news(row), "rejected", "the booking was rejected")

    async def _no_show(self, row: InboxRow) -> Outcome:
        return await self._change(booking_news(row), "no_show", "the attendee was reported absent")

    async def _change(self, news: BookingNews, signal: str, what: str) -> Outcome:
        """Tells the chain, which is started if it is unknown: then it reads that nothing is to be charged."""
        if news.earlier_uid is not None and not await self._is_known(news.uid):
            return await self._follow(news.uid, news.earlier_uid)
        chain_uid, chain = await self._chain_of(news.uid)
        if chain is not None and chain.stage is ChainStage.CLOSED:
            return _after_close(chain, what)
        try:
            await self._start_with(chain_uid, signal)
        except WorkflowAlreadyStartedError:
            return _after_close(await self._closed(chain_uid), what)
        return Delivered(f"told the chain: {signal}")

    async def _reschedule(self, row: InboxRow) -> Outcome:
        news = booking_news(row)
        if news.earlier_uid is None:
            raise NotYet("the rescheduling does not name the earlier booking")
        return await self._follow(news.uid, news.earlier_uid)

    async def _follow(self, new_uid: str, earlier_uid: str) -> Outcome:
        """The booking lives on under a new uid: its chain goes on, and from now on answers to both."""
        chain_uid, chain = await self._chain_of(earlier_uid)
        if chain is not None and chain.stage is ChainStage.CLOSED:
            return await self._follow_closed(new_uid, chain)
        try:
            async with self._store.begin() as tx:
                await tx.chains.open(chain_uid, ids.booking_workflow(chain_uid))
                await tx.chains.alias(new_uid, chain_uid)
        except KeyConflict:
            return Held(f"bookings {chain_uid} and {new_uid} are one after a rescheduling, but have a chain each")
        try:
            await self._start_with(chain_uid, "rescheduled", new_uid)
        except WorkflowAlreadyStartedError:
            return await self._follow_closed(new_uid, await self._closed(chain_uid))
        return Delivered("told the chain: rescheduled")

    async def _follow_closed(self, new_uid: str, earlier: ChainRow) -> Outcome:
        async with self._store.begin() as tx:
            if await tx.chains.booking(new_uid) is not None:
                return Delivered("a chain has read the rescheduled booking already")
        if earlier.outcome not in NOTHING_KEPT:
            return Held(f"rescheduled to {new_uid} after chain {earlier.chain_uid} closed as {earlier.outcome}")
        try:
            async with self._store.begin() as tx:
                await tx.chains.open(new_uid, ids.booking_workflow(new_uid))
                chain = await tx.chains.get(new_uid)
        except KeyConflict:
            return Held(f"booking {new_uid} belongs to chain {earlier.chain_uid}, which closed as {earlier.outcome}")
        return await self._start(new_uid, chain) or Delivered("the new chain runs already")

    # --- the payment changed ---

    async def _payment(self, row: InboxRow) -> Outcome:
        found = await self._payments.look_up(row)
        if found.chain_uid is None:
            raise NotYet(f"no chain of ours knows {row.object_id or 'the object'}")
        if found.already_known:
            return Delivered("our records say the same")
        async with self._store.begin() as tx:
            chain = await tx.chains.get(found.chain_uid)
        if chain is None:
            raise NotYet(f"chain {found.chain_uid} is not open yet")
        if chain.stage is ChainStage.CLOSED:
            if not found.matters_after_close:
                return Delivered("of no interest any more: the chain has ended")
            return Held(f"{row.type} of {row.object_id} after chain {chain.chain_uid} closed as {chain.outcome}")
        return await self._tell(chain.chain_uid, "payment_changed")

    # --- a reseller's account changed ---

    async def _account(self, row: InboxRow) -> Outcome:
        return await self._resellers.tell_account(row)

    async def _payout(self, row: InboxRow) -> Outcome:
        return await self._resellers.tell_payout(row)

    async def _transfer(self, row: InboxRow) -> Outcome:
        return await self._resellers.tell_transfer(row)

    async def _ignore(self, row: InboxRow) -> Outcome:
        return Delivered("nothing follows from this type")

    # --- shared ---

    async def _chain_of(self, uid: str) -> tuple[str, ChainRow | None]:
        """The chain that a booking belongs to, and its row if there is one.

        A chain of its own goes before an alias: that is a booking moved out of a chain that had ended without money.
        """
        async with self._store.begin() as tx:
            own = await tx.chains.get(uid)
            if own is not None:
                return uid, own
            chain_uid = await tx.chains.chain_of(uid)
            if chain_uid is None or chain_uid == uid:
                return uid, None
            return chain_uid, await tx.chains.get(chain_uid)

    async def _is_known(self, uid: str) -> bool:
        """Whether this uid has a chain already, its own or by a rescheduling."""
        chain_uid, chain = await self._chain_of(uid)
        return chain is not None or chain_uid != uid

    async def _start_with(self, chain_uid: str, signal: str, *args: str) -> None:
        """Signal-with-start: no order of events can lose the signal. Raises WorkflowAlreadyStartedError when closed."""
        await self._client.start_workflow(
            BookingWorkflow.run,
            booking_input(self._settings, chain_uid),
            start_signal=signal,
            start_signal_args=list(args),
            **_options(chain_uid),
        )

    async def _tell(self, chain_uid: str, signal: str) -> Outcome:
        """Signals the chain's workflow, or the one that undoes it after its end.

        Raises NotYet where neither runs: the next try finds the chain closed and goes by that.
        """
        workflow_ids = [ids.booking_workflow(chain_uid)]
        if signal == "payment_changed":
            workflow_ids.append(ids.undo_workflow(chain_uid))
        for workflow_id in workflow_ids:
            try:
                await self._client.get_workflow_handle(workflow_id).signal(signal, rpc_timeout=RPC_TIMEOUT)
                return Delivered(f"told the chain: {signal}")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
        raise NotYet(f"no workflow runs for chain {chain_uid}: it ended just now, or was ended by hand")

    async def _closed(self, chain_uid: str) -> ChainRow:
        """The row of a chain whose workflow has ended. Raises NotYet where the row is still open."""
        async with self._store.begin() as tx:
            chain = await tx.chains.get(chain_uid)
        if chain is None or chain.stage is not ChainStage.CLOSED:
            raise NotYet(f"workflow {ids.booking_workflow(chain_uid)} has ended, but its chain is not closed")
        return chain


def _options(chain_uid: str) -> dict[str, Any]:
    """What every start of a chain has in common."""
    return {
        "id": ids.booking_workflow(chain_uid),
        "task_queue": ids.TASK_QUEUE_CHAIN,
        "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
        "static_summary": visibility.summary(chain_uid),
        "static_details": visibility.DETAILS,
        "search_attributes": visibility.at_start(chain_uid),
        "rpc_timeout": RPC_TIMEOUT,
    }


def _after_close(chain: ChainRow, what: str) -> Outcome:
    """News of a booking whose chain has ended: a person decides, unless no more money could go back anyway."""
    if chain.outcome in SETTLED_BY_CANCELLING:
        return Delivered(f"the chain has ended: {chain.outcome}")
    return Held(f"{what} after chain {chain.chain_uid} closed as {chain.outcome}")
