"""The command line as a person meets it: arguments in, text and exit code out, on a real database."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from settings import Settings
from store import Store

T = TypeVar("T")

NAMES = [name.upper() for name in Settings.model_fields]


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Billing:
    """`billing` in an empty folder, with exactly the settings that the test gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self.folder = folder
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(folder)
        # A `billing up` in the checkout must not be what the tests act on.
        monkeypatch.setattr("cli.local_state.ROOT", folder)

    def set(self, **settings: object) -> None:
        for name, value in settings.items():
            self._monkeypatch.setenv(name, str(value))

    def configure(self, database_url: str, **more: object) -> None:
        """Usable settings; nothing listens where Temporal, Stripe, Cal.com and the webhook app should be."""
        self.set(
            DATABASE_URL=database_url,
            TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}",
            STRIPE_SECRET_KEY="sk_test_example",
            STRIPE_WEBHOOK_SECRET="whsec_example",
            STRIPE_BASE_URL=f"http://127.0.0.1:{free_port()}",
            CALCOM_API_KEY="cal_test_example",
            CALCOM_WEBHOOK_SECRET="a long random word",
            CALCOM_BASE_URL=f"http://127.0.0.1:{free_port()}",
            WEBHOOK_PORT=free_port(),
        )
        self.set(**more)

    def __call__(self, *arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        return json.loads(result.stdout)


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Billing:
    """Without any setting."""
    return Billing(monkeypatch, tmp_path)


@pytest.fixture
def billing(unconfigured: Billing, database_url: str) -> Billing:
    """On this test's database; everything else is out of reach."""
    unconfigured.configure(database_url)
    return unconfigured


@pytest.fixture
def planted(database_url: str) -> Callable[[Callable[[Store], Awaitable[T]]], T]:
    """Runs a coroutine function on this test's database: what the command then finds."""

    def run(work: Callable[[Store], Awaitable[T]]) -> T:
        async def go() -> T:
            async with Store(database_url, pool_size=4) as store:
                return await work(store)

        return asyncio.run(go())

    return run
