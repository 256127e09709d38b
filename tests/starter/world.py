"""The webhook app with a real database and a Temporal that remembers what it was told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy

from domain import ids
from domain.catalog import parse_catalog
from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from settings import Settings
from starter.dispatch import Dispatcher
from starter.metrics import Metrics
from starter.relay import Relay
from starter.webhooks import Deps, create_app
from store import Store
from store.rows import ChargeStatus, InboxRow, InboxStatus, RefundState
from tests.starter.bodies import CALCOM_SECRET, STRIPE_SECRET, calcom_headers, stripe_headers
from tests.starter.fake_temporal import FakeTemporal

CATALOG = """
version: 1
platform: {name: Example Platform, country: DE, currency: EUR}
resellers: []
price_books:
  - id: platform
    owner: {kind: platform}
    version: 1
    effective_from: 2020-01-01
    currency: EUR
    prices:
      - kind: fixed
        net_minor: 4900
        charge_moment: at_booking
        hold_days: 1
        vat_rate_bps: 1900
        terms: {free_until_hours_before: 24, late_fee_bps: 5000, no_show_fee_bps: 10000}
customers:
  - {id: cus-1, name: Example Practice, email: practice@example.com}
"""


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def settings_for(database_url: str, **overrides: Any) -> Settings:
    values: dict[str, Any] = {
        "database_url": database_url,
        "temporal_address": "127.0.0.1:1",
        "stripe_secret_key": "sk_test_starter",
        "stripe_webhook_secret": STRIPE_SECRET,
        "calcom_api_key": "cal_test_starter",
        "calcom_webhook_secret": CALCOM_SECRET,
        "webhook_max_bytes": 20_000,
        "relay_max_attempts": 4,
        **overrides,
    }
    return Settings(_env_file=None, **values)


@dataclass
class World:
    store: Store
    temporal: FakeTemporal
    deps: Deps
    http: httpx.AsyncClient
    clock: Clock

    async def calcom(self, raw: bytes) -> str:
        """Sends a signed webhook and lets the relay deliver once; returns the answer's status word."""
        answer = await self.http.post("/webhooks/calcom", content=raw, headers=calcom_headers(raw))
        assert answer.status_code == 200, answer.text
        await self.deps.relay.run_once()
        return str(answer.json()["status"])

    async def stripe(self, raw: bytes) -> str:
        answer = await self.http.post("/webhooks/stripe", content=raw, headers=stripe_headers(raw, self.clock()))
        assert answer.status_code == 200, answer.text
        await self.deps.relay.run_once()
        return str(answer.json()["status"])

    async def sweep(self, uid: str, raw: bytes = b"{}") -> None:
        async with self.store.begin() as tx:
            await tx.inbox.add(f"sweep:{uid}:{len(raw)}", "sweep", "booking_seen", uid, raw)
        await self.deps.relay.run_once()

    async def rows(self) -> list[InboxRow]:
        """All rows of the inbox that a test knows by their object or status."""
        async with self.store.begin() as tx:
            return await tx.inbox.stuck(overdue_seconds=0)

    async def rows_due(self) -> list[datetime]:
        """When the rows that are still to be delivered are due, earliest first."""
        async with self.store.begin() as tx:
            found = await tx.inbox.stuck(overdue_seconds=-100_000)
        return sorted(row.next_attempt_at for row in found if row.next_attempt_at is not None)

    async def counts(self) -> dict[InboxStatus, int]:
        async with self.store.begin() as tx:
            return {status: rows for status, rows in (await tx.inbox.counts()).items() if rows}

    async def held_reason(self) -> str:
        """The reason of the one row that a person has to see."""
        held = [row for row in await self.rows() if row.status is InboxStatus.HELD]
        assert len(held) == 1
        return held[0].last_error or ""

    async def chain(
        self,
        uid: str,
        stage: ChainStage,
        outcome: ChainOutcome | None = None,
        *,
        is_running: bool | None = None,
    ) -> None:
        """A chain as its workflow would have left it, in the database and at Temporal."""
        async with self.store.begin() as tx:
            await tx.chains.open(uid, ids.booking_workflow(uid))
            reason = ParkReason.NO_PRICE if stage is ChainStage.PARKED else None
            await tx.chains.update(uid, stage=stage, outcome=outcome, reason=reason)
        if ids.booking_workflow(uid) not in self.temporal.workflows:
            reject = WorkflowIDReusePolicy.REJECT_DUPLICATE
            await self.temporal.start_workflow(None, None, id=ids.booking_workflow(uid), id_reuse_policy=reject)
        running = stage is not ChainStage.CLOSED if is_running is None else is_running
        self.temporal.workflows[ids.booking_workflow(uid)].is_running = running

    async def charge(
        self, uid: str, status: ChargeStatus, *, payment_intent_id: str | None = "pi_1", charge_id: str | None = None
    ) -> None:
        """The chain's first charge, as its steps would have recorded it."""
        async with self.store.begin() as tx:
            await tx.catalog.apply(parse_catalog(CATALOG), source_sha="0" * 64, applied_by="tests")
            key = ids.charge_key(uid, 1)
            await tx.money.begin_charge(
                key=key, chain_uid=uid, attempt=1, customer_id="cus-1", currency="EUR", amount_minor=5_831
            )
            if status is not ChargeStatus.STARTED:
                await tx.money.finish_charge(
                    key, status=status, payment_intent_id=payment_intent_id, charge_id=charge_id
                )

    async def refund(self, uid: str, status: RefundState, amount_minor: int, refund_id: str | None) -> None:
        async with self.store.begin() as tx:
            await tx.money.begin_refund(
                key=ids.refund_key(uid, 1),
                chain_uid=uid,
                sequence=1,
                charge_key=ids.charge_key(uid, 1),
                currency="EUR",
                amount_minor=amount_minor,
            )
            if status is not RefundState.STARTED:
                await tx.money.finish_refund(ids.refund_key(uid, 1), status=status, refund_id=refund_id)

    def signals(self, uid: str) -> list[str]:
        return self.temporal.signals(ids.booking_workflow(uid))


@asynccontextmanager
async def world_on(database_url: str, **overrides: Any) -> AsyncIterator[World]:
    settings = settings_for(database_url, **overrides)
    temporal, clock, metrics = FakeTemporal(), Clock(), Metrics()
    async with Store(settings.sqlalchemy_url, pool_size=10) as store:
        client = cast(Client, temporal)
        dispatcher = Dispatcher(store=store, client=client, settings=settings)
        relay = Relay(store=store, dispatcher=dispatcher, settings=settings, metrics=metrics, now=clock)
        deps = Deps(settings, store, client, relay, metrics, now=clock, run_relay=False)
        transport = httpx.ASGITransport(app=create_app(deps), raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://webhooks.example.com") as http:
            yield World(store, temporal, deps, http, clock)
