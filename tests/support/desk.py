"""The whole system for tests: real servers, a worker in this process, and what people do from outside.

One `Desk` serves a whole session of tests. Tests stay apart by the uids of their bookings and by the event types of
`catalog.yaml`, so they can look at the cent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDReusePolicy

from domain import ids
from domain.catalog import parse_catalog
from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from gateways.calcom import CalcomGateway
from gateways.stripe import StripeGateway
from local.environment import ANY_PORTS, Environment, Wishes
from local.setup import set_up
from settings import Settings
from starter.operator import Operator
from starter.temporal import connect
from store import Store
from store.audit import audit
from store.rows import ChainRow, ChargeRow
from tests.support.failures import Failures
from tests.support.sandboxes import CalcomDesk, StripeDesk
from worker import build_workers
from workflows import visibility
from workflows.booking import BookingWorkflow, booking_input
from workflows.models import ChainOptions, ChainState, OperatorOrder
from workflows.undo import UndoWorkflow

CATALOGUE = Path(__file__).with_name("catalog.yaml")
NEED_CONFIRMATION = (105,)
"""Event types whose bookings the organizer has to confirm."""
ORDER = OperatorOrder(who="ops-anna", why="test of an order")

SHORT = {
    "DUNNING_ATTEMPTS": "2",
    "DUNNING_INTERVAL_SECONDS": "1",
    "PARK_RECHECK_SECONDS": "600",
    "PAYMENT_POLL_SECONDS": "1",
    "STEP_TIMEOUT_SECONDS": "30",
    "STRIPE_CALLS_PER_SECOND": "200",
    "SETTLEMENT_DAY": "3",
    "WORKER_SANDBOX": "true",
}
"""Short waits, except for parked chains: those wait for the test, not for the clock."""

WISHES = Wishes(
    **{
        **{name: getattr(ANY_PORTS, name) for name in ANY_PORTS.__dataclass_fields__},
        "settings": SHORT,
        "stripe_options": ("--sepa-after-seconds", "2"),
    }
)


async def eventually(look: Callable[[], Awaitable[Any]], what: str, timeout_seconds: float = 15) -> Any:
    """The first truthy answer of `look`, asked every 50 ms; fails with `what` and the last answer after the timeout."""
    answer: Any = None
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    while asyncio.get_running_loop().time() < deadline:
        answer = await look()
        if answer:
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout_seconds} s; last seen: {answer!r}")


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def ahead(**span: float) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


@dataclass
class Desk:
    """What tests hold."""

    settings: Settings
    store: Store
    client: Client
    operator: Operator
    payments: StripeGateway
    calcom: CalcomDesk
    stripe: StripeDesk
    failures: Failures
    expected: list[str] = field(default_factory=list)
    known_findings: set[str] = field(default_factory=set)

    # --- bookings and chains ---

    async def book(self, event_type_id: int, *, start_at: datetime | None = None, **more: Any) -> str:
        """Plant one booking, which began two days ago unless told otherwise; returns its uid. Nothing starts."""
        spec = self.calcom.booking(event_type_id, start_at=start_at or ago(days=2), **more)
        (uid,) = await self.calcom.plant(spec)
        return uid

    async def start(self, uid: str, **options: Any) -> WorkflowHandle[Any, Any]:
        """Start the chain of a booking as the webhook app does; `options` override the settings' for this chain."""
        order = booking_input(self.settings, uid)
        if options:
            changed = ChainOptions.model_validate({**order.options.model_dump(), **options})
            order = order.model_copy(update={"options": changed})
        return await self.client.start_workflow(
            BookingWorkflow.run,
            order,
            id=ids.booking_workflow(uid),
            task_queue=ids.TASK_QUEUE_CHAIN,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=visibility.summary(uid),
            static_details=visibility.DETAILS,
            search_attributes=visibility.at_start(uid),
        )

    async def begin(self, event_type_id: int, *, start_at: datetime | None = None, **more: Any) -> str:
        """Book and start with the usual options; returns the uid."""
        uid = await self.book(event_type_id, start_at=start_at, **more)
        await self.start(uid)
        return uid

    def handle(self, uid: str) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle_for(BookingWorkflow.run, ids.booking_workflow(uid))

    async def signal(self, uid: str, name: str, *args: Any) -> None:
        await self.handle(uid).signal(name, args=list(args))

    async def row(self, uid: str) -> ChainRow | None:
        async with self.store.begin() as tx:
            return await tx.chains.get(uid)

    async def state(self, uid: str) -> ChainState:
        answer: ChainState = await self.handle(uid).query(BookingWorkflow.state)
        return answer

    async def outcome(self, uid: str, timeout_seconds: float = 20) -> ChainOutcome:
        """Wait for the chain's end; the row says the same as the workflow's result."""
        result = ChainOutcome(await asyncio.wait_for(self.handle(uid).result(), timeout_seconds))
        row = await self.row(uid)
        assert row is not None
        assert (row.stage, row.outcome) == (ChainStage.CLOSED, result)
        return result

    async def until(
        self, uid: str, stage: ChainStage, reason: ParkReason | None = None, timeout_seconds: float = 15
    ) -> ChainRow:
        """Wait until the chain's row shows a stage, and for parked ones the reason."""
        seen: list[str] = []

        async def look() -> ChainRow | None:
            row = await self.row(uid)
            if row is not None:
                seen[:] = [f"{row.stage} {row.reason} {row.outcome} {row.detail}"]
            return row if row is not None and row.stage is stage and row.reason is reason else None

        try:
            found: ChainRow = await eventually(look, f"{uid} in {stage} ({reason})", timeout_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the chain is in {seen}; {await self.tail(uid)}") from None
        return found

    async def tail(self, uid: str) -> str:
        """The end of the chain's history, for a failing test's message."""
        history = await self.handle(uid).fetch_history()
        events = [str(event).replace("\n", " ") for event in history.events[-5:]]
        return "its history ends with\n" + "\n".join(event[:1_500] for event in events)

    async def parked(self, uid: str, reason: ParkReason) -> ChainRow:
        """Wait until the chain is parked for a reason; then it says so, with a deadline."""
        row = await self.until(uid, ChainStage.PARKED, reason)
        assert row.deadline_at is not None
        assert row.waits_for
        return row

    async def roll_back(self, uid: str) -> ChainOutcome:
        await self.operator.roll_back(uid, ORDER)
        return await self.outcome(uid)

    async def retry_undo(self, uid: str) -> None:
        """Let the workflow that undoes a closed chain try again."""
        handle = self.client.get_workflow_handle_for(UndoWorkflow.run, ids.undo_workflow(uid))
        await handle.execute_update("retry", ORDER, result_type=str)

    async def until_outcome(self, uid: str, outcome: ChainOutcome) -> ChainRow:
        """Wait until the chain's row says how it ended, also after it had ended otherwise."""

        async def look() -> ChainRow | None:
            row = await self.row(uid)
            return row if row is not None and row.outcome is outcome else None

        found: ChainRow = await eventually(look, f"{uid} closed as {outcome}")
        return found

    async def undone(self, uid: str) -> list[str]:
        """Names of the compensations that ran, in their order."""
        return [step.removeprefix("undone: ") for step in (await self.state(uid)).steps if step.startswith("undone: ")]

    # --- money ---

    async def balances(self, uid: str) -> dict[str, tuple[str, int]]:
        """Accounts of one booking that are not at zero, with the balance's side (`debit` or `credit`) and amount."""
        async with self.store.begin() as tx:
            rows = await tx.ledger.chain_balances(uid)
        found = {}
        for row in rows:
            if row.debit_minor > row.credit_minor:
                found[row.account] = ("debit", row.debit_minor - row.credit_minor)
            elif row.credit_minor > row.debit_minor:
                found[row.account] = ("credit", row.credit_minor - row.debit_minor)
        return found

    async def fee_minor(self, uid: str) -> int:
        """What Stripe kept of the chain's charges."""
        async with self.store.begin() as tx:
            return sum(row.fee_minor or 0 for row in await tx.money.chain_charges(uid))

    async def assert_balanced(self, uid: str) -> None:
        """Every account of the booking is back at zero, but for the fee that Stripe keeps."""
        fee_minor = await self.fee_minor(uid)
        expected = {"stripe": ("credit", fee_minor), "stripe_fees": ("debit", fee_minor)} if fee_minor else {}
        assert await self.balances(uid) == expected

    async def commissions(self, uid: str) -> dict[str, tuple[int, int, str]]:
        """Reseller → (accrued, reversed, status)."""
        async with self.store.begin() as tx:
            rows = await tx.money.commissions(uid)
        return {row.reseller_id: (row.accrued_minor, row.reversed_minor, row.status.value) for row in rows}

    async def entry_keys(self, uid: str) -> list[str]:
        async with self.store.begin() as tx:
            return [entry.key for entry in await tx.ledger.entries(uid)]

    async def charges(self, uid: str) -> list[ChargeRow]:
        """One row for each dunning attempt, in order."""
        async with self.store.begin() as tx:
            return await tx.money.chain_charges(uid)

    async def payment_method(self, customer_id: str) -> str:
        async with self.store.begin() as tx:
            return (await tx.catalog.customer(customer_id)).payment_method_id or ""

    async def account(self, reseller_id: str) -> str:
        async with self.store.begin() as tx:
            return (await tx.catalog.reseller(reseller_id)).stripe_account_id or ""

    # --- looking back ---

    async def findings(self) -> list[str]:
        """What the audit says of the whole system, Stripe's own books included, and did not say before.

        Nothing gets a grace period. `expected` words are struck out, for what a test breaks on purpose.
        """
        found = await audit(self.store, self.payments, grace_seconds=0)
        words = [f"{one.invariant} {one.where}: {one.what} ({one.expected} | {one.found})" for one in found]
        new = [one for one in words if one not in self.known_findings]
        self.known_findings.update(new)
        return [one for one in new if not any(word in one for word in self.expected)]


@asynccontextmanager
async def desk(state_dir: Path) -> AsyncIterator[Desk]:
    """Start everything below `state_dir` and a worker in this process; end all of it in the end."""
    async with AsyncExitStack() as stack:
        environment = stack.enter_context(Environment(state_dir, WISHES, say=lambda _: None))
        await asyncio.to_thread(environment.start)
        settings = environment.settings()
        await set_up(settings, CATALOGUE, provision=True, by="tests")
        open_desk = await _open(stack, environment, settings)
        await open_desk.stripe.pause_webhooks()
        event_types = parse_catalog(CATALOGUE.read_text()).mappings.event_types
        await open_desk.calcom.event_types({one: one in NEED_CONFIRMATION for one in event_types})
        yield open_desk


async def _open(stack: AsyncExitStack, environment: Environment, settings: Settings) -> Desk:
    failures = Failures()
    plain = await connect(settings)
    client = Client(
        plain.service_client,
        namespace=plain.namespace,
        data_converter=plain.data_converter,
        interceptors=[failures],
    )
    store = await stack.enter_async_context(Store(settings.sqlalchemy_url, pool_size=16))
    calendar = CalcomGateway(
        api_key=settings.calcom_api_key.get_secret_value(), base_url=settings.calcom_base_url, timeout_seconds=10
    )
    payments = StripeGateway(
        secret_key=settings.stripe_secret_key.get_secret_value(), base_url=settings.stripe_base_url, timeout_seconds=10
    )
    stack.push_async_callback(calendar.aclose)
    stack.push_async_callback(payments.aclose)
    for worker in build_workers(client, settings, store, calendar, payments):
        await stack.enter_async_context(worker)
    calcom = CalcomDesk(settings.calcom_base_url, settings.calcom_api_key.get_secret_value())
    stripe = StripeDesk(environment.addresses["stripe sandbox"], settings.stripe_secret_key.get_secret_value())
    return Desk(
        settings=settings,
        store=store,
        client=client,
        operator=Operator(store=store, client=client, settings=settings),
        payments=payments,
        calcom=await stack.enter_async_context(calcom),
        stripe=await stack.enter_async_context(stripe),
        failures=failures,
    )
