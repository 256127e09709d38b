"""The monthly settlement: claims matured commissions by plain SQL, whatever their number."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from domain.model import ParkReason
from store.repository import columns, cut
from store.rows import (
    EffectStatus,
    IllegalMove,
    SettlementLine,
    SettlementRow,
    SettlementStatus,
    TransferRow,
    UnknownRow,
)
from store.transfers import TransferRepository

_FROM = """
SELECT s.id, s.period, s.reseller_id, s.currency, s.amount_minor, s.line_count, s.status, s.reason, s.detail,
       t.key AS transfer_key, s.claimed_at, s.finished_at
FROM settlements AS s LEFT JOIN transfers AS t ON t.settlement_id = s.id
"""
_OF = text(f"{_FROM} WHERE s.period = :period ORDER BY s.reseller_id, s.currency")
_GET = text(f"{_FROM} WHERE s.period = :period AND s.reseller_id = :reseller_id AND s.currency = :currency")
_LOCK = text("SELECT id FROM settlements WHERE id = :id FOR UPDATE")
_BY_ID = text(f"{_FROM} WHERE s.id = :id")
_OF_RESELLER = text(f"{_FROM} WHERE s.reseller_id = :reseller_id ORDER BY s.period, s.currency")

_CLOSE_PERIOD = text("""
INSERT INTO settlement_periods (period, boundary) VALUES (:period, :boundary) ON CONFLICT (period) DO NOTHING
""")
_CLAIM = text("""
WITH due AS (
    SELECT c.id, c.reseller_id, c.currency, c.accrued_minor - c.reversed_minor AS owed_minor
    FROM commissions AS c
    JOIN resellers AS r ON r.id = c.reseller_id
    LEFT JOIN settlement_lines AS l ON l.commission_id = c.id
    LEFT JOIN settlements AS s ON s.id = l.settlement_id
    WHERE c.status = 'matured' AND c.transfer_key IS NULL AND c.matures_at < :boundary
      AND c.payout_mode IN ('monthly', 'on_hold') AND r.payout_mode <> 'on_hold'
      AND (l.commission_id IS NULL OR s.status = 'carried_over')
), opened AS (
    INSERT INTO settlements (period, reseller_id, currency, amount_minor, line_count, status)
    SELECT :period, reseller_id, currency, CAST(sum(owed_minor) AS bigint), count(*), 'open'
    FROM due GROUP BY reseller_id, currency
    RETURNING id, reseller_id, currency
)
INSERT INTO settlement_lines (commission_id, settlement_id, amount_minor)
SELECT due.id, opened.id, due.owed_minor FROM due JOIN opened USING (reseller_id, currency)
ON CONFLICT (commission_id) DO UPDATE
SET settlement_id = excluded.settlement_id, amount_minor = excluded.amount_minor
""")
_LINES = text(
    f"""
SELECT {columns(SettlementLine, "x.")} FROM (
    SELECT l.commission_id, c.chain_uid, c.level, l.amount_minor, c.matures_at
    FROM settlement_lines AS l JOIN commissions AS c ON c.id = l.commission_id
    WHERE l.settlement_id = :id
) AS x ORDER BY x.matures_at, x.chain_uid, x.level
"""  # noqa: S608 - a constant
)
_FIX_AMOUNT = text("""
WITH owed AS (
    SELECT c.id, c.accrued_minor - c.reversed_minor AS owed_minor
    FROM settlement_lines AS l JOIN commissions AS c ON c.id = l.commission_id
    WHERE l.settlement_id = :id ORDER BY c.id FOR UPDATE OF c
), fixed AS (
    UPDATE settlement_lines AS l SET amount_minor = owed.owed_minor
    FROM owed WHERE l.commission_id = owed.id AND l.amount_minor <> owed.owed_minor
)
UPDATE settlements SET amount_minor = (SELECT CAST(coalesce(sum(owed_minor), 0) AS bigint) FROM owed),
    line_count = (SELECT count(*) FROM owed), status = 'open', reason = NULL, detail = NULL, finished_at = NULL
WHERE id = :id RETURNING amount_minor
""")
_PAY_LINES = text("""
UPDATE commissions AS c SET transfer_key = :key, settled_minor = l.amount_minor
FROM settlement_lines AS l WHERE l.settlement_id = :id AND l.commission_id = c.id AND c.status = 'matured'
""")
_FINISH = text("""
UPDATE settlements SET status = :status, reason = :reason, detail = :detail,
    finished_at = CASE WHEN status = :status THEN coalesce(finished_at, now()) ELSE now() END
