"""The one HTTP connection pool to Stripe below the `stripe` library."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import stripe

from gateways.http_pool import HttpPool

MAX_CONNECTIONS: Final = 100
"""Stripe answers at most 100 requests a second for an account: more connections than that never help."""

# Process-wide switches of the library. Telemetry writes an id file into the home directory and costs time in each call;
# its log lines at INFO carry Stripe's error texts.
stripe.enable_telemetry = False
logging.getLogger("stripe").setLevel(logging.WARNING)


class Transport(stripe.HTTPXClient):
    """`stripe.HTTPXClient` with our pool. One difference besides: the body is sent as bytes. The original hands text
    to httpx's `data`, which is deprecated, and a warning turned into an error would look like a lost connection."""

    def __init__(self, *, base_url: str, timeout_seconds: float, transport: httpx.AsyncBaseTransport | None) -> None:
        super().__init__(timeout=timeout_seconds)
        verify: ssl.SSLContext | bool = False
        if urlsplit(base_url).scheme == "https":
            verify = ssl.create_default_context(cafile=stripe.ca_bundle_path)
        self._pool = HttpPool(
            base_url=base_url,
            timeout_seconds=timeout_seconds,
            max_connections=MAX_CONNECTIONS,
            verify=verify,
            transport=transport,
        )

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        content = post_data.encode() if isinstance(post_data, str) else post_data
        try:
            response = await self._pool.request(method.upper(), url, headers, content=content)
        except httpx.HTTPError as error:
            self._handle_request_error(error)
        return response.content, response.status_code, response.headers

    async def close_async(self) -> None:
        """Closes the pool; requests under way are cut off."""
        await self._pool.aclose()
        await super().close_async()  # type: ignore[no-untyped-call]
