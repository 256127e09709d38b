"""Who waits for which chain."""

from __future__ import annotations

import asyncio


class Waiting:
    """Futures by a key. Answers to nobody (nobody asked, or who asked has left) are dropped."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def keys(self) -> list[str]:
        return list(self._ends)

    def ask(self, key: str) -> asyncio.Future[None]:
        """To be awaited: ends when `answer` is told this key, and raises its error."""
        ended = self._ends[key] = asyncio.get_running_loop().create_future()
        self._some.set()
        return ended

    def answer(self, key: str, error: str = "") -> None:
        ended = self._ends.pop(key, None)
        if not self._ends:
            self._some.clear()
        if ended is None or ended.done():
            return
        if error:
            ended.set_exception(RuntimeError(f"{key}: {error}"))
        else:
            ended.set_result(None)

    def answer_all(self, error: str) -> None:
        for key in self.keys:
            self.answer(key, error)

    async def until_asked(self) -> None:
        """Returns while anybody waits."""
        await self._some.wait()
