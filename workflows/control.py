"""What all chain workflows share: waiting for the outside, parking for a person, recording where the chain stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.chains import ChainActivities
    from activities.models import RecordInput
    from domain.chain import ChainOutcome, ChainStage
    from domain.model import ParkReason
    from workflows import policies, visibility
    from workflows.models import ChainOptions, ChainState, OperatorOrder

T = TypeVar("T")

_REASON_OF = {
    "SetupError": ParkReason.SETUP_ERROR,
    "NotFound": ParkReason.SETUP_ERROR,
    "BookingNotFound": ParkReason.BOOKING_NOT_FOUND,
    "OutcomeUnknown": ParkReason.OUTCOME_UNKNOWN,
    "RateLimited": ParkReason.OUTCOME_UNKNOWN,
}

CANCELLED = "the workflow was cancelled"

DATABASE_PAUSE = timedelta(minutes=1)
"""Between two series of tries to write a note, each of them as long as a step may take."""


def reason_of(error: FailureError, what: str) -> tuple[ParkReason, str]:
    """Why a step that failed waits for a person, and the detail that he reads."""
    cause = _cause(error)
    kind = cause.type if isinstance(cause, ApplicationError) else None
    reason = _REASON_OF.get(kind or "", ParkReason.INTERNAL if kind else ParkReason.OUTCOME_UNKNOWN)
    told = cause.message if isinstance(cause, ApplicationError) and kind in _REASON_OF else kind
    return reason, f"{what}: {told or 'no answer in time'}"


def is_definite(error: FailureError) -> bool:
    """Whether trying again would bring the same answer."""
    cause = _cause(error)
    return isinstance(cause, ApplicationError) and cause.non_retryable


def asked_delay(error: FailureError) -> timedelta | None:
    """How long whoever answered wants to be left alone: a rate limit's hint."""
    cause = _cause(error)
    return cause.next_retry_delay if isinstance(cause, ApplicationError) else None


def _cause(error: FailureError) -> BaseException | None:
    """A local activity's failure comes as it is, that of another one is wrapped."""
    return error.cause if isinstance(error, ActivityError) else error


class Leave(Exception):
    """The chain really leaves: a refusal or an order from outside. Compensations follow; bugs never raise this."""

    def __init__(self, outcome: ChainOutcome, why: str) -> None:
        super().__init__(outcome, why)
        self.outcome = outcome
        self.why = why


