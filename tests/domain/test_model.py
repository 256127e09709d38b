from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from domain.model import CancellationTerms, Level, NoQuote, ParkReason, PayoutMode, Quote, TaxProfile

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def level(number: int = 0, amount: int = 1225) -> Level:
    return Level(
        reseller_id=f"r-{number}",
        level=number,
        amount_minor=amount,
        rule={"kind": "percentage", "inputs": {"net_minor": 4900, "wholesale_net_minor": None}},
        agreement_version=1,
        payout_mode=PayoutMode.MONTHLY,
    )


def quote(**fields: Any) -> Quote:
    base: dict[str, Any] = {
        "chain_uid": "u1",
        "booking_uid": "u1",
        "customer_id": "c1",
        "reseller_id": "r-0",
        "currency": "EUR",
        "net_minor": 4900,
        "vat_minor": 931,
        "gross_minor": 5831,
        "vat_rate_bps": 1900,
        "vat_reason": "standard",
        "price_ref": "p/v1#event-1",
        "price": {"kind": "fixed"},
        "charge_at": NOW,
        "matures_at": NOW,
        "terms": CancellationTerms(free_until_hours_before=24),
        "levels": (level(),),
        "period": "2026-03",
    }
    return Quote.model_validate({**base, **fields})


def test_a_quote_survives_the_way_through_json_and_cannot_be_changed() -> None:
    original = quote()
    assert Quote.model_validate_json(original.model_dump_json()) == original
    with pytest.raises(ValidationError, match="frozen"):
        original.net_minor = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gross_minor": 5832}, "add up"),
        ({"levels": (level(0, 4000), level(1, 901))}, "exceed the net amount"),
        ({"levels": (level(1),)}, "numbered"),
        ({"currency": "eur"}, "unknown currency"),
        ({"period": "2026-13"}, "pattern"),
        ({"charge_at": datetime(2026, 3, 1)}, "timezone"),  # noqa: DTZ001
        ({"chain_uid": "a b"}, "pattern"),
        ({"chain_uid": "a\n"}, "pattern"),
        ({"attendee_email": "someone@example.com"}, "Extra inputs"),
    ],
)
def test_quotes_that_cannot_be_right_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        quote(**fields)


def test_levels_of_a_kept_share_may_round_above_it_by_a_unit_each() -> None:
    assert quote(levels=(level(0, 4901),), price={"retained": {}}).levels[0].amount_minor == 4901
    with pytest.raises(ValidationError, match="exceed"):
        quote(levels=(level(0, 4902),), price={"retained": {}})


def test_moments_are_normalised_to_utc() -> None:
    berlin = datetime(2026, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    found = quote(charge_at=berlin).charge_at
    assert found == NOW
    assert found.tzinfo is UTC


def test_why_there_is_no_quote_survives_pickling_and_reads_well() -> None:
    error = pickle.loads(pickle.dumps(NoQuote(ParkReason.NO_PRICE, "event type 9")))
    assert (error.reason, error.detail, str(error)) == (ParkReason.NO_PRICE, "event type 9", "no_price: event type 9")


@pytest.mark.parametrize("fields", [{"country": "de"}, {"vat_id": "de 123"}, {"vat_rate_bps": 19.0}])
def test_wrong_tax_profiles_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TaxProfile.model_validate(fields)
