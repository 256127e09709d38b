"""Forms of VAT ids, and the German check digit."""

from __future__ import annotations

import pytest

from domain.tax import EU_COUNTRIES
from domain.vat_id import _FORMS, problem_of


@pytest.mark.parametrize("country", sorted(_FORMS))
def test_the_example_of_each_country_fits_its_form(country: str) -> None:
    example = _FORMS[country][1]
    assert problem_of(example, country) is None
    assert problem_of(f"{example}0000000000000", country) is not None
    assert problem_of(f" {example}", country) is not None
    assert problem_of(example.lower(), country) is not None
    other = "AT" if country != "AT" else "DE"
    assert problem_of(example, other) is not None


def test_every_country_of_the_union_has_a_form() -> None:
    assert _FORMS.keys() >= EU_COUNTRIES


@pytest.mark.parametrize("digit", "0123456789")
def test_only_one_last_digit_fits_a_german_number(digit: str) -> None:
    problem = problem_of(f"DE13669597{digit}", "DE")
    assert (problem is None) == (digit == "6")
    assert problem is None or "13669597" not in problem


def test_two_swapped_digits_are_found() -> None:
    assert problem_of("DE163695976", "DE") is not None


def test_a_country_without_a_known_form_takes_everything() -> None:
    assert problem_of("anything", "US") is None


@pytest.mark.parametrize("vat_id", ["ESX1234567X", "ESX12345678", "ES12345678X"])
def test_spain_has_its_letters_at_the_ends(vat_id: str) -> None:
    assert problem_of(vat_id, "ES") is None


@pytest.mark.parametrize("vat_id", ["ES123456789", "EL123456789", "ES1234X678X"])
def test_other_spanish_forms_are_refused(vat_id: str) -> None:
    assert problem_of(vat_id, "ES") is not None
