"""Charges and refunds: the intent is written before Stripe is asked, the result afterwards."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from store.repository import Repository, columns, cut, same_content, unchanged
from store.rows import (
    ChargeRow,
    ChargeStatus,
    IllegalMove,
    OpenCharge,
    RefundRow,
    RefundState,
    TooMuch,
    UnknownRow,
)

_CHARGE = columns(ChargeRow)
_REFUND = columns(RefundRow)

_BEFORE_CHARGE: Final[dict[ChargeStatus, tuple[ChargeStatus, ...]]] = {
    ChargeStatus.STARTED: (ChargeStatus.STARTED,),
    ChargeStatus.PROCESSING: (ChargeStatus.STARTED, ChargeStatus.PROCESSING, ChargeStatus.REFUSED),
    ChargeStatus.SUCCEEDED: (
        ChargeStatus.STARTED,
        ChargeStatus.PROCESSING,
        ChargeStatus.REFUSED,
        ChargeStatus.SUCCEEDED,
    ),
    ChargeStatus.REFUSED: (ChargeStatus.STARTED, ChargeStatus.PROCESSING, ChargeStatus.REFUSED),
    ChargeStatus.CANCELED: (ChargeStatus.STARTED, ChargeStatus.PROCESSING, ChargeStatus.REFUSED, ChargeStatus.CANCELED),
}
"""For each status, those that it may follow; itself, so that a second call is harmless."""

_BEFORE_REFUND: Final[dict[RefundState, tuple[RefundState, ...]]] = {
    RefundState.STARTED: (RefundState.STARTED,),
    RefundState.PENDING: (RefundState.STARTED, RefundState.PENDING),
    RefundState.SUCCEEDED: (RefundState.STARTED, RefundState.PENDING, RefundState.SUCCEEDED),
    RefundState.FAILED: (RefundState.STARTED, RefundState.PENDING, RefundState.SUCCEEDED, RefundState.FAILED),
    RefundState.CANCELED: (RefundState.STARTED, RefundState.PENDING, RefundState.CANCELED),
    RefundState.REFUSED: (RefundState.STARTED, RefundState.REFUSED),
}

_BEGIN_CHARGE = text(
    f"""
INSERT INTO charges (key, chain_uid, attempt, customer_id, currency, amount_minor, status)
VALUES (:key, :chain_uid, :attempt, :customer_id, :currency, :amount_minor, 'started')
ON CONFLICT DO NOTHING RETURNING {_CHARGE}
"""  # noqa: S608 - a constant
)
_CHARGE_BY_KEY = text(f"SELECT {_CHARGE} FROM charges WHERE key = :key")  # noqa: S608 - a constant
_LOCK_CHARGE = text(f"SELECT {_CHARGE} FROM charges WHERE key = :key FOR UPDATE")  # noqa: S608 - a constant
_CHAIN_CHARGES = text(
    f"SELECT {_CHARGE} FROM charges WHERE chain_uid = :chain_uid ORDER BY attempt"  # noqa: S608 - a constant
)
_OTHER_OPEN = text("""
SELECT key FROM charges
WHERE chain_uid = :chain_uid AND key <> :key AND status IN ('started', 'processing', 'succeeded')
""")
_FINISH_CHARGE = text(
    f"""
UPDATE charges
SET status = :status, payment_intent_id = coalesce(:payment_intent_id, payment_intent_id),
    charge_id = coalesce(:charge_id, charge_id), fee_minor = coalesce(:fee_minor, fee_minor),
    refusal_code = CASE WHEN :status = 'succeeded' THEN NULL ELSE coalesce(:refusal_code, refusal_code) END,
    finished_at = CASE WHEN status = :status THEN coalesce(finished_at, now()) ELSE now() END
WHERE key = :key RETURNING {_CHARGE}
"""  # noqa: S608 - a constant
)
_FINISH_STARTED = text(
    f"""
