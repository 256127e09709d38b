from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import CurrencyMismatch, Money, allocate, format_amount, percentage, share

AMOUNTS = st.integers(0, 10_000_000)


@given(amount=AMOUNTS, rate_bps=st.integers(0, 10_000))
def test_percentage_rounds_half_up_like_decimal_arithmetic(amount: int, rate_bps: int) -> None:
    exact = Decimal(amount) * Decimal(rate_bps) / Decimal(10_000)
    assert percentage(amount, rate_bps) == int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def test_percentage_rounds_a_half_up_and_less_down() -> None:
    assert percentage(4900, 2500) == 1225
    assert percentage(2, 2500) == 1
    assert percentage(1, 4999) == 0


@pytest.mark.parametrize(("amount", "numerator", "denominator"), [(-1, 1, 2), (1, -1, 2), (1, 1, 0), (1, 1, -2)])
def test_share_refuses_signs_and_empty_wholes(amount: int, numerator: int, denominator: int) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        share(amount, numerator, denominator)


@given(amount=AMOUNTS, weights=st.lists(st.integers(0, 10_000), min_size=1, max_size=12).filter(any))
def test_allocated_parts_sum_to_the_whole_and_none_is_off_by_a_unit(amount: int, weights: list[int]) -> None:
    parts = allocate(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Decimal(amount) * weight / sum(weights)) < 1


def test_allocate_gives_ties_to_the_earlier_part_and_refuses_weights_of_zero() -> None:
    assert allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert allocate(0, [0, 0]) == [0, 0]
    with pytest.raises(ValueError, match="zero"):
        allocate(1, [0, 0])


def test_money_never_mixes_currencies_or_gets_a_sign() -> None:
    euro = Money(amount_minor=5, currency="EUR")
    assert (euro + euro).amount_minor == 10
    assert (euro - euro).amount_minor == 0
    with pytest.raises(CurrencyMismatch):
        euro + Money(amount_minor=5, currency="CHF")
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        euro - Money(amount_minor=6, currency="EUR")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [(123456, "EUR", "1.234,56 €"), (5, "EUR", "0,05 €"), (1234, "JPY", "1.234 JPY"), (-150, "CHF", "-1,50 CHF")],
)
def test_amounts_are_written_in_german(amount: int, currency: str, text: str) -> None:
    assert format_amount(amount, currency) == text
