"""State of an onboarding: what is shown and recorded of it, and how it waits for a person. The steps: `onboarding`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.onboarding import OnboardingActivities
    from activities.onboarding_models import AccountResult, OnboardingNote, ResellerRef
    from domain.onboarding import OnboardingReason, OnboardingStatus
    from workflows import policies, visibility
    from workflows.control import DATABASE_PAUSE, reason_of
    from workflows.models import OperatorOrder
    from workflows.onboarding_models import OnboardingInput, OnboardingSoFar, OnboardingState

T = TypeVar("T")

SHOWN_STEPS = 20
"""Steps of the current details: the last ones."""


class Stopped(Exception):
    """A person ended it."""


class OnboardingControl:
    """What `OnboardingWorkflow` is made of, but for its steps."""

    def _begin(self, start: OnboardingInput) -> None:
        so_far = start.so_far or OnboardingSoFar(first_link_at=None, reminders=0, links=0)
        self._start = start
        self._me = ResellerRef(reseller_id=start.reseller_id)
        self._status = OnboardingStatus.CHECKING
        self._reason: OnboardingReason | None = None
        self._detail = ""
        self._account = AccountResult()
        self._first_link_at = so_far.first_link_at
        self._reminders = so_far.reminders
        self._links = so_far.links
        self._waits_until: datetime | None = None
        self._steps: list[str] = []
        self._account_changed = False
        self._reseller_changed = False
        self._retry_order: OperatorOrder | None = None
        self._stop_order: OperatorOrder | None = None

    # --- what people and the outside send ---

    @workflow.signal(description="Stripe says that the account changed; it is read again")
    def account_changed(self) -> None:
        self._account_changed = True

    @workflow.signal(description="His master data changed, or he was paused or resumed; it is checked again")
    def reseller_changed(self) -> None:
        self._reseller_changed = True

    @workflow.update(description="Try the parked step again (who, why)")
    async def retry(self, order: OperatorOrder) -> str:
        """Answers at once; it goes on from the first step, which finds all that was done."""
        self._retry_order = order
        return f"onboarding of {self._start.reseller_id} tries again"

    @retry.validator
    def _may_retry(self, order: OperatorOrder) -> None:
        if self._status is not OnboardingStatus.PARKED or self._retry_order is not None:
            raise ApplicationError(f"it is not parked, but {self._status}", type="NotParked")

    @workflow.update(description="End it without an account that can be paid (who, why)")
    async def stop(self, order: OperatorOrder) -> str:
        """Answers at once. Nothing is undone: an account that was made stays his."""
        self._stop_order = order
        return f"onboarding of {self._start.reseller_id} stops"

    @stop.validator
    def _may_stop(self, order: OperatorOrder) -> None:
        if self._stop_order is not None or self._has_ended():
            raise ApplicationError("it has ended, or is about to", type="NotRunning")

    @workflow.query(description="The whole state of the onboarding")
    def state(self) -> OnboardingState:
        return OnboardingState(
            reseller_id=self._start.reseller_id,
            status=self._status,
            reason=self._reason,
            detail=self._detail,
            account_id=self._account.account_id,
            requirements=self._account.requirements,
            links=self._links,
            reminders=self._reminders,
            next_reminder_at=self._next_reminder_at(),
            waits_until=self._waits_until,
            steps=tuple(self._steps),
        )

    def _has_ended(self) -> bool:
        return self._status in (OnboardingStatus.COMPLETED, OnboardingStatus.STOPPED)

    def _next_reminder_at(self) -> datetime | None:
        after = self._start.options.reminder_seconds
        if self._first_link_at is None or self._reminders >= len(after):
            return None
        return self._first_link_at + timedelta(seconds=after[self._reminders])

    # --- waiting ---

    def _is_woken(self) -> bool:
        return self._stop_order is not None or self._account_changed or self._reseller_changed

    def _check_stop(self) -> None:
        if self._stop_order is not None:
            raise Stopped

    async def _park(self, reason: OnboardingReason, detail: str) -> None:
        """Wait for a person, for news, or for the next look; then the caller tries again."""
        self._reason, self._detail = reason, detail[:500]
        self._waits_until = workflow.now() + timedelta(seconds=self._start.options.park_recheck_seconds)
        await self._enter(
            OnboardingStatus.PARKED,
            visibility.ATTENTION.value_set(True),
            visibility.REASON.value_set(reason),
            action="onboarding_parked",
        )
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._is_woken() or self._retry_order is not None,
                timeout=timedelta(seconds=self._start.options.park_recheck_seconds),
                timeout_summary=f"Parked: {reason}; looks again by itself",
            )
        order, self._retry_order = self._retry_order, None
        self._check_stop()
        self._reason, self._detail, self._waits_until = None, "", None
        await self._enter(
            OnboardingStatus.CHECKING,
            visibility.ATTENTION.value_set(False),
            visibility.REASON.value_unset(),
            action="retried" if order else None,
            order=order,
        )

    async def _step(self, step: Callable[[], Awaitable[T]], what: str) -> T:
        """Run a step until it has an answer. What fails parks, and is tried again: unknown outcomes are looked up."""
        while True:
            self._check_stop()
            try:
                return await step()
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise asyncio.CancelledError from error
                before = self._status
                reason, detail = reason_of(error, what)
                await self._park(OnboardingReason(reason.value), detail)
                if before is not OnboardingStatus.CHECKING:
                    await self._enter(before)

    @property
    def _timeout_seconds(self) -> float:
        return self._start.options.step_timeout_seconds

    def _stripe_step(self, summary: str) -> dict[str, Any]:
        """After the chains' own steps: many resellers may be taken on at once."""
        return {**policies.stripe_step(self._timeout_seconds, summary), "priority": policies.AFTER_CHAINS}

    # --- recording ---

    async def _enter(
        self,
        status: OnboardingStatus,
        *attributes: SearchAttributeUpdate[Any],
        action: str | None = None,
        order: OperatorOrder | None = None,
        why: str = "",
    ) -> None:
        self._status = status
        workflow.upsert_search_attributes([visibility.STAGE.value_set(status), *attributes])
        self._show()
        await self._record(action, order=order, why=why)

    async def _record(
        self, action: str | None = None, *, order: OperatorOrder | None = None, why: str = "", detail: str = ""
    ) -> None:
        """Write where it stands to our database until it is written, however long that is away.

        `why`: where nobody ordered it.
        """
        note = OnboardingNote(
            reseller_id=self._start.reseller_id,
            status=self._status,
            reason=self._reason,
            detail=self._detail,
            requirements=self._account.requirements[:100],
            reminders=self._reminders,
            waits_until=self._waits_until,
            actor=order.who if order else "workflow",
            action=action,
            why=order.why if order else why,
            told=detail,
        )
        options = policies.database_step(self._timeout_seconds, f"Note where it stands: {self._status}")
        while True:
            try:
                await workflow.execute_local_activity_method(OnboardingActivities.note_onboarding, note, **options)
                return
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise asyncio.CancelledError from error
            await workflow.sleep(DATABASE_PAUSE, summary="Our database did not take a note; tried again after this")

    def _note(self, step: str) -> None:
        self._steps.append(step)

    def _show(self) -> None:
        lines = [f"**{self._status}**" + (f" until {visibility.when(self._waits_until)}" if self._waits_until else "")]
        if self._reason is not None:
            lines.append(f"Needs a person: {self._reason} - {self._detail}")
        if self._account.requirements and not self._has_ended():
            lines.append(f"Stripe asks him for: {', '.join(self._account.requirements[:20])}")
        due = self._next_reminder_at()
        if due is not None and self._status is OnboardingStatus.WAITING:
            lines.append(f"Next reminder {visibility.when(due)}")
        lines += [f"- {step}" for step in self._steps[-SHOWN_STEPS:]]
        workflow.set_current_details("\n".join(lines))
