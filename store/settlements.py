"""Statements after they were made: paying them once, waiting, parking, approving, carrying over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from domain.effects import EffectStatus, SettlementStatus
from domain.model import ParkReason
from domain.orders import person
from store.adjustments import AdjustmentRepository
from store.claims import ClaimRepository
from store.repository import cut
from store.rows import IllegalMove, NotSecondPerson, SettlementRow, TransferRow

_LOCK = text("SELECT id FROM settlements WHERE id = :id FOR UPDATE")
_MOVE = text("""
UPDATE settlements SET status = :status, reason = :reason, detail = :detail,
    waiting_since = CASE WHEN :status = 'waiting' THEN coalesce(waiting_since, :waiting_since, now()) END,
    finished_at = CASE WHEN :status IN ('open', 'waiting') THEN NULL
        WHEN status = :status THEN coalesce(finished_at, now()) ELSE now() END
WHERE id = :id
""")
_ACCOUNT = text("SELECT stripe_account_id FROM resellers WHERE id = :id")
_APPROVE = text("""
UPDATE settlements SET approved_by = :who, approved_at = now(), approved_account_id = :account_id WHERE id = :id
""")
_WITHDRAW = text("""
UPDATE settlements SET approved_by = NULL, approved_at = NULL, approved_account_id = NULL WHERE id = :id
""")
_CARRY = text("""
UPDATE settlements SET status = 'carried_over', carried_by = :who, reason = NULL, waiting_since = NULL,
    detail = NULL, finished_at = now()
