"""Helpers of the Cal.com tests: the sandbox as a subprocess, and a receiver of webhooks."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CONTRACTS = REPOSITORY.parent / "shared" / "contracts" / "calcom_webhooks"
KEY = "cal_test_key"
HEADERS = {"Authorization": f"Bearer {KEY}", "cal-api-version": "2024-08-13"}


class Sandbox:
    """One sandbox process. `client` sends a key and the version."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self._arguments = arguments
        self.process: subprocess.Popen[str]
        self.url = ""

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.calcom", "--data-dir", str(self.data_dir), *self._arguments],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.startswith("calcom sandbox listening on http://127.0.0.1:"), line
        self.url = line.rsplit(" ", 1)[1]

    def end(self, *, kill: bool = False) -> int:
        """Stops the process and returns its exit code."""
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@dataclass
class Received:
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.raw)
        return document

    @property
    def uid(self) -> str:
        return str(self.json.get("payload", self.json).get("uid"))


@dataclass
class Receiver:
    """A webhook endpoint. `status` is what it answers; `on_receive` runs before it does."""

    port: int = 0
    status: int = 200
    received: list[Received] = field(default_factory=list)
    on_receive: Any = None
    handlers: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._handle(reader, writer))
        self.handlers.add(task)
        task.add_done_callback(self.handlers.discard)

    async def close(self, server: asyncio.Server) -> None:
        """Ends the connections too."""
        server.close()
        for task in self.handlers:
            task.cancel()
        await asyncio.gather(*self.handlers, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:-2]
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                received = Received(headers, await reader.readexactly(int(headers["content-length"])))
                if self.on_receive is not None:
                    await self.on_receive(received)
                self.received.append(received)
                writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def start_at(hours: float = 48, *, slot: int = 0) -> str:
    """A whole hour ahead (or behind), as the API takes it; `slot` moves it by that many further hours."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return (now + timedelta(hours=hours + slot)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def spec(uid: str | None = None, **more: Any) -> dict[str, Any]:
    """A booking for POST /_sandbox/bookings."""
    attendee = {"name": "Jane Example", "email": "jane@example.com"}
    fields: dict[str, Any] = {"start": start_at(), "attendee": attendee, **more}
    if uid is not None:
        fields["uid"] = uid
    return fields


async def plant(client: httpx.AsyncClient, *specs: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post("/_sandbox/bookings", json={"bookings": list(specs)})
    assert answer.status_code == 201, answer.text
    bookings: list[dict[str, Any]] = answer.json()["bookings"]
    return bookings


async def control(client: httpx.AsyncClient, path: str, body: Any = None) -> dict[str, Any]:
    answer = await client.post(f"/_sandbox/{path}", json=body if body is not None else {})
    assert answer.is_success, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def subscribe(client: httpx.AsyncClient, url: str, *triggers: str, **more: Any) -> dict[str, Any]:
    body = {"active": True, "subscriberUrl": url, "triggers": list(triggers), "secret": "test-secret", **more}
    answer = await client.post("/v2/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    webhook: dict[str, Any] = answer.json()["data"]
    return webhook


async def eventually(condition: Any, *, within_seconds: float = 5) -> None:
    ends_at = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < ends_at, "did not happen in time"
        await asyncio.sleep(0.02)


@pytest.fixture(scope="module", name="sandbox")
def sandbox_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    server = Sandbox(tmp_path_factory.mktemp("cal com"), "--rate-limit", "0")
    server.start()
    yield server
    assert server.end() == 0


@pytest.fixture(name="client")
async def client_fixture(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """A client with key and version, after a reset; webhooks of other tests are gone."""
    async with httpx.AsyncClient(
        base_url=sandbox.url, headers=HEADERS, trust_env=False, verify=False, timeout=20
    ) as opened:
        await control(opened, "reset")
        yield opened


@pytest.fixture(name="receiver")
async def receiver_fixture() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await made.serve()
    yield made
    await made.close(server)
