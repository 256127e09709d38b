"""The one environment that all parts of the benchmark run in: processes, bookings, and who counts what they did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx
from sqlalchemy import text
from temporalio.client import Client

from bench.meters import rss_mib
from bench.report import Table
from bench.subjects import Ours
from local.environment import ANY_PORTS, Environment
from local.setup import CATALOGUE, set_up
from settings import Settings
from starter.temporal import connect
from store import Store

EVENT_TYPE = 5
"""A fixed price whose commissions are settled monthly: the chain that the targets speak of."""
HOLD = timedelta(days=1)
"""The hold period of that price."""

WISHES = replace(
    ANY_PORTS,
    persistent=True,
    isolated=True,
    settings={
        "STRIPE_CALLS_PER_SECOND": "1000",  # Stripe's 25 a second would be all that is measured
        "SWEEP_INTERVAL_SECONDS": "604800",  # would look at thousands of planted bookings in the middle of a round
        "LOG_LEVEL": "ERROR",
    },
)

PATIENCE_SECONDS = 180.0
LOOK_AGAIN_SECONDS = 0.1

MARK_EVERY = 1_000
_PLANTED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Sizes:
    """How much of everything. The targets are stated for the defaults."""

    rounds: int = 3
    chains: int = 160
    """Of a busy round, for each subject."""
    lone: int = 12
    in_flight: int = 32
    sleepers: int = 5_000
    memory_from: int = 1_000
    memory_to: int = 10_000
    seconds: float = 3.0
    """Of each round that is measured by time: ledger, webhooks."""
    watch_seconds: float = 8.0
    """How long sleeping chains are watched."""
    starts: int = 3
    """Rounds of each start-up."""


QUICK = Sizes(
    rounds=1,
    chains=20,
    lone=2,
    in_flight=8,
    sleepers=20,
    memory_from=40,
    memory_to=80,
    seconds=1.0,
    watch_seconds=2.0,
    starts=1,
)
"""Whether everything works; its figures say nothing."""


@dataclass
class World:
    """Handed to every part. `tables` takes what stands behind the part's figures."""

    env: Environment
    settings: Settings
    client: Client
    store: Store
    calcom: httpx.AsyncClient
    sizes: Sizes
    ours: Ours
    worker: str
    """Name of the worker process that runs from the beginning to the end."""
    tables: list[Table] = field(default_factory=list)
    chains_per_second: float = 0.0
    """What the last busy round of ours reached with one worker; 0 before."""
    worker_chains: int = 0
    """Chains that ended on the first worker since it started."""
    strangers_cores: list[float] = field(default_factory=list)
    """How many cores everything else on the machine kept busy, in each busy round."""
    rss_mib_after: dict[int, float] = field(default_factory=dict)
    """Memory of the first worker after so many chains, each time that a thousand more had ended."""

    def ended(self, chains: int) -> None:
        """So many more chains ended on the first worker."""
        before, self.worker_chains = self.worker_chains, self.worker_chains + chains
        if before // MARK_EVERY != self.worker_chains // MARK_EVERY:
            self.rss_mib_after[self.worker_chains] = self.worker_rss_mib()

    async def plant(self, uids: Sequence[str], *, end: datetime | None = None) -> None:
        """Bookings without webhooks. Charged when they end (by default 20 days ago), matured a day later."""
        end = end or datetime.now(UTC) - timedelta(days=20)
        booking = {
            "start": (end - timedelta(hours=1)).isoformat(),
            "end": end.isoformat(),
            "created_at": (end - timedelta(days=2)).isoformat(),
            "event_type_id": EVENT_TYPE,
            "attendee": {"name": "Bench Attendee", "email": "attendee@example.com"},
            "webhook": False,
        }
        for begin in range(0, len(uids), _PLANTED_AT_ONCE):
            body = {"bookings": [{**booking, "uid": uid} for uid in uids[begin : begin + _PLANTED_AT_ONCE]]}
            (await self.calcom.post("/_sandbox/bookings", json=body)).raise_for_status()

    def pid(self, name: str | None = None) -> int:
        """Process id of a child, by default of the first worker. Raises RuntimeError where it does not run."""
        process = self.env.tree.process(name or self.worker)
        if process is None:
            raise RuntimeError(f"{name or self.worker} does not run: {self.env.tree.log_tail(name or self.worker)}")
        return process.pid

    def worker_rss_mib(self) -> float:
        return rss_mib(self.pid())

    async def count(self, statement: str, **parameters: object) -> int:
        """The one number that a query answers."""
        async with self.store.begin() as tx:
            found = (await tx.connection.execute(text(statement), parameters)).scalar_one()
        return int(found)

    async def until_none(self, statement: str, *, patience_seconds: float = PATIENCE_SECONDS) -> float:
        """Waits until this query counts nothing any more; the seconds it took. Raises TimeoutError."""
        begun = time.perf_counter()
        while left := await self.count(statement):
            if time.perf_counter() - begun > patience_seconds:
                raise TimeoutError(f"after {patience_seconds:.0f} s still {left}: {statement}")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return time.perf_counter() - begun


@asynccontextmanager
async def opened(env: Environment, sizes: Sizes) -> AsyncIterator[World]:
    """Sets a started environment up, with one worker, and closes what it opened."""
    settings = env.settings()
    await set_up(settings, CATALOGUE, provision=True)
    await _silence_stripe(settings)
    worker = await asyncio.to_thread(env.start_worker)
    store = Store(settings.sqlalchemy_url, pool_size=8)
    calcom = httpx.AsyncClient(base_url=settings.calcom_base_url, timeout=60, trust_env=False)
    try:
        kind = {"id": EVENT_TYPE, "slug": "bench", "title": "Bench"}
        (await calcom.post("/_sandbox/catalogue", json={"event_types": [kind]})).raise_for_status()
        client = await connect(settings)
        yield World(env, settings, client, store, calcom, sizes, Ours(client, settings, store), worker)
    finally:
        await asyncio.gather(calcom.aclose(), store.dispose())


async def _silence_stripe(settings: Settings) -> None:
    """No webhooks but those that a part sends itself: nobody would take them, and they would be repeated for days."""
    key = {"Authorization": f"Bearer {settings.stripe_secret_key.get_secret_value()}"}
    async with httpx.AsyncClient(
        base_url=settings.stripe_base_url or "", timeout=20, trust_env=False, headers=key
    ) as stripe:
        listed = (await stripe.get("/v1/webhook_endpoints")).raise_for_status()
        for endpoint in listed.json()["data"]:
            (await stripe.delete(f"/v1/webhook_endpoints/{endpoint['id']}")).raise_for_status()
