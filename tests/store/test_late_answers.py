"""An answer that comes late, from a step that was given up and tried again."""

from __future__ import annotations

from domain.effects import EffectStatus
from domain.model import PayoutMode
from store import Store, Tx
from store.rows import TransferRow
from tests.store import seed

KEY = "transfer:bk-1:r-leaf"


async def begin(tx: Tx) -> TransferRow:
    row = await tx.money.begin_booking_transfer(
        key=KEY, chain_uid="bk-1", reseller_id="r-leaf", destination_account_id="acct_leaf"
    )
    assert row is not None
    return row


async def refuse(tx: Tx, tries: int) -> TransferRow:
    return await tx.money.finish_transfer(
        KEY, status=EffectStatus.REFUSED, tries=tries, refusal_code="balance_insufficient"
    )


async def test_a_late_refusal_of_an_earlier_try_leaves_the_present_one_under_way(store: Store) -> None:
    await seed.apply(store)
    quote = await seed.charged_chain(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    async with store.begin() as tx:
        await tx.money.mature(quote.chain_uid)
        first = await begin(tx)
        assert (await refuse(tx, first.tries)).status is EffectStatus.REFUSED
        assert (await refuse(tx, first.tries)).status is EffectStatus.REFUSED
        second = await begin(tx)
        assert (second.tries, second.status) == (2, EffectStatus.STARTED)
        assert (await refuse(tx, first.tries)).status is EffectStatus.STARTED
        paid = await tx.money.finish_transfer(KEY, status=EffectStatus.SUCCEEDED, transfer_id="tr_1")
        assert (await refuse(tx, first.tries)) == paid
