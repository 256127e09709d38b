"""A real PostgreSQL for every test that asks for one.

`database_url` is an empty, migrated database of its own for each test: a copy of a template that is migrated once in
each test process. The server is the one of `DATABASE_URL`, or an embedded one (one for each xdist worker).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy.engine import make_url

from local.postgres import EmbeddedPostgres
from store import Store, driver_url, migrate

settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
"""Others may use the machine as well: how long an example takes says nothing of the program."""

_NUMBERS = itertools.count(1)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """What a test, or a command that it calls, puts into the environment ends with it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a database on the server, with the right to create others."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield driver_url(given)
        return
    state_dir = Path(tempfile.mkdtemp(prefix="billing-test-"))
    state_dir.chmod(0o755)  # the server may run as another account
    server = EmbeddedPostgres(state_dir)
    try:
        url = server.start()
        # Nobody needs these data after a power cut; without the disk a database is made and dropped much faster.
        _run(url, sql.SQL("ALTER SYSTEM SET fsync = off").format())
        _run(url, sql.SQL("SELECT pg_reload_conf()").format())
        yield url
    finally:
        server.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database without rows; nothing may stay connected to it."""
    name = f"billing_test_template_{os.getpid()}"
    create_database(postgres_url, name)
    asyncio.run(migrate(url_of(postgres_url, name)))
    yield name
    drop_database(postgres_url, name)


@pytest.fixture
def database_url(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """URL of a fresh migrated database of this test, dropped afterwards whoever is still connected."""
    name = f"billing_test_{os.getpid()}_{next(_NUMBERS)}"
    create_database(postgres_url, name, template=migrated_template)
    yield url_of(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a fresh database without any table."""
    name = f"billing_test_{os.getpid()}_{next(_NUMBERS)}"
    create_database(postgres_url, name)
    yield url_of(postgres_url, name)
    drop_database(postgres_url, name)


@pytest_asyncio.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A store on this test's database, disposed afterwards."""
    async with Store(database_url, pool_size=16) as opened:
        yield opened


def url_of(postgres_url: str, database: str) -> str:
    """The same server, another database."""
    return make_url(postgres_url).set(database=database).render_as_string(hide_password=False)


def create_database(postgres_url: str, name: str, template: str = "template0") -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    _run(postgres_url, statement)
    # Tests don't survive a power cut: not waiting for the disk makes each commit several times faster.
    _run(postgres_url, sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))


def drop_database(postgres_url: str, name: str) -> None:
    _run(postgres_url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _run(postgres_url: str, statement: sql.Composed) -> None:
    plain = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement)
