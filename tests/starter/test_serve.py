"""The webhook app as a process: a real socket, a real signal, Temporal away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from store import Store
from store.rows import InboxStatus
from tests.starter.bodies import CALCOM_SECRET, STRIPE_SECRET, calcom_body, calcom_headers

ROOT = Path(__file__).parents[2]
CREATED = calcom_body("BOOKING_CREATED", "uid-1")
PROGRAM = "import asyncio, settings, starter.webhooks as app; asyncio.run(app.serve(settings.load(_env_file=None)))"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start(database_url: str, port: int) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "STRIPE_SECRET_KEY": "sk_test_starter",
        "STRIPE_WEBHOOK_SECRET": STRIPE_SECRET,
        "CALCOM_API_KEY": "cal_test_starter",
        "CALCOM_WEBHOOK_SECRET": CALCOM_SECRET,
        "WEBHOOK_PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def wait_until_alive(process: subprocess.Popen[str], base: str) -> None:
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(process.communicate()[0])
        try:
            if httpx.get(f"{base}/healthz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the webhook app did not come up within 30 s")


async def test_events_are_taken_while_temporal_is_away_and_a_signal_ends_it(database_url: str) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    process = start(database_url, port)
    try:
        wait_until_alive(process, base)
        answer = httpx.post(f"{base}/webhooks/calcom", content=CREATED, headers=calcom_headers(CREATED))
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
        assert "TEMPORAL_ADDRESS" in httpx.get(f"{base}/readyz", timeout=10).json()["checks"]["temporal"]
        with socket.create_connection(("127.0.0.1", port)) as cut_off:
            head = f"POST /webhooks/calcom HTTP/1.1\r\nHost: a\r\nContent-Length: {len(CREATED)}\r\n\r\n".encode()
            cut_off.sendall(head + CREATED[:20])
        assert httpx.get(f"{base}/healthz").status_code == 200
        async with Store(database_url) as store, store.begin() as tx:
            assert (await tx.inbox.counts())[InboxStatus.RECEIVED] == 1
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in output
    lines = [json.loads(line) for line in output.splitlines()]
    assert {"webhooks_listen", "webhook_received", "event_later"} <= {line["event"] for line in lines}
    assert all({"level", "timestamp"} <= set(line) for line in lines)
    assert "Erika" not in output


def test_a_taken_port_is_an_oserror(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(database_url, int(taken.getsockname()[1]))
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "OSError" in output
    assert "Address already in use" in output
