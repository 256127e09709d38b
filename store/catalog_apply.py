"""Applying a catalogue file: what changed becomes a new version, what did not stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import text

from domain.catalog import Catalog, CatalogCustomer, CatalogReseller, Mappings
from domain.commission import Agreement, check_ceiling
from domain.pricing import PriceBook
from store.log import LogRepository
from store.repository import Repository
from store.rows import CatalogRefused
from store.tables_catalog import MappingKind

AGREEMENT_COLUMNS = "reseller_id, version, effective_from, currency, own, override, ceiling_bps"

_KEPT: dict[str, Any] = {
    "stripe_account_id": None,
    "address": None,
    "tax_status_from": None,
    "tax_status_proof": None,
    "minimum_payouts": {},
    "paused": False,
}
"""Fields of a reseller that keep what is stored where the file is silent, with the value of a new reseller."""

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('catalog', 0))")
_WRITTEN = text("""
INSERT INTO catalog_versions (source_sha, applied_by, changes)
VALUES (:source_sha, :applied_by, CAST(:changes AS jsonb))
""")
_PARTY = {
    "resellers": text("SELECT * FROM resellers WHERE id = :id"),
    "customers": text("SELECT * FROM customers WHERE id = :id"),
}
_SAVE_RESELLER = text(
    """
INSERT INTO resellers (id, parent_id, name, email, payout_mode, stripe_account_id, address, small_business,
    tax_status_from, tax_status_proof, country, vat_id, minimum_payouts, paused)
VALUES (:id, :parent_id, :name, :email, :payout_mode, :stripe_account_id, CAST(:address AS jsonb), :small_business,
    :tax_status_from, :tax_status_proof, :country, :vat_id, CAST(:minimum_payouts AS jsonb), :paused)
ON CONFLICT (id) DO UPDATE
SET parent_id = excluded.parent_id, name = excluded.name, email = excluded.email,
    payout_mode = excluded.payout_mode, stripe_account_id = excluded.stripe_account_id, address = excluded.address,
    small_business = excluded.small_business, tax_status_from = excluded.tax_status_from,
    tax_status_proof = excluded.tax_status_proof, country = excluded.country, vat_id = excluded.vat_id,
    minimum_payouts = excluded.minimum_payouts, paused = excluded.paused, updated_at = now(),
    transfers_active = resellers.transfers_active AND {same}, payouts_enabled = resellers.payouts_enabled AND {same},
    disabled_reason = CASE WHEN {same} THEN resellers.disabled_reason END,
    account_currency = CASE WHEN {same} THEN resellers.account_currency END,
    account_checked_at = CASE WHEN {same} THEN resellers.account_checked_at END
""".format(same="(resellers.stripe_account_id IS NOT DISTINCT FROM excluded.stripe_account_id)")
)
"""What Stripe said of an account holds for that account only: of another one nothing is known."""
_TAX = ("small_business", "country", "vat_id", "tax_status_from", "tax_status_proof")
"""Fields of a reseller that make up his tax status: a change of one is recorded as his next status."""
_RECORD_TAX_STATUS = text("""
INSERT INTO reseller_tax_statuses (reseller_id, sequence, valid_from, small_business, country, vat_id, tax_status_from,
    proof, recorded_by)
SELECT r.id, coalesce(before.sequence, 0) + 1, valid.day, r.small_business, r.country, r.vat_id,
    CASE WHEN before.sequence IS NULL OR :is_dated THEN r.tax_status_from WHEN :is_other THEN valid.day
        ELSE before.tax_status_from END, r.tax_status_proof, :recorded_by
FROM resellers AS r
LEFT JOIN LATERAL (
    SELECT s.sequence, s.tax_status_from FROM reseller_tax_statuses AS s
    WHERE s.reseller_id = r.id ORDER BY s.sequence DESC LIMIT 1
) AS before ON true
CROSS JOIN LATERAL (
    SELECT CASE WHEN before.sequence IS NULL THEN NULL WHEN :is_dated THEN r.tax_status_from
        ELSE greatest(r.tax_status_from, CAST(now() AT TIME ZONE 'Europe/Berlin' AS date)) END AS day
) AS valid
WHERE r.id = :id
RETURNING valid_from
""")
"""Valid from `tax_status_from` where that was given anew, else from today, and never before a day that is still ahead.

