"""Chains, the bookings of their reschedulings, and their frozen quotes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason, Quote
from domain.ports import CalBooking
from store.repository import Repository, columns, cut
from store.rows import BookingRow, ChainRow, KeyConflict, UnknownRow

_OPEN = text("""
INSERT INTO chains (chain_uid, workflow_id, stage) VALUES (:chain_uid, :workflow_id, 'intake')
ON CONFLICT DO NOTHING
""")
_ALIAS = text("""
INSERT INTO chain_aliases (booking_uid, chain_uid) VALUES (:booking_uid, :chain_uid)
ON CONFLICT (booking_uid) DO NOTHING
""")
_CHAIN_OF = text("SELECT chain_uid FROM chain_aliases WHERE booking_uid = :booking_uid")
_UIDS = text("SELECT booking_uid FROM chain_aliases WHERE chain_uid = :chain_uid ORDER BY created_at, booking_uid")
_GET = text(f"SELECT {columns(ChainRow)} FROM chains WHERE chain_uid = :chain_uid")  # noqa: S608 - a constant
_LIST = text(
    f"""
SELECT {columns(ChainRow)} FROM chains
WHERE NOT :stuck_only
   OR stage = 'parked' OR (stage <> 'closed' AND deadline_at < now())
ORDER BY updated_at DESC, chain_uid LIMIT :limit
"""  # noqa: S608 - a constant
)
_UPDATE = text("""
UPDATE chains
SET stage = :stage, outcome = :outcome, reason = :reason, detail = :detail, deadline_at = :deadline_at,
    waits_for = :waits_for, updated_at = now(),
    closed_at = CASE WHEN :stage = 'closed' THEN coalesce(closed_at, now()) END
WHERE chain_uid = :chain_uid
""")
_UPSERT = text("""
WITH written AS (
    INSERT INTO chains (chain_uid, workflow_id, stage, outcome, reason, detail, deadline_at, waits_for, closed_at)
    VALUES (:chain_uid, :workflow_id, :stage, :outcome, :reason, :detail, :deadline_at, :waits_for,
            CASE WHEN :stage = 'closed' THEN now() END)
    ON CONFLICT (chain_uid) DO UPDATE
    SET stage = excluded.stage, outcome = excluded.outcome, reason = excluded.reason, detail = excluded.detail,
        deadline_at = excluded.deadline_at, waits_for = excluded.waits_for, updated_at = now(),
        closed_at = CASE WHEN excluded.stage = 'closed' THEN coalesce(chains.closed_at, now()) END
    RETURNING chain_uid
)
INSERT INTO chain_aliases (booking_uid, chain_uid) SELECT chain_uid, chain_uid FROM written
ON CONFLICT (booking_uid) DO NOTHING
""")
_SAVE_BOOKING = """
INSERT INTO bookings (uid, chain_uid, status, start_at, end_at, event_type_id, organizer_ids, team_ids, attendee_name,
    attendee_email, attendee_absent, host_absent, created_at, updated_at, rescheduled_from_uid, rescheduled_to_uid)
VALUES (:uid, :chain_uid, :status, :start_at, :end_at, :event_type_id, CAST(:organizer_ids AS bigint[]),
    CAST(:team_ids AS bigint[]), :attendee_name, :attendee_email, :attendee_absent, :host_absent, :created_at,
    :updated_at, :rescheduled_from_uid, :rescheduled_to_uid)
ON CONFLICT (uid) DO UPDATE
SET status = excluded.status, start_at = excluded.start_at, end_at = excluded.end_at,
    event_type_id = excluded.event_type_id, organizer_ids = excluded.organizer_ids, team_ids = excluded.team_ids,
    attendee_name = excluded.attendee_name, attendee_email = excluded.attendee_email,
    attendee_absent = excluded.attendee_absent, host_absent = excluded.host_absent, updated_at = excluded.updated_at,
    rescheduled_from_uid = excluded.rescheduled_from_uid, rescheduled_to_uid = excluded.rescheduled_to_uid,
    read_at = now()
WHERE bookings.updated_at IS NULL OR excluded.updated_at IS NULL OR bookings.updated_at <= excluded.updated_at
"""
_SAVE = text(_SAVE_BOOKING)
_TAKE_IN = text(
    f"""
WITH opened AS (
    INSERT INTO chains (chain_uid, workflow_id, stage) VALUES (:chain_uid, :workflow_id, 'intake')
    ON CONFLICT DO NOTHING RETURNING chain_uid
), names AS (
    SELECT DISTINCT uid FROM unnest(ARRAY[CAST(:chain_uid AS text), CAST(:uid AS text)]) AS t(uid)
), named AS (
    INSERT INTO chain_aliases (booking_uid, chain_uid) SELECT uid, :chain_uid FROM names ORDER BY uid
    ON CONFLICT (booking_uid) DO NOTHING RETURNING booking_uid
), saved AS ({_SAVE_BOOKING})
SELECT EXISTS (SELECT FROM opened) AS is_new, (SELECT count(*) FROM names) = (SELECT count(*) FROM named)
    + (SELECT count(*) FROM chain_aliases AS a JOIN names ON names.uid = a.booking_uid WHERE a.chain_uid = :chain_uid)
    AS is_ours
