"""Transfers to resellers and their reversals, with what they mean for the commissions they pay."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from store.repository import Repository, columns, cut, same_content, unchanged
from store.rows import EffectStatus, IllegalMove, TooMuch, TransferReversalRow, TransferRow, UnknownRow

_TRANSFER = columns(TransferRow)
_REVERSAL = columns(TransferReversalRow)

_BY_KEY = text(f"SELECT {_TRANSFER} FROM transfers WHERE key = :key")  # noqa: S608 - a constant
_LOCK_TRANSFER = text(f"SELECT {_TRANSFER} FROM transfers WHERE key = :key FOR UPDATE")  # noqa: S608 - a constant
_OF_STRIPE = text(f"SELECT {_TRANSFER} FROM transfers WHERE transfer_id = :transfer_id")  # noqa: S608 - a constant
_CHAIN_TRANSFERS = text(
    f"SELECT {_TRANSFER} FROM transfers WHERE chain_uid = :chain_uid ORDER BY begun_at, key"  # noqa: S608 - a constant
)
_LOCK_EARNED = text("""
SELECT id, currency, accrued_minor - reversed_minor AS owed_minor,
    status = 'matured' AND transfer_key IS NULL AND payout_mode = 'per_booking' AS is_due
FROM commissions WHERE chain_uid = :chain_uid AND reseller_id = :reseller_id ORDER BY id FOR UPDATE
""")
_BEGIN = text(
    f"""
INSERT INTO transfers (key, kind, chain_uid, settlement_id, reseller_id, currency, amount_minor,
    destination_account_id, status)
VALUES (:key, :kind, :chain_uid, :settlement_id, :reseller_id, :currency, :amount_minor,
    :destination_account_id, 'started')
ON CONFLICT (key) DO UPDATE SET amount_minor = excluded.amount_minor,
    destination_account_id = excluded.destination_account_id, status = 'started', finished_at = NULL,
    begun_at = now(), tries = transfers.tries + 1
WHERE transfers.status = 'refused'
RETURNING {_TRANSFER}
"""  # noqa: S608 - a constant
)
_CLAIM = text("""
UPDATE commissions SET transfer_key = :key, settled_minor = accrued_minor - reversed_minor
WHERE id = ANY(CAST(:ids AS bigint[]))
""")
_RELEASE = text("""
UPDATE commissions SET transfer_key = NULL, settled_minor = 0
WHERE transfer_key = :key AND status IN ('matured', 'reversed')
""")
_SETTLED = text("""
UPDATE commissions SET status = 'settled', settled_at = now() WHERE transfer_key = :key AND status = 'matured'
""")
_SETTLED_BY_STATEMENT = text("""
WITH RECURSIVE paid AS (
    SELECT id, reseller_id, currency FROM settlements WHERE id = :settlement_id
    UNION
    SELECT s.id, s.reseller_id, s.currency FROM settlements AS s JOIN paid ON s.brought_into = paid.id
), listed AS (
    SELECT c.id, l.amount_minor FROM paid
    JOIN commissions AS c ON c.reseller_id = paid.reseller_id AND c.currency = paid.currency AND c.transfer_key IS NULL
    JOIN settlement_lines AS l ON l.commission_id = c.id AND l.sequence = 0 AND l.settlement_id = paid.id
)
UPDATE commissions AS c SET transfer_key = :key, settled_minor = listed.amount_minor, settled_at = now(),
    status = CASE c.status WHEN 'matured' THEN 'settled' ELSE c.status END
FROM listed WHERE c.id = listed.id
""")
_FINISH = text(
    f"""
UPDATE transfers
SET status = :status, transfer_id = coalesce(:transfer_id, transfer_id),
    refusal_code = coalesce(:refusal_code, refusal_code),
    finished_at = CASE WHEN status = :status THEN coalesce(finished_at, now()) ELSE now() END
WHERE key = :key RETURNING {_TRANSFER}
"""  # noqa: S608 - a constant
)

_TRANSFER_OF = text("SELECT transfer_key FROM transfer_reversals WHERE key = :key")
_LOCK_REVERSAL = text(f"SELECT {_REVERSAL} FROM transfer_reversals WHERE key = :key FOR UPDATE")  # noqa: S608
_REVERSALS = text(
    f"SELECT {_REVERSAL} FROM transfer_reversals WHERE transfer_key = :transfer_key ORDER BY sequence"  # noqa: S608
)
_CHAIN_REVERSALS = text(
    f"SELECT {_REVERSAL} FROM transfer_reversals WHERE chain_uid = :chain_uid ORDER BY begun_at, key"  # noqa: S608
)
_TAKEN_BACK = text("""
SELECT CAST(coalesce(sum(amount_minor), 0) AS bigint) FROM transfer_reversals
WHERE transfer_key = :transfer_key AND key <> :key AND status <> 'refused'
""")
_BEGIN_REVERSAL = text(
    f"""
