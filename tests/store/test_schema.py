"""The schema: migrations give what the models say, from empty, and say what everything means."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError

from store import Store, migrate, schema_is_current
from store.database import alembic_config
from store.tables import metadata
from store.tables_ledger import APPEND_ONLY

_CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version' ORDER BY 1, 2
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1
"""
_COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default, c.is_identity,
    col_description(format('%I', c.table_name)::regclass, c.ordinal_position)
FROM information_schema.columns AS c
WHERE c.table_schema = 'public' AND c.table_name <> 'alembic_version' ORDER BY 1, 2
"""


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _described(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for query in (_CONSTRAINTS, _INDEXES, _COLUMNS) for row in connection.execute(text(query))]


async def test_migrations_run_from_empty_and_once(empty_database_url: str) -> None:
    assert not await schema_is_current(empty_database_url)
    applied = await migrate(empty_database_url)
    assert applied == sorted(applied)
    assert len(applied) >= 8
    assert await schema_is_current(empty_database_url)
    assert await migrate(empty_database_url) == []


async def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database_url) for _ in range(4)))
    assert sorted(bool(applied) for applied in results) == [False, False, False, True]
    assert await schema_is_current(empty_database_url)


def test_migrations_give_the_models(database_url: str) -> None:
    with _connected(database_url) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": metadata}
        )
        assert compare_metadata(context, metadata) == []
        command.check(alembic_config(connection))


def test_constraints_indexes_and_comments_are_those_of_the_models(database_url: str, empty_database_url: str) -> None:
    """Alembic's own comparison does not see CHECK constraints."""
    with _connected(empty_database_url) as connection:
        metadata.create_all(connection)
        by_models = _described(connection)
    with _connected(database_url) as connection:
        by_migrations = _described(connection)
    assert by_migrations == by_models


def test_every_table_and_column_says_what_it_means(database_url: str) -> None:
    with _connected(database_url) as connection:
        columns = connection.execute(text(_COLUMNS)).all()
        tables = connection.execute(
            text(
                "SELECT relname, obj_description(oid) FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
            )
        ).all()
    assert len(columns) > 200
    assert [(table, column) for table, column, *_, comment in columns if not comment] == []
    assert [table for table, comment in tables if not comment] == []
    personal = {(table, column) for table, column, *_, comment in columns if "PERSONAL DATA" in (comment or "")}
    assert personal == {
        ("customers", "name"),
        ("customers", "email"),
        ("resellers", "name"),
        ("resellers", "email"),
        ("resellers", "address"),
        ("settlements", "party"),
        ("bookings", "attendee_name"),
        ("bookings", "attendee_email"),
        ("inbox", "raw"),
    }


def test_downgrade_leaves_nothing(database_url: str) -> None:
    with _connected(database_url) as connection:
        command.downgrade(alembic_config(connection), "base")
        left = connection.execute(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        ).scalars()
        assert list(left) == ["alembic_version"]


async def test_append_only_tables_refuse_every_change(store: Store) -> None:
    for table in APPEND_ONLY:
        column = list(metadata.tables[table].columns)[-1].name
        for change in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(IntegrityError, match=rf"on {table} refused: its rows are append-only"):
                async with store.begin() as tx:
                    await tx.connection.execute(text(change))


async def test_a_url_without_driver_is_taken(database_url: str) -> None:
    async with Store(database_url.replace("postgresql+psycopg", "postgresql")) as plain:
        await plain.ping()


async def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError):  # noqa: PT012 - the failure has to come after the write
        async with store.begin() as tx:
            await tx.chains.open("bk-1", "booking-bk-1")
            raise RuntimeError("afterwards")
    async with store.begin() as tx:
        assert await tx.chains.get("bk-1") is None
