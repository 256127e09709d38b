"""One reseller from named cells of text, as a table or a command line gives them; all errors at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from domain.catalog_model import CatalogReseller
from domain.vat_id import problem_of

REQUIRED: Final = ("id", "name", "email")
_ADDRESS: Final = {"address_line1": "line1", "address_line2": "line2", "postal_code": "postal_code", "city": "city"}
COLUMNS: Final = (
    *REQUIRED,
    "parent_id",
    "payout_mode",
    *_ADDRESS,
    "country",
    "small_business",
    "tax_status_from",
    "tax_status_proof",
    "vat_id",
    "minimum_payout_minor",
    "stripe_account_id",
    "agreement_like",
)
"""Names of the cells; all but the first three may be left out."""

NOTHING: Final = "-"
"""Empties a field that may be empty."""

_EMPTY: Final[dict[str, Any]] = {"parent_id": None, "vat_id": None, "minimum_payout_minor": {}, "address_line2": None}
_YES: Final = frozenset({"true", "yes", "ja", "wahr", "1", "x"})
_NO: Final = frozenset({"false", "no", "nein", "falsch", "0"})
_GERMAN_DAY: Final = re.compile(r"^(\d{1,2})\.(\d{1,2})\.(\d{4})\Z")
_MINIMUM: Final = re.compile(r"^([A-Za-z]{3})=(\d{1,12})\Z")

_HINTS: Final = {
    "id": "Use 1-120 of A-Z a-z 0-9 _ . : - only",
    "name": "Use 1-200 characters",
    "email": "Write it as name@example.com",
    "parent_id": "Name a reseller's id, or - for none",
    "payout_mode": "Use monthly, per_booking or on_hold",
    "country": "Use the two letters of ISO 3166, such as DE",
    "tax_status_from": "Write a day as 2026-01-31 or 31.01.2026",
    "tax_status_proof": "Use 1-200 characters",
    "vat_id": "Use at most 20 characters, with the country's prefix",
    "minimum_payout_minor": "Write currency and whole minor units, several with blanks: EUR=2500 CHF=3000",
    "stripe_account_id": "It begins with acct_",
    "address_line1": "Use 1-200 characters",
    "address_line2": "Use at most 200 characters",
    "postal_code": "Use 1-20 characters",
    "city": "Use 1-200 characters",
}


@dataclass(frozen=True)
class OneProblem:
    column: str
    problem: str
    hint: str


class CellProblem(Exception):
    """The cells make no reseller. Values that may be personal are not repeated."""

    def __init__(self, problems: Sequence[OneProblem]) -> None:
        super().__init__("; ".join(f"{one.column}: {one.problem}" for one in problems))
        self.problems = tuple(problems)


def reseller_of(cells: Mapping[str, str], stored: CatalogReseller | None) -> tuple[CatalogReseller, str | None]:
    """The reseller, and whose agreement he gets a copy of. Cells that are missing or empty keep what is stored.

    Raises CellProblem with everything that is wrong.
    """
    given = {name: cell.strip().strip("\u00a0").strip() for name, cell in cells.items()}
    given = {name: cell for name, cell in given.items() if cell}
    problems: list[OneProblem] = []
    values: dict[str, Any] = {} if stored is None else stored.model_dump()
    address: dict[str, Any] = dict(values.get("address") or {})
    for name, cell in given.items():
        if cell == NOTHING and name not in _EMPTY and name != "agreement_like":
            problems.append(OneProblem(name, "it cannot be emptied", "Leave the cell empty to keep what is stored"))
            continue
        value = _EMPTY.get(name) if cell == NOTHING else _value(name, cell, problems)
        if name in _ADDRESS:
            address[_ADDRESS[name]] = value
        elif name == "minimum_payout_minor":
            values["minimum_payouts"] = value
        elif name != "agreement_like":
            values[name] = value
    if address:
        values["address"] = address
    reseller = _built(values, problems)
    told = {problem.column for problem in problems}
    problems += [one for one in _more_problems(values, given) if one.column not in told]
    if problems or reseller is None:
        raise CellProblem(problems)
    like = given.get("agreement_like")
    return reseller, None if like in (None, NOTHING) else like


def _value(name: str, cell: str, problems: list[OneProblem]) -> Any:
    """The cell as the model takes it; what cannot be read is reported and left to be None."""
    if name == "small_business":
        if cell.lower() not in _YES | _NO:
            problems.append(OneProblem(name, f"{cell[:40]!r} is neither yes nor no", "Write true or false"))
            return False
        return cell.lower() in _YES
    if name == "tax_status_from":
        german = _GERMAN_DAY.match(cell)
        return f"{german[3]}-{int(german[2]):02d}-{int(german[1]):02d}" if german else cell
    if name == "minimum_payout_minor":
        parts = [_MINIMUM.match(part) for part in re.split(r"[\s,;|]+", cell) if part]
        if not all(parts):
            problems.append(OneProblem(name, f"{cell[:40]!r} is no list of amounts", _HINTS[name]))
            return {}
        return {part[1].upper(): int(part[2]) for part in parts if part}
    if name in ("payout_mode", "email"):
        return cell.lower() if name == "payout_mode" else cell
    if name == "country":
        return cell.upper()
    if name == "vat_id":
        upper = cell.upper()
        return upper if upper.startswith("CHE") else re.sub(r"[\s./-]", "", upper)
    return cell


def _built(values: Mapping[str, Any], problems: list[OneProblem]) -> CatalogReseller | None:
    try:
        return CatalogReseller.model_validate(values)
    except ValidationError as error:
        columns = {field: column for column, field in _ADDRESS.items()}
        for detail in error.errors(include_url=False, include_input=False):
            where = [str(part) for part in detail["loc"]]
            name = columns.get(where[-1], where[-1]) if where[0] == "address" else where[0]
            column = "minimum_payout_minor" if name == "minimum_payouts" else name
            if any(problem.column == column for problem in problems):
                continue
            if detail["type"] == "missing":
                what = "is missing" if name in REQUIRED else "is missing: an address needs street, postal code and city"
                problems.append(OneProblem(column, what, "Add it"))
            elif detail["type"] == "value_error":
                hint = _HINTS.get(column, "Correct it")
                problems.append(OneProblem(column, str(detail["ctx"]["error"]), hint))
            else:
                problems.append(OneProblem(column, "does not have the right form", _HINTS.get(column, "Correct it")))
        return None


def _more_problems(values: Mapping[str, Any], given: Mapping[str, str]) -> list[OneProblem]:
    """What the model alone does not see."""
    found = []
    vat_id, country = values.get("vat_id"), values.get("country", "DE")
    if vat_id is not None and ("vat_id" in given or "country" in given):
        problem = problem_of(vat_id, country)
        if problem is not None:
            found.append(OneProblem("vat_id", problem, "Correct it, or the country"))
    postal_code = given.get("postal_code")
    if postal_code is not None and country == "DE" and not re.fullmatch(r"\d{5}", postal_code):
        hint = "A spreadsheet drops a leading zero: format the column as text"
        found.append(OneProblem("postal_code", "a German postal code has five digits", hint))
    return found
