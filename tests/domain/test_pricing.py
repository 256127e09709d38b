from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from domain.model import CancellationTerms, NoQuote, ParkReason
from domain.pricing import (
    FixedPrice,
    PerMinutePrice,
    Price,
    PriceBook,
    TieredPrice,
    charge_at,
    find_price,
    frozen_price,
    matures_at,
    net_amount,
    period_bounds,
    period_of,
    previous_period,
    price_ref,
    recompute_net,
    retained_bps,
    started_minutes,
)

START = datetime(2026, 3, 10, 9, tzinfo=UTC)
END = START + timedelta(minutes=45)
PRICE: TypeAdapter[FixedPrice | PerMinutePrice | TieredPrice] = TypeAdapter(Price)


def raw_price(**fields: Any) -> dict[str, Any]:
    base = {"kind": "fixed", "charge_moment": "at_booking", "hold_days": 14, "vat_rate_bps": 1900}
    terms = {"free_until_hours_before": 24, "late_fee_bps": 5000}
    figures = {} if fields.get("kind", "fixed") != "fixed" else {"net_minor": 4900}
    return {**base, "terms": terms, **figures, **fields}


def price(**fields: Any) -> FixedPrice | PerMinutePrice | TieredPrice:
    return PRICE.validate_python(raw_price(**fields))


def book(id: str, owner: str, *prices: dict[str, Any], version: int = 1, since: str = "2026-01-01") -> PriceBook:
    kind, _, owner_id = owner.partition(":")
    return PriceBook.model_validate(
        {
            "id": id,
            "owner": {"kind": kind, "id": owner_id or None},
            "version": version,
            "effective_from": since,
            "currency": "EUR",
            "prices": prices,
        }
    )


def found(books: list[PriceBook], *, event: int = 1, at: datetime = START) -> str:
    path = ["r-altona", "r-hamburg", "r-nord"]
    return price_ref(*find_price(books, customer_id="c1", reseller_path=path, event_type_id=event, at=at))


def test_the_most_specific_owner_wins_then_the_event_types_own_price() -> None:
    books = [
        book("p", "platform", raw_price(event_type_id=1), raw_price()),
        book("n", "reseller:r-nord", raw_price(event_type_id=1)),
        book("h", "reseller:r-hamburg", raw_price(), raw_price(event_type_id=2)),
        book("x", "reseller:r-other", raw_price(event_type_id=1)),
        book("c", "customer:c1", raw_price(event_type_id=3)),
        book("z", "customer:c2", raw_price(event_type_id=1)),
    ]
    assert found(books, event=3) == "c/v1#event-3"
    assert found(books, event=1) == "h/v1#event-default"
    assert found(books, event=2) == "h/v1#event-2"
    assert found([b for b in books if b.id != "h"], event=1) == "n/v1#event-1"
    assert found([b for b in books if b.id != "h"], event=9) == "p/v1#event-default"


def test_without_customer_and_path_the_platforms_wholesale_price_is_found() -> None:
    books = [book("p", "platform", raw_price()), book("c", "customer:c1", raw_price())]
    assert find_price(books, customer_id=None, reseller_path=(), event_type_id=1, at=START)[0].id == "p"


def test_the_newest_version_not_after_the_moment_counts_as_a_whole() -> None:
    books = [
        book("p", "platform", raw_price(event_type_id=1), raw_price(event_type_id=2), version=1),
        book("p", "platform", raw_price(event_type_id=1, net_minor=5900), version=2, since="2026-04-01"),
    ]
    switch = datetime(2026, 3, 31, 22, tzinfo=UTC)
    assert found(books, at=switch - timedelta(seconds=1)) == "p/v1#event-1"
    assert found(books, at=switch) == "p/v2#event-1"
    with pytest.raises(NoQuote) as dropped:
        found(books, event=2, at=switch)
    assert dropped.value.reason is ParkReason.NO_PRICE
    with pytest.raises(NoQuote, match="no_price"):
        found(books, at=datetime(2025, 12, 31, 22, tzinfo=UTC))


def test_a_price_in_another_currency_is_told_apart_from_a_missing_one() -> None:
    books = [book("p", "platform", raw_price())]
    with pytest.raises(NoQuote) as other:
        find_price(books, customer_id=None, reseller_path=(), event_type_id=1, at=START, currency="CHF")
    assert other.value.reason is ParkReason.CURRENCY_MISMATCH


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 0), (1, 1), (60, 1), (61, 2), (2700, 45)])
def test_a_started_minute_counts_in_full(seconds: int, minutes: int) -> None:
    assert started_minutes(START, START + timedelta(seconds=seconds)) == minutes


def test_an_appointment_does_not_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="ends after"):
        started_minutes(END, START)


def test_minutes_have_a_minimum() -> None:
    per_minute = price(kind="per_minute", net_minor_per_minute=120, minimum_minor=1500)
    assert [net_amount(per_minute, started_minutes=n, month_count_before=0) for n in (0, 12, 13)] == [1500, 1500, 1560]


