"""Orders through a real Temporal server: migrate, retry, roll back, settle, health."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from domain.chain import ChainOutcome, ChainStage
from local.temporal import LocalTemporal
from store import Store
from tests.cli.conftest import Billing
from tests.store import seed

WHO = ("--by", "ops-anna", "--why", "asked for")


@pytest.fixture(scope="module")
def temporal() -> Iterator[str]:
    """Address of a server in memory without search attributes and schedules."""
    with tempfile.TemporaryDirectory(prefix="billing-cli-") as folder:
        server = LocalTemporal(Path(folder), port=0, ui_port=0, search_attributes={}, persistent=False)
        try:
            yield server.start()
        finally:
            server.stop()


@pytest.fixture
def connected(billing: Billing, temporal: str) -> Billing:
    billing.set(TEMPORAL_ADDRESS=temporal)
    return billing


def test_migrate_brings_everything_up_to_date_once(connected: Billing) -> None:
    first = connected("migrate")
    assert first.exit_code == 0, first.stderr
    second = connected("migrate")
    assert second.stdout == "schema: up to date\nsearch attributes: up to date\nschedules: up to date\n"
    checks = {check["name"]: check for check in connected.json("health")}
    assert all(checks[name]["state"] == "ok" for name in ("database", "temporal", "search attributes", "schedules"))
    assert "nobody works on the task queue" in checks["workers"]["found"]


async def closed(store: Store) -> None:
    await seed.apply(store)
    await seed.open_quoted(store, "declined-1")
    async with store.begin() as tx:
        await tx.chains.update("declined-1", stage=ChainStage.CLOSED, outcome=ChainOutcome.CANCELLED)


@pytest.mark.parametrize(
    ("order", "told"), [("retry", "there is nothing to try again"), ("rollback", "there is nothing to undo")]
)
def test_an_order_that_makes_no_sense_is_refused(
    connected: Billing, planted: Callable[..., Any], order: str, told: str
) -> None:
    planted(closed)
    result = connected(order, "declined-1", *WHO)
    assert result.exit_code == 1
    assert told in result.stderr


@pytest.mark.parametrize("order", ["retry", "rollback"])
def test_an_order_for_an_unknown_chain_is_refused(connected: Billing, order: str) -> None:
    result = connected(order, "nobody", *WHO)
    assert result.exit_code == 1
    assert "Temporal runs no" in result.stderr
    assert "nobody" in result.stderr


def test_an_order_for_an_unknown_settlement_is_refused(connected: Billing) -> None:
    result = connected("retry", "r-leaf", "--settlement", "2026-01", *WHO)
    assert result.exit_code == 1
    assert "settlement-2026-01-r-leaf-EUR" in result.stderr


def test_a_uid_that_cannot_be_one_is_refused(connected: Billing) -> None:
    result = connected("retry", "a b/c", *WHO)
    assert result.exit_code == 1
    assert "that is no uid of a booking" in result.stderr


def test_settling_without_a_worker_says_so_and_goes_on_later(connected: Billing) -> None:
    connected("migrate")
    result = connected("settle", "--month", "2026-01", "--wait", "1")
    assert result.exit_code == 1
    assert "still under way" in result.stdout
    assert connected("settle", "--month", "2026-01", "--wait", "0").exit_code == 0


def test_a_closing_that_is_ended_by_hand_is_told_in_one_line(connected: Billing, temporal: str) -> None:
    """Somebody terminates the workflow in the Web UI while the command waits for it."""
    connected("migrate")

    async def terminate() -> None:
        client = await Client.connect(temporal)
        while True:
            await asyncio.sleep(0.2)
            with suppress(RPCError):
                await client.get_workflow_handle("settlement-2026-02").terminate("by hand")
                return

    with ThreadPoolExecutor(1) as people:
        ending = people.submit(lambda: asyncio.run(asyncio.wait_for(terminate(), 60)))
        result = connected("settle", "--month", "2026-02", "--wait", "60")
        ending.result()
    assert result.exit_code == 1
    assert result.stderr == (
        "settlement-2026-02 was ended before it was done. Nothing is lost: run the same command again.\n"
    )
