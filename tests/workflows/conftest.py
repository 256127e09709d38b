"""One system for all workflow tests of a process, and the audit after each."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.desk import Desk
from tests.support.desk import desk as open_desk


@pytest_asyncio.fixture(scope="session")
async def system() -> AsyncIterator[Desk]:
    """Started by the first test that needs it. The folder is reachable for the account that PostgreSQL runs as."""
    top = Path(tempfile.mkdtemp(prefix="billing-workflows-"))
    top.chmod(0o755)
    try:
        async with open_desk(top / "state") as system:
            yield system
    finally:
        threading.Thread(target=shutil.rmtree, args=(top, True)).start()


@pytest_asyncio.fixture
async def desk(system: Desk) -> AsyncIterator[Desk]:
    """The system, and afterwards the audit of everything: chains are left finished, or waiting with a reason."""
    system.expected.clear()
    system.failures.plans.clear()
    yield system
    assert await system.findings() == []
