"""Commissions: what each level earned, what of it matured and what was taken back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text

from domain.model import Level
from store.repository import Repository, columns
from store.rows import CommissionRow, KeyConflict, TooMuch, UnknownRow

_COLUMNS = columns(CommissionRow)

_ACCRUE = text("""
INSERT INTO commissions (chain_uid, reseller_id, level, currency, accrued_minor, status, matures_at, rule,
    agreement_version, payout_mode)
SELECT c.chain_uid, l.reseller_id, l.level, c.currency, l.amount_minor, 'accrued', :matures_at, l.rule,
    l.agreement_version, l.payout_mode
FROM chains AS c, jsonb_to_recordset(CAST(:levels AS jsonb)) AS l(level bigint, reseller_id text, amount_minor bigint,
    rule jsonb, agreement_version bigint, payout_mode text)
WHERE c.chain_uid = :chain_uid
ON CONFLICT (chain_uid, reseller_id, level) DO NOTHING
""")
_OF_CHAIN = text(
    f"SELECT {_COLUMNS} FROM commissions WHERE chain_uid = :chain_uid ORDER BY level, id"  # noqa: S608 - a constant
)
_SET_REVERSED = text(
    f"""
UPDATE commissions
SET reversed_minor = greatest(reversed_minor, :reversed_minor),
    status = CASE WHEN greatest(reversed_minor, :reversed_minor) = accrued_minor THEN 'reversed' ELSE status END
WHERE id = :id AND accrued_minor >= :reversed_minor
RETURNING {_COLUMNS}
"""  # noqa: S608 - a constant
)
_ACCRUED = text("SELECT accrued_minor FROM commissions WHERE id = :id")
_MATURE = text("UPDATE commissions SET status = 'matured' WHERE chain_uid = :chain_uid AND status = 'accrued'")
_MOVE = text("""
UPDATE commissions SET matures_at = :matures_at
WHERE chain_uid = :chain_uid AND status = 'accrued' AND matures_at <> :matures_at
""")


class CommissionRepository(Repository):
    async def accrue(self, chain_uid: str, levels: Sequence[Level], matures_at: datetime) -> list[CommissionRow]:
        """Record what each level earned; a level of 0 leaves no row. Again with the same amounts changes nothing.

        Raises KeyConflict where a level was accrued with another amount, UnknownRow for a chain without quote.
        """
        earning = [level for level in levels if level.amount_minor]
        if earning:
            given = json.dumps([level.model_dump(mode="json") for level in earning])
            await self._execute(_ACCRUE, chain_uid=chain_uid, levels=given, matures_at=matures_at)
        rows = await self.commissions(chain_uid)
        stored = {(row.reseller_id, row.level): row.accrued_minor for row in rows}
        if earning and not stored:
            raise UnknownRow(f"chain {chain_uid} is not stored")
        if stored != {(level.reseller_id, level.level): level.amount_minor for level in earning}:
            raise KeyConflict(f"commissions of chain {chain_uid} were accrued with other amounts")
        return rows

    async def commissions(self, chain_uid: str) -> list[CommissionRow]:
        """All commissions of a chain, the customer's own reseller first."""
        return await self._rows(CommissionRow, _OF_CHAIN, chain_uid=chain_uid)

    async def set_reversed(self, commission_id: int, reversed_minor: int) -> CommissionRow:
        """Raise the cumulative amount that was undone; a lower one than stored changes nothing.

        All of it undone makes it `reversed`. TooMuch above what was accrued. Where the row returned says that more was
        settled than is still owed, the difference must come back by a transfer reversal.
        """
        row = await self._row(CommissionRow, _SET_REVERSED, id=commission_id, reversed_minor=reversed_minor)
        if row is None:
            accrued_minor = await self._value(_ACCRUED, id=commission_id)
            if accrued_minor is None:
                raise UnknownRow(f"commission {commission_id} does not exist")
            raise TooMuch(f"commission {commission_id}: {reversed_minor} of {accrued_minor} cannot be reversed")
        return row

    async def mature(self, chain_uid: str) -> list[CommissionRow]:
        """The refund window is over: accrued commissions become matured. Returns the chain's; again is harmless."""
        await self._execute(_MATURE, chain_uid=chain_uid)
        return await self.commissions(chain_uid)

    async def move_maturity(self, chain_uid: str, matures_at: datetime) -> None:
        """A rescheduled appointment: its accrued commissions mature with the new one. Matured ones stay."""
        await self._execute(_MOVE, chain_uid=chain_uid, matures_at=matures_at)
