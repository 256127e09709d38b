"""The whole system as processes, for tests that kill them or that send real webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text
from temporalio.client import Client

from domain.catalog import parse_catalog
from gateways.stripe import StripeGateway
from local.environment import ANY_PORTS, Environment
from local.setup import set_up
from settings import Settings
from starter.temporal import connect
from store import Store
from store.audit import audit
from tests.support.desk import CATALOGUE, NEED_CONFIRMATION, SHORT
from tests.support.sandboxes import CalcomDesk, StripeDesk


@dataclass
class System:
    """Handles on the running processes; `environment.tree` kills them."""

    environment: Environment
    settings: Settings
    store: Store
    client: Client
    payments: StripeGateway
    calcom: CalcomDesk
    stripe: StripeDesk

    async def announce(self, count: int, *, event_type_id: int, start_at: datetime) -> list[str]:
        """Plant bookings and let Cal.com tell of each by a signed webhook; returns the uids."""
        specs = [
            self.calcom.booking(
                event_type_id, start_at=start_at, webhook=True, updated_at=datetime.now(UTC).isoformat()
            )
            for _ in range(count)
        ]
        return await self.calcom.plant(*specs)

    async def ends(self, uids: list[str]) -> dict[str, int]:
        """How many of these chains stand where: outcomes of closed ones, stages of others, `unknown` without a row."""
        async with self.store.begin() as tx:
            found = await tx.connection.execute(
                text("SELECT chain_uid, coalesce(outcome, stage) FROM chains WHERE chain_uid = ANY(:uids)"),
                {"uids": uids},
            )
            words = {str(row[0]): str(row[1]) for row in found}
        counts: dict[str, int] = {}
        for uid in uids:
            word = words.get(uid, "unknown")
            counts[word] = counts.get(word, 0) + 1
        return counts

    async def findings(self) -> list[str]:
        """What the audit says, Stripe's books included, without any grace."""
        found = await audit(self.store, self.payments, grace_seconds=0)
        return [f"{one.invariant} {one.where}: {one.what} ({one.expected} | {one.found})" for one in found]


@asynccontextmanager
async def running(
    state_dir: Path,
    *,
    settings: Mapping[str, str] | None = None,
    persistent: bool = False,
    catalogue: Path = CATALOGUE,
) -> AsyncIterator[System]:
    """Start every process, set up with the tests' catalogue or another one; end all of it in the end.

    `persistent`: Temporal keeps its state on disk and so survives a kill -9.
    """
    wishes = replace(ANY_PORTS, settings={**SHORT, **(settings or {})}, persistent=persistent)
    async with AsyncExitStack() as stack:
        environment = stack.enter_context(Environment(state_dir, wishes, say=lambda _: None))
        await asyncio.to_thread(environment.start)
        used = environment.settings()
        await set_up(used, catalogue, provision=True, by="tests")
        await asyncio.to_thread(environment.start_webhooks)
        await asyncio.to_thread(environment.start_worker)
        yield await _open(stack, environment, used, catalogue)


async def _open(stack: AsyncExitStack, environment: Environment, settings: Settings, catalogue: Path) -> System:
    store = await stack.enter_async_context(Store(settings.sqlalchemy_url, pool_size=4))
    stripe_key = settings.stripe_secret_key.get_secret_value()
    payments = StripeGateway(secret_key=stripe_key, base_url=settings.stripe_base_url, timeout_seconds=10)
    stack.push_async_callback(payments.aclose)
    calcom = CalcomDesk(settings.calcom_base_url, settings.calcom_api_key.get_secret_value())
    system = System(
        environment=environment,
        settings=settings,
        store=store,
        client=await connect(settings),
        payments=payments,
        calcom=await stack.enter_async_context(calcom),
        stripe=await stack.enter_async_context(StripeDesk(environment.addresses["stripe sandbox"], stripe_key)),
    )
    event_types = parse_catalog(catalogue.read_text()).mappings.event_types
    await system.calcom.event_types({one: one in NEED_CONFIRMATION for one in event_types})
    return system


def charges_of(objects: Mapping[str, int]) -> int:
    """Succeeded payments among the objects at Stripe."""
    return objects.get("payment_intent.succeeded", 0)


def deliveries_of(answer: Mapping[str, Any], uid: str) -> list[dict[str, Any]]:
    """Webhooks of a booking that the Cal.com stand-in sent."""
    return [one for one in answer["deliveries"] if one["uid"] == uid]
