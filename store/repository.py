"""What the repositories share: short ways to run SQL and to get rows as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Connection, TextClause
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
    """Works on the connection, and so in the transaction, of one `Tx`.

    Statements go to psycopg directly: SQLAlchemy's result and cursor layers cost four times as much CPU as the
    statement itself (docs/performance.md). Errors leave as SQLAlchemy's all the same, without parameters, and a lost
    connection empties the pool as it does there.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def _rows(self, record: type[Record], statement: TextClause, **parameters: Any) -> list[Record]:
        return [record.model_validate(row) for row in await self._maps(statement, **parameters)]

    async def _row(self, record: type[Record], statement: TextClause, **parameters: Any) -> Record | None:
        row = await self._only(statement, **parameters)
        return None if row is None else record.model_validate(row)

    async def _only(self, statement: TextClause, **parameters: Any) -> dict[str, Any] | None:
        """The only row as a dictionary; None where there is none."""
        cursor = await self._run(statement, parameters)
        row = await cursor.fetchone()
        if cursor.rowcount > 1:
            raise LookupError(f"{cursor.rowcount} rows instead of one")
        return row

    async def _maps(self, statement: TextClause, **parameters: Any) -> list[dict[str, Any]]:
        """All rows as dictionaries."""
        return await (await self._run(statement, parameters)).fetchall()

    async def _value(self, statement: TextClause, **parameters: Any) -> Any:
        """First column of the first row; None where there is none."""
        row = await (await self._run(statement, parameters)).fetchone()
        return None if row is None else next(iter(row.values()))

    async def _execute(self, statement: TextClause, **parameters: Any) -> int:
        """Number of rows that were written."""
        return (await self._run(statement, parameters)).rowcount

    async def _run(self, statement: TextClause, parameters: dict[str, Any]) -> psycopg.AsyncCursor[dict[str, Any]]:
        sql = _SQL.get(statement)
        if sql is None:
            sql = _SQL[statement] = str(statement.compile(dialect=self._connection.dialect))
        try:
            return await driver_of(self._connection).cursor(row_factory=dict_row).execute(sql, parameters)
        except psycopg.Error as error:
            return await raised(self._connection, error, sql)


def driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """The driver's connection below one of SQLAlchemy's."""
    outer = connection.sync_connection
    assert outer is not None
    driver = outer.connection.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver


_SQL: dict[TextClause, str] = {}
"""Statements as psycopg writes them: `%(name)s` instead of `:name`. All are constants of modules."""


async def raised(connection: AsyncConnection, error: psycopg.Error, sql: str) -> NoReturn:
    """What SQLAlchemy does with a driver's error: wrap it, and drop the pool's connections where this one is lost."""
    await connection.run_sync(_raise_as_sqlalchemy, error, sql)
    raise error


def _raise_as_sqlalchemy(connection: Connection, error: psycopg.Error, sql: str) -> None:
    connection._handle_dbapi_exception(error, sql, None, None, None)
