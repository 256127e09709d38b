"""Reading statements: one by one, by month, by page, with everything that a document of them needs."""

from __future__ import annotations

from sqlalchemy import text

from domain import ids
from domain.settlement import Adjustment, Figures, Party, Statement, StatementLine, StatementTransfer, TaxLine
from store.repository import columns
from store.rows import SettlementLine, SettlementProgress, SettlementRow, UnknownRow
from store.transfers import TransferRepository

ADJUSTMENT = columns(Adjustment)
_OWN_COLUMNS = ", ".join(f"s.{name}" for name in SettlementRow.model_fields if name != "transfer_key")
FROM_SETTLEMENTS = f"""
SELECT {_OWN_COLUMNS}, t.key AS transfer_key
FROM settlements AS s LEFT JOIN transfers AS t ON t.settlement_id = s.id
"""  # noqa: S608 - a constant
_OF = text(f"{FROM_SETTLEMENTS} WHERE s.period = :period AND s.sequence = :sequence ORDER BY s.reseller_id, s.currency")
_GET = text(
    f"{FROM_SETTLEMENTS} WHERE s.period = :period AND s.sequence = :sequence AND s.reseller_id = :reseller_id"
    " AND s.currency = :currency"
)
_BY_ID = text(f"{FROM_SETTLEMENTS} WHERE s.id = :id")
_OF_RESELLER = text(f"{FROM_SETTLEMENTS} WHERE s.reseller_id = :reseller_id ORDER BY s.period, s.sequence, s.currency")
_UNPAID = text(
    f"{FROM_SETTLEMENTS} WHERE s.period = :period AND s.sequence = :sequence AND s.id > :after AND s.payable_minor > 0"
    " AND s.status IN ('open', 'waiting', 'parked') ORDER BY s.id LIMIT :limit"
)
_ATTENTION = text(
    f"{FROM_SETTLEMENTS} WHERE s.status IN ('parked', 'waiting') AND s.brought_into IS NULL ORDER BY s.id LIMIT :limit"
)
_LATEST = text("SELECT coalesce(max(sequence), 0) FROM settlement_periods WHERE period = :period")
_PROGRESS = text("""
SELECT count(*) AS total, count(*) FILTER (WHERE status = 'open') AS open,
    count(*) FILTER (WHERE status = 'waiting') AS waiting, count(*) FILTER (WHERE status = 'paid') AS paid,
    count(*) FILTER (WHERE status = 'carried_over') AS carried, count(*) FILTER (WHERE status = 'parked') AS parked
FROM settlements WHERE period = :period AND sequence = :sequence
""")

# Lines have no index by statement, which would cost as much as the claim: they are found by the account's commissions.
_LINES = text("""
SELECT l.commission_id, l.sequence, c.chain_uid, c.level, l.amount_minor, l.transferred_minor, c.matures_at
FROM settlements AS s
JOIN commissions AS c ON c.reseller_id = s.reseller_id AND c.currency = s.currency
JOIN settlement_lines AS l ON l.commission_id = c.id AND l.settlement_id = s.id
WHERE s.id = :id ORDER BY l.sequence > 0, c.matures_at, c.chain_uid, c.level
""")
_STATEMENT_LINES = text("""
SELECT l.commission_id, l.sequence, c.chain_uid, c.level, l.amount_minor, l.transferred_minor, c.matures_at, c.rule,
    coalesce(earned.vat_rate_bps, s.vat_rate_bps) AS vat_rate_bps,
    coalesce(earned.vat_reason, s.vat_reason) AS vat_reason,
    (SELECT q.start_at FROM quotes AS q WHERE q.chain_uid = c.chain_uid AND q.created_at <= s.frozen_at
     ORDER BY q.version DESC LIMIT 1) AS appointment_at
FROM settlements AS s
JOIN commissions AS c ON c.reseller_id = s.reseller_id AND c.currency = s.currency
JOIN settlement_lines AS l ON l.commission_id = c.id AND l.settlement_id = s.id
LEFT JOIN settlement_lines AS first ON l.sequence > 0 AND first.commission_id = l.commission_id AND first.sequence = 0
LEFT JOIN settlements AS earned ON earned.id = first.settlement_id
WHERE s.id = :id ORDER BY l.sequence > 0, c.matures_at, c.chain_uid, c.level
""")
_TAXES = text("""
SELECT vat_rate_bps, vat_reason, net_minor, vat_minor, is_debit FROM settlement_taxes
WHERE settlement_id = :id ORDER BY vat_rate_bps, vat_reason
""")
_ADJUSTMENTS = text(f"SELECT {ADJUSTMENT} FROM adjustments WHERE settlement_id = :id ORDER BY decided_at, id")  # noqa: S608
_TRANSFER = text(
    f"SELECT {columns(StatementTransfer)} FROM transfers WHERE settlement_id = :id"  # noqa: S608 - a constant
)
_FROZEN = text("""
SELECT s.party, p.issuer, p.requested_by FROM settlements AS s JOIN settlement_periods AS p USING (period, sequence)
WHERE s.id = :id
""")
_NEIGHBOURS = text("""
SELECT n.period, n.reseller_id, n.currency, n.sequence, n.brought_into = :id AS is_before FROM settlements AS n
WHERE n.brought_into = :id OR n.id = (SELECT brought_into FROM settlements WHERE id = :id)
ORDER BY n.id
""")


