"""Spreading calls evenly over time, for all processes together."""

from __future__ import annotations

from sqlalchemy import text

from store.repository import Repository

_TAKE = text("""
INSERT INTO paces AS p (name, next_at) VALUES (:name, clock_timestamp() + make_interval(secs => :gap_seconds))
ON CONFLICT (name) DO UPDATE
    SET next_at = greatest(p.next_at, clock_timestamp()) + make_interval(secs => :gap_seconds)
RETURNING CAST(extract(epoch FROM next_at - clock_timestamp()) AS double precision) - :gap_seconds
""")


class PaceRepository(Repository):
    async def take(self, name: str, *, per_second: float) -> float:
        """Take the next place of this kind; returns the seconds until then, 0 where it is now.

        Places are `1 / per_second` apart, whoever takes them. The caller commits before he waits: the row is locked
        until then.
        """
        seconds: float = await self._value(_TAKE, name=name, gap_seconds=1 / per_second)
        return max(0.0, seconds)
