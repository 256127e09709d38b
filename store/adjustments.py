"""Manual adjustments of resellers' accounts, and what each account comes to."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text

from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus
from domain.ledger_statements import adjusted
from domain.orders import person
from domain.settlement import Adjustment
from store.balances_sql import BALANCES
from store.ledger import LedgerRepository
from store.repository import cut, same_content
from store.rows import IllegalMove, NotSecondPerson, OpenBalance, UnknownRow
from store.statements import ADJUSTMENT, StatementRepository

_REQUEST = text(
    f"""
INSERT INTO adjustments (id, reseller_id, currency, amount_minor, direction, kind, why, requested_by, status)
VALUES (:id, :reseller_id, :currency, :amount_minor, :direction, :kind, :why, :requested_by, 'requested')
ON CONFLICT (id) DO NOTHING RETURNING {ADJUSTMENT}
"""  # noqa: S608 - a constant
)
_GET = text(f"SELECT {ADJUSTMENT} FROM adjustments WHERE id = :id")  # noqa: S608 - a constant
_LOCK = text(f"SELECT {ADJUSTMENT} FROM adjustments WHERE id = :id FOR UPDATE")  # noqa: S608 - a constant
_OF_RESELLER = text(
    f"SELECT {ADJUSTMENT} FROM adjustments WHERE reseller_id = :reseller_id ORDER BY requested_at, id"  # noqa: S608
)
_WAITING = text(f"SELECT {ADJUSTMENT} FROM adjustments WHERE status = 'requested' ORDER BY requested_at, id")  # noqa: S608
_DECIDE = text(
    f"""
UPDATE adjustments SET status = :status, decided_by = :who, decided_at = now() WHERE id = :id RETURNING {ADJUSTMENT}
"""  # noqa: S608 - a constant
)
_RESELLER = text("SELECT id FROM resellers WHERE id = :id")
_BALANCES = text(BALANCES.format(account="LIKE 'reseller:%'", reseller="IS NOT NULL"))
_BALANCES_OF = text(BALANCES.format(account="= 'reseller:' || :reseller_id", reseller="= :reseller_id"))


class AdjustmentRepository(StatementRepository):
    async def adjust(
        self,
        adjustment_id: str,
        *,
        reseller_id: str,
        currency: str,
        amount_minor: int,
        direction: AdjustmentDirection,
        kind: AdjustmentKind,
        why: str,
        requested_by: str,
    ) -> Adjustment:
        """Ask for an adjustment. It moves nothing until another person approves it.

        The same again returns it as it stands. KeyConflict: another one has this id. UnknownRow: no such reseller.
        """
        if await self._value(_RESELLER, id=reseller_id) is None:
            raise UnknownRow(f"reseller {reseller_id} does not exist")
        wanted = {
            "id": adjustment_id,
            "reseller_id": reseller_id,
            "currency": currency,
            "amount_minor": amount_minor,
            "direction": direction.value,
            "kind": kind.value,
            "why": cut(why),
            "requested_by": person(requested_by),
        }
        row = await self._row(Adjustment, _REQUEST, **wanted)
        if row is None:
            row = await self._row(Adjustment, _GET, id=adjustment_id)
            assert row is not None
            same_content(adjustment_id, row.model_dump(mode="json", include=set(wanted)), wanted)
        return row

    async def decide_adjustment(self, adjustment_id: str, who: str, *, approved: bool) -> Adjustment:
        """Approve it, which posts its ledger entry and lets the account's next statement list it, or reject it.

        The same decision again returns it as it stands. NotSecondPerson: `who` asked for it. IllegalMove: the other
        decision was taken before. UnknownRow: there is none with this id.
        """
        who = person(who)
        row = await self._row(Adjustment, _LOCK, id=adjustment_id)
        if row is None:
            raise UnknownRow(f"adjustment {adjustment_id} does not exist")
        wanted = AdjustmentStatus.APPROVED if approved else AdjustmentStatus.REJECTED
        if row.status is wanted:
            return row
        if row.status is not AdjustmentStatus.REQUESTED:
            raise IllegalMove(f"adjustment {adjustment_id} was {row.status.value} by {row.decided_by} already")
        if who == person(row.requested_by):
            raise NotSecondPerson(f"{who} asked for adjustment {adjustment_id}: another person has to decide")
        decided = await self._row(Adjustment, _DECIDE, id=adjustment_id, status=wanted.value, who=who)
        assert decided is not None
        if approved:
            entry = adjusted(
                adjustment_id=adjustment_id,
                reseller_id=row.reseller_id,
                currency=row.currency,
                amount_minor=row.amount_minor,
                is_credit=row.direction is AdjustmentDirection.CREDIT,
                is_write_off=row.kind is AdjustmentKind.WRITE_OFF,
                effective_at=decided.decided_at or datetime.now(UTC),
            )
            await LedgerRepository(self._connection).post(entry)
        return decided

    async def adjustment(self, adjustment_id: str) -> Adjustment | None:
        return await self._row(Adjustment, _GET, id=adjustment_id)

    async def adjustments(self, reseller_id: str) -> list[Adjustment]:
        """All adjustments of a reseller, oldest first, whatever became of them."""
        return await self._rows(Adjustment, _OF_RESELLER, reseller_id=reseller_id)

    async def waiting_adjustments(self) -> list[Adjustment]:
        """Those that nobody has decided, oldest first."""
        return await self._rows(Adjustment, _WAITING)

    async def account_balance(self, reseller_id: str) -> list[OpenBalance]:
        """What the ledger says of a reseller, one row a currency, and what of it stands where."""
        return await self._rows(OpenBalance, _BALANCES_OF, reseller_id=reseller_id)

    async def account_balances(self) -> list[OpenBalance]:
        """`account_balance` of everybody who ever earned anything."""
        return await self._rows(OpenBalance, _BALANCES)
