"""Form decoding (``a[b][0][c]=v``) and the parameter rules that decode strings into typed values.

A rule table maps a parameter name to a :class:`Rule`. Whatever a table does not name is refused with
``parameter_unknown``, as Stripe does, so that a misspelt parameter of ours can never be ignored silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from sandbox.stripe.errors import malformed

_BRACKETS = re.compile(r"\[([^\]]*)\]")
_INTEGER = re.compile(r"-?\d{1,18}")
_CURRENCIES = frozenset({"eur", "usd", "gbp", "chf", "dkk", "sek", "nok", "pln", "czk", "jpy"})

METADATA_KEYS = 50
METADATA_KEY_CHARACTERS = 40
METADATA_VALUE_CHARACTERS = 500


@dataclass(frozen=True)
class Rule:
    """What one parameter accepts. ``kind``: text, int, bool, choice, currency, metadata, object, array, range, any."""

    kind: str
    required: bool = False
    minimum: int | None = None
    choices: tuple[str, ...] = ()
    fields: Mapping[str, Rule] | None = None
    item: Rule | None = None
    clearable: bool = False


Rules = Mapping[str, Rule]


def decode_form(body: str) -> dict[str, Any]:
    """Bracketed form -> nested dicts with string leaves; list items get their index (or position) as key."""
    root: dict[str, Any] = {}
    for name, value in parse_qsl(body, keep_blank_values=True):
        parts = [name.split("[", 1)[0], *_BRACKETS.findall(name)] if "[" in name else [name]
        here = root
        last = len(parts) - 1
        for depth, part in enumerate(parts):
            key = part or str(len(here))
            if depth == last:
                here[key] = value
            else:
                below = here.setdefault(key, {})
                if not isinstance(below, dict):
                    raise malformed(f"Invalid request: {name} is given as a value and as an object", param=name)
                here = below
    return root


def check(raw: Mapping[str, Any], rules: Rules, path: str = "") -> dict[str, Any]:
    """Typed parameters. Raises a 400 naming the first parameter that is unknown, missing or of the wrong type."""
    for name in raw:
        if name not in rules:
            shown = _join(path, name)
            raise malformed(f"Received unknown parameter: {shown}", param=shown, code="parameter_unknown")
    typed: dict[str, Any] = {}
    for name, rule in rules.items():
        shown = _join(path, name)
        if name in raw:
            typed[name] = _value(raw[name], rule, shown)
        elif rule.required:
            raise malformed(f"Missing required param: {shown}.", param=shown, code="parameter_missing")
    return typed


def _join(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _value(raw: Any, rule: Rule, shown: str) -> Any:
    if rule.kind == "metadata":
        return _metadata(raw, shown)
    if rule.kind == "any":
        return raw
    if rule.kind == "object":
        if raw == "" and rule.clearable:
            return {}
        if not isinstance(raw, dict):
            raise malformed(f"Invalid object: {shown}", param=shown)
        return check(raw, rule.fields or {}, shown)
    if rule.kind == "array":
        return _array(raw, rule, shown)
    if rule.kind == "range":
        return _range(raw, shown)
    if not isinstance(raw, str):
        raise malformed(f"Invalid string: {shown} must not be an object or a list", param=shown)
    return _scalar(raw, rule, shown)


def _scalar(raw: str, rule: Rule, shown: str) -> Any:
    if raw == "":
        if rule.clearable:
            return None
        raise malformed(
            f"You passed an empty string for '{shown}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{shown}' cannot be unset. You should remove '{shown}' from your request or supply a "
            "non-empty value.",
            param=shown,
            code="parameter_invalid_empty",
        )
    if rule.kind == "int":
        return _integer(raw, rule, shown)
    if rule.kind == "bool":
        if raw not in ("true", "false"):
            raise malformed(f"Invalid boolean: {raw}", param=shown)
        return raw == "true"
    if rule.kind == "choice" and raw not in rule.choices:
        named = ", ".join(rule.choices[:-1]) + " or " + rule.choices[-1] if len(rule.choices) > 1 else rule.choices[0]
        raise malformed(f"Invalid {shown}: must be one of {named}", param=shown)
    if rule.kind == "currency":
        if raw.lower() not in _CURRENCIES:
            known = ", ".join(sorted(_CURRENCIES))
            raise malformed(f"Invalid currency: {raw}. This sandbox knows: {known}", param=shown)
        return raw.lower()
    return raw


def _integer(raw: str, rule: Rule, shown: str) -> int:
    if not _INTEGER.fullmatch(raw):
        raise malformed(f"Invalid integer: {raw}", param=shown, code="parameter_invalid_integer")
    value = int(raw)
    if rule.minimum is not None and value < rule.minimum:
        raise malformed(
            f"This value must be greater than or equal to {rule.minimum}.",
            param=shown,
            code="parameter_invalid_integer",
        )
    return value


def _array(raw: Any, rule: Rule, shown: str) -> list[Any]:
    if raw == "":
        return []
    if not isinstance(raw, dict) or not all(key.isdigit() for key in raw):
        raise malformed(f"Invalid array: {shown}", param=shown)
    item = rule.item or text()
    return [_value(raw[key], item, f"{shown}[{key}]") for key in sorted(raw, key=int)]


def _range(raw: Any, shown: str) -> dict[str, int]:
    """A timestamp filter: an exact number, or gt / gte / lt / lte bounds (seconds since 1970)."""
    whole = Rule("int", minimum=0)
    if isinstance(raw, str):
        exact = _integer(raw, whole, shown)
        return {"gte": exact, "lte": exact}
    return check(raw, {"gt": whole, "gte": whole, "lt": whole, "lte": whole}, shown)


def _metadata(raw: Any, shown: str) -> dict[str, str]:
    """Key -> value; an empty value unsets the key, the empty string for the whole unsets everything (``{"": ""}``)."""
    if raw == "":
        return {"": ""}
    if not isinstance(raw, dict):
        raise malformed(f"Invalid object: {shown}", param=shown)
    if len(raw) > METADATA_KEYS:
        raise malformed(f"You may only specify up to {METADATA_KEYS} keys in {shown}.", param=shown)
    for key, value in raw.items():
        if not isinstance(value, str):
            raise malformed("Metadata values must be strings; nested objects are not allowed.", param=f"{shown}[{key}]")
        if len(key) > METADATA_KEY_CHARACTERS:
            raise malformed(
                f"Metadata keys can have up to {METADATA_KEY_CHARACTERS} characters, but you passed in a key of length "
                f"{len(key)}.",
                param=f"{shown}[{key}]",
            )
        if len(value) > METADATA_VALUE_CHARACTERS:
            raise malformed(
                f"Metadata values can have up to {METADATA_VALUE_CHARACTERS} characters, but you passed in a value of "
                f"length {len(value)}.",
                param=f"{shown}[{key}]",
            )
    return dict(raw)


def merge_metadata(current: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """What Stripe keeps after an update: named keys replaced, keys with an empty value gone, the others untouched."""
    if given is None:
        return dict(current)
    if "" in given:
        return {}
    merged = {**current, **given}
    return {key: value for key, value in merged.items() if value != ""}


def text(*, required: bool = False, clearable: bool = False) -> Rule:
    """A string; ``clearable`` ones become None when sent empty."""
    return Rule("text", required=required, clearable=clearable)


def integer(*, required: bool = False, minimum: int | None = None) -> Rule:
    """A whole number."""
    return Rule("int", required=required, minimum=minimum)


def flag() -> Rule:
    """``true`` or ``false``."""
    return Rule("bool")


def choice(*choices: str, required: bool = False, clearable: bool = False) -> Rule:
    """One of the named values."""
    return Rule("choice", required=required, choices=choices, clearable=clearable)


def currency(*, required: bool = False) -> Rule:
    """A three-letter ISO code, lower-cased."""
    return Rule("currency", required=required)


def nested(fields: Rules, *, required: bool = False, clearable: bool = False) -> Rule:
    """An object with known fields."""
    return Rule("object", required=required, fields=fields, clearable=clearable)


def array(item: Rule | None = None, *, required: bool = False) -> Rule:
    """A list (of strings unless said otherwise)."""
    return Rule("array", required=required, item=item)


METADATA = Rule("metadata")
RANGE = Rule("range")
ANY = Rule("any")
EXPAND = array()
PAGE: dict[str, Rule] = {
    "limit": integer(minimum=1),
    "starting_after": text(),
    "ending_before": text(),
    "expand": EXPAND,
}
