"""What a catalogue's parts must be to each other: unique, connected, without cycles, in order, within the ceilings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from domain.catalog_model import CatalogCustomer, CatalogReseller, Mappings, Platform
from domain.catalog_yaml import Document, Path
from domain.commission import Agreement, PercentageRule, TiersRule, check_ceiling, check_price
from domain.model import NoQuote
from domain.money import format_amount
from domain.pricing import FixedPrice, OwnerKind, PerMinutePrice, Price, PriceBook, find_price, price_ref

_ANY_EVENT_TYPE = 0
"""An event type that no price names: finds the defaults."""


@dataclass
class Parts:
    """The valid items of each section with their paths in the file."""

    platform: Platform
    mappings: Mappings
    resellers: list[tuple[Path, CatalogReseller]]
    customers: list[tuple[Path, CatalogCustomer]]
    price_books: list[tuple[Path, PriceBook]]
    agreements: list[tuple[Path, Agreement]]
    named_agreements: set[str] = field(default_factory=set)
    """Resellers with an agreement of their own in the file, also one that has errors."""
    parents: dict[str, str | None] = field(default_factory=dict)
    """The one above each reseller, also of resellers that have errors."""

    def path_of(self, reseller_id: str) -> list[str]:
        """The reseller and everybody above him, root last; stops at an unknown parent or where a cycle closes."""
        path: list[str] = []
        current: str | None = reseller_id
        while current is not None and current in self.parents and current not in path:
            path.append(current)
            current = self.parents[current]
        return path

    def parents_first(self) -> list[CatalogReseller]:
        """Resellers in an order in which each can be written after the one above him."""
        return sorted((item for _, item in self.resellers), key=lambda item: len(self.path_of(item.id)))


def check(parts: Parts, document: Document) -> None:
    """Report everything that is wrong between the parts.

    What needs no valid items is read from the file itself, so that an item with one error hides no other.
    """
    raw = _Raw(document.value)
    _check_unique(raw, document)
    _check_references(raw, document)
    parts.parents = {
        item["id"]: _text(item.get("parent_id")) for _, item in raw.of("resellers") if _text(item.get("id"))
    }
    parts.named_agreements = raw.texts("agreements", "reseller_id")
    is_tree = _check_tree(parts, raw, document)
    _check_books(parts, document)
    _check_agreements(parts, raw, document)
    if is_tree:
        _check_ceilings(parts, document)


class _Raw:
    """The file's sections as they stand, whatever else is wrong with their items."""

    def __init__(self, value: dict[str | int, Any]) -> None:
        self._value = value

    def of(self, section: str) -> list[tuple[Path, dict[str | int, Any]]]:
        listed = self._value.get(section)
        items = listed if isinstance(listed, list) else []
        return [((section, index), item) for index, item in enumerate(items) if isinstance(item, dict)]

    def texts(self, section: str, name: str) -> set[str]:
        return {item[name] for _, item in self.of(section) if isinstance(item.get(name), str)}

    def mapping(self, section: str) -> dict[str | int, Any]:
        mappings = self._value.get("mappings")
        inner = mappings.get(section) if isinstance(mappings, dict) else None
        return inner if isinstance(inner, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _check_unique(raw: _Raw, document: Document) -> None:
    keys: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("resellers", ("id",)),
        ("customers", ("id",)),
        ("price_books", ("id", "version")),
        ("agreements", ("reseller_id", "version")),
        ("default_agreements", ("version",)),
    )
    for section, names in keys:
        _check_each_once(raw.of(section), names, document)
    for path, book in raw.of("price_books"):
        prices = book.get("prices")
        items = enumerate(prices if isinstance(prices, list) else [])
        named = [((*path, "prices", index), item) for index, item in items if isinstance(item, dict)]
        _check_each_once(named, ("event_type_id",), document, optional=True)


def _check_each_once(
    items: Sequence[tuple[Path, dict[str | int, Any]]],
    names: tuple[str, ...],
    document: Document,
    *,
    optional: bool = False,
) -> None:
    first: dict[tuple[str | int | None, ...], Path] = {}
    for path, item in items:
        key = tuple(item.get(name) for name in names)
        if not all(isinstance(part, str | int) or (optional and part is None) for part in key):
            continue
        earlier = first.setdefault(key, path)
        if earlier != path:
            shown = " ".join(f"{name} {part}" for name, part in zip(names, key, strict=True))
            problem = f"{shown} is in line {document.line(earlier)} already"
            document.report((*path, names[-1]), problem, "Give each its own, or remove one")


