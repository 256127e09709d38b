"""State machine: the row-and-cron shape of a Laravel-style service. A row for each chain, a status column, a poller.

The poller claims due rows with FOR UPDATE SKIP LOCKED: `retry_at` moves a lease ahead, so a crash gives them back. Each
step ends with a commit of the next status. Two things are as good as this shape gets: the process that claimed a row
goes on with its next status at once instead of leaving it to the next look, and all of it is one async process. Left
are nine commits and the wait for the first look: half of POLL_SECONDS on average for a lone chain, and in the
benchmark, where the next is asked for as soon as one ended, whatever is left until a whole look.
"""

from __future__ import annotations

import asyncio
from typing import Any

from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from bench.peers.service import Service, serve
from bench.peers.steps import Price, Steps
from bench.waiting import Waiting
from local.environment import Environment
from settings import load

POLL_SECONDS = 0.05
CONNECTIONS = 4
MOST_AT_ONCE = 32
MOST_ATTEMPTS = 5

TABLE = """
CREATE TABLE IF NOT EXISTS bench_chain (
    uid text PRIMARY KEY,
    status text NOT NULL DEFAULT 'read_booking',
    price jsonb,
    attempts integer NOT NULL DEFAULT 0,
    error text,
    retry_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS bench_chain_due ON bench_chain (retry_at) WHERE status NOT IN ('done', 'failed');
"""
CLAIM = """
UPDATE bench_chain SET retry_at = now() + interval '60 seconds' WHERE uid IN (
    SELECT uid FROM bench_chain WHERE status NOT IN ('done', 'failed') AND retry_at <= now()
    ORDER BY retry_at LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING uid, status, price
"""
ADVANCE = """
UPDATE bench_chain SET status = %s, price = coalesce(%s, price), attempts = 0, error = NULL,
    retry_at = now() + interval '60 seconds' WHERE uid = %s
"""
PUT_OFF = """
UPDATE bench_chain SET attempts = attempts + 1, error = %s, retry_at = now() + interval '1 second' * 2 ^ attempts,
    status = CASE WHEN attempts + 1 >= %s THEN 'failed' ELSE status END WHERE uid = %s RETURNING status
"""


class StateMachine(Service):
    """Starts the process below and orders chains from it."""

    name = "state machine: rows and a poller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env, "bench.peers.state_machine")


class Machine:
    """The service: `run` is its web request, `poll` its cron."""

    def __init__(self, steps: Steps, pool: AsyncConnectionPool[Any]) -> None:
        self._steps = steps
        self._pool = pool
        self._asked = Waiting()
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, uid: str) -> None:
        """Insert the row, wait until it is done. Raises RuntimeError when it failed."""
        ended = self._asked.ask(uid)
        await self._execute("INSERT INTO bench_chain (uid) VALUES (%s)", uid)
        await ended

    async def poll(self) -> None:
        """Looks at the table every POLL_SECONDS, but not while others have their turn and nobody asked for a chain."""
        while True:
            room = MOST_AT_ONCE - len(self._working) if self._asked else 0
            for uid, status, price in await self._execute(CLAIM, room) if room else []:
                task = asyncio.create_task(self._work(uid, status, price and Price(*price)))
                self._working.add(task)
                task.add_done_callback(self._working.discard)
            await asyncio.sleep(POLL_SECONDS)

    async def _work(self, uid: str, status: str, price: Price | None) -> None:
        """From the stored status to the end; a step that raises is left to a later look."""
        try:
            for name in Steps.ORDER[Steps.ORDER.index(status) :]:
                found = await self._steps.step(name, uid, price)
                price = found or price
                after = [*Steps.ORDER, "done"][Steps.ORDER.index(name) + 1]
                await self._execute(ADVANCE, after, Jsonb(found) if found else None, uid)
        except Exception as error:  # noqa: BLE001 - whatever it is, it stands in the row
            [(status,)] = await self._execute(PUT_OFF, repr(error)[:500], MOST_ATTEMPTS, uid)
            if status == "failed":
                self._asked.answer(uid, repr(error))
        else:
            self._asked.answer(uid)

    async def _execute(self, statement: str, *values: object) -> list[Any]:
        """One statement, committed."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, values or None)
            return await cursor.fetchall() if cursor.description else []


async def main() -> None:
    settings = load()
    url = settings.database_url.replace("+psycopg", "")
    steps = Steps(settings)
    async with AsyncConnectionPool(url, min_size=1, max_size=CONNECTIONS, open=False) as pool:
        async with pool.connection() as connection:
            await connection.execute(TABLE)
        machine = Machine(steps, pool)
        async with asyncio.TaskGroup() as both:
            polling = both.create_task(machine.poll())
            await serve(machine.run)
            polling.cancel()
    await steps.aclose()


if __name__ == "__main__":
    asyncio.run(main())