class StatementRepository(TransferRepository):
    async def of(self, period: str, sequence: int = 1) -> list[SettlementRow]:
        """All statements of one closing, by reseller and currency. Without supplements: those are closings too."""
        return await self._rows(SettlementRow, _OF, period=period, sequence=sequence)

    async def of_reseller(self, reseller_id: str) -> list[SettlementRow]:
        """All statements of a reseller, oldest month first."""
        return await self._rows(SettlementRow, _OF_RESELLER, reseller_id=reseller_id)

    async def get(self, period: str, reseller_id: str, currency: str, sequence: int = 1) -> SettlementRow | None:
        return await self._row(
            SettlementRow, _GET, period=period, reseller_id=reseller_id, currency=currency, sequence=sequence
        )

    async def row(self, settlement_id: int) -> SettlementRow:
        """The statement with this number. UnknownRow where there is none."""
        found = await self._row(SettlementRow, _BY_ID, id=settlement_id)
        if found is None:
            raise UnknownRow(f"settlement {settlement_id} does not exist")
        return found

    async def unpaid(self, period: str, sequence: int = 1, *, after: int = 0, limit: int = 500) -> list[SettlementRow]:
        """Statements with something to transfer that was not transferred and not carried over by a person.

        In the order of their numbers; the next page starts `after` the last one's id.
        """
        return await self._rows(SettlementRow, _UNPAID, period=period, sequence=sequence, after=after, limit=limit)

    async def attention(self, *, limit: int = 200) -> list[SettlementRow]:
        """Statements of all months that are parked or wait, oldest first; debts until the next statement takes them."""
        return await self._rows(SettlementRow, _ATTENTION, limit=limit)

    async def latest_sequence(self, period: str) -> int:
        """How often the month was closed: 0 never, 1 once, 2 and up with supplements."""
        number: int = await self._value(_LATEST, period=period)
        return number

    async def progress(self, period: str, sequence: int = 1) -> SettlementProgress:
        found = await self._row(SettlementProgress, _PROGRESS, period=period, sequence=sequence)
        assert found is not None
        return found

    async def lines(self, settlement_id: int) -> list[SettlementLine]:
        """What a statement lists: earned by maturity, clawbacks last. Frozen."""
        return await self._rows(SettlementLine, _LINES, id=settlement_id)

    async def statement(self, settlement_id: int) -> Statement:
        """A statement with all that a document of it needs. PERSONAL DATA in `party`. UnknownRow: there is none.

        Raises ValueError where what is stored does not add up: such a statement must not be shown to anybody.
        """
        row = await self.row(settlement_id)
        given = {"id": settlement_id}
        frozen = await self._only(_FROZEN, **given)
        assert frozen is not None
        named = [(one.pop("is_before"), ids.statement_id(**one)) for one in await self._maps(_NEIGHBOURS, **given)]
        return Statement(
            **{name: getattr(row, name) for name in Figures.model_fields},
            id=row.statement_id,
            period=row.period,
            sequence=row.sequence,
            reseller_id=row.reseller_id,
            currency=row.currency,
            boundary=row.boundary,
            frozen_at=row.frozen_at,
            lines=tuple(await self._rows(StatementLine, _STATEMENT_LINES, **given)),
            taxes=tuple(await self._rows(TaxLine, _TAXES, **given)),
            adjustments=tuple(await self._rows(Adjustment, _ADJUSTMENTS, **given)),
            party=Party.model_validate(frozen["party"]),
            issuer=frozen["issuer"],
            requested_by=frozen["requested_by"],
            needs_approval=row.needs_approval,
            approved_by=row.approved_by,
            status=row.status,
            reason=row.reason,
            detail=row.detail,
            waiting_since=row.waiting_since,
            carried_by=row.carried_by,
            brought_from=tuple(name for is_before, name in named if is_before),
            brought_into=next((name for is_before, name in named if not is_before), None),
            transfer=await self._row(StatementTransfer, _TRANSFER, **given),
        )
