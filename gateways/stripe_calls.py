"""How the Stripe gateway calls: one pool, one deadline, one way to send a key, to read an answer and to page.

Requests go through `StripeClient.raw_request_async`, which keeps the library's encoding, headers and error classes but
answers with plain dictionaries: a quarter of the CPU time of its typed objects, which are built for each field and
raise AttributeError where one is absent. The library never retries here: callers do, with the same business key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeVar

import httpx
import stripe

from domain.ports import OutcomeUnknown, SetupError
from gateways.stripe_errors import Operation, translate
from gateways.stripe_objects import BadAnswer, Json, text
from gateways.stripe_transport import Transport

API_VERSION: Final = "2026-10-28.endive"
"""Pinned: an upgrade of the library must not change what the answers look like without a commit that says so."""

DEFAULT_BASE_URL: Final = "https://api.stripe.com"

PAGE_SIZE: Final = 100
"""Stripe's maximum."""

_KEY: Final = re.compile(r"^[\x21-\x7e]{1,255}\Z")

_Record = TypeVar("_Record")


def checked_key(value: str) -> str:
    """An idempotency key that fits into Stripe's header."""
    if not _KEY.match(value):
        raise SetupError("bad_idempotency_key", "an idempotency key has 1-255 printable ASCII characters, no spaces")
    return value


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Within Stripe's limits: 50 keys of 40 characters, values of 500."""
    too_long = [key for key, value in metadata.items() if len(key) > 40 or len(value) > 500]
    if too_long or len(metadata) > 50:
        raise SetupError("bad_metadata", "metadata holds at most 50 keys of 40 and values of 500 characters")
    return dict(metadata)


def read(operation: Operation, build: Callable[[Json], _Record], data: Json) -> _Record:
    """The record in an answer. An answer that cannot be read leaves the outcome unknown."""
    try:
        return build(data)
    except BadAnswer as error:
        raise OutcomeUnknown("bad_answer", f"{operation}, field {error}") from None


class StripeCalls:
    """The calls below the methods of the port.

    `base_url` is Stripe's own address where it is None; `timeout_seconds` bounds a whole call, connecting included.
    `transport` replaces the network (tests). Raises ValueError on an empty or impossible key or address.
    """

    def __init__(
        self,
        *,
        secret_key: str,
        base_url: str | None = None,
        timeout_seconds: float = 20,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_]{8,255}", secret_key):
            raise ValueError("the Stripe secret key looks like sk_live_... or sk_test_...; this is not one")
        address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        if not re.fullmatch(r"https?://[^\s/]+", address):
            raise ValueError("the Stripe address looks like https://api.stripe.com, without a path")
        self._timeout_seconds = timeout_seconds
        self._http = Transport(base_url=address, timeout_seconds=timeout_seconds, transport=transport)
        self._client = stripe.StripeClient(
            secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": address},
            http_client=self._http,
            max_network_retries=0,
        )

    async def aclose(self) -> None:
        await self._http.close_async()

    async def write(
        self, operation: Operation, path: str, params: Mapping[str, Any], idempotency_key: str, *, metadata: bool = True
    ) -> Json:
        """One POST under the business's key. `metadata` also writes the key into the object, for the day on which
        Stripe has forgotten it (24 hours); False where the object takes none."""
        key = checked_key(idempotency_key)
        sent = dict(params)
        if metadata:
            sent["metadata"] = checked_metadata({**sent.get("metadata", {}), "billing_key": key})
        return await self._call(operation, "post", path, sent, {"idempotency_key": key})

    async def get(self, path: str, params: Mapping[str, Any] | None = None, *, account_id: str | None = None) -> Json:
        """One GET; with `account_id` in that connected account instead of the platform's own."""
        options = {} if account_id is None else {"stripe_account": account_id}
        return await self._call(Operation.READ, "get", path, params or {}, options)

    async def _call(
        self, operation: Operation, method: str, path: str, params: Mapping[str, Any], options: Mapping[str, str]
    ) -> Json:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.raw_request_async(method, path, **options, **params)
        except TimeoutError:
            raise OutcomeUnknown("timeout", f"{operation}, no answer in {self._timeout_seconds} s") from None
        except stripe.StripeError as error:
            raise translate(operation, error) from None
        if not isinstance(response.data, dict):
            raise OutcomeUnknown("bad_answer", f"{operation}, the answer is no object")
        return response.data

    async def pages(self, path: str, params: Mapping[str, Any]) -> AsyncIterator[Json]:
        """All items of a list, newest first, one request per page, asked for when the page before is used up."""
        query = {**params, "limit": PAGE_SIZE}
        while True:
            page = await self.get(path, query)
            items = page.get("data")
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise OutcomeUnknown("bad_answer", "list, field data")
            for item in items:
                yield item
            if page.get("has_more") is not True or not items:
                return
            query["starting_after"] = read(Operation.READ, lambda item: text(item, "id"), items[-1])

    async def with_key(self, path: str, params: Mapping[str, Any], idempotency_key: str) -> AsyncIterator[Json]:
        """The items of a list that a call with this key made. A list, because the search index lags."""
        async for item in self.pages(path, params):
            metadata = item.get("metadata")
            if isinstance(metadata, Mapping) and metadata.get("billing_key") == idempotency_key:
                yield item
