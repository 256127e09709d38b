"""The audit log: who did what, when and why. Append-only."""

from __future__ import annotations

import json

from sqlalchemy import text

from domain.model import JsonDict
from store.repository import Repository, columns, cut
from store.rows import LogRow

_WRITE = text("""
INSERT INTO audit_log (actor, action, target, reason, details)
VALUES (:actor, :action, :target, :reason, CAST(:details AS jsonb))
""")
_OF = text(
    f"SELECT {columns(LogRow)} FROM audit_log WHERE target = :target ORDER BY id LIMIT :limit"  # noqa: S608
)
_NEWEST = text(f"SELECT {columns(LogRow)} FROM audit_log ORDER BY id DESC LIMIT :limit")  # noqa: S608 - a constant


class LogRepository(Repository):
    async def write(
        self, actor: str, action: str, target: str, reason: str = "", details: JsonDict | None = None
    ) -> None:
        """One line. `target` is `kind:id` (`chain:abc`), `reason` the actor's words. No personal data in `details`."""
        await self._execute(
            _WRITE,
            actor=cut(actor, 120) or "unknown",
            action=cut(action, 120) or "unknown",
            target=cut(target, 400) or "unknown",
            reason=cut(reason) or "",
            details=json.dumps(details or {}),
        )

    async def of(self, target: str, *, limit: int = 1_000) -> list[LogRow]:
        """All lines about one thing, oldest first."""
        return await self._rows(LogRow, _OF, target=target, limit=limit)

    async def newest(self, limit: int = 100) -> list[LogRow]:
        return await self._rows(LogRow, _NEWEST, limit=limit)
