"""What has to be known of a reseller before a credit note can name him."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from domain.catalog_model import Address, CatalogReseller
from domain.onboarding import missing_of

TODAY = date(2026, 3, 31)
FULL: dict[str, Any] = {
    "id": "r-1",
    "name": "Secret Name",
    "email": "secret@example.com",
    "address": Address(line1="Secret Street 1", postal_code="20095", city="Hamburg"),
    "tax_status_from": TODAY,
    "tax_status_proof": "letter 17",
    "vat_id": "DE136695976",
}


def missing(**fields: Any) -> tuple[str, ...]:
    return missing_of(CatalogReseller(**{**FULL, **fields}), TODAY)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"small_business": True, "vat_id": None},
        {"small_business": True},
        {"country": "AT", "vat_id": "ATU12345675"},
        {"country": "CH", "vat_id": None},
        {"country": "JP", "vat_id": "T1234567890123"},
    ],
)
def test_complete(fields: dict[str, Any]) -> None:
    assert missing(**fields) == ()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"address": None}, "address"),
        ({"tax_status_from": None}, "tax_status_from"),
        ({"tax_status_from": date(2026, 4, 1)}, "2026-04-01"),
        ({"tax_status_proof": None}, "tax_status_proof"),
        ({"vat_id": None}, "vat_id is missing"),
        ({"vat_id": None, "country": "AT"}, "vat_id is missing"),
        ({"vat_id": "DE136695977"}, "digit"),
        ({"vat_id": "DE136695976", "country": "FR"}, "FR"),
        ({"vat_id": "CHE-1", "country": "CH"}, "CH"),
    ],
)
def test_each_gap_is_named(fields: dict[str, Any], word: str) -> None:
    (told,) = missing(**fields)
    assert word in told


def test_all_gaps_are_named_at_once_and_nothing_personal() -> None:
    told = missing(address=None, tax_status_from=None, tax_status_proof=None, vat_id="DE1")
    assert len(told) == 4
    assert "Secret" not in str(told)
