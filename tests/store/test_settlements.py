"""Statements after they were made: paid once, parked, waiting, approved, carried over."""

from __future__ import annotations

import asyncio

from store import Store
from store.rows import SettlementStatus
from tests.store import seed
from tests.store.closing import claim, explained, matured

OPEN, PARKED, PAID = SettlementStatus.OPEN, SettlementStatus.PARKED, SettlementStatus.PAID


async def test_a_month_is_claimed_once_whoever_asks(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    await seed.charged_chain(store, "bk-3")
    results = await asyncio.gather(*(claim(store) for _ in range(6)))
    assert all(result == results[0] for result in results)
    assert {one: (row.earned_minor, row.payable_minor) for one, row in results[0].items()} == {
        "r-leaf": (5_000, 5_950),
        "r-mid": (1_000, 1_190),
        "r-root": (400, 476),
    }
    async with store.begin() as tx:
        await tx.money.mature("bk-3")
        again = await tx.settlements.claim("2026-03", 1, results[0]["r-leaf"].boundary, requested_by="other")
        assert (again.is_new, again.statements, again.payable) == (False, 3, 3)
        lines = await tx.settlements.lines(results[0]["r-leaf"].id)
        assert [(line.chain_uid, line.amount_minor) for line in lines] == [("bk-1", 2_500), ("bk-2", 2_500)]
    await explained(store)