`is_other`: small_business changed, so that a day that was not given anew was shown for the status before.
"""
_SAVE_CUSTOMER = text("""
INSERT INTO customers (id, reseller_id, name, email, payment_method_source, country, is_business, vat_id, vat_rate_bps,
    currency)
VALUES (:id, :reseller_id, :name, :email, :payment_method_source, :country, :is_business, :vat_id, :vat_rate_bps,
    :currency)
ON CONFLICT (id) DO UPDATE
SET reseller_id = excluded.reseller_id, name = excluded.name, email = excluded.email,
    payment_method_source = excluded.payment_method_source, country = excluded.country,
    is_business = excluded.is_business, vat_id = excluded.vat_id, vat_rate_bps = excluded.vat_rate_bps,
    currency = excluded.currency, updated_at = now()
""")
_MAPPINGS = text("SELECT kind, external_id, customer_id FROM customer_mappings")
_MAP = text("""
INSERT INTO customer_mappings (kind, external_id, customer_id) VALUES (:kind, :external_id, :customer_id)
ON CONFLICT (kind, external_id) DO UPDATE SET customer_id = excluded.customer_id
""")
_UNMAP = text("DELETE FROM customer_mappings WHERE kind = :kind AND external_id = :external_id")

_BOOK_VERSIONS = text("""
SELECT b.id, b.owner_kind, b.owner_id, b.version, b.effective_from, b.currency,
    (SELECT jsonb_agg(p.price ORDER BY p.position) FROM prices AS p WHERE p.book_id = b.id AND p.version = b.version)
        AS prices