INSERT INTO transfer_reversals (key, transfer_key, chain_uid, sequence, amount_minor, status)
VALUES (:key, :transfer_key, :chain_uid, :sequence, :amount_minor, 'started')
ON CONFLICT (key) DO UPDATE SET status = 'started', finished_at = NULL, tries = transfer_reversals.tries + 1
WHERE transfer_reversals.status = 'refused'
RETURNING {_REVERSAL}
"""  # noqa: S608 - a constant
)
_FINISH_REVERSAL = text(
    f"""
UPDATE transfer_reversals
SET status = :status, reversal_id = coalesce(:reversal_id, reversal_id),
    refusal_code = coalesce(:refusal_code, refusal_code),
    finished_at = CASE WHEN status = :status THEN coalesce(finished_at, now()) ELSE now() END
WHERE key = :key RETURNING {_REVERSAL}
"""  # noqa: S608 - a constant
)
_ADD_REVERSED = text("UPDATE transfers SET reversed_minor = reversed_minor + :amount_minor WHERE key = :key")
_TAKE_FROM_COMMISSIONS = text("""
WITH paid AS (
    SELECT id, settled_minor, sum(settled_minor) OVER (ORDER BY level DESC, id) - settled_minor AS before_minor
    FROM commissions WHERE transfer_key = :key AND chain_uid = :chain_uid
)
UPDATE commissions
SET settled_minor = commissions.settled_minor
    - least(paid.settled_minor, greatest(0, :amount_minor - paid.before_minor))
