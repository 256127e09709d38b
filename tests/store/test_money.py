"""Charges, refunds, transfers, invoices and commissions on a real database, races included."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from domain.model import CommissionStatus, PayoutMode
from store import Store
from store.rows import (
    ChargeRow,
    ChargeStatus,
    EffectStatus,
    IllegalMove,
    InvoiceKind,
    InvoiceRow,
    KeyConflict,
    OpenCharge,
    RefundRow,
    RefundState,
    TooMuch,
    UnknownRow,
)
from tests.store import seed


async def begin_charge(store: Store, attempt: int = 1, amount_minor: int = 11_900) -> ChargeRow:
    async with store.begin() as tx:
        return await tx.money.begin_charge(
            key=f"charge:bk-1:{attempt}",
            chain_uid="bk-1",
            attempt=attempt,
            customer_id="c-1",
            currency="EUR",
            amount_minor=amount_minor,
        )


async def finish_charge(store: Store, status: ChargeStatus, attempt: int = 1, **facts: object) -> ChargeRow:
    async with store.begin() as tx:
        return await tx.money.finish_charge(f"charge:bk-1:{attempt}", status=status, **facts)  # type: ignore[arg-type]


async def begin_refund(store: Store, sequence: int, amount_minor: int) -> RefundRow:
    async with store.begin() as tx:
        return await tx.money.begin_refund(
            key=f"refund:bk-1:{sequence}",
            chain_uid="bk-1",
            sequence=sequence,
            charge_key="charge:bk-1:1",
            currency="EUR",
            amount_minor=amount_minor,
        )


async def quoted(store: Store) -> None:
    await seed.apply(store)
    await seed.open_quoted(store, "bk-1")


async def test_a_charge_is_begun_once_and_finished_once(store: Store) -> None:
    await quoted(store)
    rows = await asyncio.gather(*(begin_charge(store) for _ in range(8)))
    assert len({row.begun_at for row in rows}) == 1
    assert {row.status for row in rows} == {ChargeStatus.STARTED}
    await finish_charge(store, ChargeStatus.PROCESSING, payment_intent_id="pi_1")
    done = await finish_charge(store, ChargeStatus.SUCCEEDED, payment_intent_id="pi_1", charge_id="ch_1")
    later = await finish_charge(store, ChargeStatus.SUCCEEDED, fee_minor=199)
    assert (later.charge_id, later.fee_minor, later.finished_at) == ("ch_1", 199, done.finished_at)
    assert await begin_charge(store) == later
    with pytest.raises(IllegalMove, match="succeeded and cannot become refused"):
        await finish_charge(store, ChargeStatus.REFUSED)
    with pytest.raises(KeyConflict, match="payment_intent_id"):
        await finish_charge(store, ChargeStatus.SUCCEEDED, payment_intent_id="pi_2")
    with pytest.raises(KeyConflict, match="amount_minor"):
        await begin_charge(store, amount_minor=1)
    with pytest.raises(UnknownRow):
        await finish_charge(store, ChargeStatus.REFUSED, attempt=9)
    async with store.begin() as tx:
        assert await tx.money.chain_of_object("pi_1") == "bk-1"
        assert await tx.money.chain_of_object("ch_1") == "bk-1"
        assert await tx.money.chain_of_object("pi_9") is None
        assert await tx.money.chain_charges("bk-1") == [later]


async def test_no_second_attempt_while_the_first_may_still_succeed(store: Store) -> None:
    await quoted(store)
    await begin_charge(store, 1)
    with pytest.raises(OpenCharge, match="charge:bk-1:1"):
        await begin_charge(store, 2)
    await finish_charge(store, ChargeStatus.REFUSED, 1, payment_intent_id="pi_1", refusal_code="card_declined")
    second = await begin_charge(store, 2)
    assert second.status is ChargeStatus.STARTED
    with pytest.raises(OpenCharge, match="charge:bk-1:2"):
        await finish_charge(store, ChargeStatus.SUCCEEDED, 1)
    await finish_charge(store, ChargeStatus.REFUSED, 2)
    confirmed = await finish_charge(store, ChargeStatus.SUCCEEDED, 1)
    assert (confirmed.status, confirmed.refusal_code) == (ChargeStatus.SUCCEEDED, None)


async def test_two_attempts_at_once_leave_one_open(store: Store) -> None:
    await quoted(store)

    async def attempt(number: int) -> str:
        try:
            await begin_charge(store, number)
        except OpenCharge:
            return "refused"
        return "begun"

    assert sorted(await asyncio.gather(*(attempt(n) for n in range(1, 7)))) == ["begun"] + ["refused"] * 5


async def test_refunds_never_exceed_the_charge(store: Store) -> None:
    await quoted(store)
    await begin_charge(store)
    with pytest.raises(TooMuch, match="started"):
        await begin_refund(store, 1, 100)
    await finish_charge(store, ChargeStatus.SUCCEEDED, payment_intent_id="pi_1", charge_id="ch_1")
    await begin_refund(store, 1, 11_000)
    with pytest.raises(TooMuch, match="1000 after 11000"):
        await begin_refund(store, 2, 1_000)
    async with store.begin() as tx:
        await tx.money.finish_refund("refund:bk-1:1", status=RefundState.REFUSED, refusal_code="charge_disputed")
    await begin_refund(store, 2, 1_000)
    with pytest.raises(TooMuch):
        await begin_refund(store, 1, 11_000)
    await begin_refund(store, 3, 10_900)
    async with store.begin() as tx:
        await tx.money.finish_refund("refund:bk-1:3", status=RefundState.SUCCEEDED, refund_id="re_3")
        failed = await tx.money.finish_refund("refund:bk-1:3", status=RefundState.FAILED)
        assert failed.refund_id == "re_3"
        with pytest.raises(IllegalMove):
            await tx.money.finish_refund("refund:bk-1:3", status=RefundState.SUCCEEDED)
        assert [row.status for row in await tx.money.chain_refunds("bk-1")] == [
            RefundState.REFUSED,
            RefundState.STARTED,
            RefundState.FAILED,
        ]
    with pytest.raises(KeyConflict, match="amount_minor"):
        await begin_refund(store, 1, 10_900)


async def test_refunds_at_once_share_what_is_left(store: Store) -> None:
    await quoted(store)
    await begin_charge(store)
    await finish_charge(store, ChargeStatus.SUCCEEDED, payment_intent_id="pi_1")

    async def refund(sequence: int) -> str:
        try:
            await begin_refund(store, sequence, 5_000)
        except TooMuch:
            return "too much"
        return "begun"

    assert sorted(await asyncio.gather(*(refund(n) for n in range(1, 6)))) == ["begun"] * 2 + ["too much"] * 3


async def test_invoice_numbers_have_no_gaps(store: Store) -> None:
    await seed.apply(store)
    for number in range(6):
        await seed.open_quoted(store, f"bk-{number}")

    async def issue(uid: str, sequence: int = 1, fail: bool = False, net_minor: int = 10_000) -> InvoiceRow | None:
        try:
            async with store.begin() as tx:
                row = await tx.money.next_invoice(
                    InvoiceKind.INVOICE,
                    chain_uid=uid,
                    sequence=sequence,
                    customer_id="c-1",
                    currency="EUR",
                    net_minor=net_minor,
                    vat_minor=1_900,
                    vat_rate_bps=1900,
                    vat_reason="standard",
                    issued_at=datetime(2026, 12, 31, 23, 30, tzinfo=UTC),
                )
                if fail:
                    raise RuntimeError
                return row
        except RuntimeError:
            return None

    tasks = [issue(f"bk-{number % 6}", fail=number >= 12) for number in range(18)]
    rows = [row for row in await asyncio.gather(*tasks) if row is not None]
    assert {row.number for row in rows} == {f"2027-00000{number}" for number in range(1, 7)}
    assert len({(row.chain_uid, row.number) for row in rows}) == 6
    with pytest.raises(KeyConflict, match="net_minor"):
        await issue("bk-0", net_minor=1)
    last = await issue("bk-0", sequence=2)
    assert last is not None
    assert last.number == "2027-000007"


async def test_a_correction_names_its_invoice(store: Store) -> None:
    await seed.apply(store)
    await seed.charged_chain(store, "bk-1")
    async with store.begin() as tx:
        (invoice,) = await tx.money.invoices("bk-1")
        assert invoice.number == "2026-000001"
        assert await tx.money.correction_count("bk-1") == 0
        await tx.money.next_invoice(
            InvoiceKind.CORRECTION,
            chain_uid="bk-1",
            sequence=1,
            customer_id="c-1",
            currency="EUR",
            net_minor=5_000,
            vat_minor=950,
            vat_rate_bps=1900,
            vat_reason="standard",
            issued_at=seed.NOW,
            corrects=invoice.number,
        )
        assert await tx.money.correction_count("bk-1") == 1
        assert [one.corrects for one in await tx.money.invoices("bk-1")] == [None, "2026-000001"]


async def test_commissions_are_accrued_once_and_reversed_upwards_only(store: Store) -> None:
    await seed.apply(store)
    quote = await seed.charged_chain(store, "bk-1")
    async with store.begin() as tx:
        rows = await tx.money.accrue("bk-1", quote.levels, quote.matures_at + timedelta(days=1))
        assert [(row.reseller_id, row.accrued_minor) for row in rows] == [
            ("r-leaf", 2_500),
            ("r-mid", 500),
            ("r-root", 200),
        ]
        assert {row.matures_at for row in rows} == {quote.matures_at}
        with pytest.raises(KeyConflict):
            await tx.money.accrue("bk-1", quote.levels[:1], quote.matures_at)
        first = rows[0]
        assert (await tx.money.set_reversed(first.id, 1_000)).owed_minor == 1_500
        assert (await tx.money.set_reversed(first.id, 900)).reversed_minor == 1_000
        with pytest.raises(TooMuch, match="2501 of 2500"):
            await tx.money.set_reversed(first.id, 2_501)
        with pytest.raises(UnknownRow):
            await tx.money.set_reversed(10**9, 1)
        await tx.money.move_maturity("bk-1", quote.matures_at + timedelta(days=9))
        matured = await tx.money.mature("bk-1")
        assert {row.status for row in matured} == {CommissionStatus.MATURED}
        await tx.money.move_maturity("bk-1", quote.matures_at)
        assert {row.matures_at for row in await tx.money.mature("bk-1")} == {quote.matures_at + timedelta(days=9)}
        assert (await tx.money.set_reversed(first.id, 2_500)).status is CommissionStatus.REVERSED


async def test_a_level_that_earns_nothing_leaves_no_row(store: Store) -> None:
    await seed.apply(store)
    quote = await seed.open_quoted(store, "bk-1")
    nothing = [level.model_copy(update={"amount_minor": 0}) for level in quote.levels]
    async with store.begin() as tx:
        assert await tx.money.accrue("bk-1", nothing, quote.matures_at) == []
        with pytest.raises(UnknownRow):
            await tx.money.accrue("bk-none", quote.levels, quote.matures_at)


async def test_a_booking_is_paid_out_once_and_only_what_is_owed(store: Store) -> None:
    await seed.apply(store)
    await seed.charged_chain(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    facts = {"key": "transfer:bk-1:r-leaf", "chain_uid": "bk-1", "reseller_id": "r-leaf"}
    async with store.begin() as tx:
        assert await tx.money.begin_booking_transfer(**facts, destination_account_id="acct_leaf") is None
        rows = await tx.money.mature("bk-1")
        await tx.money.set_reversed(rows[0].id, 500)

    async def begin() -> int:
        async with store.begin() as tx:
            begun = await tx.money.begin_booking_transfer(**facts, destination_account_id="acct_leaf")
            assert begun is not None
            return begun.amount_minor

    assert await asyncio.gather(*(begin() for _ in range(12))) == [2_000] * 12
    async with store.begin() as tx:
        await tx.money.finish_transfer(facts["key"], status=EffectStatus.REFUSED, refusal_code="balance_insufficient")
        (leaf, *_) = await tx.money.commissions("bk-1")
        assert (leaf.transfer_key, leaf.settled_minor) == (None, 0)
        await tx.money.set_reversed(leaf.id, 600)
    assert await begin() == 1_900
    async with store.begin() as tx:
        for _ in range(2):
            await tx.money.finish_transfer(facts["key"], status=EffectStatus.SUCCEEDED, transfer_id="tr_1")
        (leaf, *_) = await tx.money.commissions("bk-1")
        assert (leaf.status, leaf.settled_minor, leaf.transfer_key) == (CommissionStatus.SETTLED, 1_900, facts["key"])
        with pytest.raises(IllegalMove):
            await tx.money.finish_transfer(facts["key"], status=EffectStatus.REFUSED)
        assert await tx.money.chain_of_object("tr_1") == "bk-1"


async def test_a_transfer_is_taken_back_in_pieces_and_never_beyond(store: Store) -> None:
    await seed.apply(store)
    await seed.charged_chain(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    async with store.begin() as tx:
        await tx.money.mature("bk-1")
    await seed.pay_reseller(store, "bk-1", "r-leaf")
    transfer_key = "transfer:bk-1:r-leaf"

    async def begin(sequence: int, amount_minor: int) -> EffectStatus:
        async with store.begin() as tx:
            row = await tx.money.begin_reversal(
                key=f"reversal:{transfer_key}:{sequence}",
                transfer_key=transfer_key,
                chain_uid="bk-1",
                sequence=sequence,
                amount_minor=amount_minor,
            )
            return row.status

    await begin(1, 1_000)
    with pytest.raises(TooMuch, match="2000 after 1000"):
        await begin(2, 2_000)
    async with store.begin() as tx:
        for _ in range(2):
            await tx.money.finish_reversal(
                f"reversal:{transfer_key}:1", status=EffectStatus.SUCCEEDED, reversal_id="trr_1"
            )
        transfer = await tx.money.transfer(transfer_key)
        assert transfer is not None
        assert transfer.reversed_minor == 1_000
        (leaf, *_) = await tx.money.commissions("bk-1")
        assert leaf.settled_minor == 1_500
    assert await begin(1, 1_000) is EffectStatus.SUCCEEDED
    await begin(2, 1_500)
    async with store.begin() as tx:
        await tx.money.finish_reversal(f"reversal:{transfer_key}:2", status=EffectStatus.REFUSED)
    assert await begin(2, 1_500) is EffectStatus.STARTED
    async with store.begin() as tx:
        assert [one.sequence for one in await tx.money.reversals(transfer_key)] == [1, 2]
        assert len(await tx.money.chain_reversals("bk-1")) == 2