class ChainControl:
    """State and waiting of one chain. Subclasses hold the steps."""

    takes = "`retry` or `roll_back`"
    """Updates that a person may send where it waits for one."""

    def _begin(self, chain_uid: str, options: ChainOptions) -> None:
        self.chain_uid = chain_uid
        self.booking_uid = chain_uid
        self.options = options
        self.stage = ChainStage.INTAKE
        self.outcome: ChainOutcome | None = None
        self.reason: ParkReason | None = None
        self.detail = ""
        self.waits_for = ""
        self.deadline_at: datetime | None = None
        self.customer_id: str | None = None
        self.reseller_id: str | None = None
        self.currency: str | None = None
        self.gross_minor = 0
        self.given_back_minor = 0
        self.attempt = 0
        self.charged = False
        self.steps: list[str] = []
        self._unsaid: tuple[SearchAttributeUpdate[Any], ...] = ()
        self.leaving = False
        self._booking_changed = False
        self._payment_changed = False
        self._retry_order: OperatorOrder | None = None
        self._roll_back_order: OperatorOrder | None = None

    # --- what people send and see ---

    @workflow.query(description="The whole state of the chain")
    def state(self) -> ChainState:
        return ChainState(
            chain_uid=self.chain_uid,
            booking_uid=self.booking_uid,
            stage=self.stage,
            outcome=self.outcome,
            customer_id=self.customer_id,
            reseller_id=self.reseller_id,
            currency=self.currency,
            gross_minor=self.gross_minor,
            given_back_minor=self.given_back_minor,
            charge_attempt=self.attempt,
            charged=self.charged,
            reason=self.reason,
            detail=self.detail,
            waits_for=self.waits_for,
            deadline_at=self.deadline_at,
            steps=tuple(self.steps),
        )

    @workflow.update(description="Try the parked step again (who, why)")
    async def retry(self, order: OperatorOrder) -> str:
        """Answers at once; the chain goes on from where it is parked. Refused where it is not parked."""
        self._retry_order = order
        return f"chain {self.chain_uid} tries again"

    @retry.validator
    def _may_retry(self, order: OperatorOrder) -> None:
        if not self.can_retry() or self._retry_order is not None:
            raise ApplicationError(
                f"only a parked chain can retry; this one is in stage {self.stage}", type="NotParked"
            )

    def can_retry(self) -> bool:
        """Whether there is a step that waits and could be tried again now."""
        return self.stage is ChainStage.PARKED

    @workflow.update(description="Undo the whole chain (who, why)")
    async def roll_back(self, order: OperatorOrder) -> str:
        """Answers at once; the compensations run in reverse order. Refused once the chain is leaving anyway."""
        self._roll_back_order = order
        return f"chain {self.chain_uid} rolls back"

    @roll_back.validator
    def _may_roll_back(self, order: OperatorOrder) -> None:
        if self.leaving or self._roll_back_order is not None or self.stage is ChainStage.CLOSED:
            raise ApplicationError("the chain is being undone or has ended already", type="AlreadyLeaving")

    # --- recording ---

    def note(self, step: str) -> None:
        """Remember a step in words for the query and show the newest ones as current details."""
        self.steps.append(step)

    def show(self) -> None:
        lines = [f"**{self.stage}**" + (f": waits for {self.waits_for}" if self.waits_for else "")]
        if self.deadline_at is not None:
            lines[0] += f", until {visibility.when(self.deadline_at)}"
        if self.reason is not None:
            lines.append(f"Needs a person: {self.reason} - {self.detail}. Send the update {self.takes}.")
        lines += [f"- {step}" for step in self.steps]
        workflow.set_current_details("\n".join(lines))

    async def record(self, change: RecordInput) -> None:
        await self.persist(
            lambda: workflow.execute_local_activity_method(
                ChainActivities.record,
                change,
                **policies.database_step(
                    self.options.step_timeout_seconds, f"Note where the chain stands: {change.stage}"
                ),
            )
        )

    async def persist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Write to our database until it is written, however long that is away: parking would need it as well."""
        while True:
            try:
                return await step()
            except FailureError as error:
                if is_cancelled_exception(error):
                    self.check_cancelled()
                    continue
            await workflow.sleep(DATABASE_PAUSE, summary="Our database did not take a note; tried again after this")

    def enter(self, stage: ChainStage, *attributes: Any, upsert: bool = True) -> None:
        """Take a stage in memory and, with `upsert`, in the search attributes. The database follows with the step."""
        self.stage = stage
        self.waits_for = ""
        self.deadline_at = None
        if upsert or self._unsaid:
            self._upsert(stage, *attributes)
        self.show()

    def enter_silently(self, stage: ChainStage, *attributes: SearchAttributeUpdate[Any]) -> None:
        """Take a stage that is over in a moment: the attributes go with the next stage's upsert, whichever that is."""
        self._unsaid = attributes
        self.stage = stage
        self.show()

    def _upsert(self, stage: ChainStage, *attributes: SearchAttributeUpdate[Any]) -> None:
        workflow.upsert_search_attributes(visibility.changes(stage, *self._unsaid, *attributes))
        self._unsaid = ()

    # --- waiting ---

    def check_orders(self) -> None:
        """Leave if a person ordered it. Called at every wait and between steps."""
        if self._roll_back_order is not None and not self.leaving:
            order = self._roll_back_order
            raise Leave(ChainOutcome.ROLLED_BACK, f"{order.who}: {order.why}")

    def check_cancelled(self) -> None:
        """Leave if the workflow was cancelled. A step that was under way then has ended: its outcome is known."""
        if workflow.cancellation_reason() is not None and not self.leaving:
            raise Leave(ChainOutcome.ROLLED_BACK, CANCELLED)

    async def wait(self, until: datetime | None, what: str) -> bool:
        """Wait for a moment. True: it came; False: the outside changed first. Raises Leave on a roll-back order."""

        def woken() -> bool:
            return self._booking_changed or self._payment_changed or (self._roll_back_order is not None)

        self.waits_for, self.deadline_at = what, until
        self.show()
        came = False
        if not woken():
            span = None if until is None else until - workflow.now()
            if span is not None and span <= timedelta(0):
                came = True
            else:
                summary = f"{what[0].upper()}{what[1:]}" + (f" until {visibility.when(until)}" if until else "")
                try:
                    await workflow.wait_condition(woken, timeout=span, timeout_summary=summary)
                except TimeoutError:
                    came = True
        self.waits_for, self.deadline_at = "", None
        self.check_orders()
        return came

    async def park(self, reason: ParkReason, detail: str) -> None:
        """Wait for a person, for news from outside, or for the deadline: then the caller tries again.

        Raises Leave on a roll-back order, unless the chain is leaving already.
        """
        before = self.stage
        # What the outside told before stays for the caller: it must not wake every later parking at once.
        booking_news, self._booking_changed = self._booking_changed, False
        payment_news, self._payment_changed = self._payment_changed, False
        self.stage, self.reason, self.detail = ChainStage.PARKED, reason, detail
        self.deadline_at = workflow.now() + timedelta(seconds=self.options.park_recheck_seconds)
        self.waits_for = "a person"
        self._upsert(ChainStage.PARKED, visibility.ATTENTION.value_set(True), visibility.REASON.value_set(reason))
        self.show()
        await self.record_parked(reason, detail)
        await self._until_released(f"Parked: {reason}; looks again by itself")
        order, self._retry_order = self._retry_order, None
        self.stage, self.reason, self.detail, self.waits_for, self.deadline_at = before, None, "", "", None
        self._upsert(before, visibility.ATTENTION.value_set(False), visibility.REASON.value_unset())
        await self.record_released(before, order)
        self._booking_changed = self._booking_changed or booking_news
        self._payment_changed = self._payment_changed or payment_news
        self.show()
        self.check_orders()

    async def record_parked(self, reason: ParkReason, detail: str) -> None:
        """Write to the database that the chain waits for a person."""
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=ChainStage.PARKED,
                reason=reason,
                detail=detail[:500],
                waits_for=self.waits_for,
                deadline_at=self.deadline_at,
                action="parked",
            )
        )

    async def record_released(self, before: ChainStage, order: OperatorOrder | None) -> None:
        """Write to the database that the chain goes on, and on whose order."""
        await self.record(
            RecordInput(
                chain_uid=self.chain_uid,
                stage=before,
                action="retried" if order else "looked again",
                actor=order.who if order else "workflow",
                why=order.why if order else "",
                waits_for="the step that was parked",
                deadline_at=workflow.now() + timedelta(seconds=self.options.step_timeout_seconds),
            )
        )

    async def _until_released(self, timeout_summary: str) -> None:
        def released() -> bool:
            ordered = self._roll_back_order is not None and not self.leaving
            return ordered or self._retry_order is not None or self._booking_changed or self._payment_changed

        with suppress(TimeoutError):
            await workflow.wait_condition(
                released,
                timeout=timedelta(seconds=self.options.park_recheck_seconds),
                timeout_summary=timeout_summary,
            )

    async def until_done(self, step: Callable[[], Awaitable[T]], what: str) -> T:
        """Run a step until it has an answer. Time-outs and set-up errors park and try again with the same key.

        Never compensates: only a refusal, which is a result, or an order from outside does.
        """
        while True:
            try:
                answer = await step()
            except FailureError as error:
                if is_cancelled_exception(error):
                    self.check_cancelled()
                    raise
                await self.park(*reason_of(error, what))
            else:
                self.check_cancelled()
                return answer
