"""The one HTTP connection pool to Stripe below the `stripe` library."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import stripe

MAX_CONNECTIONS: Final = 100
"""Stripe answers at most 100 requests a second for an account: more connections than that never help."""

KEEPALIVE_EXPIRY_SECONDS: Final = 55.0
"""Shorter than the idle time-out of usual load balancers (60 s), so that we close first and no request meets a closed
connection."""

CONNECT_TIMEOUT_SECONDS: Final = 5.0

# Process-wide switches of the library. Telemetry writes an id file into the home directory and costs time in each call;
# its log lines at INFO carry Stripe's error texts.
stripe.enable_telemetry = False
logging.getLogger("stripe").setLevel(logging.WARNING)


def is_loopback(base_url: str) -> bool:
    """Whether the address is this machine: then a proxy of the environment plays no part."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Transport(stripe.HTTPXClient):
    """`stripe.HTTPXClient` with our pool. One difference besides: the body is sent as bytes. The original hands text
    to httpx's `data`, which is deprecated, and a warning turned into an error would look like a lost connection."""

    def __init__(self, *, base_url: str, timeout_seconds: float, transport: httpx.AsyncBaseTransport | None) -> None:
        super().__init__(timeout=timeout_seconds)
        verify: ssl.SSLContext | bool = False
        if urlsplit(base_url).scheme == "https":
            verify = ssl.create_default_context(cafile=stripe.ca_bundle_path)
        self._pool = httpx.AsyncClient(
            verify=verify,
            trust_env=not is_loopback(base_url),
            transport=transport,
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)),
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_EXPIRY_SECONDS,
            ),
        )

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        content = post_data.encode() if isinstance(post_data, str) else post_data
        try:
            response = await self._pool.request(method.upper(), url, headers=dict(headers), content=content)
        except httpx.HTTPError as error:
            self._handle_request_error(error)
        return response.content, response.status_code, response.headers

    async def close_async(self) -> None:
        """Closes the pool; requests under way are cut off."""
        await self._pool.aclose()
        await super().close_async()  # type: ignore[no-untyped-call]
