"""Sends webhooks the way Cal.com does: signed where there is a secret, one try, no order, no second chance."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json

import httpx

from sandbox.calcom.faults import WebhookFault, first_striking
from sandbox.calcom.model import Booking, Json, Webhook, now_ms
from sandbox.calcom.store import Store
from sandbox.calcom.webhook_shapes import body, render_template

SEND_TIMEOUT_SECONDS = 10.0
MAX_PARALLEL_SENDS = 16
NO_SECRET = "no-secret-provided"


def signature(secret: str | None, raw: str) -> str:
    """Hex HMAC-SHA256 of the raw body, or the literal that Cal.com sends without a secret."""
    return hmac.new(secret.encode(), raw.encode(), hashlib.sha256).hexdigest() if secret else NO_SECRET


class Deliveries:
    """The outgoing side. Every webhook is a row in the store: pending, held, dropped, delivered, failed or lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client = httpx.AsyncClient(
            timeout=SEND_TIMEOUT_SECONDS,
            trust_env=False,
            verify=False,
            limits=httpx.Limits(max_connections=MAX_PARALLEL_SENDS),
        )
        self._slots = asyncio.Semaphore(MAX_PARALLEL_SENDS)
        self._running: set[asyncio.Task[None]] = set()
        self.faults: list[WebhookFault] = []

    async def aclose(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    async def flush(self) -> None:
        """Waits until nothing is on its way any more."""
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def strikes_early(self, trigger: str, uid: str) -> bool:
        matching = [f for f in self.faults if f.kind == "early" and f.matches(trigger, uid)]
        return first_striking(self.faults, matching) is not None

    def announce(self, trigger: str, b: Booking, *, confirmed_by_hand: bool = False) -> None:
        """Queues one webhook to every subscriber of the trigger. Returns at once."""
        document = body(self._store, trigger, b, at_ms=now_ms(), confirmed_by_hand=confirmed_by_hand)
        for webhook in self._store.webhooks():
            wanted = webhook.active and trigger in webhook.triggers
            if wanted and webhook.event_type_id in (None, b.event_type_id):
                self._queue(webhook, trigger, b.uid, document)

    def send_raw(self, url: str, raw: str, *, header: str, trigger: str, uid: str | None) -> int:
        """Queues any body with any signature header, beside all faults; for forged and strange webhooks."""
        delivery_id = self._add(url, raw, header, trigger, uid, "2021-10-20", "pending")
        self._start(delivery_id)
        return delivery_id

    async def release(self, *, reverse: bool) -> int:
        """Sends what is held, one after the other, the newest first if `reverse`. Returns how many."""
        held = self._store.deliveries("held")
        for row in reversed(held) if reverse else held:
            await self._send(row["id"])
        return len(held)

    def _queue(self, webhook: Webhook, trigger: str, uid: str, document: Json) -> None:
        if webhook.payload_template:
            raw = render_template(webhook.payload_template, document)
        else:
            raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        candidates = [f for f in self.faults if f.kind != "early" and f.matches(trigger, uid)]
        fault = first_striking(self.faults, candidates)
        state = {"drop": "dropped", "hold": "held"}.get(fault.kind, "pending") if fault else "pending"
        for _ in range(fault.copies if fault and fault.kind == "duplicate" else 1):
            header = signature(webhook.secret, raw)
            delivery_id = self._add(webhook.subscriber_url, raw, header, trigger, uid, webhook.version, state)
            if state == "pending":
                self._start(delivery_id)

    def _add(self, url: str, raw: str, header: str, trigger: str, uid: str | None, version: str, state: str) -> int:
        return self._store.add_delivery(
            trigger=trigger, uid=uid, url=url, body=raw, signature=header, version=version, state=state, at_ms=now_ms()
        )

    def _start(self, delivery_id: int) -> None:
        task = asyncio.create_task(self._send(delivery_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _send(self, delivery_id: int) -> None:
        row = self._store.delivery(delivery_id)
        headers = {
            "Content-Type": "application/json",
            "X-Cal-Signature-256": row["signature"],
            "X-Cal-Webhook-Version": row["version"],
        }
        async with self._slots:
            try:
                answer = await self._client.post(row["url"], content=row["body"].encode(), headers=headers)
            except (httpx.HTTPError, httpx.InvalidURL):
                self._store.set_delivery(delivery_id, "failed")
                return
        self._store.set_delivery(
            delivery_id, "delivered" if answer.is_success else "failed", status_code=answer.status_code
        )
