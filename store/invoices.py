"""Invoice numbers: gapless within a year, given once for each document."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from domain.pricing import BERLIN
from store.repository import Repository, columns, same_content
from store.rows import InvoiceKind, InvoiceRow

_COLUMNS = columns(InvoiceRow)

_NEXT = text(
    f"""
WITH bumped AS (
    INSERT INTO invoice_counters (year, last_number) VALUES (:year, 1)
    ON CONFLICT (year) DO UPDATE SET last_number = invoice_counters.last_number + 1
    RETURNING last_number
)
INSERT INTO invoices (number, kind, chain_uid, sequence, customer_id, currency, net_minor, vat_minor, gross_minor,
    vat_rate_bps, vat_reason, corrects, issued_at)
SELECT CAST(:year AS text) || '-' || lpad(CAST(last_number AS text), 6, '0'), :kind, :chain_uid, :sequence,
    :customer_id, :currency, :net_minor, :vat_minor, :gross_minor, :vat_rate_bps, :vat_reason, :corrects, :issued_at
FROM bumped
ON CONFLICT (chain_uid, kind, sequence) DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608 - a constant
)
_GIVE_BACK = text("UPDATE invoice_counters SET last_number = last_number - 1 WHERE year = :year")
_SAME = text(
    f"SELECT {_COLUMNS} FROM invoices"  # noqa: S608 - a constant
    " WHERE chain_uid = :chain_uid AND kind = :kind AND sequence = :sequence"
)
_OF_CHAIN = text(
    f"SELECT {_COLUMNS} FROM invoices WHERE chain_uid = :chain_uid ORDER BY number"  # noqa: S608 - a constant
)
_CORRECTIONS = text("SELECT count(*) FROM invoices WHERE chain_uid = :chain_uid AND kind = 'correction'")


class InvoiceRepository(Repository):
    async def next_invoice(
        self,
        kind: InvoiceKind,
        *,
        chain_uid: str,
        sequence: int,
        customer_id: str,
        currency: str,
        net_minor: int,
        vat_minor: int,
        vat_rate_bps: int,
        vat_reason: str,
        issued_at: datetime,
        corrects: str | None = None,
    ) -> InvoiceRow:
        """The next number of the year of issue (Europe/Berlin), or the document made before for this chain, kind and
        sequence; KeyConflict where that one says other amounts.

        The year's counter stays locked until the transaction ends, so that a rollback leaves no gap: call it last.
        """
        wanted = {
            "kind": InvoiceKind(kind).value,
            "chain_uid": chain_uid,
            "sequence": sequence,
            "customer_id": customer_id,
            "currency": currency,
            "net_minor": net_minor,
            "vat_minor": vat_minor,
            "gross_minor": net_minor + vat_minor,
            "vat_rate_bps": vat_rate_bps,
            "vat_reason": vat_reason,
            "corrects": corrects,
        }
        year = issued_at.astimezone(BERLIN).year
        row = await self._row(InvoiceRow, _NEXT, **wanted, year=year, issued_at=issued_at)
        if row is not None:
            return row
        await self._execute(_GIVE_BACK, year=year)
        row = await self._row(InvoiceRow, _SAME, chain_uid=chain_uid, kind=InvoiceKind(kind).value, sequence=sequence)
        assert row is not None
        same_content(
            f"{kind} {row.number} of chain {chain_uid}", row.model_dump(mode="json", include=set(wanted)), wanted
        )
        return row

    async def invoices(self, chain_uid: str) -> list[InvoiceRow]:
        """Invoice and corrections of a chain, in the order of their numbers."""
        return await self._rows(InvoiceRow, _OF_CHAIN, chain_uid=chain_uid)

    async def correction_count(self, chain_uid: str) -> int:
        """How many corrections a chain has: the next one's sequence is one more."""
        count: int = await self._value(_CORRECTIONS, chain_uid=chain_uid)
        return count
