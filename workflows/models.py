"""Inputs, orders and states of the workflows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from activities.models import AdjustmentTerms, Sequence
from domain.chain import ChainOutcome, ChainStage
from domain.model import Currency, Frozen, Id, ParkReason, Period, UtcDatetime
from domain.money import AmountMinor
from domain.orders import RESERVED, person


def _one_spelling(given: Any) -> Any:
    return person(given) if isinstance(given, str) else given


def _no_name_of_the_system(given: str) -> str:
    if given in RESERVED:
        raise ValueError(f"{given} is how the system itself is recorded: give your own login")
    return given


Person = Annotated[str, BeforeValidator(_one_spelling), StringConstraints(min_length=1, max_length=80)]
"""An operator's login or role, such as `ops-anna`, in its one spelling: it is recorded, so not a customer's name."""

Why = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class ChainOptions(Frozen, extra="ignore"):
    """The settings that a chain runs by, frozen when it starts so that a replay sees the same. Times in seconds.

    An option that this version does not know is left out: a worker from before it begins new chains its own way.
    """

    dunning_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    dunning_interval_seconds: float = 259_200
    step_timeout_seconds: float = 900
    park_recheck_seconds: float = 86_400
    payment_poll_seconds: float = 86_400
    joined_steps: bool = False
    """Steps on our own database run together with their neighbours: read and quote; bill, charge and accrue; mature
    and close. False in the inputs of chains from before: they go on step by step."""
    reads_at_once: bool = False
    """The first reading is tried within the workflow task, before it becomes an activity. False as above."""


class BookingInput(Frozen):
    chain_uid: Id
    options: ChainOptions = ChainOptions()


class OperatorOrder(Frozen):
    """Who orders and why. Both are written to the audit log."""

    who: Annotated[Person, AfterValidator(_no_name_of_the_system)]
    why: Why


class ChainState(Frozen):
    """Answer of the query `state`: all that the chain knows of itself. Amounts in minor units of `currency`."""

    chain_uid: Id
    booking_uid: Id
    stage: ChainStage
    outcome: ChainOutcome | None
    customer_id: Id | None
    reseller_id: Id | None
    currency: Currency | None
    gross_minor: int
    given_back_minor: int
    """Part of the gross amount that was waived or refunded."""
    charge_attempt: int
    charged: bool
    reason: ParkReason | None
    detail: str
    waits_for: str
    deadline_at: UtcDatetime | None
    steps: tuple[str, ...]
    """What was done, in order, in words."""


class SettlementTerms(Frozen):
    """The settings that a month is closed by, frozen when the closing starts. Times in seconds."""

    negative_months: Annotated[int, Field(ge=1)] = 3
    approval_from_minor: dict[Currency, AmountMinor] | None = None
    """None: nobody said; the settings of the worker that claims hold."""
    balance_retry_seconds: float = 21_600
    balance_patience_seconds: float = 432_000


class SettlementSoFar(Frozen):
    """What one run of a closing hands to the next."""

    after: int
    """The statement's number up to which everything was paid or handed over."""
    claims: int
    paused: OperatorOrder | None


class SettlementInput(Frozen):
    """One month to settle. `period` None: the month before the Schedule's nominal time, in Europe/Berlin."""

    period: Period | None = None
    requested_by: Person = "schedule"
    """Of the schedule's own closings nobody is the first person: one other person approves."""
    options: ChainOptions = ChainOptions()
    sequence: Sequence = 1
    """1: the month's own closing; from 2 on a supplement for what came later."""
    terms: SettlementTerms = SettlementTerms()
    so_far: SettlementSoFar | None = None
    """Set only where the workflow continues as a new run of itself, to keep its history short."""


class SettlementState(Frozen):
    """How far a closing is: statements by what became of them. `paid + carried + parked + waiting + open == total`."""

    period: Period
    claims: int
    """Statements that this workflow found open and took care of: 0 where everything was done before."""
    paid: int
    parked: int
    """Wait for a person, each with its reason."""
    sequence: Sequence = 1
    carried: int = 0
    """Left for the next month: below the minimum, on hold, negative, or by a person's order."""
    waiting: int = 0
    """Wait for the platform's balance."""
    open: int = 0
    total: int = 0
    paused: OperatorOrder | None = None
    """Who stopped it and why, while it is stopped."""


class Found(Frozen):
    """Why a statement could not be paid at once."""

    reason: ParkReason
    detail: str


class ResellerSettlementInput(Frozen):
    """One statement to pay that has to wait for something."""

    period: Period
    reseller_id: Id
    currency: Currency
    amount_minor: int
    options: ChainOptions
    sequence: Sequence = 1
    terms: SettlementTerms = SettlementTerms()
    asked_by: tuple[str, ...] = ()
    """Who asked for the run or for an adjustment in it: none of them may approve."""
    needs_approval: bool = False
    found: Found | None = None
    """What the closing's own try ended with; None: it is tried now."""
    waiting_since: UtcDatetime | None = None
    """For the balance; handed from run to run."""


class AdjustmentOrder(AdjustmentTerms):
    """An adjustment that somebody orders; it waits for a second person."""

    order: OperatorOrder
    options: ChainOptions = ChainOptions()


class SweepWorkflowInput(Frozen):
    lookback_seconds: int = 900
