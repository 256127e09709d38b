"""What a person reads in the Temporal Web UI: search attributes, summaries and the words for amounts and times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes

with workflow.unsafe.imports_passed_through():
    from zoneinfo import ZoneInfo

    from domain.chain import ChainStage
    from domain.money import format_amount

STAGE = SearchAttributeKey.for_keyword("BillingStage")
BOOKING = SearchAttributeKey.for_keyword("BillingBooking")
CUSTOMER = SearchAttributeKey.for_keyword("BillingCustomer")
RESELLER = SearchAttributeKey.for_keyword("BillingReseller")
AMOUNT = SearchAttributeKey.for_int("BillingAmountMinor")
ATTENTION = SearchAttributeKey.for_bool("BillingNeedsAttention")
REASON = SearchAttributeKey.for_keyword("BillingReason")
PERIOD = SearchAttributeKey.for_keyword("BillingPeriod")

SEARCH_ATTRIBUTES = {
    STAGE.name: "Keyword",
    BOOKING.name: "Keyword",
    CUSTOMER.name: "Keyword",
    RESELLER.name: "Keyword",
    AMOUNT.name: "Int",
    ATTENTION.name: "Bool",
    REASON.name: "Keyword",
    PERIOD.name: "Keyword",
}
"""Name → type. All must be registered before the first start, or the start fails (`billing migrate` does it)."""

_BERLIN = ZoneInfo("Europe/Berlin")


def at_start(chain_uid: str) -> TypedSearchAttributes:
    """Search attributes that a chain is started with."""
    return TypedSearchAttributes(
        [SearchAttributePair(STAGE, ChainStage.INTAKE), SearchAttributePair(BOOKING, chain_uid)]
    )


def of_reseller(reseller_id: str) -> TypedSearchAttributes:
    """Search attributes of a workflow that looks after one reseller."""
    return TypedSearchAttributes([SearchAttributePair(RESELLER, reseller_id)])


def summary(chain_uid: str) -> str:
    """Static summary: the line under the workflow's id in the list."""
    return f"Bill booking {chain_uid}"


DETAILS = (
    "Charges one Cal.com booking, accrues the resellers' commission and pays it out. "
    "Parked chains take the updates `retry` and `roll_back` (who, why)."
)


def money(amount_minor: int, currency: str) -> str:
    return format_amount(amount_minor, currency)


def when(moment: datetime) -> str:
    """A moment for people: Berlin time, to the minute."""
    return moment.astimezone(_BERLIN).strftime("%d.%m.%Y %H:%M")


def changes(stage: ChainStage, *more: SearchAttributeUpdate[Any]) -> list[SearchAttributeUpdate[Any]]:
    """The upsert for a new stage. One upsert per change of stage: each is an action that Temporal Cloud bills."""
    return [STAGE.value_set(stage), *more]
