"""The floor: the steps called in order by plain asyncio. What Stripe, Cal.com and SQL cost; a crash loses the chain."""

from __future__ import annotations

from bench.peers.steps import Steps
from local.environment import Environment


class Floor:
    """Runs in the caller's process and event loop."""

    name = "floor: plain asyncio"

    def __init__(self, env: Environment) -> None:
        self._settings = env.settings()
        self._steps: Steps | None = None

    async def start(self) -> None:
        self._steps = Steps(self._settings)

    async def chain(self, uid: str) -> None:
        steps = self._steps
        if steps is None:
            raise RuntimeError("not started")
        await steps.read_booking(uid)
        price = await steps.quote(uid)
        await steps.bill(uid)
        await steps.charge(uid, price)
        await steps.accrue(uid)
        await steps.mature(uid)
        await steps.close(uid)

    async def stop(self) -> None:
        if self._steps is not None:
            await self._steps.aclose()
            self._steps = None