UPDATE charges
SET status = :status, payment_intent_id = coalesce(payment_intent_id, :payment_intent_id), charge_id = :charge_id,
    fee_minor = :fee_minor, refusal_code = CASE WHEN :status = 'succeeded' THEN NULL ELSE :refusal_code END,
    finished_at = now()
WHERE key = :key AND status = 'started' AND charge_id IS NULL AND fee_minor IS NULL AND refusal_code IS NULL
    AND (payment_intent_id IS NULL OR payment_intent_id = CAST(:payment_intent_id AS text))
RETURNING {_CHARGE}
"""  # noqa: S608 - a constant
)

_REFUND_BY_KEY = text(f"SELECT {_REFUND} FROM refunds WHERE key = :key FOR UPDATE")  # noqa: S608 - a constant
_CHAIN_REFUNDS = text(
    f"SELECT {_REFUND} FROM refunds WHERE chain_uid = :chain_uid ORDER BY sequence"  # noqa: S608 - a constant
)
_GIVEN_BACK = text("""
SELECT CAST(coalesce(sum(amount_minor), 0) AS bigint) FROM refunds
WHERE charge_key = :charge_key AND key <> :key AND status IN ('started', 'pending', 'succeeded')
""")
_BEGIN_REFUND = text(
    f"""
INSERT INTO refunds (key, chain_uid, sequence, charge_key, currency, amount_minor, status)
VALUES (:key, :chain_uid, :sequence, :charge_key, :currency, :amount_minor, 'started')
ON CONFLICT (key) DO UPDATE SET status = 'started', finished_at = NULL, tries = refunds.tries + 1
WHERE refunds.status = 'refused'
RETURNING {_REFUND}
"""  # noqa: S608 - a constant
)
_FINISH_REFUND = text(
    f"""
UPDATE refunds
SET status = :status, refund_id = coalesce(:refund_id, refund_id),
    refusal_code = coalesce(:refusal_code, refusal_code),
    finished_at = CASE WHEN status = :status THEN coalesce(finished_at, now()) ELSE now() END
