"""Keep-alive connections to one company's API, without what these calls never use of an HTTP client."""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import ssl
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

KEEPALIVE_EXPIRY_SECONDS: Final = 55.0
"""Shorter than the idle time-out of usual load balancers (60 s), so that we close first and no request meets a closed
connection."""

CONNECT_TIMEOUT_SECONDS: Final = 5.0

# httpcore asks for this module in every call; where it is not installed, Python would search the disk each time.
if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]


def is_loopback(base_url: str) -> bool:
    """Whether the address is this machine: then a proxy of the environment plays no part."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class HttpPool:
    """Sends a request and reads the whole answer; no redirects, cookies, authentication or retries.

    `httpx.AsyncClient` spends as much CPU time around a call as the call itself takes, so its transport is used alone,
    unless the environment names a proxy. `timeout_seconds` bounds each wait; `transport` replaces the network (tests).
    """

    def __init__(
        self,
        *,
        base_url: str,
        timeout_seconds: float,
        max_connections: int,
        verify: ssl.SSLContext | bool,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        timeout = httpx.Timeout(timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds))
        limits = httpx.Limits(
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=KEEPALIVE_EXPIRY_SECONDS,
        )
        self._extensions = {"timeout": timeout.as_dict()}
        self._pool: httpx.AsyncClient | httpx.AsyncBaseTransport
        if transport is None and getproxies() and not is_loopback(base_url):
            self._pool = httpx.AsyncClient(verify=verify, limits=limits)
        else:
            self._pool = transport or httpx.AsyncHTTPTransport(verify=verify, limits=limits)

    async def request(
        self,
        method: str,
        url: str | httpx.URL,
        headers: Mapping[str, str],
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """The answer, whatever its status, with its body read. Raises `httpx.HTTPError` where there is none."""
        request = httpx.Request(
            method, url, params=params, headers=headers, content=content, extensions=self._extensions
        )
        if isinstance(self._pool, httpx.AsyncClient):
            return await self._pool.send(request)
        response = await self._pool.handle_async_request(request)
        response.request = request
        try:
            await response.aread()
        except BaseException:
            await asyncio.shield(response.aclose())
            raise
        return response

    async def aclose(self) -> None:
        """Closes the pool; requests under way are cut off."""
        await self._pool.aclose()
