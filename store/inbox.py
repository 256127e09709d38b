"""Events from outside: stored once before they are answered, then delivered by any number of relays."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from store.repository import Repository, columns, cut
from store.rows import InboxRow, InboxStatus, UnknownRow

_COLUMNS = columns(InboxRow)

_ADD = text("""
INSERT INTO inbox (event_id, source, type, object_id, raw, status, next_attempt_at, finished_at)
VALUES (:event_id, :source, :type, :object_id, :raw, :status,
        CASE WHEN :status = 'received' THEN now() END, CASE WHEN :status <> 'received' THEN now() END)
ON CONFLICT (event_id) DO NOTHING
""")
_CLAIM = text(
    f"""
WITH due AS (
    SELECT event_id FROM inbox
    WHERE status = 'received' AND next_attempt_at <= greatest(CAST(:now AS timestamptz), now())
      AND (leased_until IS NULL OR leased_until <= greatest(CAST(:now AS timestamptz), now()))
    ORDER BY next_attempt_at LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE inbox
SET leased_until = greatest(CAST(:now AS timestamptz), now()) + make_interval(secs => :lease_seconds)
FROM due WHERE inbox.event_id = due.event_id
RETURNING {columns(InboxRow, "inbox.")}
"""  # noqa: S608 - a constant
)
_FINISH = text("""
UPDATE inbox
SET status = :status, next_attempt_at = NULL, leased_until = NULL, finished_at = now(),
    last_error = coalesce(:last_error, last_error)
WHERE event_id = :event_id
""")
_FAILED = text("""
UPDATE inbox
SET attempts = attempts + :tries, last_error = :error, next_attempt_at = :retry_at, leased_until = NULL
WHERE event_id = :event_id AND status = 'received'
""")
_AGAIN = text("""
UPDATE inbox SET status = 'received', next_attempt_at = now(), leased_until = NULL, finished_at = NULL, attempts = 0
WHERE event_id = :event_id AND status IN ('held', 'not_understood')
""")
_GET = text(f"SELECT {_COLUMNS} FROM inbox WHERE event_id = :event_id")  # noqa: S608 - a constant
_COUNTS = text("SELECT status, count(*) FROM inbox GROUP BY status")
_STUCK = text(
    f"""
SELECT {_COLUMNS} FROM inbox
WHERE status IN ('held', 'not_understood')
   OR (status = 'received' AND next_attempt_at < now() - make_interval(secs => :overdue_seconds))
ORDER BY received_at, event_id LIMIT :limit
"""  # noqa: S608 - a constant
)
_FORGET = text("""
UPDATE inbox SET raw = NULL
WHERE raw IS NOT NULL AND status IN ('delivered', 'ignored') AND finished_at < :finished_before
""")
_CURSOR = text("SELECT at FROM cursors WHERE name = :name")
_SET_CURSOR = text("""
INSERT INTO cursors (name, at) VALUES (:name, :at)
ON CONFLICT (name) DO UPDATE SET at = greatest(cursors.at, excluded.at), updated_at = now()
""")


class InboxRepository(Repository):
    async def add(
        self,
        event_id: str,
        source: str,
        type: str,
        object_id: str | None,
        raw: bytes,
        status: str = InboxStatus.RECEIVED,
    ) -> bool:
        """Store an event; False: it was stored before and stays as it is. `raw` is the verified body, byte for byte."""
        added = await self._execute(
            _ADD,
            event_id=event_id,
            source=source,
            type=cut(type, 200) or "unknown",
            object_id=cut(object_id, 255),
            raw=raw,
            status=InboxStatus(status).value,
        )
        return added == 1

    async def claim_due(self, limit: int, now: datetime, *, lease_seconds: float = 60) -> list[InboxRow]:
        """Up to `limit` due events, oldest due first, for this caller alone until the lease ends.

        Two relays never get the same one, unless the first did not finish it within the lease (it crashed): then it is
        delivered again. Commit before working on them. A clock behind the database's does not delay what is due.
        """
        rows = await self._rows(InboxRow, _CLAIM, limit=limit, now=now, lease_seconds=lease_seconds)
        return sorted(rows, key=lambda row: (row.next_attempt_at or row.received_at, row.received_at, row.event_id))

    async def delivered(self, event_id: str) -> None:
        """Done; again is harmless."""
        await self._finish(event_id, InboxStatus.DELIVERED, None)

    async def failed(self, event_id: str, error: str, retry_at: datetime, *, counts: bool = True) -> None:
        """Not delivered: due again at `retry_at`. `error` without personal data.

        `counts` False: not the event's fault (Temporal was away), so it is no try after which it may be given up.
        """
        await self._execute(_FAILED, event_id=event_id, error=cut(error), retry_at=retry_at, tries=int(counts))

    async def held(self, event_id: str, reason: str) -> None:
        """Not delivered any more until a person says `again`. `reason` without personal data."""
        await self._finish(event_id, InboxStatus.HELD, cut(reason) or "no reason given")

    async def ignored(self, event_id: str) -> None:
        await self._finish(event_id, InboxStatus.IGNORED, None)

    async def again(self, event_id: str) -> bool:
        """A person orders a held or not understood event to be delivered again. False: it is neither."""
        return await self._execute(_AGAIN, event_id=event_id) == 1

    async def get(self, event_id: str) -> InboxRow | None:
        return await self._row(InboxRow, _GET, event_id=event_id)

    async def counts(self) -> dict[InboxStatus, int]:
        """Number of events by status; every status is there."""
        found = {InboxStatus(row["status"]): row["count"] for row in await self._maps(_COUNTS)}
        return {status: found.get(status, 0) for status in InboxStatus}

    async def stuck(self, *, overdue_seconds: float = 600, limit: int = 200) -> list[InboxRow]:
        """What a person should see, oldest first: held, not understood, or due so long that no relay seems to run."""
        return await self._rows(InboxRow, _STUCK, overdue_seconds=overdue_seconds, limit=limit)

    async def forget(self, finished_before: datetime) -> int:
        """Drop the bodies (personal data) of events that were dealt with before a moment; returns how many."""
        return await self._execute(_FORGET, finished_before=finished_before)

    async def cursor(self, name: str) -> datetime | None:
        """Up to where the sweep of this name has looked; None: never."""
        at: datetime | None = await self._value(_CURSOR, name=name)
        return at

    async def set_cursor(self, name: str, at: datetime) -> None:
        """Move it forward; it never moves back."""
        await self._execute(_SET_CURSOR, name=name, at=at)

    async def _finish(self, event_id: str, status: InboxStatus, last_error: str | None) -> None:
        if await self._execute(_FINISH, event_id=event_id, status=status.value, last_error=last_error) == 0:
            raise UnknownRow(f"inbox event {event_id} is not stored")
