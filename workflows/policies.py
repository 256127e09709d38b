"""Time-outs, retry policies and task queues of all steps.

A time-out is not a failure: an outside step is retried with its idempotency key until `step_timeout`, then the chain
parks with `outcome_unknown` and looks again at its deadline.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.common import Priority, RetryPolicy
from temporalio.workflow import ActivityCancellationType

from domain import ids

NEVER_RETRIED = ["SetupError", "NotFound", "PayloadsTooLarge"]

OUTSIDE_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=60),
    non_retryable_error_types=NEVER_RETRIED,
)
"""Calls to Stripe and Cal.com: 1, 2, 4 … 60 seconds apart; a rate limit's own hint goes before."""

DATABASE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=NEVER_RETRIED,
)

UNTIL_KNOWN = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
"""A cancelled chain waits for the step under way: undoing must not overtake an effect that is still on its way."""

STRIPE_CALL_TIMEOUT = timedelta(seconds=60)
"""One try: the HTTP limit of 20 s twice (a look-up, then the effect) and two transactions."""

CALCOM_CALL_TIMEOUT = timedelta(seconds=90)
"""One try: following reschedulings may take several calls."""

AT_ONCE_TIMEOUT = timedelta(seconds=1.5)
"""It holds a place of the worker's local steps, which all chains share, and the workflow task that it runs in."""

DATABASE_TIMEOUT = timedelta(seconds=15)

LONG_DATABASE_TIMEOUT = timedelta(hours=1)
"""A claim over millions of commissions, on a server that is busy."""

HEARTBEAT_TIMEOUT = timedelta(seconds=15)
"""Three beats and more: a worker that died is noticed long before the step's own limit."""

AFTER_CHAINS = Priority(priority_key=4)
"""The default is 3. Month ends fill the rate-capped queue for minutes."""


def stripe_step(step_timeout_seconds: float, summary: str) -> dict[str, Any]:
    """Options of a step that calls Stripe: a row of its own in the Web UI, on the rate-capped queue."""
    return {
        "task_queue": ids.TASK_QUEUE_STRIPE,
        "start_to_close_timeout": STRIPE_CALL_TIMEOUT,
        "schedule_to_close_timeout": timedelta(seconds=step_timeout_seconds) + STRIPE_CALL_TIMEOUT,
        "retry_policy": OUTSIDE_RETRY,
        "cancellation_type": UNTIL_KNOWN,
        "summary": summary,
    }


def settlement_step(step_timeout_seconds: float, summary: str, *, tries: int | None = None) -> dict[str, Any]:
    """`stripe_step` for a month's transfer: after the chains' own steps, which a customer may be waiting for.

    `tries` bounds how often it is tried; without, only the time does.
    """
    options = {
        **stripe_step(step_timeout_seconds, summary),
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "priority": AFTER_CHAINS,
    }
    if tries is not None:
        options["retry_policy"] = replace(OUTSIDE_RETRY, maximum_attempts=tries)
    return options


def calcom_step(step_timeout_seconds: float, summary: str) -> dict[str, Any]:
    return {
        "start_to_close_timeout": CALCOM_CALL_TIMEOUT,
        "schedule_to_close_timeout": timedelta(seconds=step_timeout_seconds) + CALCOM_CALL_TIMEOUT,
        "retry_policy": OUTSIDE_RETRY,
        "summary": summary,
    }


def at_once(summary: str) -> dict[str, Any]:
    """Options of one local try of a step that mostly answers in a moment: a row in the Web UI without a dispatch.

    Without an answer the caller goes on with a normal activity, whose tries and errors the Web UI shows.
    """
    return {
        "start_to_close_timeout": AT_ONCE_TIMEOUT,
        "schedule_to_close_timeout": AT_ONCE_TIMEOUT,
        "retry_policy": RetryPolicy(maximum_attempts=1),
        "cancellation_type": UNTIL_KNOWN,
        "summary": summary,
    }


def database_step(step_timeout_seconds: float, summary: str | None = None) -> dict[str, Any]:
    """Options of a local activity: a step that touches only our database."""
    return {
        "start_to_close_timeout": DATABASE_TIMEOUT,
        "schedule_to_close_timeout": timedelta(seconds=step_timeout_seconds) + DATABASE_TIMEOUT,
        "retry_policy": DATABASE_RETRY,
        "cancellation_type": UNTIL_KNOWN,
        "summary": summary,
    }


def long_database_step(summary: str) -> dict[str, Any]:
    """Options of a normal activity that may run for minutes in our database and reports that it lives."""
    return {
        "start_to_close_timeout": LONG_DATABASE_TIMEOUT,
        "heartbeat_timeout": HEARTBEAT_TIMEOUT,
        "retry_policy": DATABASE_RETRY,
        "cancellation_type": UNTIL_KNOWN,
        "summary": summary,
    }
