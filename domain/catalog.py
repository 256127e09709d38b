"""Reading a catalogue: all its errors at once, each with line, field and what to do, or a catalogue without any."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from domain.catalog_checks import Parts, check
from domain.catalog_model import (
    Catalog,
    CatalogCustomer,
    CatalogReseller,
    DefaultAgreement,
    Mappings,
    Platform,
)
from domain.catalog_yaml import Document, Path, Problem, read
from domain.commission import Agreement
from domain.pricing import REPEATED_EVENT_TYPE, PriceBook

__all__ = ["Catalog", "CatalogCustomer", "CatalogErrors", "CatalogReseller", "Mappings", "Platform", "parse_catalog"]

_LISTS: Final[dict[str, tuple[type[BaseModel], bool]]] = {
    "resellers": (CatalogReseller, True),
    "customers": (CatalogCustomer, True),
    "price_books": (PriceBook, True),
    "agreements": (Agreement, False),
    "default_agreements": (DefaultAgreement, False),
}
"""Sections that are lists: the model of an item, and whether the section is required."""

_SECTIONS: Final = ("version", "platform", "mappings", *_LISTS)

_PRIVATE: Final = ("name", "email", "address", "line1", "line2", "postal_code", "city")
"""Fields whose values error messages don't repeat."""


_Model = TypeVar("_Model", bound=BaseModel)


class CatalogErrors(Exception):
    """A catalogue with errors; nothing of it may be used. `errors` are in the order of their lines."""

    def __init__(self, errors: Sequence[Problem]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error.line))
        super().__init__("\n".join(str(error) for error in self.errors))


def parse_catalog(text: str) -> Catalog:
    """The catalogue in a YAML text; CatalogErrors with everything that is wrong with it otherwise."""
    document = read(text)
    if not isinstance(document.value, dict):
        if not document.problems:
            document.report((), "a catalogue is a mapping", f"Its fields are {', '.join(_SECTIONS)}")
        raise CatalogErrors(document.problems)
    parts = _parts(document)
    check(parts, document)
    if document.problems:
        raise CatalogErrors(document.problems)
    return Catalog(
        version=1,
        platform=parts.platform,
        resellers=tuple(parts.parents_first()),
        customers=tuple(item for _, item in parts.customers),
        mappings=parts.mappings,
        price_books=tuple(item for _, item in parts.price_books),
        agreements=tuple(item for _, item in parts.agreements),
    )


def _parts(document: Document) -> Parts:
    value = document.value
    for name in value:
        if name not in _SECTIONS:
            document.report((name,), "unknown section", _suggest(str(name), _SECTIONS))
    if value.get("version") != 1 or isinstance(value.get("version"), bool):
        document.report(("version",), "the format's version must be 1", "Write `version: 1`")
    items = {name: _items(document, name, model, required) for name, (model, required) in _LISTS.items()}
    platform = _validated(document, Platform, value["platform"], ("platform",)) if "platform" in value else None
    if "platform" not in value:
        document.report(("platform",), "is missing", "Write its name, country and currency")
    mappings = _validated(document, Mappings, value.get("mappings", {}), ("mappings",))
    parts = Parts(
        platform=platform or Platform(name="platform"),
        mappings=mappings or Mappings(),
        resellers=items["resellers"],
        customers=items["customers"],
        price_books=items["price_books"],
        agreements=items["agreements"],
    )
    _add_defaults(parts, items["default_agreements"], value.get("agreements"))
    return parts


def _items(document: Document, name: str, model: type[BaseModel], required: bool) -> list[tuple[Path, Any]]:
    """The valid items of a list section, with their paths."""
    listed = document.value.get(name)
    if listed is None and not required:
        return []
    if not isinstance(listed, list):
        document.report(
            (name,), "must be a list" if name in document.value else "is missing", "Write one `- ` per item"
        )
        return []
    found: list[tuple[Path, Any]] = []
    for index, raw in enumerate(listed):
        item = _validated(document, model, raw, (name, index))
        if item is not None:
            found.append(((name, index), item))
    return found


