"""Manual adjustments of resellers' accounts, and what each account comes to."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text

from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus
from domain.ledger_statements import adjusted
from domain.orders import person
from domain.settlement import Adjustment
from store.balances_sql import BALANCES
from store.claims import _LOCK_KEY as CLOSING_LOCK
from store.ledger import LedgerRepository
from store.repository import cut, same_content
from store.rows import IllegalMove, NotSecondPerson, OpenBalance, UnknownRow
from store.statements import ADJUSTMENT, StatementRepository

_REQUEST = text(
    f"""
INSERT INTO adjustments (id, reseller_id, currency, amount_minor, direction, kind, why, requested_by, status)
VALUES (:id, :reseller_id, :currency, :amount_minor, :direction, :kind, :why, :requested_by, 'requested')
ON CONFLICT DO NOTHING RETURNING {ADJUSTMENT}
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
_OPEN_WRITE_OFF = text("""
SELECT id FROM adjustments
WHERE reseller_id = :reseller_id AND currency = :currency AND kind = 'write_off' AND status = 'requested'
""")
_NO_CLOSING = text("SELECT pg_try_advisory_xact_lock(:key)")
_ONE_AT_A_TIME = text("SELECT id FROM resellers WHERE id = :id FOR NO KEY UPDATE")
_UNSTATED = text("""
WITH own AS (
    SELECT c.*, l.sequence, l.amount_minor, l.transferred_minor
    FROM commissions AS c LEFT JOIN settlement_lines AS l ON l.commission_id = c.id
    WHERE c.reseller_id = :reseller_id AND c.currency = :currency
), stated AS (
    SELECT id, accrued_minor - reversed_minor AS net_minor,
        CASE payout_mode WHEN 'per_booking' THEN settled_minor ELSE 0 END AS paid_minor,
        coalesce(sum(CASE sequence WHEN 0 THEN amount_minor ELSE -amount_minor END), 0) AS stated_minor,
        CASE payout_mode WHEN 'per_booking'
            THEN coalesce(sum(CASE sequence WHEN 0 THEN transferred_minor ELSE -transferred_minor END), 0)
            ELSE 0 END AS stated_paid_minor
    FROM own GROUP BY id, accrued_minor, reversed_minor, payout_mode, settled_minor
)
SELECT count(*) FROM stated WHERE net_minor <> stated_minor OR paid_minor <> stated_paid_minor
""")
"""Commissions of which something stands on no statement yet: earned, reversed, or paid and taken back."""
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
        IllegalMove: another write-off of the account waits for its decision.
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
            if row is None:
                waits = await self._value(_OPEN_WRITE_OFF, reseller_id=reseller_id, currency=currency)
                raise IllegalMove(f"write-off {waits} of {reseller_id} in {currency} waits already: decide that one")
            same_content(adjustment_id, row.model_dump(mode="json", include=set(wanted)), wanted)
        return row

    async def decide_adjustment(self, adjustment_id: str, who: str, *, approved: bool) -> Adjustment:
        """Approve it, which posts its ledger entry and lets the account's next statement list it, or reject it.

        The same decision again returns it as it stands. NotSecondPerson: `who` asked for it. IllegalMove: the other
        decision was taken before, or the account is not any more what a write-off was asked for. UnknownRow: there is
        none with this id.
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
        if approved:
            await self._value(_ONE_AT_A_TIME, id=row.reseller_id)
            if row.kind is AdjustmentKind.WRITE_OFF:
                await self._still_to_write_off(row)
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

    async def to_write_off(self, reseller_id: str, currency: str) -> tuple[AdjustmentDirection, int]:
        """What brings an account to zero for good: in whose favour (credit: the reseller's), and how much.

        IllegalMove: nothing is open, a statement is not paid, or a commission stands on no statement yet: its VAT, and
        what is set off against it, come with the statement only.
        """
        balances = await self.account_balance(reseller_id)
        found = next((one for one in balances if one.currency == currency), None)
        unstated = await self._value(_UNSTATED, reseller_id=reseller_id, currency=currency)
        if unstated:
            raise IllegalMove(
                f"commissions of {reseller_id} in {currency} that stand on no statement as they are now: {unstated}. "
                "Close the month in which they mature, or roll their bookings back; then write off what is left"
            )
        if found is None or found.owed_minor == found.owing_minor:
            raise IllegalMove(f"reseller {reseller_id} has nothing open in {currency}")
        if found.unpaid_minor:
            raise IllegalMove(f"a statement of {reseller_id} in {currency} is not paid yet: carry it over first")
        if found.owing_minor:
            return AdjustmentDirection.CREDIT, found.owing_minor
        return AdjustmentDirection.DEBIT, found.owed_minor

    async def _still_to_write_off(self, row: Adjustment) -> None:
        """With the reseller locked: no closing and no other decision changes his account before this one stands."""
        if not await self._value(_NO_CLOSING, key=CLOSING_LOCK):
            raise IllegalMove("a month is being closed at this moment: decide when that is done")
        direction, amount_minor = await self.to_write_off(row.reseller_id, row.currency)
        if (direction, amount_minor) != (row.direction, row.amount_minor):
            raise IllegalMove(
                f"the account of {row.reseller_id} in {row.currency} has changed since write-off {row.id} was asked "
                "for: reject it, and ask for a new one"
            )

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
