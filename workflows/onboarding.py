"""Taking a reseller on: from his master data to an account at Stripe that can be paid."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.onboarding import OnboardingActivities, ResellerAccounts
    from activities.onboarding_models import AccountResult, LinkInput, LinkResult
    from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus
    from workflows import policies, visibility
    from workflows.control import CANCELLED, reason_of
    from workflows.models import OperatorOrder
    from workflows.onboarding_control import OnboardingControl, Stopped
    from workflows.onboarding_models import OnboardingInput, OnboardingSoFar

RENEW_PAUSE = timedelta(seconds=2)
"""Between two links that a browser asks for: it may follow one that is spent back to where it came from."""


@workflow.defn
class OnboardingWorkflow(OnboardingControl):
    """Takes one reseller on. Id `onboarding-{reseller}`; one runs at a time, again after its end.

    1. checking: his master data must be complete, and he must not be paused; else parked (`master_data`, `paused`)
       until it is changed, `retry`, or the next look.
    2. creating: his account at Stripe, looked up before it is asked for again; refused: parked (`account_refused`).
    3. waiting: he gets a link and fills in what Stripe asks. The account is read at every `account_changed` and once a
       day. Reminders after 3, 7 and 14 days, each with a fresh link; after the last it asks for attention
       (`no_answer`) and goes on waiting. Links open once and for minutes: `link` and `renew` make fresh ones.
       Stripe rejected him, or the account is out of reach: parked (`account_rejected`, `account_gone`).
    4. completed: transfers and payouts are possible. What is taken from him later is followed by
       `ResellerNewsWorkflow`. `stop` and cancelling end it before, at any point: nothing has to be undone, an account
       that was made stays his and is found by the next run.

    It never fails: what only a person can solve parks it. Links are secrets: only their numbers stand here.
    """

    @workflow.init
    def __init__(self, start: OnboardingInput) -> None:
        self._begin(start)
        self._last_link_at: datetime | None = None
        self._is_continuing = False

    # --- links ---

    @workflow.update(description="Make a fresh link (who, why)")
    async def link(self, order: OperatorOrder) -> int:
        """Returns the link's number in the database. Refused where there is no account to lead to."""
        return await self._link_on_request(LinkCause.REQUESTED, order)

    @workflow.update(description="Make a fresh link because the reseller opened one that is spent")
    async def renew(self) -> int:
        """As `link`, for his browser."""
        return await self._link_on_request(LinkCause.RENEWED, None)

    @renew.validator
    def _may_renew(self) -> None:
        if self._last_link_at is not None and workflow.now() - self._last_link_at < RENEW_PAUSE:
            raise ApplicationError("the last link was made a moment ago", type="TooSoon")

    async def _link_on_request(self, cause: LinkCause, order: OperatorOrder | None) -> int:
        await workflow.wait_condition(lambda: self._account.account_id is not None or self._has_no_account_soon())
        if self._has_ended() or self._is_continuing:
            raise ApplicationError(f"the onboarding is {self._status}", type="NotRunning")
        if self._account.account_id is None:
            raise ApplicationError(f"there is no account yet: {self._reason}: {self._detail}", type="NoAccount")
        if self._is_ready():
            raise ApplicationError("he can be paid already: there is nothing to fill in", type="NothingToDo")
        self._last_link_at = workflow.now()
        try:
            made = await self._make_link(cause)
        except FailureError as error:
            raise ApplicationError(f"no link: {': '.join(reason_of(error, 'link'))}", type="NoLink") from error
        if made.refused_code is not None:
            raise ApplicationError(f"Stripe refused to make a link: {made.refused_code}", type="NoLink")
        await self._record("link", order=order, detail=f"link {made.sequence} ({cause})")
        self._show()
        return made.link_id

    def _has_no_account_soon(self) -> bool:
        return self._has_ended() or self._is_continuing or self._status is OnboardingStatus.PARKED

    async def _make_link(self, cause: LinkCause) -> LinkResult:
        made: LinkResult = await workflow.execute_activity_method(
            ResellerAccounts.make_link,
            LinkInput(reseller_id=self._start.reseller_id, cause=cause, base_url=self._start.options.base_url),
            **self._stripe_step(f"Make a link for reseller {self._start.reseller_id}: {cause}"),
        )
        if made.refused_code is None:
            self._links += 1
            self._last_link_at = workflow.now()
            self._note(f"link {made.sequence} ({cause})")
        return made

    # --- 1 to 4 ---

    @workflow.run
    async def run(self, start: OnboardingInput) -> OnboardingStatus:
        """Returns `completed` or `stopped`."""
        try:
            await self._enter(
                OnboardingStatus.CHECKING,
                visibility.RESELLER.value_set(start.reseller_id),
                action="onboarding_started" if start.so_far is None else None,
                order=start.order,
            )
            while not await self._try():
                await self._continue_if_long()
        except Stopped:
            await self._end(OnboardingStatus.STOPPED, self._stop_order)
        except asyncio.CancelledError:
            await self._end(OnboardingStatus.STOPPED, None, CANCELLED)
            raise
        else:
            await self._end(OnboardingStatus.COMPLETED, None)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._status

    async def _try(self) -> bool:
        """All steps, from the first on: each finds what was done before. True: he can be paid."""
        # What was told so far is read by the steps below.
        self._reseller_changed = self._account_changed = False
        if not await self._check():
            return False
        if self._status is not OnboardingStatus.WAITING:
            await self._enter(OnboardingStatus.CREATING)
        if not await self._open():
            return False
        return await self._wait_for_him()

    async def _check(self) -> bool:
        options = policies.database_step(self._timeout_seconds, "Check his master data")
        found = await self._step(
            lambda: workflow.execute_local_activity_method(OnboardingActivities.check_master_data, self._me, **options),
            "master data",
        )
        if found.missing:
            await self._park(OnboardingReason.MASTER_DATA, "; ".join(found.missing))
        elif found.paused:
            await self._park(OnboardingReason.PAUSED, "`billing reseller resume` lets it go on")
        return not (found.missing or found.paused)

    async def _open(self) -> bool:
        had_account = self._account.account_id is not None
        options = self._stripe_step(f"Open the account of reseller {self._start.reseller_id} at Stripe")
        self._account = await self._step(
            lambda: workflow.execute_activity_method(ResellerAccounts.open_account, self._me, **options), "account"
        )
        if self._account.refused_code is not None:
            await self._park(OnboardingReason.ACCOUNT_REFUSED, self._account.refused_code)
            return False
        if not had_account and self._account.account_id is not None:
            self._note(f"account {self._account.account_id}")
        return True

    async def _wait_for_him(self) -> bool:
        while not self._is_ready():
            blocked = self._blocked()
            if blocked is not None:
                await self._park(*blocked)
                return False
            if self._first_link_at is None or self._reminder_is_due():
                refused_code = await self._hand_out()
                if refused_code is not None:
                    await self._park(OnboardingReason.ACCOUNT_REFUSED, f"link: {refused_code}")
                    return False
            await self._enter_waiting()
            await self._sleep()
            if self._reseller_changed or self._is_long():
                return False
            self._account = await self._step(self._read_account, "account")
        return True

    def _is_ready(self) -> bool:
        return self._account.transfers_active and self._account.payouts_enabled

    def _blocked(self) -> tuple[OnboardingReason, str] | None:
        """Why no filling-in of his can help."""
        reason = self._account.disabled_reason or ""
        if self._account.is_gone:
            return OnboardingReason.ACCOUNT_GONE, reason
        if reason.startswith("rejected."):
            return OnboardingReason.ACCOUNT_REJECTED, reason
        return None

    async def _read_account(self) -> AccountResult:
        self._account_changed = False
        account: AccountResult = await workflow.execute_activity_method(
            ResellerAccounts.read_account,
            self._me,
            **self._stripe_step(f"Read the account of reseller {self._start.reseller_id}"),
        )
        return account

    def _reminder_is_due(self) -> bool:
        due = self._next_reminder_at()
        return due is not None and due <= workflow.now()

    async def _hand_out(self) -> str | None:
        """The first link, or a reminder with a fresh one. Returns Stripe's code where it made none."""
        is_first = self._first_link_at is None
        cause = LinkCause.FIRST if is_first else LinkCause.REMINDER
        made = await self._step(lambda: self._make_link(cause), "link")
        if made.refused_code is not None:
            return made.refused_code
        if is_first:
            self._first_link_at = workflow.now()
            await self._record("link", detail=f"link {made.sequence} ({cause})")
            return None
        self._reminders += 1
        self._note(f"reminder {self._reminders} of {len(self._start.options.reminder_seconds)}")
        asked = ", ".join(self._account.requirements[:10]) or "nothing by name"
        await self._record("reminded", detail=f"reminder {self._reminders}, link {made.sequence}; Stripe asks {asked}")
        return None

    async def _enter_waiting(self) -> None:
        is_late = self._reminders >= len(self._start.options.reminder_seconds)
        reason = OnboardingReason.NO_ANSWER if is_late else None
        due = self._next_reminder_at()
        poll_at = workflow.now() + timedelta(seconds=self._start.options.poll_seconds)
        self._waits_until = poll_at if due is None else min(due, poll_at)
        is_news = self._status is not OnboardingStatus.WAITING or self._reason is not reason
        self._reason, self._detail = reason, f"{self._reminders} reminders" if is_late else ""
        if not is_news:
            self._show()
            await self._record()
            return
        await self._enter(
            OnboardingStatus.WAITING,
            visibility.ATTENTION.value_set(is_late),
            visibility.REASON.value_set(reason) if reason else visibility.REASON.value_unset(),
            action="onboarding_unanswered" if is_late else None,
        )

    async def _sleep(self) -> None:
        """Until a reminder or a look is due, or something was told."""
        assert self._waits_until is not None
        span = self._waits_until - workflow.now()
        if span > timedelta(0):
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: self._is_woken() or self._is_long(),
                    timeout=span,
                    timeout_summary=f"Waits for the reseller until {visibility.when(self._waits_until)}",
                )
        self._waits_until = None
        self._check_stop()

    async def _end(self, status: OnboardingStatus, order: OperatorOrder | None, why: str = "") -> None:
        self._reason, self._detail, self._waits_until = None, "", None
        await self._enter(
            status,
            visibility.ATTENTION.value_set(False),
            visibility.REASON.value_unset(),
            action=f"onboarding_{status}",
            order=order,
            why=why,
        )

    def _is_long(self) -> bool:
        return workflow.info().is_continue_as_new_suggested()

    async def _continue_if_long(self) -> None:
        if not self._is_long():
            return
        self._is_continuing = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        self._check_stop()
        so_far = OnboardingSoFar(first_link_at=self._first_link_at, reminders=self._reminders, links=self._links)
        workflow.continue_as_new(self._start.model_copy(update={"so_far": so_far}))
