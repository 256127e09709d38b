"""Where a reseller's onboarding stands, and why it waits for a person."""

from __future__ import annotations

from enum import StrEnum


class OnboardingStatus(StrEnum):
    """Stage of an onboarding, in its order; `parked` can be entered from each of the first three."""

    CHECKING = "checking"
    """His master data is checked."""
    CREATING = "creating"
    """His connected account is made at Stripe."""
    WAITING = "waiting"
    """He has a link and fills in what Stripe asks of him."""
    PARKED = "parked"
    """A person has to do something; `OnboardingReason` says what."""
    COMPLETED = "completed"
    """Transfers to him were possible when it ended. Whether they are now stands at the reseller."""
    STOPPED = "stopped"
    """A person ended it before."""


class OnboardingReason(StrEnum):
    """Why an onboarding waits for a person."""

    MASTER_DATA = "master_data"
    """Something of his master data is missing or wrong: correct it and retry."""
    PAUSED = "paused"
    """The reseller is paused: it goes on when he is resumed."""
    ACCOUNT_REFUSED = "account_refused"
    """Stripe refused to make the account or a link for it."""
    ACCOUNT_REJECTED = "account_rejected"
    """Stripe rejected the reseller for good: talk to Stripe, or stop."""
    ACCOUNT_GONE = "account_gone"
    """The account does not exist any more, or does not let the platform in."""
    NO_ANSWER = "no_answer"
    """He was reminded for the last time and has not finished: call him. His link still works."""
    SETUP_ERROR = "setup_error"
    OUTCOME_UNKNOWN = "outcome_unknown"
    """Stripe never told whether it was done; it is looked up before it is done again."""
    INTERNAL = "internal"


class LinkCause(StrEnum):
    """Why a link was made."""

    FIRST = "first"
    REMINDER = "reminder"
    REQUESTED = "requested"
    """A person asked for one."""
    RENEWED = "renewed"
    """The reseller opened one that was spent."""
