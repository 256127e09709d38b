"""`billing up` as a process of its own: it works for other terminals, goes on where it ended, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from cli.local_state import is_running, read
from domain.chain import ChainOutcome, ChainStage
from local.environment import ROOT
from store import Store
from store.rows import ChainRow

_UP = """
import sys
from dataclasses import replace
from pathlib import Path
from local.environment import ANY_PORTS
from local.up import up
sys.exit(up(Path(sys.argv[1]), wishes=replace(ANY_PORTS, persistent=True)))
"""
_PATIENCE_SECONDS = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder with spaces" / ".billing"


def _plain() -> dict[str, str]:
    """Our environment without what would replace a part of the local system."""
    left_out = ("DATABASE_URL", "TEMPORAL_ADDRESS", "STRIPE_SECRET_KEY", "CALCOM_API_KEY")
    return {name: value for name, value in os.environ.items() if name not in left_out}


@contextmanager
def running(folder: Path, log: Path) -> Iterator[dict[str, str]]:
    """`billing up` until the block ends, then Ctrl-C; yields the settings that it wrote for other terminals."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _UP, str(folder)], cwd=ROOT, env=_plain(), stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (folder / "env").exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield read(folder / "env")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(30)


def book(settings: dict[str, str], uid: str) -> ChainRow:
    """A booking of last year by the demo's catalogue, and its chain when it has ended."""
    booking = {
        "uid": uid,
        "event_type_id": 14,
        "organizer_id": 501,
        "start": "2025-11-20T10:00:00Z",
        "created_at": "2025-11-10T10:00:00Z",
        "attendee": {"name": "Mara Musterfrau", "email": "mara@example.com"},
    }
    with httpx.Client(base_url=settings["CALCOM_BASE_URL"], trust_env=False) as calcom:
        calcom.post("/_sandbox/bookings", json={"bookings": [booking]}).raise_for_status()
    return asyncio.run(_closed(settings["DATABASE_URL"], uid))


async def _closed(database_url: str, uid: str) -> ChainRow:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    async with Store(database_url, pool_size=1) as store:
        while True:
            async with store.begin() as tx:
                row = await tx.chains.get(uid)
            if row is not None and row.stage is ChainStage.CLOSED:
                return row
            assert time.monotonic() < deadline, str(row)
            await asyncio.sleep(0.1)


def test_it_works_for_other_terminals_and_goes_on_where_it_ended(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with running(folder, log) as first:
        assert (folder / "env").stat().st_mode & 0o777 == 0o600
        assert book(first, "first-day").outcome is ChainOutcome.PAID
        shown = subprocess.run(
            [sys.executable, "-m", "cli", "chains", "--json"],
            cwd=ROOT,
            env={**os.environ, **first},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert "first-day" in json.dumps(json.loads(shown.stdout))
        assert_a_second_one_is_refused(folder)
    assert "Temporal Web UI" in log.read_text()
    assert not (folder / "env").exists()
    assert not is_running(first)

    with running(folder, log) as second:
        # New secrets, new ports: webhooks are signed and sent accordingly, and what was there is still there.
        assert second["CALCOM_WEBHOOK_SECRET"] != first["CALCOM_WEBHOOK_SECRET"]
        assert book(second, "second-day").outcome is ChainOutcome.PAID
        assert asyncio.run(_closed(second["DATABASE_URL"], "first-day")).outcome is ChainOutcome.PAID
    assert log.read_text().count("Catalogue loaded") == 1


def assert_a_second_one_is_refused(folder: Path) -> None:
    """It says who is there, ends, and leaves the first one's settings alone."""
    second = subprocess.run(
        [sys.executable, "-c", _UP, str(folder)],
        cwd=ROOT,
        env=_plain(),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert second.returncode == 1
    assert "stop it first" in " ".join(second.stdout.split())
    assert (folder / "env").exists()
