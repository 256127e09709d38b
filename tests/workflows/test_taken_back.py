"""Reversals that somebody makes at Stripe by hand: they are recorded, and what was taken back is never sent again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.chain import ChainOutcome
from store.rows import TransferReversalRow, TransferRow
from tests.support.desk import ORDER, Desk, eventually
from tests.support.month import actions, gross, matured, owed_minor, row_of, settle, transfers
from tests.support.resellers import deliver

TOLD = "told the reseller's workflow: transfer_changed"


async def take_back(desk: Desk, transfer_id: str, amount_minor: int) -> None:
    """As in Stripe's dashboard: no order of ours, no key of ours."""
    answer = await desk.stripe._client.post(f"/v1/transfers/{transfer_id}/reversals", data={"amount": amount_minor})
    assert answer.status_code == 200, answer.text


async def tell(desk: Desk, transfer_id: str) -> str:
    """The event that follows, with the transfer as it is."""
    return await deliver(desk, "transfer.reversed", None, await desk.stripe.get(f"/v1/transfers/{transfer_id}"))


async def own_transfer(desk: Desk, uid: str) -> TransferRow:
    async with desk.store.begin() as tx:
        (row,) = await tx.money.chain_transfers(uid)
    return row


async def until_reversed(desk: Desk, key: str, amount_minor: int) -> list[TransferReversalRow]:
    async def look() -> list[TransferReversalRow] | None:
        async with desk.store.begin() as tx:
            row = await tx.money.transfer(key)
            return await tx.money.reversals(key) if row and row.reversed_minor == amount_minor else None

    found: list[TransferReversalRow] = await eventually(look, f"{amount_minor} of {key} taken back", 30)
    return found


async def test_of_a_bookings_own_transfer(desk: Desk) -> None:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    sent, row = await transfers(desk), await own_transfer(desk, uid)
    transfer_id = row.transfer_id or ""
    await take_back(desk, transfer_id, 500)
    await take_back(desk, transfer_id, 25)
    assert await tell(desk, transfer_id) == TOLD
    reversals = await until_reversed(desk, row.key, 525)
    assert [(one.sequence, one.amount_minor, one.status.value) for one in reversals] == [
        (1, 500, "succeeded"),
        (2, 25, "succeeded"),
    ]
    assert await tell(desk, transfer_id) == "our records say the same"
    assert (await desk.balances(uid))["reseller:r-direct"] == ("credit", 525)
    log = await actions(desk, f"transfer:{row.key}")
    assert [what for _, what, _ in log] == ["transfer_taken_back"] * 2
    assert await transfers(desk) == sent


async def test_of_a_statements_transfer(desk: Desk) -> None:
    await matured(desk, 165, datetime(2023, 1, 10, 12, tzinfo=UTC))
    assert (await settle(desk, "2023-01")).paid >= 1
    sent, owed = await transfers(desk), await owed_minor(desk, "r-five-5")
    key = (await row_of(desk, "2023-01", "r-five-5")).transfer_key or ""
    async with desk.store.begin() as tx:
        row = await tx.money.transfer(key)
    assert row is not None
    await take_back(desk, row.transfer_id or "", gross(2000))
    assert await tell(desk, row.transfer_id or "") == TOLD
    await until_reversed(desk, key, gross(2000))
    assert await owed_minor(desk, "r-five-5") == owed + gross(2000)
    await settle(desk, "2023-01")
    await settle(desk, "2023-01", supplement=True)
    assert await transfers(desk) == sent


@pytest.mark.parametrize("amount_minor", [500, 1225], ids=["a part", "all of it"])
async def test_before_the_chain_takes_it_back_itself(desk: Desk, amount_minor: int) -> None:
    """No event told of it: the chain finds out when Stripe refuses, and takes back what is left."""
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    row = await own_transfer(desk, uid)
    await take_back(desk, row.transfer_id or "", amount_minor)
    await desk.operator.roll_back(uid, ORDER)
    await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    await desk.assert_balanced(uid)
    assert (await own_transfer(desk, uid)).reversed_minor == 1225


async def test_the_event_of_a_reversal_of_ours_records_nothing_more(desk: Desk) -> None:
    uid = await desk.begin(111)
    assert await desk.outcome(uid) is ChainOutcome.PAID
    await desk.operator.roll_back(uid, ORDER)
    await desk.until_outcome(uid, ChainOutcome.ROLLED_BACK)
    row = await own_transfer(desk, uid)
    assert await tell(desk, row.transfer_id or "") == "our records say the same"
    stale = {"id": row.transfer_id, "object": "transfer", "amount_reversed": 1}
    assert await deliver(desk, "transfer.reversed", None, stale) == TOLD
    handle = desk.client.get_workflow_handle("reseller-news-r-direct")
    await handle.result()
    async with desk.store.begin() as tx:
        assert len(await tx.money.reversals(row.key)) == 1
