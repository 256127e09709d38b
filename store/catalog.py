"""The catalogue as chains use it: who pays, who earns, by which prices and agreements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import text

from domain.catalog import Catalog
from domain.chain import ChainOutcome
from domain.commission import Agreement
from domain.model import Customer, Reseller, TaxProfile
from domain.pricing import PriceBook
from store.catalog_apply import AGREEMENT_COLUMNS, CatalogApplication, agreement_of
from store.repository import Repository, columns
from store.rows import Person, ToProvision, UnknownRow
from store.schema import words

_T = TypeVar("_T")

VOID_OUTCOMES = (
    ChainOutcome.CANCELLED,
    ChainOutcome.REFUNDED,
    ChainOutcome.DECLINED,
    ChainOutcome.ROLLED_BACK,
    ChainOutcome.UNBILLABLE,
)
"""Chains that ended so do not count for the month's volume: nothing was earned on them."""

_CUSTOMER_COLUMNS = """
    id, reseller_id, stripe_customer_id, payment_method_id, currency, country, is_business, vat_id, vat_rate_bps
"""
_CUSTOMER = text(f"SELECT {_CUSTOMER_COLUMNS} FROM customers WHERE id = :id")  # noqa: S608 - a constant
_CUSTOMERS = text(f"SELECT {_CUSTOMER_COLUMNS} FROM customers ORDER BY id")  # noqa: S608 - a constant
_PERSON = text("SELECT name, email FROM customers WHERE id = :id")
_RESELLER_PERSON = text("SELECT name, email FROM resellers WHERE id = :id")
_SET_STRIPE_CUSTOMER = text("""
UPDATE customers SET stripe_customer_id = :stripe_customer_id,
    payment_method_id = coalesce(:payment_method_id, payment_method_id),
    attached_source = CASE WHEN CAST(:payment_method_id AS text) IS NULL THEN attached_source
                           ELSE payment_method_source END,
    updated_at = now()
WHERE id = :id
""")
_TO_PROVISION = text(
    f"""
SELECT {columns(ToProvision)} FROM (
    SELECT id AS customer_id, stripe_customer_id,
        CASE WHEN payment_method_source IS DISTINCT FROM attached_source THEN payment_method_source END
            AS payment_method_source
    FROM customers
) AS c WHERE stripe_customer_id IS NULL OR payment_method_source IS NOT NULL ORDER BY customer_id
"""  # noqa: S608 - a constant
)

_RESELLER_COLUMNS = columns(Reseller)
_RESELLER = text(f"SELECT {_RESELLER_COLUMNS} FROM resellers WHERE id = :id")  # noqa: S608 - a constant
_RESELLERS = text(f"SELECT {_RESELLER_COLUMNS} FROM resellers ORDER BY id")  # noqa: S608 - a constant
_PATH = text(
    f"""
WITH RECURSIVE path AS (
    SELECT {_RESELLER_COLUMNS}, 0 AS depth FROM resellers WHERE id = :id
    UNION ALL
    SELECT {columns(Reseller, "r.")}, path.depth + 1 FROM resellers AS r JOIN path ON r.id = path.parent_id
    WHERE path.depth < 1000
)
SELECT {_RESELLER_COLUMNS} FROM path ORDER BY depth
"""  # noqa: S608 - a constant
)

_CUSTOMER_FOR = text("""
SELECT customer_id FROM customer_mappings
WHERE (kind = 'event_type' AND external_id = :event_type_id)
   OR (kind = 'team' AND external_id = ANY(CAST(:team_ids AS bigint[])))
   OR (kind = 'organizer' AND external_id = ANY(CAST(:organizer_ids AS bigint[])))
ORDER BY CASE kind WHEN 'event_type' THEN 1 WHEN 'team' THEN 2 ELSE 3 END,
    CASE kind WHEN 'team' THEN array_position(CAST(:team_ids AS bigint[]), external_id)
              WHEN 'organizer' THEN array_position(CAST(:organizer_ids AS bigint[]), external_id) END
LIMIT 1
""")
_PAYER = text(
    f"SELECT {_CUSTOMER_COLUMNS} FROM customers WHERE id = ({_CUSTOMER_FOR.text})"  # noqa: S608 - a constant
)
_MAPPED_TEAMS = text("SELECT external_id FROM customer_mappings WHERE kind = 'team' ORDER BY external_id")