def _check_references(raw: _Raw, document: Document) -> None:
    ids = {"reseller": raw.texts("resellers", "id"), "customer": raw.texts("customers", "id")}

    def known(path: Path, what: str, id: Any) -> None:
        if isinstance(id, str) and id not in ids[what]:
            document.report(path, f"{what} {id!r} does not exist", f"Add it under {what}s, or correct the id")

    for section, name in (("resellers", "parent_id"), ("customers", "reseller_id"), ("agreements", "reseller_id")):
        for path, item in raw.of(section):
            known((*path, name), "reseller", item.get(name))
    for path, book in raw.of("price_books"):
        owner = book.get("owner")
        if isinstance(owner, dict) and owner.get("kind") in ids:
            known((*path, "owner", "id"), str(owner["kind"]), owner.get("id"))
    for section in ("event_types", "teams", "organizers"):
        for number, customer_id in raw.mapping(section).items():
            known(("mappings", section, number), "customer", customer_id)


def _check_tree(parts: Parts, raw: _Raw, document: Document) -> bool:
    is_tree = True
    for path, item in raw.of("resellers"):
        reseller_id = _text(item.get("id"))
        above = parts.path_of(reseller_id) if reseller_id is not None else []
        if above and parts.parents[above[-1]] == reseller_id:
            is_tree = False
            circle = " → ".join([*above, str(reseller_id)])
            document.report((*path, "parent_id"), f"the resellers form a circle: {circle}", "Let one of them have none")
    return is_tree


def _check_books(parts: Parts, document: Document) -> None:
    by_id: dict[str, list[tuple[Path, PriceBook]]] = {}
    book_of_owner: dict[Any, str] = {}
    for path, book in parts.price_books:
        by_id.setdefault(book.id, []).append((path, book))
        first = book_of_owner.setdefault((book.owner.kind, book.owner.id), book.id)
        if first != book.id:
            problem = f"its owner has the price book {first!r} already"
            document.report((*path, "owner"), problem, f"Make this a new version of {first!r}")
    for versions in by_id.values():
        _check_versions(versions, document)
        (_, oldest), *later = sorted(versions, key=lambda item: item[1].version)
        for path, book in later:
            if book.owner != oldest.owner:
                document.report((*path, "owner"), f"version {oldest.version} has another owner", "Use another id")
            if book.currency != oldest.currency:
                problem = f"version {oldest.version} is in {oldest.currency}"
                document.report((*path, "currency"), problem, "A price book keeps its currency")


def _check_agreements(parts: Parts, raw: _Raw, document: Document) -> None:
    by_reseller: dict[str, list[tuple[Path, Agreement]]] = {}
    for path, agreement in parts.agreements:
        by_reseller.setdefault(agreement.reseller_id, []).append((path, agreement))
    told: set[Path] = set()
    for path, item in raw.of("resellers"):
        reseller_id = _text(item.get("id"))
        versions = by_reseller.get(reseller_id or "", [])
        # Many resellers share the default agreements: what is wrong between those is told once.
        if versions and versions[0][0] not in told:
            told.add(versions[0][0])
            _check_versions(versions, document)
        if reseller_id and reseller_id not in parts.named_agreements and not raw.of("default_agreements"):
            hint = "Add one under agreements, or a default under default_agreements"
            document.report(path, f"reseller {reseller_id!r} has no agreement", hint)


def _check_versions(versions: Sequence[tuple[Path, Any]], document: Document) -> None:
    ordered = sorted(versions, key=lambda item: item[1].version)
    for (_, older), (path, newer) in pairwise(ordered):
        if newer.version > older.version and newer.effective_from <= older.effective_from:
            problem = f"version {newer.version} starts {newer.effective_from.isoformat()}, not after version "
            problem += f"{older.version} ({older.effective_from.isoformat()})"
            document.report((*path, "effective_from"), problem, "Versions replace each other: use a later day")