def test_tiers_count_the_months_bookings_and_the_included_ones_cost_nothing() -> None:
    tiers = [{"from_booking": 1, "net_minor": 1900}, {"from_booking": 11, "net_minor": 1700}]
    tiered = price(kind="tiered", included_per_month=3, tiers=tiers)
    costs = [net_amount(tiered, started_minutes=30, month_count_before=n) for n in (0, 2, 3, 9, 10, 500)]
    assert costs == [0, 0, 1900, 1900, 1700, 1700]


@given(minutes=st.integers(0, 10_000), before=st.integers(0, 10_000), included=st.integers(0, 50))
def test_a_frozen_price_gives_the_same_amount_again(minutes: int, before: int, included: int) -> None:
    tiers = [{"from_booking": 1, "net_minor": 1900}, {"from_booking": 11, "net_minor": 1700}]
    for each in (
        price(),
        price(kind="per_minute", net_minor_per_minute=3),
        price(kind="tiered", included_per_month=included, tiers=tiers),
    ):
        frozen = frozen_price(each, started_minutes=minutes, month_count_before=before)
        assert recompute_net(frozen) == net_amount(each, started_minutes=minutes, month_count_before=before)


def test_charge_moments() -> None:
    created = START - timedelta(days=3)
    assert charge_at(price(), created, START, END) == created
    assert charge_at(price(charge_moment="at_end"), created, START, END) == END
    before = price(charge_moment="hours_before_start", charge_hours_before=24)
    assert charge_at(before, created, START, END) == START - timedelta(hours=24)
    late = START - timedelta(hours=1)
    assert charge_at(before, late, START, END) == late, "never before the booking was made"
    assert matures_at(price(hold_days=14), END) == END + timedelta(days=14)


def test_a_cancellation_is_free_up_to_the_very_hour() -> None:
    terms = CancellationTerms(free_until_hours_before=24, late_fee_bps=5000)
    deadline = START - timedelta(hours=24)
    assert retained_bps(terms, cancelled_at=deadline, start_at=START) == 0
    assert retained_bps(terms, cancelled_at=deadline + timedelta(seconds=1), start_at=START) == 5000
    assert retained_bps(terms, cancelled_at=END, start_at=START) == 5000


@pytest.mark.parametrize(
    ("moment", "period"),
    [
        ("2026-01-31T22:59:59+00:00", "2026-01"),
        ("2026-01-31T23:00:00+00:00", "2026-02"),
        ("2026-06-30T22:00:00+00:00", "2026-07"),
        ("2025-12-31T23:30:00+00:00", "2026-01"),
    ],
)
def test_a_month_is_one_of_berlin(moment: str, period: str) -> None:
    at = datetime.fromisoformat(moment)
    assert period_of(at) == period
    begin, end = period_bounds(period)
    assert begin <= at < end


def test_months_join_without_gap_over_clock_changes() -> None:
    months = [f"{year}-{month:02}" for year in (2025, 2026) for month in range(1, 13)]
    for month, following in pairwise(months):
        assert period_bounds(month)[1] == period_bounds(following)[0]
        assert previous_period(following) == month
    begin, end = period_bounds("2026-03")
    assert end - begin == timedelta(days=31) - timedelta(hours=1)


def test_a_naive_moment_has_no_month() -> None:
    with pytest.raises(ValueError, match="time zone"):
        period_of(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"net_minor": 49.0}, "valid integer"),
        ({"net_minor": "4900"}, "valid integer"),
        ({"net_minor": -1}, "greater than or equal to 0"),
        ({"vat_rate_bps": 1600}, "1900, 700 or 0"),
        ({"charge_moment": "hours_before_start"}, "charge_hours_before"),
        ({"charge_hours_before": 2}, "charge_hours_before"),
        ({"nett_minor": 3}, "Extra inputs"),
        ({"terms": {"free_until_hours_before": 24, "late_fee_bps": 50.0}}, "valid integer"),
        ({"kind": "tiered", "tiers": []}, "at least 1"),
        ({"kind": "tiered", "tiers": [{"from_booking": 2, "net_minor": 1}]}, "starts at from_booking 1"),
        ({"kind": "tiered", "tiers": [{"from_booking": 1, "net_minor": 1}] * 2}, "ascending"),
        ({"kind": "weekly"}, "does not match any of the expected tags"),
    ],
)
def test_wrong_prices_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        price(**fields)


def test_a_book_prices_an_event_type_once_and_has_the_owner_it_says() -> None:
    with pytest.raises(ValidationError, match="two prices for event type default"):
        book("p", "platform", raw_price(), raw_price())
    for owner in ("platform:x", "reseller", "customer"):
        with pytest.raises(ValidationError, match="owner needs an id"):
            book("p", owner, raw_price())


def test_a_book_survives_the_way_through_json() -> None:
    tiers = [{"from_booking": 1, "net_minor": 1}]
    original = book("p", "platform", raw_price(), raw_price(event_type_id=2, kind="tiered", tiers=tiers))
    assert PriceBook.model_validate_json(original.model_dump_json()) == original
