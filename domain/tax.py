"""German VAT on what the platform sells, and on what a reseller's self-billed credit note shows.

The platform sells an electronic service. Rules: standard and reduced rate § 12 UStG, place of supply § 3a UStG, reverse
charge § 13b UStG and article 196 of the VAT directive, small businesses § 19 UStG. Private customers in other EU
countries are charged the platform's own rate, which holds below the threshold of § 3a (5) UStG (10,000 € a year); above
it their rate is set in the customer's tax profile.
"""

from __future__ import annotations

from typing import Final

from domain.model import Frozen, Reseller, TaxProfile
from domain.money import AmountMinor, RateBps, percentage

STANDARD_RATE_BPS: Final = 1_900
REDUCED_RATE_BPS: Final = 700
PLATFORM_COUNTRY: Final = "DE"

_EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU_COUNTRIES: Final = frozenset(_EU.split())

VAT_ID_PREFIX = {"GR": "EL"}
"""Countries whose VAT ids start otherwise than with the ISO code."""


class Vat(Frozen):
    rate_bps: RateBps
    vat_minor: AmountMinor
    reason: str
    """`standard`, `reduced`, `zero`, `agreed` (another rate from the customer's profile), `reverse_charge`,
    `outside_scope` or `small_business`: decides the wording on the document and the DATEV tax key."""


def vat(*, net_minor: int, price_rate_bps: int, platform_country: str = PLATFORM_COUNTRY, tax: TaxProfile) -> Vat:
    """VAT on a sale to a customer, rounded once, on the net amount.

    A rate in the customer's profile wins over all rules. Businesses of other EU countries with a VAT id of their own
    country owe the VAT themselves; without such an id they are charged like anybody. Businesses outside the EU are out
    of the scope of German VAT. A price of 0 % stays 0 % everywhere.
    """
    if tax.vat_rate_bps is not None:
        return _at_rate(net_minor, tax.vat_rate_bps)
    if price_rate_bps and tax.is_business and tax.country != platform_country:
        if tax.country not in EU_COUNTRIES:
            return Vat(rate_bps=0, vat_minor=0, reason="outside_scope")
        if vat_id_fits(tax.vat_id, tax.country):
            return Vat(rate_bps=0, vat_minor=0, reason="reverse_charge")
    return _at_rate(net_minor, price_rate_bps)


def reseller_vat(reseller: Reseller, net_minor: int, *, platform_country: str = PLATFORM_COUNTRY) -> Vat:
    """VAT on a reseller's commission, for his self-billed credit note.

    Small businesses show none. Resellers in other countries, EU or not, leave the VAT to the platform (§ 13b UStG).
    """
    if reseller.small_business:
        return Vat(rate_bps=0, vat_minor=0, reason="small_business")
    if reseller.country != platform_country:
        return Vat(rate_bps=0, vat_minor=0, reason="reverse_charge")
    return _at_rate(net_minor, STANDARD_RATE_BPS)


def vat_id_fits(vat_id: str | None, country: str) -> bool:
    """Whether there is a VAT id and its prefix is the country's. Only VIES knows whether it is valid."""
    return vat_id is not None and vat_id.startswith(VAT_ID_PREFIX.get(country, country))


def _at_rate(net_minor: int, rate_bps: int) -> Vat:
    reasons = {STANDARD_RATE_BPS: "standard", REDUCED_RATE_BPS: "reduced", 0: "zero"}
    return Vat(rate_bps=rate_bps, vat_minor=percentage(net_minor, rate_bps), reason=reasons.get(rate_bps, "agreed"))