def _check_ceilings(parts: Parts, document: Document) -> None:
    told: set[tuple[Path, str]] = set()
    has_all_prices = not any(problem.path[:1] == ("price_books",) for problem in document.problems)

    def tell(path: Path, problem: str, hint: str) -> None:
        if (path, problem) not in told:
            told.add((path, problem))
            document.report(path, problem, hint)

    for reseller_path, at in _paths_in_time(parts):
        agreed = _agreed(parts, reseller_path, at)
        if agreed is None:
            continue
        where = (*max(agreed, key=lambda item: item[1].effective_from)[0], "ceiling_bps")
        agreements = [agreement for _, agreement in agreed]
        for problem in check_ceiling([agreements]):
            tell(where, problem, "Lower a rate or agree on a higher ceiling")
        if has_all_prices and not all(_is_plain_rate(rule) for a in agreements for rule in (a.own, a.override)):
            for problem in _beyond_at_prices(parts, reseller_path, agreements, at):
                tell(where, problem, "Lower the commission, raise the price or agree on a higher ceiling")


def _paths_in_time(parts: Parts) -> Iterator[tuple[list[str], datetime]]:
    """Each reseller's path at every moment at which something that concerns it changes."""
    for _, reseller in parts.resellers:
        path = parts.path_of(reseller.id)
        moments = {a.effective_from for _, a in parts.agreements if a.reseller_id in path}
        moments |= {book.effective_from for book in _books_for(parts, path)}
        for at in sorted(moments):
            yield path, at


def _books_for(parts: Parts, reseller_path: Sequence[str]) -> list[PriceBook]:
    """Books from which a customer of the path's first reseller can be priced."""
    customers = {customer.id for _, customer in parts.customers if customer.reseller_id == reseller_path[0]}
    ids = {OwnerKind.RESELLER: set(reseller_path), OwnerKind.CUSTOMER: customers}
    return [
        book
        for _, book in parts.price_books
        if book.owner.kind is OwnerKind.PLATFORM or book.owner.id in ids[book.owner.kind]
    ]


def _agreed(parts: Parts, reseller_path: Sequence[str], at: datetime) -> list[tuple[Path, Agreement]] | None:
    """The agreements in force along a path; None where one is missing (such a booking parks)."""
    agreed = []
    for reseller_id in reseller_path:
        valid = [i for i in parts.agreements if i[1].reseller_id == reseller_id and i[1].effective_from <= at]
        if not valid:
            return None
        agreed.append(max(valid, key=lambda item: item[1].effective_from))
    return agreed


def _is_plain_rate(rule: Any) -> bool:
    return rule is None or (isinstance(rule, PercentageRule | TiersRule) and not rule.floor_minor)


def _beyond_at_prices(
    parts: Parts, reseller_path: Sequence[str], agreements: Sequence[Agreement], at: datetime
) -> Iterator[str]:
    books = _books_for(parts, reseller_path)
    for book in books:
        for price in book.prices:
            customer_id = book.owner.id if book.owner.kind is OwnerKind.CUSTOMER else None
            event_type_id = price.event_type_id or _ANY_EVENT_TYPE
            if not _is_found(books, book, price, customer_id, reseller_path, event_type_id, at):
                continue
            for net_minor in _known_amounts(price):
                wholesale_minor = _fixed_wholesale(books, event_type_id, at) if isinstance(price, FixedPrice) else None
                problem = check_price(agreements, net_minor=net_minor, wholesale_net_minor=wholesale_minor)
                if problem is not None:
                    amount = format_amount(net_minor, book.currency)
                    yield f"at {price_ref(book, price)} ({amount}): {problem}"


def _is_found(
    books: Sequence[PriceBook],
    book: PriceBook,
    price: Price,
    customer_id: str | None,
    reseller_path: Sequence[str],
    event_type_id: int,
    at: datetime,
) -> bool:
    """Whether the price is really used at that moment, and not hidden by a more specific or newer one."""
    try:
        found = find_price(
            books, customer_id=customer_id, reseller_path=reseller_path, event_type_id=event_type_id, at=at
        )
    except NoQuote:
        return False
    return found[0] is book and found[1] is price


def _known_amounts(price: Price) -> Iterable[int]:
    """Net amounts that a booking at this price can cost for certain; free bookings earn nobody anything."""
    if isinstance(price, FixedPrice):
        amounts = [price.net_minor]
    elif isinstance(price, PerMinutePrice):
        amounts = [price.minimum_minor]
    else:
        amounts = [tier.net_minor for tier in price.tiers]
    return [amount for amount in amounts if amount]


def _fixed_wholesale(books: Sequence[PriceBook], event_type_id: int, at: datetime) -> int | None:
    try:
        _, price = find_price(books, customer_id=None, reseller_path=(), event_type_id=event_type_id, at=at)
    except NoQuote:
        return None
    return price.net_minor if isinstance(price, FixedPrice) else None
