"""Composition root of the worker: builds gateways and store, registers workflows and activities, runs until stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.adjustments import AdjustmentActivities
from activities.billing import BillingActivities
from activities.chains import ChainActivities
from activities.charging import ChargingActivities
from activities.commissions import CommissionActivities
from activities.intake import IntakeActivities
from activities.onboarding import OnboardingActivities, ResellerAccounts
from activities.payouts import PayoutActivities
from activities.privacy import PrivateErrors
from activities.quoting import QuoteActivities
from activities.settlements import SettlementActivities, SettlementPayments
from activities.sweep import SweepActivities
from domain import ids
from domain.ports import CalendarGateway, PaymentGateway
from gateways.calcom import CalcomGateway
from gateways.stripe import StripeGateway
from settings import Settings, SettingsError, load
from starter import logs, loops
from starter.temporal import connect
from store import Store
from workflows.adjustment import AdjustmentWorkflow
from workflows.booking import BookingWorkflow
from workflows.onboarding import OnboardingWorkflow
from workflows.reseller_news import ResellerNewsWorkflow
from workflows.reseller_settlement import ResellerSettlementWorkflow
from workflows.settlement import SettlementWorkflow, approval_limits
from workflows.sweep import SweepWorkflow
from workflows.undo import UndoWorkflow

log = structlog.get_logger()

WORKFLOWS: Sequence[type] = (
    BookingWorkflow,
    UndoWorkflow,
    SettlementWorkflow,
    ResellerSettlementWorkflow,
    AdjustmentWorkflow,
    OnboardingWorkflow,
    ResellerNewsWorkflow,
    SweepWorkflow,
)

PASSED_THROUGH = ("pydantic", "pydantic_core", "activities", "domain", "workflows")
"""Imported once instead of for every workflow: import-linter and the replay tests guard what they may do."""


def workflow_runner(*, sandbox: bool) -> WorkflowRunner:
    """Temporal's workflow sandbox with our pure modules passed through, or none.

    Our modules are passed through, so the sandbox stops little of what would not replay, and takes a third of the
    worker's CPU time. What guards instead: the import contract `deterministic-workflows`, a test that no workflow asks
    another clock than Temporal's, all workflow tests in the sandbox, and the replay of recorded histories in both.
    """
    if not sandbox:
        return UnsandboxedWorkflowRunner()
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))


def chain_activities(store: Store, calendar: CalendarGateway, settings: Settings) -> list[Callable[..., Any]]:
    """Steps of the queue `billing`: Cal.com and our own database."""
    chains, quoting, billing = ChainActivities(store), QuoteActivities(store), BillingActivities(store)
    intake = IntakeActivities(store, calendar)
    commissions, adjustments = CommissionActivities(store), AdjustmentActivities(store)
    settlements = SettlementActivities(
        store, approval_from_minor=approval_limits(settings), issuer=settings.document_issuer
    )
    onboarding = OnboardingActivities(store)
    return [
        intake.read_booking,
        intake.take_in,
        chains.record,
        chains.undo_plan,
        quoting.quote,
        quoting.apply_terms,
        billing.bill,
        billing.correct_invoice,
        commissions.accrue,
        commissions.reverse,
        commissions.move,
        commissions.mature,
        commissions.mature_and_close,
        settlements.claim,
        settlements.unpaid,
        settlements.count,
        settlements.progress,
        settlements.park,
        settlements.approve,
        settlements.carry_over,
        settlements.log_order,
        adjustments.request_adjustment,
        adjustments.decide_adjustment,
        onboarding.check_master_data,
        onboarding.note_onboarding,
        SweepActivities(store, calendar).sweep_bookings,
    ]


def stripe_activities(store: Store, payments: PaymentGateway, settings: Settings) -> list[Callable[..., Any]]:
    """Steps of the queue `billing-stripe`."""
    per_second = settings.stripe_calls_per_second
    charging, payouts = ChargingActivities(store, payments), PayoutActivities(store, payments, per_second=per_second)
    resellers = ResellerAccounts(store, payments)
    return [
        charging.charge,
        charging.bill_and_charge,
        charging.check_payment,
        charging.refund,
        payouts.transfer,
        payouts.reverse_transfer,
        payouts.follow_transfer,
        SettlementPayments(store, payments, per_second=per_second).pay,
        resellers.open_account,
        resellers.read_account,
        resellers.make_link,
        resellers.follow_account,
        resellers.follow_payout,
    ]


def build_workers(
    client: Client, settings: Settings, store: Store, calendar: CalendarGateway, payments: PaymentGateway
) -> list[Worker]:
    """Two workers of one process: one a task queue. The Stripe queue's rate holds for all processes together."""
    chain = Worker(
        client,
        task_queue=ids.TASK_QUEUE_CHAIN,
        workflows=WORKFLOWS,
        activities=chain_activities(store, calendar, settings),
        workflow_runner=workflow_runner(sandbox=settings.worker_sandbox),
        interceptors=[PrivateErrors()],
        max_cached_workflows=settings.worker_max_cached_workflows,
        max_concurrent_activities=settings.worker_max_activities,
        max_concurrent_local_activities=settings.worker_max_activities,
    )
    stripe = Worker(
        client,
        task_queue=ids.TASK_QUEUE_STRIPE,
        activities=stripe_activities(store, payments, settings),
        interceptors=[PrivateErrors()],
        max_concurrent_activities=settings.worker_max_activities,
        max_task_queue_activities_per_second=settings.stripe_calls_per_second,
    )
    return [chain, stripe]


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; running steps are finished or handed back, nothing is lost."""
    if settings.metrics_port is not None:
        from prometheus_client import start_http_server

        start_http_server(settings.metrics_port)
    client = await connect(settings)
    store = Store(settings.sqlalchemy_url, pool_size=settings.database_pool_size)
    calendar = CalcomGateway(
        api_key=settings.calcom_api_key.get_secret_value(),
        base_url=settings.calcom_base_url,
        timeout_seconds=settings.http_timeout_seconds,
    )
    payments = StripeGateway(
        secret_key=settings.stripe_secret_key.get_secret_value(),
        base_url=settings.stripe_base_url,
        timeout_seconds=settings.http_timeout_seconds,
    )
    try:
        workers = build_workers(client, settings, store, calendar, payments)
        running = [asyncio.create_task(worker.run()) for worker in workers]
        stopping = asyncio.create_task(stop.wait())
        log.info("worker started", queues=[ids.TASK_QUEUE_CHAIN, ids.TASK_QUEUE_STRIPE])
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*running)
    finally:
        await asyncio.gather(calendar.aclose(), payments.aclose(), store.dispose())


def main() -> int:
    """Run a worker from the environment's settings. Exit code 2: the settings are not usable."""
    try:
        settings = load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2

    logs.configure(settings.log_level)

    async def until_signalled() -> None:
        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        await run(settings, stop)

    loops.run(until_signalled())
    return 0


if __name__ == "__main__":
    sys.exit(main())
