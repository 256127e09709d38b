"""Signed webhooks of Cal.com and Stripe: the bodies that the stand-ins make, under new ids and times."""

from __future__ import annotations

import copy
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx

from bench.world import World
from settings import Settings

_TRIGGER = "BOOKING_CREATED"


@dataclass(frozen=True)
class Request:
    """What a sender writes: path, headers of its own and body."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Bodies:
    """Every call makes an event that was never sent before."""

    def __init__(self, settings: Settings, booking: dict[str, Any], payments: Sequence[dict[str, Any]]) -> None:
        self._calcom_key = settings.calcom_webhook_secret.get_secret_value().encode()
        self._stripe_key = settings.stripe_webhook_secret.get_secret_value().encode()
        self._booking = booking
        self._payments = itertools.cycle(payments)
        self._known = itertools.cycle([one["data"]["object"]["metadata"]["chain_uid"] for one in payments])
        self._numbers = itertools.count(1)
        self._begun = datetime.now(UTC)

    @classmethod
    async def learn(cls, world: World, known: Sequence[str]) -> Self:
        """Takes one body of each kind from the stand-ins. `known` are chains that have ended, the first just now."""
        (
            await world.calcom.post("/_sandbox/announce", json={"uids": [known[0]], "trigger": _TRIGGER})
        ).raise_for_status()
        (await world.calcom.post("/_sandbox/webhooks/flush")).raise_for_status()
        sent = (await world.calcom.get("/_sandbox/webhooks")).raise_for_status().json()["deliveries"]
        booking = json.loads(next(one["body"] for one in reversed(sent) if one["trigger_event"] == _TRIGGER))
        secret_key = world.settings.stripe_secret_key.get_secret_value()
        async with httpx.AsyncClient(base_url=world.settings.stripe_base_url or "", trust_env=False) as stripe:
            answer = await stripe.get(
                "/v1/events",
                params={"type": "payment_intent.succeeded", "limit": 100},
                headers={"Authorization": f"Bearer {secret_key}"},
            )
        wanted = set(known)
        events = answer.raise_for_status().json()["data"]
        payments = [one for one in events if one["data"]["object"]["metadata"].get("chain_uid") in wanted]
        if not payments:
            raise RuntimeError("Stripe knows no payment of the chains that just ended")
        return cls(world.settings, booking, payments)

    def calcom(self, uid: str | None = None) -> Request:
        """A booking was made: this one, else one whose chain has ended."""
        number = next(self._numbers)
        told = copy.deepcopy(self._booking)
        told["createdAt"] = (self._begun + timedelta(milliseconds=number)).isoformat(timespec="milliseconds")
        told["payload"]["uid"] = uid or next(self._known)
        body = json.dumps(told, separators=(",", ":")).encode()
        signature = hmac.new(self._calcom_key, body, hashlib.sha256).hexdigest()
        return Request("/webhooks/calcom", (("X-Cal-Signature-256", signature),), body)

    def stripe(self) -> Request:
        """A payment succeeded that its chain knows of."""
        told = {**next(self._payments), "id": f"evt_bench{next(self._numbers):012d}{time.time_ns()}"}
        body = json.dumps(told, separators=(",", ":")).encode()
        stamp = str(int(time.time()))
        signature = hmac.new(self._stripe_key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return Request("/webhooks/stripe", (("Stripe-Signature", f"t={stamp},v1={signature}"),), body)
