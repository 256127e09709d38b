"""Whether a VAT identification number can be one: its country's form and check digits, by `python-stdnum`.

The library follows VIES, "Structure of VAT identification numbers", and each country's own rules; Switzerland: the UID
with the suffix of its VAT register. Whether a number is in force only VIES (in Switzerland the UID register) knows.
"""

from __future__ import annotations

from stdnum.exceptions import InvalidChecksum, ValidationError
from stdnum.util import get_cc_module

from domain.tax import EU_COUNTRIES, VAT_ID_PREFIX

_BESIDE_THE_EU = frozenset({"CH", "GB"})


def problem_of(vat_id: str, country: str) -> str | None:
    """Why this cannot be a VAT id of that country, in a sentence without the id; None: it can be.

    A country outside the EU, Switzerland and Great Britain has no form that would be known here: everything passes.
    """
    if country not in EU_COUNTRIES | _BESIDE_THE_EU:
        return None
    prefix = VAT_ID_PREFIX.get(country, country)
    wrong_form = f"this is no VAT id of {country}: it begins with {prefix} and has that country's length and form"
    # The library also takes numbers without their country, in small letters and with blanks around them.
    if not vat_id.startswith(prefix) or vat_id != vat_id.strip().upper():
        return wrong_form
    rules = get_cc_module(country.lower(), "vat")
    assert rules is not None, f"the library has no rules for {country}"
    try:
        rules.validate(vat_id)
    except InvalidChecksum:
        return "the check digits do not fit the others: look for a mistyped one"
    except ValidationError:
        return wrong_form
    return None