_BOOKS = text("""
SELECT b.id, b.owner_kind, b.owner_id, b.version, b.effective_from, b.currency,
    (SELECT jsonb_agg(p.price ORDER BY p.position) FROM prices AS p WHERE p.book_id = b.id AND p.version = b.version)
        AS prices
FROM (
    SELECT DISTINCT ON (id) * FROM price_books
    WHERE effective_from <= :at
      AND (owner_kind = 'platform'
        OR (owner_kind = 'customer' AND owner_id = CAST(:customer_id AS text))
        OR (owner_kind = 'reseller' AND owner_id = ANY(CAST(:reseller_ids AS text[]))))
    ORDER BY id, effective_from DESC, version DESC
) AS b ORDER BY b.id
""")
_AGREEMENTS = text(
    f"""
SELECT DISTINCT ON (reseller_id) {AGREEMENT_COLUMNS} FROM agreements
WHERE reseller_id = ANY(CAST(:reseller_ids AS text[])) AND effective_from <= :at
ORDER BY reseller_id, effective_from DESC, version DESC
"""  # noqa: S608 - a constant
)

_OFFER = text(
    f"""
WITH RECURSIVE path AS (
    SELECT {_RESELLER_COLUMNS}, 0 AS depth FROM resellers WHERE id = CAST(:reseller_id AS text)
    UNION ALL
    SELECT {columns(Reseller, "r.")}, path.depth + 1 FROM resellers AS r JOIN path ON r.id = path.parent_id
    WHERE path.depth < 1000
)
SELECT (SELECT jsonb_agg(to_jsonb(path) - 'depth' ORDER BY depth) FROM path) AS path,
    (SELECT jsonb_agg(jsonb_build_object('id', b.id, 'owner_kind', b.owner_kind, 'owner_id', b.owner_id,
        'version', b.version, 'effective_from', b.effective_from, 'currency', b.currency, 'prices',
        (SELECT jsonb_agg(p.price ORDER BY p.position) FROM prices AS p WHERE p.book_id = b.id AND p.version = b.version
            AND (p.event_type_id = :event_type_id OR p.event_type_id IS NULL))) ORDER BY b.id)
    FROM (
        SELECT DISTINCT ON (id) * FROM price_books
        WHERE effective_from <= :at
          AND (owner_kind = 'platform' OR (owner_kind = 'customer' AND owner_id = CAST(:customer_id AS text))
            OR (owner_kind = 'reseller' AND owner_id IN (SELECT id FROM path)))
        ORDER BY id, effective_from DESC, version DESC
    ) AS b) AS books,
    (SELECT jsonb_agg(to_jsonb(a)) FROM (
        SELECT DISTINCT ON (reseller_id) {AGREEMENT_COLUMNS} FROM agreements
        WHERE reseller_id IN (SELECT id FROM path) AND effective_from <= :at
        ORDER BY reseller_id, effective_from DESC, version DESC
    ) AS a) AS agreements
"""  # noqa: S608 - a constant
)

