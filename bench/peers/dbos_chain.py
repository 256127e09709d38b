"""DBOS: an async workflow whose steps are checkpointed in a database of its own on the same PostgreSQL server.

Written as its documentation does: the workflow id is the business id, a workflow is started in the process that runs
it (no queue in between, which would poll) and its handle awaited. Tuned for its good: a process for each of the two
cores, because its own work saturates the interpreter's lock of one (47 against 34 chains a second), no console log, no
OTLP. More threads or connections than these changed nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig, SetWorkflowID
from sqlalchemy import make_url

from bench.peers.service import Service, serve
from bench.peers.steps import Price, Steps
from local.environment import Environment
from settings import Settings, load

PROCESSES = 2
CONNECTIONS = 8
THREADS = 16
"""DBOS writes its checkpoints from threads."""

steps: Steps


@DBOS.step()
async def read_booking(uid: str) -> None:
    await steps.read_booking(uid)


@DBOS.step()
async def quote(uid: str) -> Price:
    return await steps.quote(uid)


@DBOS.step()
async def bill(uid: str) -> None:
    await steps.bill(uid)


@DBOS.step()
async def charge(uid: str, price: Price) -> None:
    await steps.charge(uid, price)


@DBOS.step()
async def accrue(uid: str) -> None:
    await steps.accrue(uid)


@DBOS.step()
async def mature(uid: str) -> None:
    await steps.mature(uid)


@DBOS.step()
async def close(uid: str) -> None:
    await steps.close(uid)


@DBOS.workflow()
async def billing_chain(uid: str) -> str:
    await read_booking(uid)
    price = await quote(uid)
    await bill(uid)
    await charge(uid, price)
    await accrue(uid)
    await mature(uid)
    await close(uid)
    return "matured"


class DbosChain(Service):
    """Starts the process below and orders chains from it."""

    name = "DBOS"

    def __init__(self, env: Environment) -> None:
        super().__init__(env, "bench.peers.dbos_chain", PROCESSES)


def config(settings: Settings) -> DBOSConfig:
    """The system database is made by DBOS itself."""
    url = make_url(settings.sqlalchemy_url).set(database="bench_dbos")
    return {
        "name": "bench",
        "system_database_url": url.render_as_string(hide_password=False),
        "sys_db_pool_size": CONNECTIONS,
        "executor_id": f"bench-{os.getpid()}",
        "log_level": "ERROR",
        "enable_otlp": False,
    }


async def run(uid: str) -> None:
    with SetWorkflowID(f"booking-{uid}"):
        handle = await DBOS.start_workflow_async(billing_chain, uid)
    await handle.get_result()


async def main() -> None:
    global steps
    settings = load()
    steps = Steps(settings)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    DBOS(config=config(settings))
    DBOS.launch()
    try:
        await serve(run)
    finally:
        DBOS.destroy()
        await steps.aclose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main())
