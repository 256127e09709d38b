"""The Cal.com sandbox as a process: faults, control routes, throttling, memory, command line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contracts.calcom_server import (
    HEADERS,
    REPOSITORY,
    Sandbox,
    client_fixture,  # noqa: F401
    control,
    plant,
    sandbox_fixture,  # noqa: F401
    spec,
    subscribe,
)

Client = httpx.AsyncClient


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["status"] == "error"
    assert set(body) == {"status", "timestamp", "path", "error"}
    assert body["path"] == answer.request.url.raw_path.decode()
    datetime.fromisoformat(body["timestamp"])
    return answer.status_code, body["error"]["code"], body["error"]["message"]


async def uids(client: Client, **query: Any) -> list[str]:
    answer = await client.get("/v2/bookings", params=query)
    assert answer.status_code == 200, answer.text
    return [b["uid"] for b in answer.json()["data"]]


class TestFaults:
    async def fault(self, client: Client, kind: str, **more: Any) -> None:
        await control(client, "faults", {"kind": kind, "path_regex": "/cancel$", **more})

    @pytest.mark.parametrize(
        ("kind", "after"), [("lose_answer", "cancelled"), ("reset", "accepted"), ("error", "accepted"),
                            ("error_after", "cancelled"), ("rate_limit", "accepted"), ("bad_json", "cancelled")],
    )  # fmt: skip
    async def test_effect_and_answer(self, client: Client, kind: str, after: str) -> None:
        await plant(client, spec("u1"))
        await self.fault(client, kind)
        call = client.post("/v2/bookings/u1/cancel", json={"cancellationReason": "x"})
        if kind in ("lose_answer", "reset"):
            with pytest.raises(httpx.TransportError):
                await call
        else:
            answer = await call
            assert answer.status_code == {"rate_limit": 429, "bad_json": 200}.get(kind, 500)
            if kind == "bad_json":
                with pytest.raises(ValueError):
                    answer.json()
            if kind == "rate_limit":
                assert answer.headers["x-ratelimit-reset-default"] == "60"
        assert (await client.get("/v2/bookings/u1")).json()["data"]["status"] == after
        logged = (await client.get("/_sandbox/log")).json()["requests"]
        assert (logged[0]["fault"], logged[0]["path"]) == (kind, "/v2/bookings/u1/cancel")

    async def test_times_skip_and_method(self, client: Client) -> None:
        await plant(client, spec("u1"))
        body = {"kind": "error", "path_regex": "u1", "method": "GET", "skip": 1, "times": 2}
        await control(client, "faults", body)
        got = [(await client.get("/v2/bookings/u1")).status_code for _ in range(4)]
        assert got == [200, 500, 500, 200]
        assert (await client.get("/_sandbox/faults")).json() == {"faults": []}
        await self.fault(client, "error", times=-1)
        await client.delete("/_sandbox/faults")
        assert (await client.get("/_sandbox/faults")).json() == {"faults": []}

    async def test_slow(self, client: Client) -> None:
        await control(client, "faults", {"kind": "slow", "delay_seconds": 0.2})
        began = time.monotonic()
        assert (await client.get("/v2/me")).status_code == 200
        assert time.monotonic() - began >= 0.2

    @pytest.mark.parametrize("body", [{"kind": "boom"}, {"kind": "reset", "path_regex": "("}, {"kind": "slow", "x": 1}])
    async def test_bad_faults_are_refused(self, client: Client, body: dict[str, Any]) -> None:
        assert (await client.post("/_sandbox/faults", json=body)).status_code == 400


class TestControl:
    async def test_planting_is_all_or_nothing(self, client: Client) -> None:
        taken = await client.post("/_sandbox/bookings", json={"bookings": [spec("u1"), spec("u1")]})
        assert taken.status_code == 409
        missing = await client.post("/_sandbox/bookings", json={"bookings": [spec("u1"), spec(event_type_id=99)]})
        assert missing.status_code == 400
        assert await uids(client) == []
        await plant(client, spec("u1"))
        assert (await client.post("/_sandbox/bookings", json={"bookings": [spec("u1")]})).status_code == 409

    async def test_hostile_bodies(self, client: Client) -> None:
        for content in (b"{", b"[1]", b"\xff", b"null"):
            answer = await client.post("/v2/bookings", content=content)
            assert error_of(answer)[0] == 400
        big = await client.post("/v2/bookings", content=b" " * 1_100_000)
        assert error_of(big)[0] == 413


async def test_rate_limit_blocks_the_key_and_only_it(tmp_path: Path) -> None:
    server = Sandbox(tmp_path, "--rate-limit", "3")
    server.start()
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False, verify=False) as opened:
        answers = [await opened.get("/v2/me") for _ in range(5)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429, 429]
        assert [a.headers["x-ratelimit-remaining-default"] for a in answers] == ["2", "1", "0", "0", "0"]
        assert answers[0].headers["x-ratelimit-limit-default"] == "3"
        assert 59 <= int(answers[3].headers["x-ratelimit-reset-default"]) <= 60
        assert error_of(answers[3])[1] == "ThrottlerException"
        other = await opened.get("/v2/me", headers={"Authorization": "Bearer cal_other"})
        assert other.status_code == 200
        assert (await opened.get("/_sandbox/health")).status_code == 200
        await control(opened, "reset")
        assert (await opened.get("/v2/me")).status_code == 200
    assert server.end() == 0


async def test_a_killed_sandbox_remembers(tmp_path: Path) -> None:
    server = Sandbox(tmp_path)
    server.start()
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False, verify=False) as opened:
        planted = await plant(opened, spec("u1", metadata={"a": "b"}))
        await opened.post("/v2/bookings/u1/cancel", json={"cancellationReason": "x"})
        webhook = await subscribe(opened, "http://127.0.0.1:9/x", "BOOKING_CREATED")
    assert server.end(kill=True) == -signal.SIGKILL
    server.start()
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False, verify=False) as opened:
        again = (await opened.get("/v2/bookings/u1")).json()["data"]
        assert (again["status"], again["metadata"]) == ("cancelled", {"a": "b"})
        assert [w["id"] for w in (await opened.get("/v2/webhooks")).json()["data"]] == [webhook["id"]]
        assert (await plant(opened, spec("u2")))[0]["id"] > planted[0]["id"]
    assert server.end() == 0


def test_command_line(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    server = Sandbox(tmp_path / "new folder", "--port-file", str(port_file))
    server.start()
    assert server.url.endswith(f":{int(port_file.read_text())}")
    began = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.end() == 0
    assert time.monotonic() - began < 3

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sandbox.calcom", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = run("--data-dir", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert refused.stderr.startswith("calcom sandbox cannot start on port")
    assert run().returncode == 2
    assert run("--data-dir", str(tmp_path), "--webhook-secret", "s").returncode == 2


def test_the_sandbox_imports_nothing_of_ours() -> None:
    ours = ["domain", "workflows", "activities", "gateways", "store", "starter", "cli", "local", "settings", "worker"]
    code = f"import sandbox.calcom.__main__, sys; print([m for m in {ours!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_times_have_milliseconds_and_utc() -> None:
    from sandbox.calcom.model import iso_ms, iso_s, parse_ms

    at = int(datetime(2026, 11, 25, 9, 30, tzinfo=UTC).timestamp() * 1000) + 7
    assert (iso_ms(at), iso_s(at)) == ("2026-11-25T09:30:00.007Z", "2026-11-25T09:30:00Z")
    assert parse_ms("2026-11-25T10:30:00.007+01:00", "x") == parse_ms("2026-11-25T09:30:00.007", "x") == at


async def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements(client: Client) -> None:
    """With Nagle's algorithm on, each answer takes 40 ms more; the median tells that from a busy machine."""
    seconds = []
    for _ in range(15):
        began = time.monotonic()
        await client.get("/_sandbox/health")
        seconds.append(time.monotonic() - began)
    assert sorted(seconds)[7] < 0.03