WHERE id = :id
""")


class SettlementRepository(TransferRepository):
    async def claim(self, period: str, boundary: datetime) -> list[SettlementRow]:
        """Claim all matured commissions that mature before `boundary` (end of the month), once for each period.

        One settlement for each reseller and currency, net of what was reversed. There is no lower bound: what was late
        for earlier months is taken along, and so are the lines of settlements that were carried over. Called again it
        claims nothing and returns the same settlements; what became due since waits for the next period. Not claimed:
        what a chain transfers itself, and everything of a reseller who is on hold now.
        """
        if await self._execute(_CLOSE_PERIOD, period=period, boundary=boundary) == 1:
            await self._execute(_CLAIM, period=period, boundary=boundary)
        return await self.of(period)

    async def of(self, period: str) -> list[SettlementRow]:
        """All settlements of a month, by reseller and currency."""
        return await self._rows(SettlementRow, _OF, period=period)

    async def of_reseller(self, reseller_id: str) -> list[SettlementRow]:
        """All settlements of a reseller, oldest first."""
        return await self._rows(SettlementRow, _OF_RESELLER, reseller_id=reseller_id)

    async def get(self, period: str, reseller_id: str, currency: str) -> SettlementRow | None:
        return await self._row(SettlementRow, _GET, period=period, reseller_id=reseller_id, currency=currency)

    async def lines(self, settlement_id: int) -> list[SettlementLine]:
        """What a settlement claimed. Lines of one that was carried over are with the one that took them along."""
        return await self._rows(SettlementLine, _LINES, id=settlement_id)

    async def begin(self, settlement_id: int, *, key: str, destination_account_id: str) -> TransferRow | None:
        """Fix the amount from what is owed now and record that Stripe is about to be asked. `key`: the transfer's key.

        A commission that was reversed after the claim is no longer in the amount. The same again returns the transfer
        as it stands; a refused one is started again, a parked settlement is open again. None: nothing is owed any more;
        finish it as carried over. Follow with `tx.money.finish_transfer`, then `finish`. IllegalMove for a settlement
        that was carried over.
        """
        row = await self._locked(settlement_id)
        if row.status is SettlementStatus.CARRIED_OVER:
            raise IllegalMove(f"settlement {settlement_id} was carried over: its lines belong to a later one")
        known = await self.transfer(row.transfer_key) if row.transfer_key is not None else None
        if known is not None and known.status is not EffectStatus.REFUSED:
            return known
        if row.status is SettlementStatus.PAID:
            raise IllegalMove(f"settlement {settlement_id} is paid without a transfer")
        amount_minor: int = await self._value(_FIX_AMOUNT, id=settlement_id)
        if amount_minor == 0:
            return None
        transfer = await self._begin_transfer(
            key=known.key if known is not None else key,
            kind="settlement",
            chain_uid=None,
            settlement_id=settlement_id,
            reseller_id=row.reseller_id,
            currency=row.currency,
            amount_minor=amount_minor,
            destination_account_id=destination_account_id,
        )
        await self._execute(_PAY_LINES, key=transfer.key, id=settlement_id)
        return transfer

    async def finish(
        self,
        settlement_id: int,
        *,
        status: SettlementStatus,
        reason: ParkReason | None = None,
        detail: str | None = None,
    ) -> SettlementRow:
        """Paid, carried over, or parked with a reason; the same again is harmless.

        Raises IllegalMove: paid needs a transfer that succeeded, and nothing follows on it; carried over needs that no
        transfer is under way, and nothing follows on it either.
        """
        if (status is SettlementStatus.PARKED) != (reason is not None):
            raise ValueError(f"settlement {settlement_id}: a reason belongs to parked, and is required there")
        row = await self._locked(settlement_id)
        known = await self.transfer(row.transfer_key) if row.transfer_key is not None else None
        paid = known is not None and known.status is EffectStatus.SUCCEEDED
        under_way = known is not None and known.status is EffectStatus.STARTED
        final = row.status in (SettlementStatus.PAID, SettlementStatus.CARRIED_OVER) and row.status is not status
        wrong = (
            (status is SettlementStatus.PAID and not paid)
            or (status is SettlementStatus.CARRIED_OVER and (paid or under_way))
            or status is SettlementStatus.OPEN
        )
        if final or wrong:
            detail = f"transfer {known.status.value}" if known is not None else "no transfer"
            raise IllegalMove(f"settlement {settlement_id} is {row.status.value} ({detail}): not {status.value}")
        await self._execute(
            _FINISH,
            id=settlement_id,
            status=status.value,
            reason=reason.value if reason else None,
            detail=cut(detail),
        )
        return await self._locked(settlement_id)

    async def _locked(self, settlement_id: int) -> SettlementRow:
        await self._value(_LOCK, id=settlement_id)
        # A statement of its own: what another task wrote while this one waited must be seen, its transfer too.
        row = await self._row(SettlementRow, _BY_ID, id=settlement_id)
        if row is None:
            raise UnknownRow(f"settlement {settlement_id} does not exist")
        return row
