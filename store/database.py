"""The store: one pool of connections, transactions with all repositories, and the schema's migrations."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from store.catalog import CatalogRepository
from store.chains import ChainRepository
from store.inbox import InboxRepository
from store.ledger import LedgerRepository
from store.log import LogRepository
from store.money import MoneyRepository
from store.pace import PaceRepository
from store.repository import driver_of, raised
from store.resellers import ResellerRepository
from store.settlements import SettlementRepository

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 5_401_731_966_021
"""Advisory lock that one migrating process holds; any number that nobody else uses."""
_SESSION_OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout=60s"
"""A transaction that does nothing for a minute belongs to a process that hangs: its locks must not stay."""

IDLE_CHECK_SECONDS = 5.0
"""A connection that was idle for longer is asked whether it lives before it is used."""


class Tx:
    """One transaction. Its repositories see each other's writes; others see them after the commit.

    Not for use by several tasks at once.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    @cached_property
    def catalog(self) -> CatalogRepository:
        return CatalogRepository(self.connection)

    @cached_property
    def resellers(self) -> ResellerRepository:
        return ResellerRepository(self.connection)

    @cached_property
    def chains(self) -> ChainRepository:
        return ChainRepository(self.connection)

    @cached_property
    def ledger(self) -> LedgerRepository:
        return LedgerRepository(self.connection)

    @cached_property
    def money(self) -> MoneyRepository:
        return MoneyRepository(self.connection)

    @cached_property
    def settlements(self) -> SettlementRepository:
        return SettlementRepository(self.connection)

    @cached_property
    def inbox(self) -> InboxRepository:
        return InboxRepository(self.connection)

    @cached_property
    def log(self) -> LogRepository:
        return LogRepository(self.connection)

    @cached_property
    def pace(self) -> PaceRepository:
        return PaceRepository(self.connection)


class Store:
    """PostgreSQL behind a pool of at most `pool_size` connections; more callers wait up to `pool_timeout_seconds`.

    `database_url` is SQLAlchemy's (`postgresql+psycopg://user:password@host:port/database`); a plain `postgresql://`
    is taken as well. Use one store per event loop and `dispose` it in the end.
    """

    def __init__(self, database_url: str, *, pool_size: int = 10, pool_timeout_seconds: float = 30) -> None:
        self._engine = create_async_engine(
            driver_url(database_url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_seconds,
            pool_use_lifo=True,  # the same few connections stay warm: their prepared statements are used again
            hide_parameters=True,  # an error would carry names and addresses into logs and histories
            connect_args={"options": _SESSION_OPTIONS, "application_name": "billing", "connect_timeout": 10},
        )
        _check_idle_connections(self._engine.sync_engine)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        """A transaction (READ COMMITTED): committed when the block ends, rolled back when it raises."""
        async with self._engine.connect() as connection:
            yield Tx(connection)
            try:
                await driver_of(connection).commit()
            except psycopg.Error as error:
                await raised(connection, error, "COMMIT")

    async def ping(self) -> None:
        """Raises where the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def dispose(self) -> None:
        """Close all connections. Running transactions are cut."""
        await self._engine.dispose()

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.dispose()


def _check_idle_connections(engine: Engine) -> None:
    """Ask a connection that lay idle for a while whether it lives, before it is used.

    Not each time: the question is a round trip and costs as much as a statement. One that was used a moment ago and
    died since fails its transaction, which the caller repeats as he does after any outage; the pool is emptied then.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        if time.monotonic() - record.info.get("used_at", math.inf) < IDLE_CHECK_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error:
            raise InvalidatePoolError from None


def driver_url(database_url: str) -> str:
    """The URL with the driver that the store uses: psycopg 3."""
    scheme, separator, rest = database_url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else database_url


async def migrate(database_url: str) -> list[str]:
    """Bring the schema up to date and return the revisions that were applied; none when it was.

    Several processes may call it at once: one migrates, the others wait for it. All or nothing.
    """
    return await asyncio.to_thread(_migrate, driver_url(database_url))


async def schema_is_current(database_url: str) -> bool:
    """Whether the database has exactly the schema that this program was written for."""
    return await asyncio.to_thread(_is_current, driver_url(database_url))


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration without an ini file. It runs on `connection` when one is given."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _migrate(url: str) -> list[str]:
    engine = create_engine(url, connect_args={"application_name": "billing-migrate", "connect_timeout": 10})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            before = MigrationContext.configure(connection).get_current_revision()
            command.upgrade(alembic_config(connection), "head")
            scripts = ScriptDirectory.from_config(alembic_config())
            done = scripts.iterate_revisions("head", before or "base")
            return [script.revision for script in done][::-1]
    finally:
        engine.dispose()


def _is_current(url: str) -> bool:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    engine = create_engine(url, connect_args={"application_name": "billing-check", "connect_timeout": 10})
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() == head
    finally:
        engine.dispose()