def _validated(document: Document, model: type[_Model], raw: Any, path: Path) -> _Model | None:
    try:
        return TypeAdapter(model).validate_python(raw)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == REPEATED_EVENT_TYPE:
                continue  # `check` tells it, with the line of the second price
            where = _path_of(document, path, detail["loc"], detail["type"])
            problem, hint = _explain(detail, where, model)
            document.report(where, problem, hint)
        return None


def _path_of(document: Document, path: Path, location: tuple[int | str, ...], kind: str) -> Path:
    """The file's path of a pydantic location, which also names union members that the file does not have."""
    for index, part in enumerate(location):
        is_last = index == len(location) - 1
        if (*path, part) in document.lines or (is_last and kind == "missing"):
            path = (*path, part)
    return path


def _explain(detail: Any, path: Path, model: type[BaseModel]) -> tuple[str, str]:
    kind, given = detail["type"], detail.get("input")
    name = str(path[-1]) if path else ""
    shown = "the value" if name in _PRIVATE or not isinstance(given, str | int | float) else repr(given)[:60]
    if kind == "missing":
        return "is missing", "Add it"
    if kind == "extra_forbidden":
        return "unknown field", _suggest(name, sorted(_field_names(model)))
    if kind in ("int_type", "int_from_float", "int_parsing"):
        if name.endswith("_minor") or "_minor_" in name:
            return f"{shown} is no amount", "Write whole minor units without a point or quotes: 4900 for 49,00 EUR"
        if name.endswith("_bps"):
            return f"{shown} is no rate", "Write whole basis points: 2500 for 25 %"
        return f"{shown} is no whole number", "Write digits only, without quotes"
    if kind == "union_tag_not_found":
        kinds = "fixed, per_minute, tiered" if "prices" in path else "percentage, fixed, tiers, margin"
        return "kind is missing", f"Write one of {kinds}"
    if kind == "union_tag_invalid":
        return f"kind {detail['ctx']['tag']!r} is unknown", f"Use one of {detail['ctx']['expected_tags']}"
    if kind in ("enum", "literal_error"):
        return f"{shown} is not possible here", f"Use one of {detail['ctx']['expected']}"
    if kind == "string_pattern_mismatch":
        return f"{shown} does not have the right form", f"It must match {detail['ctx']['pattern']}"
    if kind in ("timezone_aware", "datetime_from_date_parsing", "datetime_parsing", "datetime_type"):
        return f"{shown} is no day", "Write a day like 2026-01-31, or a time with its offset: 2026-01-31T12:00:00+01:00"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{shown} is no mapping of fields", "Write its fields below it, indented"
    if kind == "value_error":
        return str(detail["ctx"]["error"]), "Correct it"
    return f"{shown}: {detail['msg'][:1].lower()}{detail['msg'][1:]}", "Correct it"


def _field_names(model: type[BaseModel]) -> set[str]:
    """Names of all fields that can occur in an item, its parts included."""
    names: set[str] = set()

    def walk(schema: Any) -> None:
        if isinstance(schema, dict):
            properties = schema.get("properties")
            names.update(properties if isinstance(properties, dict) else ())
            for inner in schema.values():
                walk(inner)
        elif isinstance(schema, list):
            for inner in schema:
                walk(inner)

    walk(model.model_json_schema())
    return names


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Remove it; known are {', '.join(known)}"


def _add_defaults(parts: Parts, defaults: Sequence[tuple[Path, Any]], listed: Any) -> None:
    """Give every reseller without an agreement of his own the default ones; errors point at the default."""
    raw = listed if isinstance(listed, list) else []
    has_own = {item.get("reseller_id") for item in raw if isinstance(item, dict)}
    for _, reseller in parts.resellers:
        if reseller.id not in has_own:
            parts.agreements.extend((path, default.agreement_of(reseller.id)) for path, default in defaults)
