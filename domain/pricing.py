"""Price books and what a booking costs, when it is charged and what a cancellation keeps.

All amounts are net minor units. A calendar month is one of Europe/Berlin, wherever the process runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, Strict, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from domain.model import (
    CancellationTerms,
    ChargeMoment,
    Currency,
    Frozen,
    Id,
    JsonDict,
    NoQuote,
    ParkReason,
    UtcDatetime,
)
from domain.money import AmountMinor

BERLIN: Final = ZoneInfo("Europe/Berlin")
"""Built once at import: a workflow that runs sandboxed cannot build it itself."""

_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")


def _day_to_midnight(value: Any) -> Any:
    if isinstance(value, str) and _DAY.match(value):
        with suppress(ValueError):  # the 13th month is left for pydantic to refuse
            value = date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=BERLIN)
    return value


EffectiveFrom = Annotated[UtcDatetime, BeforeValidator(_day_to_midnight)]
"""A moment, or a plain day `YYYY-MM-DD`: then its midnight in Europe/Berlin."""

NetMinor = Annotated[AmountMinor, Strict()]
"""Net minor units; a float or a string is refused instead of being rounded."""

REPEATED_EVENT_TYPE: Final = "repeated_event_type"
"""Error type of a book that prices an event type twice."""

Count = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]


class OwnerKind(StrEnum):
    CUSTOMER = "customer"
    RESELLER = "reseller"
    PLATFORM = "platform"


class Owner(Frozen):
    """Whose price book it is: valid for that customer, for all customers below that reseller, or for all."""

    kind: OwnerKind
    id: Id | None = None
    """None exactly for the platform."""

    @model_validator(mode="after")
    def _id_fits(self) -> Self:
        if (self.kind is OwnerKind.PLATFORM) != (self.id is None):
            raise ValueError("owner needs an id, except the platform, which has none")
        return self


class _PriceTerms(Frozen):
    event_type_id: Annotated[int, Field(gt=0, strict=True)] | None = None
    """Cal.com event type; None: every event type of the book that has no price of its own."""
    charge_moment: ChargeMoment
    charge_hours_before: Annotated[int, Field(gt=0, le=24 * 366, strict=True)] | None = None
    """Set exactly for `hours_before_start`."""
    hold_days: Annotated[int, Field(ge=0, le=366, strict=True)]
    """Days between the end of the appointment and the day its commission matures."""
    terms: CancellationTerms
    vat_rate_bps: Literal[1900, 700, 0]

    @model_validator(mode="after")
    def _hours_fit(self) -> Self:
        if (self.charge_moment is ChargeMoment.HOURS_BEFORE_START) != (self.charge_hours_before is not None):
            raise ValueError("charge_hours_before belongs to charge_moment hours_before_start, and is required there")
        return self


class FixedPrice(_PriceTerms):
    """One amount per booking."""

    kind: Literal["fixed"]
    net_minor: NetMinor


class PerMinutePrice(_PriceTerms):
    """An amount per started minute of the appointment, at least `minimum_minor`."""

    kind: Literal["per_minute"]
    net_minor_per_minute: NetMinor
    minimum_minor: NetMinor = 0


class PriceTier(Frozen):
    from_booking: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    """Position of a booking in its month, counted from 1 and with the included ones, where this tier begins."""
    net_minor: NetMinor


class TieredPrice(_PriceTerms):
    """An amount that depends on how many bookings the customer had in the month; the first ones can be included.

    Marginal: reaching a tier does not change what earlier bookings cost.
    """

    kind: Literal["tiered"]
    included_per_month: Count = 0
    """So many bookings a month cost nothing."""
    tiers: Annotated[tuple[PriceTier, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.tiers[0].from_booking != 1:
            raise ValueError("the first tier starts at from_booking 1")
        if any(a.from_booking >= b.from_booking for a, b in pairwise(self.tiers)):
            raise ValueError("tiers must be in ascending order of from_booking, each once")
        return self


Price = Annotated[FixedPrice | PerMinutePrice | TieredPrice, Field(discriminator="kind")]

_PRICE: TypeAdapter[FixedPrice | PerMinutePrice | TieredPrice] = TypeAdapter(Price)


class PriceBook(Frozen):
    """One version of a price book. It is in force from `effective_from` until the next version's."""

    id: Id
    owner: Owner
    version: Annotated[int, Field(ge=1, strict=True)]
    effective_from: EffectiveFrom
    currency: Currency
    prices: Annotated[tuple[Price, ...], Field(min_length=1, max_length=10_000)]

    @model_validator(mode="after")
    def _each_event_type_once(self) -> Self:
        seen: set[int | None] = set()
        for price in self.prices:
            if price.event_type_id in seen:
                shown = {"event_type": _event_name(price.event_type_id)}
                raise PydanticCustomError(REPEATED_EVENT_TYPE, "two prices for event type {event_type}", shown)
            seen.add(price.event_type_id)
        return self


