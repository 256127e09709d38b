"""The ledger on a real database: once per key, never other content, races included."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from domain import ledger
from domain.ledger import Entry
from store import Store
from store.rows import AccountBalance, LedgerConflict
from tests.store import seed


def billed(uid: str, net_minor: int = 10_000) -> Entry:
    entry = ledger.billed(
        chain_uid=uid, customer_id="c-1", currency="EUR", net_minor=net_minor, vat_minor=1_900, effective_at=seed.NOW
    )
    assert entry is not None
    return entry


async def open_chains(store: Store, *uids: str) -> None:
    async with store.begin() as tx:
        for uid in uids:
            await tx.chains.open(uid, f"booking-{uid}")


async def test_an_entry_comes_back_as_it_was_posted(store: Store) -> None:
    await open_chains(store, "bk-1")
    entry = billed("bk-1")
    reversal = ledger.reversal(
        entry, key="reversal:billed:bk-1:1", effective_at=seed.NOW, refs={"invoice": "2026-000002"}
    )
    async with store.begin() as tx:
        results = await tx.ledger.post(entry, reversal)
        assert [(one.key, one.is_new) for one in results] == [(entry.key, True), (reversal.key, True)]
    async with store.begin() as tx:
        assert await tx.ledger.entry(entry.key) == entry
        assert await tx.ledger.entries("bk-1") == [entry, reversal]
        assert await tx.ledger.entry("nothing") is None
        again = await tx.ledger.post(reversal, billed("bk-1"))
        assert [one.is_new for one in again] == [False, False]
        assert await tx.ledger.post() == []


async def test_several_entries_are_one_statement(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await open_chains(store, "bk-1", "bk-2", "bk-3")
    statements: list[str] = []
    execute = psycopg.AsyncCursor.execute

    async def counted(self: psycopg.AsyncCursor[Any], query: Any, *given: Any) -> Any:
        statements.append(query)
        return await execute(self, query, *given)

    async with store.begin() as tx:
        monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
        await tx.ledger.post(billed("bk-1"), billed("bk-2"), billed("bk-3"))
    assert len(statements) == 1


async def test_a_full_reversal_brings_every_account_to_zero(store: Store) -> None:
    await open_chains(store, "bk-1")
    entry = billed("bk-1")
    async with store.begin() as tx:
        await tx.ledger.post(entry)
        await tx.ledger.post(ledger.reversal(entry, key="reversal:billed:bk-1", effective_at=seed.NOW))
        balances = await tx.ledger.chain_balances("bk-1")
        assert len(balances) == 3
        assert all(one.debit_minor == one.credit_minor > 0 for one in balances)
        assert await tx.ledger.trial_balance() == balances


async def test_the_same_key_with_other_content_is_refused_and_posts_nothing(store: Store) -> None:
    await open_chains(store, "bk-1", "bk-2")
    async with store.begin() as tx:
        await tx.ledger.post(billed("bk-1"))
    with pytest.raises(LedgerConflict, match="billed:bk-1"):
        async with store.begin() as tx:
            await tx.ledger.post(billed("bk-2"), billed("bk-1", net_minor=10_001))
    with pytest.raises(LedgerConflict, match="two entries of one call"):
        async with store.begin() as tx:
            await tx.ledger.post(billed("bk-2"), billed("bk-2", net_minor=1))
    async with store.begin() as tx:
        assert await tx.ledger.entries("bk-2") == []
        later = billed("bk-1").model_copy(update={"effective_at": seed.NOW + timedelta(minutes=1)})
        assert [one.is_new for one in await tx.ledger.post(later)] == [False]
        stored = await tx.ledger.entry("billed:bk-1")
        assert stored is not None
        assert stored.effective_at == seed.NOW


async def test_what_is_reversed_must_exist(store: Store) -> None:
    await open_chains(store, "bk-1")
    orphan = ledger.reversal(billed("bk-1"), key="reversal:billed:bk-1", effective_at=seed.NOW)
    with pytest.raises(IntegrityError, match="reverses_key"):
        async with store.begin() as tx:
            await tx.ledger.post(orphan)


async def test_writers_race_for_one_key_and_one_wins(store: Store) -> None:
    await open_chains(store, "bk-1", "bk-2")
    both = [billed("bk-1"), billed("bk-2")]

    async def write(number: int) -> list[bool]:
        async with store.begin() as tx:
            results = await tx.ledger.post(*(both if number % 2 else both[::-1]))
            await asyncio.sleep(0.01)
            return [one.is_new for one in results]

    outcomes = await asyncio.gather(*(write(number) for number in range(12)))
    assert sorted(outcomes) == [[False, False]] * 11 + [[True, True]]
    async with store.begin() as tx:
        assert (await tx.connection.execute(text("SELECT count(*) FROM ledger_postings"))).scalar() == 4


async def test_a_race_with_other_content_is_a_conflict_for_the_second(store: Store) -> None:
    await open_chains(store, "bk-1")

    async def write(net_minor: int) -> str:
        try:
            async with store.begin() as tx:
                await tx.ledger.post(billed("bk-1", net_minor))
                await asyncio.sleep(0.05)
        except LedgerConflict:
            return "conflict"
        return "posted"

    assert sorted(await asyncio.gather(write(1_000), write(2_000))) == ["conflict", "posted"]


async def test_accounts_and_trial_balance(store: Store) -> None:
    await seed.apply(store)
    await seed.charged_chain(store, "bk-1")
    async with store.begin() as tx:
        found = {one.account: one for one in await tx.ledger.trial_balance()}
        assert found["stripe"] == AccountBalance(account="stripe", currency="EUR", debit_minor=11_900, credit_minor=199)
        assert sum(one.debit_minor for one in found.values()) == sum(one.credit_minor for one in found.values())
        lines = await tx.ledger.account("stripe")
        assert [(line.kind, line.is_debit, line.counter_account, line.amount_minor) for line in lines] == [
            ("fee", False, "stripe_fees", 199),
            ("charged", True, "customer:c-1", 11_900),
        ]
        assert len(await tx.ledger.account("stripe", limit=1)) == 1


async def test_the_database_knows_the_chart_of_accounts(store: Store) -> None:
    await open_chains(store, "bk-1")
    async with store.begin() as tx:
        await tx.ledger.post(billed("bk-1"))
    for debit, credit, amount in (("cash", "stripe", 1), ("stripe", "stripe", 1), ("stripe", "revenue", 0)):
        with pytest.raises(IntegrityError):
            async with store.begin() as tx:
                await tx.connection.execute(
                    text("INSERT INTO ledger_postings SELECT id, 9, :debit, :credit, :amount FROM ledger_entries"),
                    {"debit": debit, "credit": credit, "amount": amount},
                )
