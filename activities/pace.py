"""Keeping below Stripe's limit on one endpoint, with all workers together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store import Store

MARGIN = 0.95
"""Share of the limit that is used: calls that leave evenly arrive a little unevenly, and Stripe counts any second."""


class Pace:
    """Lets calls of one kind go at even distances. The task queue's own cap bounds their average, but lets a burst of a
    second's worth through whenever it was idle before."""

    def __init__(self, store: Store, name: str, *, per_second: float) -> None:
        self._store = store
        self._name = name
        self._per_second = per_second * MARGIN

    async def wait(self) -> None:
        """Until it is this call's turn."""
        async with self._store.begin() as tx:
            seconds = await tx.pace.take(self._name, per_second=self._per_second)
        await asyncio.sleep(seconds)
