from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.model import PayoutMode, Reseller, TaxProfile
from domain.tax import reseller_vat, vat


def profile(
    country: str = "DE", business: bool = True, vat_id: str | None = None, rate: int | None = None
) -> TaxProfile:
    return TaxProfile(country=country, is_business=business, vat_id=vat_id, vat_rate_bps=rate)


@pytest.mark.parametrize(
    ("tax", "price_rate_bps", "expected"),
    [
        (profile(), 1900, (1900, 931, "standard")),
        (profile(vat_id="DE123456789"), 1900, (1900, 931, "standard")),
        (profile(), 700, (700, 343, "reduced")),
        (profile(), 0, (0, 0, "zero")),
        (profile("AT", vat_id="ATU12345678"), 1900, (0, 0, "reverse_charge")),
        (profile("GR", vat_id="EL123456789"), 1900, (0, 0, "reverse_charge")),
        (profile("AT", vat_id="ATU12345678"), 0, (0, 0, "zero")),
        (profile("AT"), 1900, (1900, 931, "standard")),
        (profile("AT", vat_id="DE123456789"), 1900, (1900, 931, "standard")),
        (profile("AT", business=False, vat_id="ATU12345678"), 1900, (1900, 931, "standard")),
        (profile("CH"), 1900, (0, 0, "outside_scope")),
        (profile("CH", business=False), 1900, (1900, 931, "standard")),
        (profile(rate=0), 1900, (0, 0, "zero")),
        (profile("AT", business=False, rate=2000), 1900, (2000, 980, "agreed")),
        (profile("AT", vat_id="ATU12345678", rate=700), 1900, (700, 343, "reduced")),
    ],
)
def test_vat_on_a_sale(tax: TaxProfile, price_rate_bps: int, expected: tuple[int, int, str]) -> None:
    found = vat(net_minor=4900, price_rate_bps=price_rate_bps, tax=tax)
    assert (found.rate_bps, found.vat_minor, found.reason) == expected


def test_another_platform_country_sees_germany_as_abroad() -> None:
    tax = profile("DE", vat_id="DE123456789")
    assert vat(net_minor=100, price_rate_bps=1900, platform_country="AT", tax=tax).reason == "reverse_charge"


@given(net=st.integers(0, 10_000_000), rate=st.sampled_from([0, 700, 1900]))
def test_vat_is_within_half_a_cent_of_the_exact_amount(net: int, rate: int) -> None:
    found = vat(net_minor=net, price_rate_bps=rate, tax=profile())
    assert abs(found.vat_minor * 10_000 - net * rate) <= 5_000


@pytest.mark.parametrize(
    ("country", "small_business", "expected"),
    [
        ("DE", False, (1900, 233, "standard")),
        ("DE", True, (0, 0, "small_business")),
        ("AT", False, (0, 0, "reverse_charge")),
        ("CH", False, (0, 0, "reverse_charge")),
        ("AT", True, (0, 0, "small_business")),
    ],
)
def test_vat_on_a_resellers_commission(country: str, small_business: bool, expected: tuple[int, int, str]) -> None:
    reseller = Reseller(
        id="r",
        parent_id=None,
        payout_mode=PayoutMode.MONTHLY,
        stripe_account_id=None,
        small_business=small_business,
        country=country,
        vat_id=None,
        paused=False,
    )
    found = reseller_vat(reseller, 1225)
    assert (found.rate_bps, found.vat_minor, found.reason) == expected