"""  # noqa: S608 - a constant
)
_BOOKING = text(f"SELECT {columns(BookingRow)} FROM bookings WHERE uid = :uid")  # noqa: S608 - a constant

_LOCK_CHAIN = text("SELECT 1 FROM chains WHERE chain_uid = :chain_uid FOR UPDATE")
_QUOTE_COLUMNS = """
    q.chain_uid, q.booking_uid, q.customer_id, q.reseller_id, q.currency, q.net_minor, q.vat_minor, q.gross_minor,
    q.vat_rate_bps, q.vat_reason, q.price_ref, q.price, q.charge_at, q.matures_at, q.terms, q.period,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'reseller_id', l.reseller_id, 'level', l.level, 'amount_minor', l.amount_minor, 'rule', l.rule,
            'agreement_version', l.agreement_version, 'payout_mode', l.payout_mode) ORDER BY l.level)
        FROM quote_levels AS l WHERE l.chain_uid = q.chain_uid AND l.version = q.version
    ), '[]') AS levels
"""
_NEWEST_QUOTE = text(
    f"SELECT {_QUOTE_COLUMNS} FROM quotes AS q WHERE q.chain_uid = :chain_uid"  # noqa: S608 - a constant
    " ORDER BY q.version DESC LIMIT 1"
)
_SAME_QUOTE = text(
    f"SELECT {_QUOTE_COLUMNS} FROM quotes AS q WHERE q.chain_uid = :chain_uid"  # noqa: S608 - a constant
    " AND q.booking_uid = :booking_uid AND q.is_retained = :is_retained"
)
_SAVE_QUOTE = text("""
WITH saved AS (
    INSERT INTO quotes (chain_uid, version, booking_uid, is_retained, customer_id, reseller_id, event_type_id, start_at,
        currency, net_minor, vat_minor, gross_minor, vat_rate_bps, vat_reason, price_ref, price, terms, charge_at,
        matures_at, period)
    SELECT :chain_uid, 1 + coalesce((SELECT max(version) FROM quotes WHERE chain_uid = :chain_uid), 0), b.uid,
        :is_retained, :customer_id, :reseller_id, b.event_type_id, b.start_at, :currency, :net_minor, :vat_minor,
        :gross_minor, :vat_rate_bps, :vat_reason, :price_ref, CAST(:price AS jsonb), CAST(:terms AS jsonb), :charge_at,
        :matures_at, :period
    FROM bookings AS b WHERE b.uid = :booking_uid
    ON CONFLICT DO NOTHING
    RETURNING chain_uid, version
), levels AS (
    INSERT INTO quote_levels (chain_uid, version, level, reseller_id, amount_minor, rule, agreement_version,
        payout_mode)
    SELECT saved.chain_uid, saved.version, l.level, l.reseller_id, l.amount_minor, l.rule, l.agreement_version,
        l.payout_mode
    FROM saved, jsonb_to_recordset(CAST(:levels AS jsonb)) AS l(level bigint, reseller_id text, amount_minor bigint,
        rule jsonb, agreement_version bigint, payout_mode text)
)
UPDATE chains SET customer_id = :customer_id, reseller_id = :reseller_id, currency = :currency,
    gross_minor = :gross_minor, period = :period, quote_version = saved.version, updated_at = now()
