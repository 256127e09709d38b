"""Money in integer minor units: the only place of the system that rounds.

Rounding is half up, once. Splits use the largest remainder, so the parts always sum to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

BPS_WHOLE = 10_000
"""Basis points in a whole: 10,000 bps = 100 %."""

MAX_AMOUNT_MINOR = 99_999_999_999
"""Upper limit of one amount in minor units. Far above any booking; guards against unit mistakes and bigint overflow."""

MINOR_DIGITS = {"EUR": 2, "CHF": 2, "USD": 2, "GBP": 2, "JPY": 0}
"""Currencies that the pipeline accepts, with the number of digits of their minor unit (ISO 4217)."""

AmountMinor = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
RateBps = Annotated[int, Field(ge=0, le=BPS_WHOLE)]


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies met. Nothing here converts currencies."""


class Money(BaseModel):
    """A non-negative amount in minor units (cents for EUR, whole yen for JPY) with its ISO 4217 currency."""

    model_config = ConfigDict(frozen=True)

    amount_minor: AmountMinor
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(amount_minor=self.amount_minor + other.amount_minor, currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        """The difference. Raises ValueError where it would be negative: no amount of the system has a sign."""
        self._same(other)
        return Money(amount_minor=self.amount_minor - other.amount_minor, currency=self.currency)

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(f"{self.currency} met {other.currency}: amounts of two currencies are never mixed")


def share(amount_minor: int, numerator: int, denominator: int) -> int:
    """`amount_minor * numerator / denominator`, rounded half up, in exact integer arithmetic.

    All three must be non-negative and the denominator positive, else ValueError.
    """
    if amount_minor < 0 or numerator < 0 or denominator <= 0:
        raise ValueError(f"share of {amount_minor} by {numerator}/{denominator}: needs non-negative numbers")
    return (2 * amount_minor * numerator + denominator) // (2 * denominator)


def percentage(amount_minor: int, rate_bps: int) -> int:
    """`rate_bps` basis points of an amount, rounded half up: `percentage(4900, 2500) == 1225`."""
    return share(amount_minor, rate_bps, BPS_WHOLE)


def allocate(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount by weights with the largest remainder: the parts sum to the whole, no part is off by a unit.

    Ties go to the earlier part. All weights zero is a ValueError, unless the amount is zero as well.
    """
    if amount_minor < 0 or any(weight < 0 for weight in weights):
        raise ValueError("allocate needs a non-negative amount and non-negative weights")
    total = sum(weights)
    if total == 0:
        if amount_minor == 0:
            return [0 for _ in weights]
        raise ValueError(f"{amount_minor} cannot be allocated: all weights are zero")
    parts = [amount_minor * weight // total for weight in weights]
    remainders = [amount_minor * weight % total for weight in weights]
    order = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in order[: amount_minor - sum(parts)]:
        parts[index] += 1
    return parts


def format_amount(amount_minor: int, currency: str) -> str:
    """German notation for people, without a locale library: `format_amount(123456, "EUR") == "1.234,56 €"`."""
    digits = MINOR_DIGITS.get(currency, 2)
    sign = "-" if amount_minor < 0 else ""
    whole, cents = divmod(abs(amount_minor), 10**digits)
    grouped = f"{whole:,}".replace(",", ".")
    symbol = "€" if currency == "EUR" else currency
    return f"{sign}{grouped},{cents:0{digits}d} {symbol}" if digits else f"{sign}{grouped} {symbol}"
