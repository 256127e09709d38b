"""kill -9 at every boundary while chains run: all of them finish, nobody is charged or paid twice, the audit is green.

Run by `make chaos`. What was on its way to the webhook app when something died is lost, as it would be with Cal.com;
the sweep finds it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.exc import OperationalError

from domain.chain import ChainOutcome
from tests.support.desk import ago, eventually
from tests.support.system import System, charges_of, running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

SETTINGS = {
    # Lost webhooks are found soon.
    "SWEEP_INTERVAL_SECONDS": "3",
    # No chain may park for an outage that a test causes, and a parked one looks again soon.
    "STEP_TIMEOUT_SECONDS": "120",
    "PARK_RECHECK_SECONDS": "5",
    "RELAY_INTERVAL_SECONDS": "0.5",
}
PER_BOOKING = 112
"""Two resellers with a transfer each: seven effects at Stripe and in the ledger, so much to be torn apart."""


@pytest_asyncio.fixture(scope="module")
async def system() -> AsyncIterator[System]:
    top = Path(tempfile.mkdtemp(prefix="billing-chaos-"))
    top.chmod(0o755)
    try:
        async with running(top / "state", settings=SETTINGS, persistent=True) as system:
            yield system
    finally:
        threading.Thread(target=shutil.rmtree, args=(top, True)).start()


async def closed(system: System, uids: list[str], at_least: int, timeout_seconds: float) -> None:
    """Wait until so many chains are paid."""

    async def enough() -> bool:
        try:
            seen.append(await system.ends(uids))
        except OperationalError:
            return False
        return seen[-1].get(ChainOutcome.PAID.value, 0) >= at_least

    seen: list[dict[str, int]] = [{}]
    try:
        await eventually(enough, f"{at_least} of {len(uids)} chains to be paid", timeout_seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}; they end as {seen[-1]}") from None


async def all_once(system: System, uids: list[str], charges_before: int) -> None:
    """Every chain was charged once and paid each of its two resellers once; the books say the same."""
    assert await system.ends(uids) == {ChainOutcome.PAID.value: len(uids)}
    assert charges_of(await system.stripe.executed()) == charges_before + len(uids)
    async with system.store.begin() as tx:
        for uid in uids:
            assert len([row for row in await tx.money.chain_charges(uid) if row.status == "succeeded"]) == 1
            transfers = await tx.money.chain_transfers(uid)
            assert sorted(row.amount_minor for row in transfers) == [245, 1225]
            assert {row.status.value for row in transfers} == {"succeeded"}
    assert await system.findings() == []


async def test_the_worker_is_killed_again_and_again_in_the_middle_of_200_chains(system: System) -> None:
    before = charges_of(await system.stripe.executed())
    uids = await system.announce(200, event_type_id=PER_BOOKING, start_at=ago(days=2))
    for at_least in (10, 60, 120):
        await closed(system, uids, at_least, 120)
        await asyncio.to_thread(system.environment.tree.kill, "worker-1")
    await closed(system, uids, len(uids), 240)
    await all_once(system, uids, before)


@pytest.mark.parametrize("victim", ["temporal", "postgres", "sandbox-stripe", "sandbox-calcom", "webhooks"])
async def test_a_part_is_killed_while_bookings_come_in(system: System, victim: str) -> None:
    before = charges_of(await system.stripe.executed())
    uids = await system.announce(30, event_type_id=PER_BOOKING, start_at=ago(days=2))
    await closed(system, uids, 4, 60)
    await asyncio.to_thread(system.environment.tree.kill, victim)

    async def accepts() -> bool:
        try:
            uids.extend(await system.announce(30, event_type_id=PER_BOOKING, start_at=ago(days=2)))
        except OSError:
            return False
        return True

    if victim == "sandbox-calcom":
        await asyncio.sleep(3)
    await eventually(accepts, "Cal.com to take bookings")
    await closed(system, uids, len(uids), 240)
    await all_once(system, uids, before)