FROM paid WHERE paid.id = commissions.id
""")


class TransferRepository(Repository):
    async def begin_booking_transfer(
        self, *, key: str, chain_uid: str, reseller_id: str, destination_account_id: str
    ) -> TransferRow | None:
        """Record that Stripe is about to be asked to pay a reseller's matured commissions of one chain.

        The amount is what he is owed now, all his per-booking levels together, less what was reversed; these
        commissions then carry the transfer's key. The same key again returns the row as it stands; a refused one is
        started again with what is owed by then. None: nothing is owed (not matured, reversed, or left for a statement).
        """
        parties = {"chain_uid": chain_uid, "reseller_id": reseller_id}
        earned = (await self._connection.execute(_LOCK_EARNED, parties)).all()
        # Only now: another task may have begun this transfer while this one waited for the commissions.
        known = await self._row(TransferRow, _BY_KEY, key=key)
        if known is not None and known.status is not EffectStatus.REFUSED:
            return known
        due = [one for one in earned if one.is_due]
        amount_minor = sum(row.owed_minor for row in due)
        if amount_minor == 0:
            return None
        row = await self._begin_transfer(
            key=key,
            kind="booking",
            chain_uid=chain_uid,
            settlement_id=None,
            reseller_id=reseller_id,
            currency=due[0].currency,
            amount_minor=amount_minor,
            destination_account_id=destination_account_id,
        )
        await self._execute(_CLAIM, key=key, ids=[one.id for one in due])
        return row

    async def _begin_transfer(self, **fields: Any) -> TransferRow:
        row = await self._row(TransferRow, _BEGIN, **fields)
        assert row is not None
        return row

    async def finish_transfer(
        self,
        key: str,
        *,
        status: EffectStatus,
        tries: int | None = None,
        transfer_id: str | None = None,
        refusal_code: str | None = None,
    ) -> TransferRow:
        """Record what Stripe said, for bookings' and settlements' transfers; the same again is harmless.

        `tries`: which try the answer belongs to. A late refusal of an earlier one changes nothing: marking the present
        try refused would let a third be sent while the second may still pay.

        Succeeded: its commissions are settled; a statement's are those that it lists, and those of the statements whose
        remainders were brought forward into it. Refused: a booking's are owed again and carry no transfer's key.
        """
        row = await self._row(TransferRow, _LOCK_TRANSFER, key=key)
        if row is None:
            raise UnknownRow(f"transfer {key} was never begun")
        if status is EffectStatus.REFUSED and tries is not None and tries < row.tries:
            return row
        if status is EffectStatus.STARTED or (row.status is not EffectStatus.STARTED and row.status is not status):
            raise IllegalMove(f"transfer {key} is {row.status.value} and cannot become {status.value}")
        unchanged(key, "transfer_id", row.transfer_id, transfer_id)
        done = await self._row(
            TransferRow,
            _FINISH,
            key=key,
            status=status.value,
            transfer_id=transfer_id,
            refusal_code=cut(refusal_code, 120),
        )
        assert done is not None
        await self._execute(_SETTLED if status is EffectStatus.SUCCEEDED else _RELEASE, key=key)
        if status is EffectStatus.SUCCEEDED and done.settlement_id is not None:
            await self._execute(_SETTLED_BY_STATEMENT, key=key, settlement_id=done.settlement_id)
        return done

    async def transfer(self, key: str) -> TransferRow | None:
        return await self._row(TransferRow, _BY_KEY, key=key)

    async def transfer_of(self, transfer_id: str) -> TransferRow | None:
        """The transfer that Stripe knows by this id, once it is recorded that it happened."""
        return await self._row(TransferRow, _OF_STRIPE, transfer_id=transfer_id)

    async def chain_transfers(self, chain_uid: str) -> list[TransferRow]:
        """Transfers that the chain itself made, oldest first, whatever became of them; without settlements'."""
        return await self._rows(TransferRow, _CHAIN_TRANSFERS, chain_uid=chain_uid)

    async def begin_reversal(
        self, *, key: str, transfer_key: str, chain_uid: str | None, sequence: int, amount_minor: int
    ) -> TransferReversalRow:
        """Record that Stripe is about to be asked to take back a part of a transfer, also of a settlement's.

        `chain_uid` is the chain whose refund causes it. The same key again returns the row; a refused one is started
        again. TooMuch where all reversals together would exceed the transfer, or it did not succeed. KeyConflict where
        the key was begun with other content.
        """
        transfer = await self._row(TransferRow, _LOCK_TRANSFER, key=transfer_key)
        if transfer is None:
            raise UnknownRow(f"transfer {transfer_key} was never begun")
        wanted = {
            "key": key,
            "transfer_key": transfer_key,
            "chain_uid": chain_uid,
            "sequence": sequence,
            "amount_minor": amount_minor,
        }
        known = await self._row(TransferReversalRow, _LOCK_REVERSAL, key=key)
        if known is not None:
            same_content(key, known.model_dump(include=set(wanted)), wanted)
            if known.status is not EffectStatus.REFUSED:
                return known
        before_minor: int = await self._value(_TAKEN_BACK, transfer_key=transfer_key, key=key)
        if transfer.status is not EffectStatus.SUCCEEDED or before_minor + amount_minor > transfer.amount_minor:
            raise TooMuch(
                f"{key}: {amount_minor} after {before_minor} of transfer {transfer_key}"
                f" ({transfer.amount_minor}, {transfer.status.value})"
            )
        row = await self._row(TransferReversalRow, _BEGIN_REVERSAL, **wanted)
        assert row is not None
        return row

    async def finish_reversal(
        self, key: str, *, status: EffectStatus, reversal_id: str | None = None, refusal_code: str | None = None
    ) -> TransferReversalRow:
        """Record what Stripe said; the same again is harmless.

        Succeeded: the transfer's `reversed_minor` grows, and `settled_minor` of its commissions of that chain shrinks.
        """
        # The transfer before its reversal, as `begin_reversal` does, or two tasks could wait for each other.
        await self._row(TransferRow, _LOCK_TRANSFER, key=await self._value(_TRANSFER_OF, key=key))
        row = await self._row(TransferReversalRow, _LOCK_REVERSAL, key=key)
        if row is None:
            raise UnknownRow(f"reversal {key} was never begun")
        if status is EffectStatus.STARTED or (row.status is not EffectStatus.STARTED and row.status is not status):
            raise IllegalMove(f"reversal {key} is {row.status.value} and cannot become {status.value}")
        unchanged(key, "reversal_id", row.reversal_id, reversal_id)
        done = await self._row(
            TransferReversalRow,
            _FINISH_REVERSAL,
            key=key,
            status=status.value,
            reversal_id=reversal_id,
            refusal_code=cut(refusal_code, 120),
        )
        assert done is not None
        if status is EffectStatus.SUCCEEDED and row.status is EffectStatus.STARTED:
            await self._execute(_ADD_REVERSED, key=row.transfer_key, amount_minor=row.amount_minor)
            await self._execute(
                _TAKE_FROM_COMMISSIONS,
                key=row.transfer_key,
                chain_uid=row.chain_uid,
                amount_minor=row.amount_minor,
            )
        return done

    async def reversals(self, transfer_key: str) -> list[TransferReversalRow]:
        """All reversals of a transfer, in order, whatever became of them: the next one's sequence is one more."""
        return await self._rows(TransferReversalRow, _REVERSALS, transfer_key=transfer_key)

    async def chain_reversals(self, chain_uid: str) -> list[TransferReversalRow]:
        """Reversals that a chain's refunds caused, also of settlements' transfers."""
        return await self._rows(TransferReversalRow, _CHAIN_REVERSALS, chain_uid=chain_uid)
