"""Webhooks that come many times, and in the wrong order: one chain, one charge."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from domain import ids
from domain.chain import ChainOutcome
from tests.support.desk import ago, ahead, eventually
from tests.support.system import System, charges_of, deliveries_of, running

COPIES = 50


@pytest_asyncio.fixture(scope="module")
async def system() -> AsyncIterator[System]:
    top = Path(tempfile.mkdtemp(prefix="billing-duplicates-"))
    top.chmod(0o755)
    try:
        async with running(top / "state") as system:
            yield system
    finally:
        threading.Thread(target=shutil.rmtree, args=(top, True)).start()


async def a_webhook(system: System, uid: str, trigger: str) -> dict[str, Any]:
    """A signed webhook of a booking as Cal.com would send it, which never arrived."""
    await system.calcom.post("/_sandbox/webhook-faults", {"kind": "drop", "uid": uid, "trigger": trigger})
    await system.calcom.post("/_sandbox/announce", {"uids": [uid], "trigger": trigger})
    (delivery,) = deliveries_of(await system.calcom.get("/_sandbox/webhooks?state=dropped"), uid)
    return delivery


async def send(system: System, delivery: dict[str, Any], copies: int) -> Counter[str]:
    """Send one webhook many times at once; returns how often it was answered how."""
    headers = {"X-Cal-Signature-256": delivery["signature"], "Content-Type": "application/json"}
    url = f"{system.environment.webhook_url}/webhooks/calcom"
    limits = httpx.Limits(max_connections=copies)
    async with httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as client:
        posts = [client.post(url, content=delivery["body"], headers=headers) for _ in range(copies)]
        answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.json()["status"] for answer in answers)


async def all_closed(system: System, uids: list[str], outcome: ChainOutcome) -> None:
    async def closed() -> bool:
        return await system.ends(uids) == {outcome.value: len(uids)}

    await eventually(closed, f"{len(uids)} chains to close as {outcome}", 40)


async def runs(system: System, uid: str) -> int:
    """Workflows of a booking that Temporal ever started."""
    query = f'WorkflowId = "{ids.booking_workflow(uid)}"'
    return (await system.client.count_workflows(query)).count


async def test_the_same_webhook_fifty_times_at_once_starts_one_chain_and_charges_once(system: System) -> None:
    (uid,) = await system.calcom.plant(system.calcom.booking(101, start_at=ago(days=2)))
    before = charges_of(await system.stripe.executed())
    answers = await send(system, await a_webhook(system, uid, "BOOKING_CREATED"), COPIES)
    assert answers == {"accepted": 1, "duplicate": COPIES - 1}
    await all_closed(system, [uid], ChainOutcome.MATURED)

    async def visible() -> bool:
        return await runs(system, uid) == 1

    await eventually(visible, "one workflow")
    assert charges_of(await system.stripe.executed()) == before + 1
    assert await system.findings() == []


async def test_every_webhook_twice_charges_everybody_once(system: System) -> None:
    await system.calcom.post("/_sandbox/webhook-faults", {"kind": "duplicate", "copies": 2, "times": -1})
    before = charges_of(await system.stripe.executed())
    uids = await system.announce(12, event_type_id=101, start_at=ago(days=2))
    await all_closed(system, uids, ChainOutcome.MATURED)
    await system.calcom.delete("/_sandbox/webhook-faults")
    assert charges_of(await system.stripe.executed()) == before + 12
    assert await system.findings() == []


async def test_cancelled_before_created_charges_nothing(system: System) -> None:
    before = charges_of(await system.stripe.executed())
    (uid,) = await system.calcom.plant(system.calcom.booking(101, start_at=ahead(days=3)))
    created = await a_webhook(system, uid, "BOOKING_CREATED")
    await system.calcom.cancel(uid)
    await all_closed(system, [uid], ChainOutcome.CANCELLED)
    assert await send(system, created, 3) == {"accepted": 1, "duplicate": 2}
    await asyncio.sleep(1)
    assert await runs(system, uid) == 1
    assert charges_of(await system.stripe.executed()) == before
    assert await system.findings() == []


async def test_a_cancellation_announced_before_cal_com_stores_it_is_refunded(system: System) -> None:
    """Cal.com sends BOOKING_CANCELLED first and stores it then: who reads the booking at once finds it accepted."""
    uids = await system.announce(1, event_type_id=101, start_at=ahead(days=3))

    async def holds() -> bool:
        return await system.ends(uids) == {"hold": 1}

    await eventually(holds, "the hold")
    fault = {"kind": "early", "uid": uids[0], "trigger": "BOOKING_CANCELLED"}
    await system.calcom.post("/_sandbox/webhook-faults", fault)
    await system.calcom.cancel(uids[0])
    await all_closed(system, uids, ChainOutcome.REFUNDED)
    assert await system.findings() == []
