"""Whether a VAT identification number can be one: its country's form, and the check digit where it is Germany's.

Forms: VIES, "Structure of VAT identification numbers"; Switzerland: UID with the suffix of its VAT register. Whether a
number is in force only VIES (in Switzerland the UID register) knows.
"""

from __future__ import annotations

import re
from typing import Final

_FORMS: Final[dict[str, tuple[str, str]]] = {
    "AT": (r"ATU\d{8}", "ATU12345675"),
    "BE": (r"BE[01]\d{9}", "BE0123456749"),
    "BG": (r"BG\d{9,10}", "BG123456789"),
    "CY": (r"CY\d{8}[A-Z]", "CY12345678X"),
    "CZ": (r"CZ\d{8,10}", "CZ12345678"),
    "DE": (r"DE[1-9]\d{8}", "DE136695976"),
    "DK": (r"DK\d{8}", "DK12345678"),
    "EE": (r"EE\d{9}", "EE123456789"),
    "ES": (r"ES([A-Z]\d{7}[0-9A-Z]|\d{8}[A-Z])", "ESX1234567X"),
    "FI": (r"FI\d{8}", "FI12345678"),
    "FR": (r"FR[0-9A-HJ-NP-Z]{2}\d{9}", "FR12345678901"),
    "GR": (r"EL\d{9}", "EL123456789"),
    "HR": (r"HR\d{11}", "HR12345678901"),
    "HU": (r"HU\d{8}", "HU12345678"),
    "IE": (r"IE(\d[0-9A-Z+*]\d{5}[A-W]|\d{7}[A-W][A-I])", "IE1234567WA"),
    "IT": (r"IT\d{11}", "IT12345678901"),
    "LT": (r"LT(\d{9}|\d{12})", "LT123456789"),
    "LU": (r"LU\d{8}", "LU12345678"),
    "LV": (r"LV\d{11}", "LV12345678901"),
    "MT": (r"MT\d{8}", "MT12345678"),
    "NL": (r"NL[0-9A-Z+*]{10}\d{2}", "NL123456789B01"),
    "PL": (r"PL\d{10}", "PL1234567890"),
    "PT": (r"PT\d{9}", "PT123456789"),
    "RO": (r"RO\d{2,10}", "RO12345678"),
    "SE": (r"SE\d{10}01", "SE123456789001"),
    "SI": (r"SI\d{8}", "SI12345678"),
    "SK": (r"SK\d{10}", "SK1234567890"),
    "CH": (r"CHE-?\d{3}\.?\d{3}\.?\d{3}( ?(MWST|TVA|IVA))?", "CHE-123.456.788 MWST"),
    "GB": (r"GB(\d{9}|\d{12}|(GD|HA)\d{3})", "GB123456789"),
}
"""Country → its form and an example that fits it."""


def problem_of(vat_id: str, country: str) -> str | None:
    """Why this cannot be a VAT id of that country, in a sentence without the id; None: it can be.

    A country that is neither in the EU nor in the table has no form that would be known here: everything passes.
    """
    form = _FORMS.get(country)
    if form is None:
        return None
    pattern, example = form
    if not re.fullmatch(pattern, vat_id):
        return f"this is no VAT id of {country}: it looks like {example}"
    if country == "DE" and not _has_german_check_digit(vat_id[2:]):
        return "the last digit does not fit the others: look for a mistyped digit"
    return None


def _has_german_check_digit(digits: str) -> bool:
    """ISO 7064 MOD 11,10, which the Bundeszentralamt für Steuern uses."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])