_COUNTED = f"(c.outcome IS NULL OR c.outcome NOT IN ({words(VOID_OUTCOMES)}))"
_MONTH_COUNT = text(
    f"""
SELECT count(*) FROM quotes AS q JOIN chains AS c ON c.chain_uid = q.chain_uid AND c.quote_version = q.version
WHERE q.customer_id = :customer_id AND q.event_type_id = :event_type_id AND q.period = :period
  AND q.chain_uid <> :exclude_chain AND {_COUNTED}
"""  # noqa: S608 - a constant
)
_MONTH_VOLUME = text(
    f"""
SELECT l.reseller_id, CAST(sum(q.net_minor) AS bigint) AS net_minor
FROM quote_levels AS l
JOIN quotes AS q ON q.chain_uid = l.chain_uid AND q.version = l.version
JOIN chains AS c ON c.chain_uid = q.chain_uid AND c.quote_version = q.version
WHERE l.reseller_id = ANY(CAST(:reseller_ids AS text[])) AND q.period = :period
  AND q.chain_uid <> :exclude_chain AND {_COUNTED}
GROUP BY l.reseller_id
"""  # noqa: S608 - a constant
)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


@dataclass(frozen=True)
class Offer:
    """What a customer's booking is priced by."""

    path: tuple[Reseller, ...]
    """His reseller and everybody above him, the root last."""
    books: tuple[PriceBook, ...]
    """Versions in force, with the prices of one event type and the default ones."""
    agreements: tuple[Agreement, ...]
    """Versions in force of the resellers on the path."""


