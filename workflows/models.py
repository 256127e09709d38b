"""Inputs, orders and states of the workflows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from domain.chain import ChainOutcome, ChainStage
from domain.model import Currency, Frozen, Id, ParkReason, Period, UtcDatetime

Person = Annotated[str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True)]
"""An operator's login or role, such as `ops-anna`: it is recorded, so not a customer's name."""

Why = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]


class ChainOptions(Frozen):
    """The settings that a chain runs by, frozen when it starts so that a replay sees the same. Times in seconds."""

    dunning_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    dunning_interval_seconds: float = 259_200
    step_timeout_seconds: float = 900
    park_recheck_seconds: float = 86_400
    payment_poll_seconds: float = 86_400


class BookingInput(Frozen):
    chain_uid: Id
    options: ChainOptions = ChainOptions()


class OperatorOrder(Frozen):
    """Who orders and why. Both are written to the audit log."""

    who: Person
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


class SettlementInput(Frozen):
    """One month to settle. `period` None: the month before the Schedule's nominal time, in Europe/Berlin."""

    period: Period | None = None
    requested_by: Person = "schedule"
    options: ChainOptions = ChainOptions()


class SettlementState(Frozen):
    period: Period
    claims: int
    paid: int
    parked: int


class ResellerSettlementInput(Frozen):
    period: Period
    reseller_id: Id
    currency: Currency
    amount_minor: int
    options: ChainOptions


class SweepWorkflowInput(Frozen):
    lookback_seconds: int = 900
