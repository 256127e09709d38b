"""What the repositories share: short ways to run SQL and to get rows as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import TextClause
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.model import Frozen
from store.rows import KeyConflict
from store.schema import TEXT_LIMIT

Record = TypeVar("Record", bound=Frozen)


def columns(record: type[Frozen], prefix: str = "") -> str:
    """The record's fields as a list of columns; a record has exactly the columns that it is read from."""
    return ", ".join(f"{prefix}{name}" for name in record.model_fields)


def cut(words: str | None, limit: int = TEXT_LIMIT) -> str | None:
    """Words as a text column takes them: None instead of blank, the end dropped where too long.

    PostgreSQL has no NUL character in text; it is replaced.
    """
    if words is None or not words.strip():
        return None
    words = words.replace("\x00", "\ufffd")
    return words if len(words) <= limit else words[: limit - 1] + "…"


def same_content(key: str, stored: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Raises KeyConflict, naming the fields that differ."""
    other = sorted(name for name, value in wanted.items() if stored[name] != value)
    if other:
        raise KeyConflict(f"{key} was begun with other content: {', '.join(other)}")


def unchanged(key: str, name: str, stored: str | None, given: str | None) -> None:
    """Raises KeyConflict where an id at the vendor would be replaced by another one."""
    if stored is not None and given is not None and stored != given:
        raise KeyConflict(f"{key}: {name} is {stored}, not {given}")


class Repository:
    """Works on the connection, and so in the transaction, of one `Tx`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def _rows(self, record: type[Record], statement: TextClause, **parameters: Any) -> list[Record]:
        result = await self._connection.execute(statement, parameters)
        return [record.model_validate(dict(row)) for row in result.mappings()]

    async def _row(self, record: type[Record], statement: TextClause, **parameters: Any) -> Record | None:
        row = (await self._connection.execute(statement, parameters)).mappings().one_or_none()
        return None if row is None else record.model_validate(dict(row))

    async def _value(self, statement: TextClause, **parameters: Any) -> Any:
        """First column of the first row; None where there is none."""
        return (await self._connection.execute(statement, parameters)).scalar()

    async def _execute(self, statement: TextClause, **parameters: Any) -> int:
        """Number of rows that were written."""
        return (await self._connection.execute(statement, parameters)).rowcount