class CatalogRepository(Repository):
    async def apply(self, catalog: Catalog, *, source_sha: str, applied_by: str) -> list[str]:
        """Bring the database to what the file says and return what changed, one sentence each; none: nothing was new.

        A changed price book or agreement becomes a new version, an unchanged one does not. Parties that the file no
        longer names stay; mappings that it no longer names go. Raises CatalogRefused with every reason, and changes
        nothing, where the result would not hold together with what is stored (ceilings along the reseller tree).
        """
        return await CatalogApplication(self._connection).apply(catalog, source_sha=source_sha, applied_by=applied_by)

    async def customer(self, customer_id: str) -> Customer:
        """Raises UnknownRow."""
        return _customer_of(_known(await self._only(_CUSTOMER, id=customer_id), f"customer {customer_id}"))

    async def customers(self) -> list[Customer]:
        return [_customer_of(row) for row in await self._maps(_CUSTOMERS)]

    async def customer_person(self, customer_id: str) -> Person:
        """PERSONAL DATA: name and address for invoices. Raises UnknownRow."""
        return _known(await self._row(Person, _PERSON, id=customer_id), f"customer {customer_id}")

    async def reseller_person(self, reseller_id: str) -> Person:
        """PERSONAL DATA: name and address for statements. Raises UnknownRow."""
        return _known(await self._row(Person, _RESELLER_PERSON, id=reseller_id), f"reseller {reseller_id}")

    async def to_provision(self) -> list[ToProvision]:
        """Customers that have no customer at Stripe yet, or another payment method there than the catalogue names."""
        return await self._rows(ToProvision, _TO_PROVISION)

    async def set_stripe_customer(
        self, customer_id: str, stripe_customer_id: str, payment_method_id: str | None = None
    ) -> None:
        """Note what was set up at Stripe. Without payment method the stored one stays. Raises UnknownRow."""
        written = await self._execute(
            _SET_STRIPE_CUSTOMER,
            id=customer_id,
            stripe_customer_id=stripe_customer_id,
            payment_method_id=payment_method_id,
        )
        if written == 0:
            raise UnknownRow(f"customer {customer_id} is not in the catalogue")

    async def reseller(self, reseller_id: str) -> Reseller:
        """Raises UnknownRow."""
        return _known(await self._row(Reseller, _RESELLER, id=reseller_id), f"reseller {reseller_id}")

    async def resellers(self) -> list[Reseller]:
        return await self._rows(Reseller, _RESELLERS)

    async def reseller_path(self, reseller_id: str) -> list[Reseller]:
        """The reseller and everybody above him, himself first, the root last. Empty: unknown."""
        return await self._rows(Reseller, _PATH, id=reseller_id)

    async def customer_for(
        self, event_type_id: int, organizer_ids: Sequence[int], team_ids: Sequence[int]
    ) -> str | None:
        """Who pays for a booking: by event type, else the first mapped team, else the first mapped organizer."""
        found: str | None = await self._value(
            _CUSTOMER_FOR, event_type_id=event_type_id, organizer_ids=list(organizer_ids), team_ids=list(team_ids)
        )
        return found

    async def payer(self, event_type_id: int, organizer_ids: Sequence[int], team_ids: Sequence[int]) -> Customer | None:
        """The customer of `customer_for`."""
        row = await self._only(
            _PAYER, event_type_id=event_type_id, organizer_ids=list(organizer_ids), team_ids=list(team_ids)
        )
        return None if row is None else _customer_of(row)

    async def offer(self, customer: Customer, event_type_id: int, at: datetime) -> Offer:
        """`reseller_path`, `price_books` and `agreements` of a customer in one statement, with the prices that can
        apply to one event type."""
        row = await self._only(
            _OFFER, reseller_id=customer.reseller_id, customer_id=customer.id, event_type_id=event_type_id, at=at
        )
        assert row is not None
        return Offer(
            path=tuple(Reseller.model_validate(one) for one in row["path"] or ()),
            books=tuple(_book_of(one) for one in row["books"] or () if one["prices"]),
            agreements=tuple(agreement_of(one) for one in row["agreements"] or ()),
        )

    async def mapped_teams(self) -> list[int]:
        """Cal.com teams that name a customer: only these are worth asking Cal.com about."""
        return [row["external_id"] for row in await self._maps(_MAPPED_TEAMS)]

    async def price_books(self, customer_id: str | None, reseller_ids: Sequence[str], at: datetime) -> list[PriceBook]:
        """The versions in force at a moment of the platform's, the resellers' and the customer's books."""
        found = await self._maps(_BOOKS, customer_id=customer_id, reseller_ids=list(reseller_ids), at=at)
        return [_book_of(row) for row in found]

    async def agreements(self, reseller_ids: Sequence[str], at: datetime) -> dict[str, Agreement]:
        """The version in force at a moment for each reseller; one without agreement is missing."""
        found = await self._maps(_AGREEMENTS, reseller_ids=list(reseller_ids), at=at)
        return {row["reseller_id"]: agreement_of(row) for row in found}

    async def month_count_before(self, customer_id: str, event_type_id: int, period: str, exclude_chain: str) -> int:
        """Bookings of a customer and event type quoted for a month so far, but those on which nothing is earned.

        `lock` a name for customer and month first, or two quotes at once count the same.
        """
        count: int = await self._value(
            _MONTH_COUNT,
            customer_id=customer_id,
            event_type_id=event_type_id,
            period=period,
            exclude_chain=exclude_chain,
        )
        return count

    async def month_volume_before(self, reseller_ids: Sequence[str], period: str, exclude_chain: str) -> dict[str, int]:
        """Net minor units quoted for a month so far, per reseller: of all bookings below him, on any level. None: 0."""
        found = await self._maps(
            _MONTH_VOLUME, reseller_ids=list(reseller_ids), period=period, exclude_chain=exclude_chain
        )
        return {**dict.fromkeys(reseller_ids, 0), **{row["reseller_id"]: row["net_minor"] for row in found}}

    async def lock(self, name: str) -> None:
        """Wait until no other transaction holds this name, and hold it until this one ends.

        Who needs several takes them in one agreed order (customer, then resellers upwards), or two wait for each other.
        """
        await self._execute(_LOCK, name=name)


def _known(found: _T | None, what: str) -> _T:
    if found is None:
        raise UnknownRow(f"{what} is not in the catalogue")
    return found


def _customer_of(row: dict[str, Any]) -> Customer:
    tax = TaxProfile(**{name: row.pop(name) for name in TaxProfile.model_fields})
    return Customer(**row, tax=tax)


def _book_of(row: dict[str, Any]) -> PriceBook:
    owner = {"kind": row.pop("owner_kind"), "id": row.pop("owner_id")}
    return PriceBook.model_validate({**row, "owner": owner})