WHERE key = :key RETURNING {_REFUND}
"""  # noqa: S608 - a constant
)


class ChargeRepository(Repository):
    async def begin_charge(
        self, *, key: str, chain_uid: str, attempt: int, customer_id: str, currency: str, amount_minor: int
    ) -> ChargeRow:
        """Record that Stripe is about to be asked. The same key again returns the row as it stands now.

        Raises OpenCharge while another attempt of the chain succeeded or its outcome is open, and KeyConflict where the
        key was begun with other content. `begun_at` tells the age of the key at Stripe.
        """
        wanted = {
            "key": key,
            "chain_uid": chain_uid,
            "attempt": attempt,
            "customer_id": customer_id,
            "currency": currency,
            "amount_minor": amount_minor,
        }
        row = await self._row(ChargeRow, _BEGIN_CHARGE, **wanted)
        if row is not None:
            return row
        row = await self._row(ChargeRow, _CHARGE_BY_KEY, key=key)
        if row is None:
            other = await self._value(_OTHER_OPEN, chain_uid=chain_uid, key=key)
            raise OpenCharge(f"{key}: charge {other} of this chain succeeded or is still open")
        same_content(key, row.model_dump(include=set(wanted)), wanted)
        return row

    async def finish_charge(
        self,
        key: str,
        *,
        status: ChargeStatus,
        payment_intent_id: str | None = None,
        charge_id: str | None = None,
        fee_minor: int | None = None,
        refusal_code: str | None = None,
    ) -> ChargeRow:
        """Record what Stripe said. What is None keeps its value; the same again is harmless (a fee that came later).

        Raises IllegalMove where the status cannot follow the stored one, KeyConflict for another PaymentIntent, and
        OpenCharge where another attempt of the chain succeeded or is open.
        """
        said = {
            "status": status.value,
            "payment_intent_id": payment_intent_id,
            "charge_id": charge_id,
            "fee_minor": fee_minor,
            "refusal_code": cut(refusal_code, 120),
        }
        if status is not ChargeStatus.STARTED:
            row = await self._row(ChargeRow, _FINISH_STARTED, key=key, **said)
            if row is not None:
                return row
        row = await self._row(ChargeRow, _LOCK_CHARGE, key=key)
        if row is None:
            raise UnknownRow(f"charge {key} was never begun")
        if row.status not in _BEFORE_CHARGE[status]:
            raise IllegalMove(f"charge {key} is {row.status.value} and cannot become {status.value}")
        unchanged(key, "payment_intent_id", row.payment_intent_id, payment_intent_id)
        if row.status is ChargeStatus.REFUSED and status in (ChargeStatus.PROCESSING, ChargeStatus.SUCCEEDED):
            other = await self._value(_OTHER_OPEN, chain_uid=row.chain_uid, key=key)
            if other is not None:
                raise OpenCharge(f"{key} became {status.value}, but charge {other} succeeded or is open: refund one")
        done = await self._row(ChargeRow, _FINISH_CHARGE, key=key, **said)
        assert done is not None
        return done

    async def charge(self, key: str) -> ChargeRow | None:
        return await self._row(ChargeRow, _CHARGE_BY_KEY, key=key)

    async def chain_charges(self, chain_uid: str) -> list[ChargeRow]:
        """All attempts of a chain, in order."""
        return await self._rows(ChargeRow, _CHAIN_CHARGES, chain_uid=chain_uid)

    async def begin_refund(
        self, *, key: str, chain_uid: str, sequence: int, charge_key: str, currency: str, amount_minor: int
    ) -> RefundRow:
        """Record that Stripe is about to be asked. The same key again returns the row; a refused one is started again.

        All refunds of a charge that are not refused, failed or canceled count against it: TooMuch where this one would
        exceed it or the charge did not succeed. KeyConflict where the key was begun with other content.
        """
        charge = await self._row(ChargeRow, _LOCK_CHARGE, key=charge_key)
        if charge is None:
            raise UnknownRow(f"charge {charge_key} was never begun")
        wanted = {
            "key": key,
            "chain_uid": chain_uid,
            "sequence": sequence,
            "charge_key": charge_key,
            "currency": currency,
            "amount_minor": amount_minor,
        }
        known = await self._row(RefundRow, _REFUND_BY_KEY, key=key)
        if known is not None:
            same_content(key, known.model_dump(include=set(wanted)), wanted)
            if known.status is not RefundState.REFUSED:
                return known
        before_minor: int = await self._value(_GIVEN_BACK, charge_key=charge_key, key=key)
        if charge.status is not ChargeStatus.SUCCEEDED or before_minor + amount_minor > charge.amount_minor:
            raise TooMuch(
                f"{key}: {amount_minor} after {before_minor} of charge {charge_key}"
                f" ({charge.amount_minor}, {charge.status.value})"
            )
        row = await self._row(RefundRow, _BEGIN_REFUND, **wanted)
        assert row is not None
        return row

    async def finish_refund(
        self, key: str, *, status: RefundState, refund_id: str | None = None, refusal_code: str | None = None
    ) -> RefundRow:
        """Record what Stripe said; the same again is harmless. Raises like `finish_charge`."""
        row = await self._row(RefundRow, _REFUND_BY_KEY, key=key)
        if row is None:
            raise UnknownRow(f"refund {key} was never begun")
        if row.status not in _BEFORE_REFUND[status]:
            raise IllegalMove(f"refund {key} is {row.status.value} and cannot become {status.value}")
        unchanged(key, "refund_id", row.refund_id, refund_id)
        done = await self._row(
            RefundRow,
            _FINISH_REFUND,
            key=key,
            status=status.value,
            refund_id=refund_id,
            refusal_code=cut(refusal_code, 120),
        )
        assert done is not None
        return done

    async def chain_refunds(self, chain_uid: str) -> list[RefundRow]:
        """All refunds of a chain, in order, whatever became of them."""
        return await self._rows(RefundRow, _CHAIN_REFUNDS, chain_uid=chain_uid)
