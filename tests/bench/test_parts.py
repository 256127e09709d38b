"""The parts of the benchmark: one that fails is told; what they send and read is what they say."""

from __future__ import annotations

import asyncio
import io
from importlib import import_module
from types import ModuleType
from typing import Any, cast

import pytest
from rich.console import Console

from bench import __main__ as bench
from bench import chains, profile
from bench.meters import cpu_seconds, kind_of, shares
from bench.progress import Shown
from bench.report import Figure
from bench.webhook_bodies import Request
from bench.wire import Sender
from bench.world import World
from local.environment import ROOT


def quiet() -> Shown:
    return Shown(Console(file=io.StringIO()))


def nowhere() -> World:
    """For parts that don't touch it."""
    return cast(World, None)


def pretend(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    module = ModuleType("bench.pretended")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setattr(bench, "import_module", lambda _: module)


async def test_a_part_that_fails_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    async def run(_: World, __: Shown) -> list[Figure]:
        nonlocal calls
        calls += 1
        if calls == 1:
            async with asyncio.TaskGroup():
                raise ValueError("the first\nwith a second line")
        return [Figure("speed", "1")]

    pretend(monkeypatch, run)
    first, second = await bench.run(nowhere(), ["one", "two"], quiet())
    assert (first.error, first.figures) == ("ValueError: the first", [])
    assert (second.error, second.figures) == ("", [Figure("speed", "1")])


async def test_a_part_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: World, __: Shown) -> list[Figure]:
        await asyncio.sleep(60)
        return []

    pretend(monkeypatch, run)
    monkeypatch.setattr(bench, "PART_TIMEOUT_SECONDS", 0.05)
    (only,) = await bench.run(nowhere(), ["one"], quiet())
    assert only.error.startswith("TimeoutError")


def test_every_part_has_a_module_that_runs() -> None:
    for name in bench.PARTS:
        assert asyncio.iscoroutinefunction(import_module(f"bench.{name}").run)


def test_processes_are_added_up_by_what_they_are() -> None:
    kinds = [kind_of(name) for name in ("worker-2", "sandbox-stripe", "peer-celery", "temporal", "benchmark")]
    assert kinds == ["worker", "stand-ins", "peer", "Temporal", "benchmark"]
    assert shares({"worker": 1.0, "Temporal": 3.0, "idle": 0.01}, 2.0).startswith(
        "Temporal 1.50, worker 0.50: together"
    )


def test_a_process_that_is_gone_took_nothing() -> None:
    assert cpu_seconds(2**22 + 1) == 0.0


# --- chains -----------------------------------------------------------------------------------------------------------


class Silent:
    name = "DBOS"

    async def start(self) -> None: ...

    async def chain(self, uid: str) -> None: ...

    async def stop(self) -> None: ...


def entrant(*speeds: float, **more: Any) -> chains.Entrant:
    rounds = [chains.Round(speed, 10.0, {}) for speed in speeds]
    return chains.Entrant(Silent(), rounds, **more)


def test_a_ratio_is_made_round_by_round() -> None:
    figure = chains._ratio(entrant(20.0, 40.0, 30.0), entrant(10.0, 80.0, 30.0), "DBOS")
    assert (figure.value, figure.spread, figure.met) == ("1.00", "0.50-2.00", True)


def test_an_absent_peer_has_a_line_and_no_verdict() -> None:
    figure = chains._ratio(entrant(20.0), entrant(trouble="not installed", absent=True), "DBOS")
    assert (figure.value, figure.target, figure.met, figure.note) == ("absent", "≥ 1", None, "not installed")


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def answering(*answers: bytes) -> tuple[asyncio.Server, str, list[bytes]]:
    """A server that gives these answers in turn, and what it was sent."""
    left, seen = list(answers), []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            seen.append(head + await reader.readexactly(2))
            writer.write(left.pop(0))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def said(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Other: a:b\r\n\r\n".encode() + body


async def test_the_sender_keeps_its_connection_and_tells_what_was_answered() -> None:
    server, url, seen = await answering(
        said("200 OK", b'{"status":"accepted"}'), said("503 Service Unavailable", b"{}"), b"HTTP/1.1 200 OK\r\n"
    )
    sender = Sender(url)
    request = Request("/webhooks/calcom", (("X-Cal-Signature-256", "abc"),), b"{}")
    assert [await sender.word(request) for _ in range(3)] == ["accepted", "HTTP 503", "IncompleteReadError"]
    sender.close()
    server.close()
    assert seen[0].startswith(b"POST /webhooks/calcom HTTP/1.1\r\n")
    assert b"X-Cal-Signature-256: abc\r\n" in seen[0]


# --- profile ----------------------------------------------------------------------------------------------------------


def test_a_sample_counts_for_the_innermost_package_that_is_not_the_standard_library() -> None:
    loop = f"run (/usr/lib/python3.11/asyncio/runners.py:1);main ({ROOT}/worker.py:2)"
    package = "/venv/lib/python3.11/site-packages"
    found = profile.read(
        [
            f"{loop};post ({ROOT}/store/ledger.py:9);execute ({package}/psycopg/cursor.py:3) 6\n",
            f"{loop};post ({ROOT}/store/ledger.py:9);dumps (/usr/lib/python3.11/json/__init__.py:4) 2\n",
            f"{loop};_run_once (/usr/lib/python3.11/asyncio/base_events.py:7) 1\n",
            f"{loop};_find_and_load (<frozen importlib._bootstrap>:5);x ({package}/stripe/a.py:1) 1\n",
            "py-spy says something else\n",
        ]
    )
    assert found.samples == 10
    assert dict(found.by_package) == {"psycopg": 0.6, "ours: store": 0.2, "event loop": 0.1, "importing modules": 0.1}
    assert dict(found.by_function)["post (store/ledger.py)"] == 0.8
    assert dict(found.by_function)["execute (psycopg/cursor.py)"] == 0.6