def find_price(
    books: Sequence[PriceBook],
    *,
    customer_id: str | None,
    reseller_path: Sequence[str],
    event_type_id: int,
    at: datetime,
    currency: str | None = None,
) -> tuple[PriceBook, Price]:
    """The price in force at `at`: customer → own reseller → … → root reseller → platform, the first that has one.

    Within an owner the event type's own price wins over the default. A newer version replaces the older one as a whole:
    what it no longer lists falls through to the next owner. With empty path and `customer_id=None` this is the
    platform's wholesale price. Raises NoQuote: `no_price`, or `currency_mismatch` where `currency` is given and the
    price found is in another one.
    """
    owners = [(OwnerKind.RESELLER, reseller_id) for reseller_id in reseller_path]
    search: list[tuple[OwnerKind, str | None]] = [*owners, (OwnerKind.PLATFORM, None)]
    if customer_id is not None:
        search.insert(0, (OwnerKind.CUSTOMER, customer_id))
    for kind, owner_id in search:
        owned = [book for book in books if book.owner.kind is kind and book.owner.id == owner_id]
        for wanted in (event_type_id, None):
            for book in _in_force(owned, at):
                for price in book.prices:
                    if price.event_type_id == wanted:
                        return _same_currency(book, price, currency)
    raise NoQuote(ParkReason.NO_PRICE, f"no price for event type {event_type_id} in force at {at.isoformat()}")


def price_ref(book: PriceBook, price: Price) -> str:
    """Where a price stands: `platform/v3#event-7`, `#event-default` for a book's default."""
    return f"{book.id}/v{book.version}#event-{_event_name(price.event_type_id)}"


def net_amount(price: Price, *, started_minutes: int, month_count_before: int) -> int:
    """Net price of one booking. `month_count_before` counts the customer's earlier bookings of the same month."""
    if started_minutes < 0 or month_count_before < 0:
        raise ValueError("minutes and counts are not negative")
    if isinstance(price, FixedPrice):
        return price.net_minor
    if isinstance(price, PerMinutePrice):
        return max(price.minimum_minor, price.net_minor_per_minute * started_minutes)
    position = month_count_before + 1
    if position <= price.included_per_month:
        return 0
    return next(tier.net_minor for tier in reversed(price.tiers) if tier.from_booking <= position)


def started_minutes(start_at: datetime, end_at: datetime) -> int:
    """Minutes of an appointment, a started one counts in full."""
    minutes, rest = divmod(end_at - start_at, timedelta(minutes=1))
    if minutes < 0:
        raise ValueError("an appointment ends after it starts")
    return minutes + (1 if rest else 0)


def frozen_price(price: Price, *, started_minutes: int, month_count_before: int) -> JsonDict:
    """The price as JSON, with the inputs of the amount: what a quote keeps and `recompute_net` reads."""
    inputs = {"started_minutes": started_minutes, "month_count_before": month_count_before}
    return {**price.model_dump(mode="json"), "inputs": inputs}


def recompute_net(frozen: JsonDict) -> int:
    """Net amount of the whole booking from a quote's frozen price, for audits (see `commission.retained_quote`)."""
    fields = {name: value for name, value in frozen.items() if name not in ("inputs", "retained")}
    inputs = frozen["inputs"]
    return net_amount(
        _PRICE.validate_python(fields),
        started_minutes=inputs["started_minutes"],
        month_count_before=inputs["month_count_before"],
    )


def charge_at(price: Price, created_at: datetime, start_at: datetime, end_at: datetime) -> datetime:
    """The moment to charge; never before the booking was made."""
    if price.charge_moment is ChargeMoment.AT_BOOKING:
        return created_at
    if price.charge_moment is ChargeMoment.AT_END:
        return max(created_at, end_at)
    return max(created_at, start_at - timedelta(hours=price.charge_hours_before or 0))


def matures_at(price: Price, end_at: datetime) -> datetime:
    """When the commission is out of the refund window: whole days of 24 hours after the end."""
    return end_at + timedelta(days=price.hold_days)


def retained_bps(terms: CancellationTerms, *, cancelled_at: datetime, start_at: datetime) -> int:
    """Share of the price that a cancellation keeps: 0 until N hours before the start (that moment included)."""
    if start_at - cancelled_at >= timedelta(hours=terms.free_until_hours_before):
        return 0
    return terms.late_fee_bps


def period_of(at: datetime) -> str:
    """Calendar month `YYYY-MM` of a moment in Europe/Berlin. Raises ValueError for a naive datetime."""
    if at.tzinfo is None:
        raise ValueError("a moment needs its time zone")
    return at.astimezone(BERLIN).strftime("%Y-%m")


def period_bounds(period: str) -> tuple[datetime, datetime]:
    """First moment of the month and of the next one, in UTC: the half-open interval of a settlement or a count."""
    first = datetime.strptime(period, "%Y-%m").replace(tzinfo=BERLIN)
    following = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    return first.astimezone(UTC), following.astimezone(UTC)


def previous_period(period: str) -> str:
    """The month before: `2026-01` → `2025-12`."""
    return period_of(period_bounds(period)[0] - timedelta(seconds=1))


def _in_force(books: Iterable[PriceBook], at: datetime) -> list[PriceBook]:
    """The newest version not after `at`, of each book."""
    newest: dict[str, PriceBook] = {}
    for book in books:
        rank = (book.effective_from, book.version)
        current = newest.get(book.id)
        if book.effective_from <= at and (current is None or rank > (current.effective_from, current.version)):
            newest[book.id] = book
    return sorted(newest.values(), key=lambda book: book.id)


def _same_currency(book: PriceBook, price: Price, currency: str | None) -> tuple[PriceBook, Price]:
    if currency is not None and book.currency != currency:
        raise NoQuote(ParkReason.CURRENCY_MISMATCH, f"{price_ref(book, price)} is in {book.currency}, not {currency}")
    return book, price


def _event_name(event_type_id: int | None) -> str:
    return "default" if event_type_id is None else str(event_type_id)
