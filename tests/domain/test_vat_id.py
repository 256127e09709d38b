"""VAT ids: each country's form and check digits."""

from __future__ import annotations

import pytest

from domain.tax import EU_COUNTRIES
from domain.vat_id import problem_of

VALID = {
    "AT": "ATU13585627",
    "BE": "BE0428759497",
    "CH": "CHE-107.787.577 IVA",
    "DE": "DE136695976",
    "DK": "DK13585628",
    "FI": "FI20774740",
    "FR": "FR40303265045",
    "GB": "GB980780684",
    "GR": "EL094259216",
    "IT": "IT00743110157",
    "LU": "LU15027442",
    "NL": "NL004495445B01",
    "PL": "PL8567346215",
    "SE": "SE123456789701",
}


@pytest.mark.parametrize("country", sorted(VALID))
def test_a_valid_number_passes_in_its_own_country_only(country: str) -> None:
    number = VALID[country]
    assert problem_of(number, country) is None
    assert problem_of(f"{number}0000000000000", country) is not None
    assert problem_of(f" {number}", country) is not None
    assert problem_of(number.lower(), country) is not None
    assert problem_of(number[2:], country) is not None
    assert problem_of(number, "AT" if country != "AT" else "DE") is not None


@pytest.mark.parametrize("country", sorted(EU_COUNTRIES))
def test_every_country_of_the_union_has_rules(country: str) -> None:
    problem = problem_of("nonsense", country)
    assert problem is not None
    assert "nonsense" not in problem


@pytest.mark.parametrize("digit", "0123456789")
def test_only_one_last_digit_fits_a_german_number(digit: str) -> None:
    problem = problem_of(f"DE13669597{digit}", "DE")
    assert (problem is None) == (digit == "6")
    assert problem is None or "mistyped" in problem


def test_two_swapped_digits_are_found() -> None:
    assert problem_of("DE163695976", "DE") is not None


def test_a_country_without_known_rules_takes_everything() -> None:
    assert problem_of("anything", "US") is None