FROM saved WHERE chains.chain_uid = saved.chain_uid
""")


class ChainRepository(Repository):
    async def open(self, chain_uid: str, workflow_id: str) -> bool:
        """Make the chain's row, in stage `intake`, and the alias of its first uid. True when it was new.

        Raises KeyConflict where the uid belongs to another chain already (a rescheduling of it).
        """
        is_new = await self._execute(_OPEN, chain_uid=chain_uid, workflow_id=workflow_id) == 1
        await self.alias(chain_uid, chain_uid)
        return is_new

    async def chain_of(self, booking_uid: str) -> str | None:
        """The chain that a Cal.com uid belongs to; None: unknown."""
        found: str | None = await self._value(_CHAIN_OF, booking_uid=booking_uid)
        return found

    async def alias(self, booking_uid: str, chain_uid: str) -> None:
        """Note that a uid belongs to a chain; again is harmless, another chain is a KeyConflict."""
        if await self._execute(_ALIAS, booking_uid=booking_uid, chain_uid=chain_uid) == 0:
            known = await self.chain_of(booking_uid)
            if known != chain_uid:
                raise KeyConflict(f"booking {booking_uid} belongs to chain {known}, not to {chain_uid}")

    async def uids(self, chain_uid: str) -> list[str]:
        """All Cal.com uids of a chain, in the order in which they became known."""
        return [row["booking_uid"] for row in await self._maps(_UIDS, chain_uid=chain_uid)]

    async def get(self, chain_uid: str) -> ChainRow | None:
        return await self._row(ChainRow, _GET, chain_uid=chain_uid)

    async def list(self, stuck_only: bool = False, limit: int = 100) -> list[ChainRow]:
        """Chains, last written first. Stuck: parked, or still open after the deadline of their stage."""
        return await self._rows(ChainRow, _LIST, stuck_only=stuck_only, limit=limit)

    async def update(
        self,
        chain_uid: str,
        *,
        stage: ChainStage,
        outcome: ChainOutcome | None = None,
        reason: ParkReason | None = None,
        detail: str | None = None,
        deadline_at: datetime | None = None,
        waits_for: str | None = None,
    ) -> None:
        """Write where the chain stands; what is not given is cleared. Makes the row where there is none yet.

        Raises ValueError where `closed` comes without outcome, an outcome without `closed`, or `parked` without reason.
        """
        if (stage is ChainStage.CLOSED) != (outcome is not None):
            raise ValueError(f"chain {chain_uid}: an outcome belongs to stage closed, and is required there")
        if stage is ChainStage.PARKED and reason is None:
            raise ValueError(f"chain {chain_uid}: a parked chain needs its reason")
        written = {
            "stage": stage.value,
            "outcome": outcome.value if outcome else None,
            "reason": reason.value if reason else None,
            "detail": cut(detail),
            "deadline_at": deadline_at,
            "waits_for": cut(waits_for),
        }
        if await self._execute(_UPDATE, chain_uid=chain_uid, **written) == 0:
            await self._execute(_UPSERT, chain_uid=chain_uid, workflow_id=ids.booking_workflow(chain_uid), **written)

    async def take_in(
        self, chain_uid: str, workflow_id: str, booking: CalBooking, *, team_ids: Sequence[int] = ()
    ) -> bool:
        """`open`, `alias` and `save_booking` in one statement. True when the chain was new. Raises like them."""
        row = await self._only(
            _TAKE_IN, chain_uid=chain_uid, workflow_id=workflow_id, **_booking_fields(booking, team_ids)
        )
        assert row is not None
        if not row["is_ours"]:
            # Another chain's, or named by another transaction while this statement ran.
            await self.alias(chain_uid, chain_uid)
            await self.alias(booking.uid, chain_uid)
        return bool(row["is_new"])

    async def save_booking(self, chain_uid: str, booking: CalBooking, *, team_ids: Sequence[int] = ()) -> None:
        """Store a booking as read from Cal.com. What was read before and changed later than this stays."""
        await self._execute(_SAVE, chain_uid=chain_uid, **_booking_fields(booking, team_ids))

    async def booking(self, uid: str) -> BookingRow | None:
        return await self._row(BookingRow, _BOOKING, uid=uid)

    async def save_quote(self, quote: Quote) -> Quote:
        """Freeze a quote and return it; a second one for the same booking returns the first, whatever it says.

        A rescheduled booking's quote, or one that holds only the retained share of a cancelled booking, becomes the
        chain's next version. The booking must be stored before (UnknownRow).
        """
        is_retained = "retained" in quote.price
        fields = quote.model_dump(mode="python", exclude={"levels", "price", "terms"})
        fields.update(
            is_retained=is_retained,
            price=json.dumps(quote.price),
            terms=quote.terms.model_dump_json(),
            levels=json.dumps([level.model_dump(mode="json") for level in quote.levels]),
        )
        if await self._execute(_SAVE_QUOTE, **fields) == 1:
            return quote
        # The same quote, or another one with the next version number, was saved before or while this statement ran.
        await self._value(_LOCK_CHAIN, chain_uid=quote.chain_uid)
        key = {"chain_uid": quote.chain_uid, "booking_uid": quote.booking_uid, "is_retained": is_retained}
        known = await self._quote(_SAME_QUOTE, **key)
        if known is not None:
            return known
        if await self._execute(_SAVE_QUOTE, **fields) == 0:
            raise UnknownRow(f"quote of chain {quote.chain_uid}: chain or booking {quote.booking_uid} is not stored")
        return quote

    async def quote(self, chain_uid: str) -> Quote | None:
        """The quote in force: the newest version."""
        return await self._quote(_NEWEST_QUOTE, chain_uid=chain_uid)

    async def _quote(self, statement: Any, **parameters: Any) -> Quote | None:
        return await self._row(Quote, statement, **parameters)


def _booking_fields(booking: CalBooking, team_ids: Sequence[int]) -> dict[str, Any]:
    fields = booking.model_dump()
    fields.update(
        status=booking.status.value,
        organizer_ids=list(booking.organizer_ids),
        team_ids=list(team_ids),
        attendee_name=cut(booking.attendee_name, 500),
        attendee_email=cut(booking.attendee_email, 500),
    )
    return fields
