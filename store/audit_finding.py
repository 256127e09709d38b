"""What an audit reports, and how its SQL becomes reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.model import Frozen, UtcDatetime


class Finding(Frozen):
    """One break of an invariant, in words. Ids and amounts in minor units, no personal data."""

    invariant: str
    """`I1` to `I8`."""
    where: str
    """What is concerned: `chain bk-1`, `entry billed:bk-1`, `settlement 2026-03 r-1 EUR`."""
    what: str
    expected: str
    found: str
    what_to_do: str


class Moment(Frozen):
    now: UtcDatetime
    settled_before: UtcDatetime
    """What happened later may still be on its way and is not judged."""


async def findings_of(
    connection: AsyncConnection,
    statement: TextClause,
    moment: Moment,
    *,
    invariant: str,
    what: str,
    what_to_do: str,
    **parameters: Any,
) -> list[Finding]:
    """Each row of the statement as a finding; its columns `place`, `expected` and `found` are text.

    The statement may use `:now` and `:settled_before`.
    """
    times: dict[str, datetime] = {"now": moment.now, "settled_before": moment.settled_before}
    known = statement.compile().params
    given = {**{name: value for name, value in times.items() if name in known}, **parameters}
    result = await connection.execute(statement, given)
    return [
        Finding(
            invariant=invariant,
            where=row.place,
            what=what,
            expected=str(row.expected),
            found=str(row.found),
            what_to_do=what_to_do,
        )
        for row in result
    ]
