"""Connections that die: the errors are SQLAlchemy's, the pool recovers, idle connections are asked first."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from store import Store, database


async def cut_others(store: Store) -> None:
    """End the sessions of every other connection of this database."""
    async with store.begin() as tx:
        await tx.connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_a_connection_lost_in_use_is_an_operational_error_and_empties_the_pool(
    store: Store, database_url: str
) -> None:
    async def hold() -> None:
        async with store.begin() as tx:
            await tx.catalog.lock("held")
            await asyncio.sleep(0.3)

    await asyncio.gather(hold(), return_exceptions=True)
    await asyncio.gather(*(hold() for _ in range(3)), return_exceptions=True)
    async with Store(database_url, pool_size=1) as other:
        await cut_others(other)
    with pytest.raises(OperationalError):
        async with store.begin() as tx:
            await tx.inbox.counts()
    for _ in range(4):
        async with store.begin() as tx:
            await tx.inbox.counts()


async def test_an_idle_connection_that_died_is_replaced_without_an_error(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_CHECK_SECONDS", 0.0)
    async with store.begin() as tx:
        await tx.inbox.counts()
    async with Store(database_url, pool_size=1) as other:
        await cut_others(other)
    async with store.begin() as tx:
        await tx.inbox.counts()


async def test_a_fresh_or_just_used_connection_is_not_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    async with store.begin() as tx:
        dialect = tx.connection.dialect
    monkeypatch.setattr(dialect, "do_ping", asked.append)
    async with store.begin() as tx:
        await tx.inbox.counts()
    assert asked == []
    monkeypatch.setattr(database, "IDLE_CHECK_SECONDS", 0.0)
    async with store.begin() as tx:
        await tx.inbox.counts()
    assert len(asked) == 1


async def test_a_refused_row_is_an_integrity_error_that_quotes_nothing(store: Store) -> None:
    with pytest.raises(IntegrityError) as caught:
        async with store.begin() as tx:
            await tx.chains.alias("bk-secret", "no-such-chain")
    assert caught.value.params is None or "bk-secret" not in str(caught.value.params)
    async with store.begin() as tx:
        assert await tx.chains.chain_of("bk-secret") is None


async def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError):  # noqa: PT012 - the block itself raises
        async with store.begin() as tx:
            await tx.chains.open("bk-1", "booking-bk-1")
            raise RuntimeError
    async with store.begin() as tx:
        assert await tx.chains.get("bk-1") is None
