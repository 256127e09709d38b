"""What a request handler gets: the store, the clock, the account it acts for, and the event it causes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from sandbox.stripe.errors import JsonObject, missing_object
from sandbox.stripe.forms import Rules
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import Store, dumps

API_VERSION = "2026-10-28.endive"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# Stripe's name of a kind in "No such …" messages, where it is not the kind itself.
_SPOKEN = {"payment_method": "PaymentMethod", "account": "destination", "webhook_endpoint": "webhook endpoint"}


def new_id(prefix: str, length: int = 24) -> str:
    """``prefix`` and random letters and digits, as Stripe's ids look."""
    return f"{prefix}_" + "".join(_ALPHABET[byte % 62] for byte in secrets.token_bytes(length))


class Clock:
    """Seconds since 1970, moved forward on request. The offset is stored: a restart does not turn time back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.offset_seconds = int(store.meta("clock_offset_seconds", "0"))

    def now(self) -> int:
        """The stand-in's present."""
        return int(time.time()) + self.offset_seconds

    def advance(self, seconds: int) -> None:
        """Moves the present forward. Must run inside a transaction."""
        self.offset_seconds += seconds
        self._store.set_meta("clock_offset_seconds", str(self.offset_seconds))

    def reset(self) -> None:
        """Back to the real time."""
        self.offset_seconds = 0


class Context:
    """One request's view. ``account`` is the account the call acts in: the platform, or ``Stripe-Account``."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        platform: str,
        *,
        account: str | None = None,
        base_url: str = "",
        request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings
        self.platform = platform
        self.account = account or platform
        self.base_url = base_url
        self.request_id = request_id
        self.idempotency_key = idempotency_key
        self.now = clock.now()

    def within(self, account: str) -> Context:
        """The same request, seen from another account (a transfer has two sides)."""
        if account == self.account:
            return self
        other = self.fresh(account)
        other.now = self.now
        return other

    def fresh(self, account: str) -> Context:
        """The same origin at the clock's present time, for what happens later than the request."""
        return Context(
            self.store,
            self.clock,
            self.settings,
            self.platform,
            account=account,
            base_url=self.base_url,
            request_id=self.request_id,
            idempotency_key=self.idempotency_key,
        )

    def create(self, kind: str, body: JsonObject) -> JsonObject:
        """Stores a new object in this account."""
        self.store.insert(kind, self.account, body)
        return body

    def fetch(self, kind: str, object_id: str, *, param: str = "id", in_path: bool = True) -> JsonObject:
        """The object of this account, or Stripe's ``resource_missing``."""
        found = self.store.find(object_id, kind, self.account)
        if found is None:
            raise missing_object(_SPOKEN.get(kind, kind), object_id, param=param, in_path=in_path)
        return found

    def later(self, seconds: int, kind: str, object_id: str) -> None:
        """Plans a job for ``seconds`` from now on the stand-in's clock."""
        self.store.connection.execute(
            "INSERT INTO jobs (due_at, kind, object_id) VALUES (?, ?, ?)", (self.now + seconds, kind, object_id)
        )

    def emit(self, event_type: str, subject: JsonObject, previous: JsonObject | None = None) -> None:
        """Records an event with the object as it is now, and one waiting delivery for each endpoint that listens."""
        connected = self.account != self.platform
        data: JsonObject = {"object": public(subject)}
        if previous:
            data["previous_attributes"] = previous
        event: JsonObject = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": event_type,
        }
        if connected:
            event["account"] = self.account
        self.store.insert("event", self.account, event)
        endpoints = self.store.select("webhook_endpoint", self.platform)
        for endpoint in reversed(endpoints):
            wanted = endpoint["enabled_events"]
            if endpoint["_connect"] == connected and endpoint["status"] == "enabled" and wants(wanted, event_type):
                self.store.connection.execute(
                    "INSERT INTO deliveries (event_id, endpoint_id, next_attempt_at) VALUES (?, ?, ?)",
                    (event["id"], endpoint["id"], time.time()),
                )


def wants(chosen: list[str], event_type: str) -> bool:
    """Whether ``enabled_events`` covers a type: Stripe knows names and ``*``, no prefixes."""
    return "*" in chosen or event_type in chosen


def public(body: JsonObject) -> JsonObject:
    """The object without its private fields."""
    return {name: value for name, value in body.items() if name[0] != "_"}


Handler = Callable[[Context, tuple[str, ...], dict[str, Any]], JsonObject]
Route = tuple[str, str, Rules, Handler]
"""(method, path with ``*`` for an id, parameter rules, handler)."""

__all__ = ["API_VERSION", "Clock", "Context", "Handler", "Route", "dumps", "new_id", "public", "wants"]
