"""Signed delivery of events to webhook endpoints, with retries that survive a restart."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from sandbox.stripe.context import Context
from sandbox.stripe.errors import JsonObject
from sandbox.stripe.rendering import render
from sandbox.stripe.store import Store, dumps

PARALLEL = 8
GIVE_UP_SECONDS = 3 * 86_400


class DeliveryMode(BaseModel):
    """How the network treats webhooks. ``drop`` loses each first attempt for good: the event stays undelivered."""

    model_config = ConfigDict(extra="forbid")

    paused: bool = False
    drop: bool = False
    copies: int = Field(default=1, ge=1, le=100)
    order: Literal["created", "reversed"] = "created"


def sign(payload: bytes, secret: str, moment: int) -> str:
    """The ``Stripe-Signature`` header: HMAC-SHA256 over ``{t}.{payload}``."""
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


class Deliverer:
    """Takes waiting deliveries from the store and posts them. Signature times and pauses are real time."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._store: Store = ctx.store
        self._settings = ctx.settings
        self._wake = asyncio.Event()
        self._busy: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def mode(self) -> DeliveryMode:
        """The present mode, as stored."""
        return DeliveryMode(**json.loads(self._store.meta("delivery_mode", "{}")))

    def set_mode(self, mode: DeliveryMode) -> None:
        """Stores a mode. Must run inside a transaction."""
        self._store.set_meta("delivery_mode", mode.model_dump_json())

    def wake(self) -> None:
        """Something may be waiting."""
        self._wake.set()

    async def run(self) -> None:
        """Delivers until cancelled."""
        timeout = httpx.Timeout(self._settings.webhook_timeout_seconds)
        async with httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client:
            try:
                while True:
                    self._wake.clear()
                    moment = time.time()
                    self._start_due(client, moment)
                    try:
                        await asyncio.wait_for(self._wake.wait(), self._seconds_until_next(moment))
                    except TimeoutError:
                        continue
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _seconds_until_next(self, moment: float) -> float | None:
        row = self._store.connection.execute(
            "SELECT min(next_attempt_at) FROM deliveries WHERE state='waiting' AND next_attempt_at > ?", (moment,)
        ).fetchone()
        return None if row[0] is None else max(0.01, row[0] - time.time())

    def _start_due(self, client: httpx.AsyncClient, moment: float) -> None:
        mode = self.mode
        # One at a time where the order matters: parallel ones overtake each other.
        free = (1 if mode.order == "reversed" else PARALLEL) - len(self._busy)
        if mode.paused or free <= 0:
            return
        order = "DESC" if mode.order == "reversed" else "ASC"
        rows = self._store.connection.execute(
            f"SELECT id FROM deliveries WHERE state='waiting' AND next_attempt_at <= ? ORDER BY id {order} LIMIT ?",
            (moment, free + len(self._busy)),
        ).fetchall()
        for (delivery_id,) in [row for row in rows if row[0] not in self._busy][:free]:
            self._busy.add(delivery_id)
            task = asyncio.create_task(self._deliver(client, delivery_id, mode))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, client: httpx.AsyncClient, delivery_id: int, mode: DeliveryMode) -> None:
        try:
            row = self._store.connection.execute(
                "SELECT event_id, endpoint_id, attempts FROM deliveries WHERE id=?", (delivery_id,)
            ).fetchone()
            if row is None:
                return
            event, endpoint = self._store.find(row[0]), self._store.find(row[1])
            if event is None or endpoint is None or mode.drop:
                self._finish(delivery_id, "failed")
                return
            payload = dumps(render(self._ctx, event)).encode()
            answers = [await self._post(client, endpoint, payload) for _ in range(mode.copies)]
            if all(answers):
                self._finish(delivery_id, "delivered")
            else:
                self._retry_later(delivery_id, row[2], event["created"])
        finally:
            self._busy.discard(delivery_id)
            self._wake.set()

    async def _post(self, client: httpx.AsyncClient, endpoint: JsonObject, payload: bytes) -> bool:
        """Whether the endpoint took it: a 2xx in time. Anything else, a bad address too, is a failed attempt."""
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": sign(payload, endpoint["_secret"], int(time.time())),
            "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            answer = await client.post(endpoint["url"], content=payload, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
            return False
        return answer.is_success

    def _finish(self, delivery_id: int, state: str) -> None:
        with self._store.transaction():
            self._store.connection.execute(
                "UPDATE deliveries SET state=?, attempts=attempts+1 WHERE id=?", (state, delivery_id)
            )

    def _retry_later(self, delivery_id: int, attempts: int, created: int) -> None:
        if self._ctx.clock.now() - created > GIVE_UP_SECONDS:
            self._finish(delivery_id, "failed")
            return
        pause = min(
            self._settings.webhook_retry_seconds * 2 ** min(attempts, 20), self._settings.webhook_retry_max_seconds
        )
        with self._store.transaction():
            self._store.connection.execute(
                "UPDATE deliveries SET attempts=attempts+1, next_attempt_at=? WHERE id=?",
                (time.time() + pause, delivery_id),
            )