WHERE id = :id
""")


class SettlementRepository(ClaimRepository, AdjustmentRepository):
    async def begin(self, settlement_id: int, *, key: str, destination_account_id: str) -> TransferRow:
        """Record that Stripe is about to be asked to transfer what the statement says. `key`: the transfer's key.

        The same again returns the transfer as it stands; a refused one is started again. A parked statement is open
        again; one that waits for the balance stays in sight as waiting, since its first wait, until `finish`. The
        amount is the frozen one, whatever was reversed since: that is on the next statement. Follow with
        `tx.money.finish_transfer`, then `finish`. IllegalMove: nothing is payable, it was carried over, nobody has
        approved it who has to, or it was approved for another account.
        """
        row = await self._locked(settlement_id)
        known = await self.transfer(row.transfer_key) if row.transfer_key is not None else None
        if known is not None and known.status is not EffectStatus.REFUSED:
            return known
        if row.status is SettlementStatus.PAID:
            raise IllegalMove(f"settlement {settlement_id} is paid without a transfer")
        if not row.may_be_paid:
            carried = row.status is SettlementStatus.CARRIED_OVER or row.payable_minor == 0
            what = "was carried over" if carried else "waits for the approval of a second person"
            raise IllegalMove(f"statement {row.statement_id} {what}: nothing can be transferred for it")
        if row.needs_approval and row.approved_account_id != destination_account_id:
            raise IllegalMove(f"statement {row.statement_id} was approved for another account: it needs a new approval")
        if row.status is not SettlementStatus.WAITING:
            await self._execute(_MOVE, id=settlement_id, status="open", reason=None, detail=None, waiting_since=None)
        return await self._begin_transfer(
            key=known.key if known is not None else key,
            kind="settlement",
            chain_uid=None,
            settlement_id=settlement_id,
            reseller_id=row.reseller_id,
            currency=row.currency,
            amount_minor=row.payable_minor,
            destination_account_id=destination_account_id,
        )

    async def finish(
        self,
        settlement_id: int,
        *,
        status: SettlementStatus,
        reason: ParkReason | None = None,
        detail: str | None = None,
        waiting_since: datetime | None = None,
    ) -> SettlementRow:
        """Paid, parked with a reason, or waiting for the balance (since its first wait); the same again is harmless.

        IllegalMove: paid needs a transfer that succeeded, and nothing follows on it; nothing follows on carried over,
        which only a closing or `carry_over` does.
        """
        if status is SettlementStatus.WAITING:
            reason = reason or ParkReason.BALANCE_INSUFFICIENT
        if (status in (SettlementStatus.PARKED, SettlementStatus.WAITING)) != (reason is not None):
            raise ValueError(f"settlement {settlement_id}: a reason belongs to parked, and is required there")
        row = await self._locked(settlement_id)
        if row.status is status and status in (SettlementStatus.PAID, SettlementStatus.CARRIED_OVER):
            return row
        known = await self.transfer(row.transfer_key) if row.transfer_key is not None else None
        succeeded = known is not None and known.status is EffectStatus.SUCCEEDED
        final = row.status in (SettlementStatus.PAID, SettlementStatus.CARRIED_OVER) or row.payable_minor == 0
        by_others = status in (SettlementStatus.CARRIED_OVER, SettlementStatus.OPEN)
        if final or by_others or (status is SettlementStatus.PAID) != succeeded:
            said = f"transfer {known.status.value}" if known is not None else "no transfer"
            raise IllegalMove(f"settlement {settlement_id} is {row.status.value} ({said}): not {status.value}")
        await self._execute(
            _MOVE,
            id=settlement_id,
            status=status.value,
            reason=reason.value if reason else None,
            detail=cut(detail),
            waiting_since=waiting_since,
        )
        return await self.row(settlement_id)

    async def approve(self, settlement_id: int, who: str) -> SettlementRow:
        """A second person agrees to the transfer to the account that the reseller has now. The first approval stands
        while he keeps that account; the same again is harmless.

        NotSecondPerson: `who`, in whatever spelling, asked for the closing or for an adjustment on it. IllegalMove:
        nothing is to be approved.
        """
        who = person(who)
        row = await self._locked(settlement_id)
        if who in {person(one) for one in row.asked_by}:
            raise NotSecondPerson(f"{who} asked for what is on {row.statement_id}: another person has to approve it")
        account_id = await self._value(_ACCOUNT, id=row.reseller_id)
        if row.approved_by is not None and row.approved_account_id == account_id:
            return row
        if not row.needs_approval or row.status is SettlementStatus.CARRIED_OVER:
            raise IllegalMove(f"statement {row.statement_id} ({row.status.value}) needs no approval")
        await self._execute(_APPROVE, id=settlement_id, who=who, account_id=account_id)
        return await self.row(settlement_id)

    async def withdraw_approval(self, settlement_id: int, account_id: str) -> bool:
        """Whether it was approved for another account than this one: it is not approved any more then."""
        row = await self._locked(settlement_id)
        if row.approved_by is None or row.approved_account_id == account_id:
            return False
        await self._execute(_WITHDRAW, id=settlement_id)
        return True

    async def carry_over(self, settlement_id: int, who: str) -> SettlementRow:
        """A person decides that the payable amount goes into the account's next statement instead of being transferred.

        The same again is harmless. IllegalMove: a transfer is under way or done, or nothing is payable.
        """
        row = await self._locked(settlement_id)
        if row.carried_by is not None:
            return row
        known = await self.transfer(row.transfer_key) if row.transfer_key is not None else None
        if known is not None and known.status is not EffectStatus.REFUSED:
            raise IllegalMove(f"statement {row.statement_id}: its transfer has {known.status.value}")
        if row.payable_minor == 0 or row.status is SettlementStatus.PAID:
            raise IllegalMove(f"statement {row.statement_id} ({row.status.value}) has nothing to carry over")
        await self._execute(_CARRY, id=settlement_id, who=who)
        return await self.row(settlement_id)

    async def _locked(self, settlement_id: int) -> SettlementRow:
        await self._value(_LOCK, id=settlement_id)
        # A statement of its own: what another task wrote while this one waited must be seen, its transfer too.
        return await self.row(settlement_id)
