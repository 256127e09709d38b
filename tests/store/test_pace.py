"""Calls are spread evenly over all that ask, whoever they are."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from store import Store


async def test_places_are_as_far_apart_as_was_asked_for_and_nobody_shares_one(store: Store) -> None:
    async def take() -> float:
        async with store.begin() as tx:
            return await tx.pace.take("transfers", per_second=10)

    loop = asyncio.get_running_loop()
    places = sorted([loop.time() + seconds for seconds in await asyncio.gather(*(take() for _ in range(20)))])
    gaps = [later - earlier for earlier, later in pairwise(places)]
    assert sum(gaps) > 1.7
    assert 1.7 < await take() <= 2.0


async def test_who_was_idle_gets_no_burst_and_kinds_don_t_wait_for_each_other(store: Store) -> None:
    async with store.begin() as tx:
        assert await tx.pace.take("transfers", per_second=20) == 0
        assert await tx.pace.take("transfers", per_second=20) > 0
        assert await tx.pace.take("charges", per_second=20) == 0
    await asyncio.sleep(0.3)
    async with store.begin() as tx:
        assert await tx.pace.take("transfers", per_second=20) == 0
        assert await tx.pace.take("transfers", per_second=20) > 0
