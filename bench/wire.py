"""The least that speaks HTTP/1.1: a usual client library would be busier than the app that it is to measure."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

from bench.webhook_bodies import Request

ANSWER_SECONDS = 30.0

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Sender:
    """Keeps connections alive and opens one more whenever all are busy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._idle: list[_Connection] = []

    async def word(self, request: Request) -> str:
        """The answer's status word, `HTTP 503` for anything but 200, or the name of what went wrong."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = self._idle.pop() if self._idle else await self._open()
                writer.write(self._head(request) + request.body)
                status, body = await _answer(reader)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            if writer is not None:
                writer.close()
            return type(error).__name__
        self._idle.append((reader, writer))
        return str(json.loads(body).get("status")) if status == 200 else f"HTTP {status}"

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    async def _open(self) -> _Connection:
        return await asyncio.open_connection(self._host, self._port)

    def _head(self, request: Request) -> bytes:
        lines = [
            f"POST {request.path} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            "Content-Type: application/json",
            f"Content-Length: {len(request.body)}",
            *(f"{name}: {value}" for name, value in request.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body. Raises ValueError for an answer without a length, EOFError for one that breaks off."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(":", 1) for line in head[1:] if ":" in line)
    return int(head[0].split(" ", 2)[1]), await reader.readexactly(int(fields["content-length"]))
