"""Inputs and states of the workflows that look after resellers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from domain.model import Frozen, Id, UtcDatetime
from domain.onboarding import OnboardingReason, OnboardingStatus
from workflows.models import OperatorOrder


class OnboardingOptions(Frozen):
    """The settings that an onboarding runs by, frozen when it starts. Times in seconds."""

    step_timeout_seconds: float = 900
    park_recheck_seconds: float = 86_400
    poll_seconds: float = 86_400
    """How often the account is read although nothing was told: a webhook may be lost."""
    reminder_seconds: tuple[float, ...] = (259_200, 604_800, 1_209_600)
    """When he is reminded, counted from his first link."""
    base_url: str = "http://127.0.0.1:8080"
    """Where resellers' browsers reach the webhook app."""


class OnboardingSoFar(Frozen):
    """What one run hands to the next."""

    first_link_at: UtcDatetime | None
    reminders: Annotated[int, Field(ge=0)]
    links: Annotated[int, Field(ge=0)]


class OnboardingInput(Frozen):
    reseller_id: Id
    order: OperatorOrder
    """Who has him taken on, and why."""
    options: OnboardingOptions = OnboardingOptions()
    so_far: OnboardingSoFar | None = None
    """Set only where the workflow continues as a new run of itself, to keep its history short."""


class OnboardingState(Frozen):
    """Answer of the query `state`."""

    reseller_id: Id
    status: OnboardingStatus
    reason: OnboardingReason | None
    detail: str
    account_id: str | None
    requirements: tuple[str, ...]
    links: int
    reminders: int
    next_reminder_at: UtcDatetime | None
    waits_until: UtcDatetime | None
    steps: tuple[str, ...]
    """What was done, in order, in words."""


class ResellerNewsInput(Frozen):
    reseller_id: Id
    step_timeout_seconds: float = 900
    recheck_seconds: float = 86_400
    """When a step that failed is tried again, unless something new is told before."""