FROM price_books AS b WHERE b.id = :id ORDER BY b.version
""")
_SAVE_BOOK = text("""
WITH saved AS (
    INSERT INTO price_books (id, version, owner_kind, owner_id, effective_from, currency)
    VALUES (:id, :version, :owner_kind, :owner_id, :effective_from, :currency) RETURNING id, version
)
INSERT INTO prices (book_id, version, position, event_type_id, kind, price)
SELECT saved.id, saved.version, p.position - 1, CAST(p.price ->> 'event_type_id' AS bigint), p.price ->> 'kind', p.price
FROM saved, jsonb_array_elements(CAST(:prices AS jsonb)) WITH ORDINALITY AS p(price, position)
""")
_AGREEMENT_VERSIONS = text(
    f"SELECT {AGREEMENT_COLUMNS} FROM agreements ORDER BY reseller_id, version"  # noqa: S608 - a constant
)
_SAVE_AGREEMENT = text("""
INSERT INTO agreements (reseller_id, version, effective_from, currency, ceiling_bps, own, override)
VALUES (:reseller_id, :version, :effective_from, :currency, :ceiling_bps, CAST(:own AS jsonb), CAST(:override AS jsonb))
""")
_COPY_AGREEMENTS = text("""
INSERT INTO agreements (reseller_id, version, effective_from, currency, ceiling_bps, own, override)
SELECT :id, version, effective_from, currency, ceiling_bps, own, override FROM agreements
WHERE reseller_id = :model AND NOT EXISTS (SELECT 1 FROM agreements WHERE reseller_id = :id)
""")
_TREE = text("SELECT id, parent_id FROM resellers")


class CatalogApplication(Repository):
    """One application of a file within one transaction; a second one waits for the first."""

    async def apply(self, catalog: Catalog, *, source_sha: str, applied_by: str) -> list[str]:
        """See `CatalogRepository.apply`."""
        await self._connection.execute(_ONE_AT_A_TIME)
        changes: list[str] = []
        async with self._connection.begin_nested():
            for reseller in catalog.resellers:
                changes += await self._party("reseller", reseller.id, _reseller_fields(reseller), applied_by)
            for customer in catalog.customers:
                changes += await self._party("customer", customer.id, _customer_fields(customer), applied_by)
            changes += await self._map(catalog.mappings)
            for book in catalog.price_books:
                changes += await self._book(book)
            changes += await self._agree(catalog.agreements)
            await self._check()
        await self._execute(
            _WRITTEN, source_sha=source_sha, applied_by=applied_by, changes=json.dumps(changes, ensure_ascii=False)
        )
        return changes

    async def save_resellers(
        self, resellers: Sequence[CatalogReseller], agreement_like: Mapping[str, str], saved_by: str
    ) -> dict[str, list[str]]:
        """See `ResellerRepository.save`."""
        await self._connection.execute(_ONE_AT_A_TIME)
        changes: dict[str, list[str]] = {}
        log = LogRepository(self._connection)
        async with self._connection.begin_nested():
            for reseller in resellers:
                told = await self._party("reseller", reseller.id, _reseller_fields(reseller), saved_by)
                model = agreement_like.get(reseller.id)
                if model is not None and await self._execute(_COPY_AGREEMENTS, id=reseller.id, model=model):
                    told.append(f"reseller {reseller.id}: agreement like {model}")
                if told:
                    changes[reseller.id] = [line.removeprefix(f"reseller {reseller.id}: ") for line in told]
                    details = {"changes": changes[reseller.id]}
                    await log.write(saved_by, "master_data", f"reseller:{reseller.id}", "", details)
            if changes:
                await self._check()
        return changes

    async def _party(self, kind: str, party_id: str, fields: dict[str, Any], by: str) -> list[str]:
        """Write one reseller or customer; personal values never stand in the changes."""
        found = (await self._connection.execute(_PARTY[f"{kind}s"], {"id": party_id})).mappings().one_or_none()
        for name in _KEPT if kind == "reseller" else ():
            if fields[name] is None:
                fields[name] = _KEPT[name] if found is None else found[name]
        changed = [name for name, value in fields.items() if found is not None and found[name] != value]
        if found is not None and not changed:
            return []
        values = {name: _stored(value) for name, value in fields.items()}
        await self._execute(_SAVE_RESELLER if kind == "reseller" else _SAVE_CUSTOMER, **values)
        told = f"{kind} {party_id}: new" if found is None else f"{kind} {party_id}: changed {', '.join(changed)}"
        if kind == "reseller" and (found is None or set(changed) & set(_TAX)):
            day = await self._value(
                _RECORD_TAX_STATUS,
                id=party_id,
                is_dated="tax_status_from" in changed,
                is_other="small_business" in changed,
                recorded_by=by,
            )
            return [told] if day is None else [told, f"{kind} {party_id}: tax status from {day.isoformat()}"]
        return [told]

    async def _map(self, mappings: Mappings) -> list[str]:
        wanted = {
            **_keyed(MappingKind.EVENT_TYPE, mappings.event_types),
            **_keyed(MappingKind.TEAM, mappings.teams),
            **_keyed(MappingKind.ORGANIZER, mappings.organizers),
        }
        found = await self._connection.execute(_MAPPINGS)
        stored = {(row.kind, row.external_id): row.customer_id for row in found}
        changes = []
        for key in sorted(stored.keys() - wanted.keys()):
            await self._execute(_UNMAP, kind=key[0], external_id=key[1])
            changes.append(f"{key[0]} {key[1]}: no longer mapped to {stored[key]}")
        for key, customer_id in sorted(wanted.items()):
            if stored.get(key) != customer_id:
                await self._execute(_MAP, kind=key[0], external_id=key[1], customer_id=customer_id)
                changes.append(f"{key[0]} {key[1]}: mapped to {customer_id}")
        return changes

    async def _book(self, book: PriceBook) -> list[str]:
        found = (await self._connection.execute(_BOOK_VERSIONS, {"id": book.id})).mappings()
        fields = {
            "owner_kind": book.owner.kind.value,
            "owner_id": book.owner.id,
            "effective_from": book.effective_from,
            "currency": book.currency,
            "prices": [price.model_dump(mode="json") for price in book.prices],
        }
        version = _new_version([dict(row) for row in found], fields, book.version)
        if version is None:
            return []
        await self._execute(
            _SAVE_BOOK, **{**fields, "prices": json.dumps(fields["prices"])}, id=book.id, version=version
        )
        return [f"price book {book.id}: version {version} from {book.effective_from.isoformat()}"]

    async def _agree(self, agreements: Iterable[Agreement]) -> list[str]:
        stored: dict[str, list[dict[str, Any]]] = {}
        for row in (await self._connection.execute(_AGREEMENT_VERSIONS)).mappings():
            stored.setdefault(row["reseller_id"], []).append(dict(row))
        changes = []
        for agreement in agreements:
            versions = stored.setdefault(agreement.reseller_id, [])
            fields = {
                "effective_from": agreement.effective_from,
                "currency": agreement.currency,
                "ceiling_bps": agreement.ceiling_bps,
                "own": agreement.own.model_dump(mode="json"),
                "override": agreement.override.model_dump(mode="json") if agreement.override else None,
            }
            version = _new_version(versions, fields, agreement.version)
            if version is None:
                continue
            versions.append({**fields, "version": version})
            await self._execute(
                _SAVE_AGREEMENT,
                **{
                    **fields,
                    "own": json.dumps(fields["own"]),
                    "override": json.dumps(fields["override"]) if fields["override"] else None,
                },
                reseller_id=agreement.reseller_id,
                version=version,
            )
            day = agreement.effective_from.isoformat()
            changes.append(f"agreement of reseller {agreement.reseller_id}: version {version} from {day}")
        return changes

    async def _check(self) -> None:
        """All stored agreements along the stored tree, at every moment at which one begins to be in force."""
        found = await self._connection.execute(_TREE)
        parents: dict[str, str | None] = {row.id: row.parent_id for row in found}
        rows = (await self._connection.execute(_AGREEMENT_VERSIONS)).mappings()
        agreements: dict[str, list[Agreement]] = {}
        for row in rows:
            agreements.setdefault(row["reseller_id"], []).append(agreement_of(dict(row)))
        errors: list[str] = []
        for reseller_id in sorted(parents):
            path = _path(reseller_id, parents)
            if path is None:
                errors.append(f"reseller {reseller_id}: the resellers above him form a circle")
                continue
            concerned = [one for above in path for one in agreements.get(above, ())]
            for at in sorted({one.effective_from for one in concerned}):
                in_force = _in_force(path, [one for one in concerned if one.effective_from <= at])
                if in_force is not None:
                    found_errors = check_ceiling([in_force])
                    errors += [f"reseller {reseller_id} from {at.date()}: {error}" for error in found_errors]
        if errors:
            raise CatalogRefused(list(dict.fromkeys(errors)))


def agreement_of(row: dict[str, Any]) -> Agreement:
    return Agreement.model_validate(row)


def _new_version(stored: Sequence[Mapping[str, Any]], fields: Mapping[str, Any], wished: int) -> int | None:
    """Number of the version to write; None: the one that counts for this day says the same already.

    The file's own number is kept while it is free and the highest, else the next one is taken.
    """
    same_day = [row for row in stored if row["effective_from"] == fields["effective_from"]]
    if same_day:
        counts = max(same_day, key=lambda row: row["version"])
        if all(counts[name] == value for name, value in fields.items()):
            return None
    highest = max((row["version"] for row in stored), default=0)
    return max(wished, highest + 1)


def _path(reseller_id: str, parents: Mapping[str, str | None]) -> list[str] | None:
    """The reseller and all above him; None where they form a circle."""
    path: list[str] = []
    current: str | None = reseller_id
    while current is not None:
        if current in path:
            return None
        path.append(current)
        current = parents.get(current)
    return path


def _in_force(path: Sequence[str], agreements: Sequence[Agreement]) -> list[Agreement] | None:
    """The newest agreement of each reseller of the path; None where one has none (such a booking parks)."""
    newest: dict[str, Agreement] = {}
    for agreement in agreements:
        current = newest.get(agreement.reseller_id)
        rank = (agreement.effective_from, agreement.version)
        if current is None or rank > (current.effective_from, current.version):
            newest[agreement.reseller_id] = agreement
    return [newest[one] for one in path] if all(one in newest for one in path) else None


def _keyed(kind: MappingKind, mapped: Mapping[int, str]) -> dict[tuple[str, int], str]:
    return {(kind.value, external_id): customer_id for external_id, customer_id in mapped.items()}


def _stored(value: Any) -> Any:
    """A field as the statement takes it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _reseller_fields(reseller: CatalogReseller) -> dict[str, Any]:
    day = reseller.tax_status_from
    return {**reseller.model_dump(mode="json"), "tax_status_from": day}


def _customer_fields(customer: CatalogCustomer) -> dict[str, Any]:
    fields = customer.model_dump(mode="json", exclude={"tax", "payment_method"})
    tax = customer.tax.model_dump(mode="json")
    return {**fields, **tax, "payment_method_source": customer.payment_method}
