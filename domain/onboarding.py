"""Where a reseller's onboarding stands, why it waits for a person, and what his documents need to know of him."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from domain.catalog_model import CatalogReseller
from domain.tax import EU_COUNTRIES
from domain.vat_id import problem_of


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


def missing_of(reseller: CatalogReseller, today: date) -> tuple[str, ...]:
    """What has to be added or corrected before a credit note can name this reseller; empty: nothing.

    Sentences without personal data. A credit note needs the reseller's address (§ 14 (4) no. 1 UStG), his tax number,
    for which this pipeline takes the VAT id (no. 2), and his tax status, which decides its VAT: so the status needs a
    day and a proof. A small business, and one outside the EU, may have no VAT id.
    """
    found = []
    if reseller.address is None:
        found.append("the postal address is missing")
    if reseller.tax_status_from is None:
        found.append("tax_status_from is missing: the day from which his tax status is shown to hold")
    elif reseller.tax_status_from > today:
        found.append(f"tax_status_from is {reseller.tax_status_from.isoformat()}: his tax status does not hold yet")
    if reseller.tax_status_proof is None:
        found.append("tax_status_proof is missing: where the proof of his tax status is kept")
    if reseller.vat_id is not None:
        problem = problem_of(reseller.vat_id, reseller.country)
        if problem is not None:
            found.append(f"vat_id: {problem}")
    elif not reseller.small_business and reseller.country in EU_COUNTRIES:
        found.append("vat_id is missing: only a small business needs none")
    return tuple(found)
