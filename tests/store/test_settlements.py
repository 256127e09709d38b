"""Statements after they were made: paid once, parked, waiting, approved, carried over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from domain.effects import AdjustmentDirection, CarryReason
from domain.model import CommissionStatus, ParkReason, PayoutMode
from store import Store
from store.rows import EffectStatus, IllegalMove, NotSecondPerson, SettlementRow, SettlementStatus, UnknownRow
from tests.store import seed
from tests.store.closing import adjusted, begin, claim, explained, finish, matured, paid, reseller_terms, taken_back

OPEN, PARKED, PAID = SettlementStatus.OPEN, SettlementStatus.PARKED, SettlementStatus.PAID
WAITING, CARRIED = SettlementStatus.WAITING, SettlementStatus.CARRIED_OVER
NOT_READY = ParkReason.RESELLER_NOT_READY
APRIL_DAY = datetime(2026, 4, 9, tzinfo=UTC)


async def row_of(store: Store, row: SettlementRow) -> SettlementRow:
    async with store.begin() as tx:
        return await tx.settlements.row(row.id)


async def test_a_month_is_claimed_once_whoever_asks(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    await seed.charged_chain(store, "bk-3")
    results = await asyncio.gather(*(claim(store) for _ in range(6)))
    assert all(result == results[0] for result in results)
    assert {one: (row.earned_minor, row.payable_minor) for one, row in results[0].items()} == {
        "r-leaf": (5_000, 5_950),
        "r-mid": (1_000, 1_190),
        "r-root": (400, 476),
    }
    async with store.begin() as tx:
        await tx.money.mature("bk-3")
        again = await tx.settlements.claim("2026-03", 1, results[0]["r-leaf"].boundary, requested_by="other")
        assert (again.is_new, again.statements, again.payable) == (False, 3, 3)
        lines = await tx.settlements.lines(results[0]["r-leaf"].id)
        assert [(line.chain_uid, line.amount_minor) for line in lines] == [("bk-1", 2_500), ("bk-2", 2_500)]
    await explained(store)


async def test_a_settlement_is_paid_once(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    row = (await claim(store))["r-leaf"]
    with pytest.raises(IllegalMove, match="no transfer"):
        await finish(store, row, PAID)
    transfers = await asyncio.gather(*(begin(store, row) for _ in range(12)))
    assert {one.amount_minor for one in transfers} == {5_950}
    async with store.begin() as tx:
        assert [one.transfer_key for one in await tx.money.commissions("bk-1")] == [None, None, None]
    done = await paid(store, row)
    await finish(store, row, PAID)
    after = await row_of(store, row)
    assert (after.status, after.payable_minor, after.transfer_key) == (PAID, 5_950, done.key)
    async with store.begin() as tx:
        leaf, mid, root = await tx.money.commissions("bk-1")
        assert (leaf.status, leaf.settled_minor, leaf.transfer_key) == (CommissionStatus.SETTLED, 2_500, done.key)
        assert {mid.status, root.status} == {CommissionStatus.MATURED}
    with pytest.raises(IllegalMove):
        await finish(store, row, PARKED, ParkReason.TRANSFER_REFUSED)
    assert (await begin(store, row)).transfer_id == done.transfer_id
    with pytest.raises(IllegalMove, match="succeeded"):
        async with store.begin() as tx:
            await tx.settlements.carry_over(row.id, "ops-anna")
    await explained(store)


async def test_a_reversal_after_the_claim_changes_nothing_of_it_and_is_on_the_next(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", "bk-2")
    row = (await claim(store))["r-leaf"]
    await seed.refund(store, "bk-1", 5_950)
    begun = await begin(store, row)
    assert begun.amount_minor == 5_950
    await seed.refund(store, "bk-2", 11_900)
    await paid(store, row)
    async with store.begin() as tx:
        leaf = (await tx.money.commissions("bk-2"))[0]
        assert (leaf.status, leaf.owed_minor, leaf.settled_minor) == (CommissionStatus.REVERSED, 0, 2_500)
        assert (await tx.money.commissions("bk-1"))[0].status is CommissionStatus.SETTLED
    await explained(store)
    following = (await claim(store, "2026-04"))["r-leaf"]
    assert (following.clawback_minor, following.vat_debit_minor, following.carried_debt_minor) == (3_750, 713, 4_463)
    assert (following.status, following.carry_reason) == (CARRIED, CarryReason.NEGATIVE)
    async with store.begin() as tx:
        lines = await tx.settlements.lines(following.id)
        assert [(line.chain_uid, line.sequence, line.amount_minor) for line in lines] == [
            ("bk-1", 1, 1_250),
            ("bk-2", 1, 2_500),
        ]
    assert (await claim(store, "2026-05"))["r-leaf"].clawback_minor == 0
    await explained(store)


async def test_a_refused_transfer_parks_and_is_tried_again_under_its_key(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-mid"]
    begun = await begin(store, row)
    async with store.begin() as tx:
        await tx.money.finish_transfer(begun.key, status=EffectStatus.REFUSED, refusal_code="account_not_ready")
    parked = await finish(store, row, PARKED, NOT_READY)
    assert (parked.reason, parked.detail) == (NOT_READY, "because")
    assert [one.id for one in (await _unpaid(store))] == [row.id - 1, row.id, row.id + 1]
    again = await begin(store, row)
    assert (again.key, again.status, again.amount_minor, again.tries) == (begun.key, EffectStatus.STARTED, 595, 2)
    reopened = await row_of(store, row)
    assert (reopened.status, reopened.reason) == (OPEN, None)


async def _unpaid(store: Store) -> list[SettlementRow]:
    async with store.begin() as tx:
        first = await tx.settlements.unpaid("2026-03", limit=2)
        return first + await tx.settlements.unpaid("2026-03", after=first[-1].id, limit=2)


async def test_waiting_says_since_when_and_keeps_it(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-mid"]
    first = await finish(store, row, WAITING)
    assert (first.reason, first.finished_at) == (ParkReason.BALANCE_INSUFFICIENT, None)
    assert first.waiting_since is not None
    assert (await finish(store, row, WAITING)).waiting_since == first.waiting_since
    async with store.begin() as tx:
        progress = await tx.settlements.progress("2026-03")
        assert (progress.total, progress.waiting, progress.open) == (3, 1, 2)
    assert (await finish(store, row, PARKED, NOT_READY)).waiting_since is None
    await finish(store, row, WAITING)
    await paid(store, row)
    assert (await row_of(store, row)).waiting_since is None


async def test_below_the_minimum_it_is_carried_until_it_is_enough(store: Store) -> None:
    await seed.apply(store)
    await reseller_terms(store, "r-root", minimum_minor=700)
    await matured(store, "bk-1", "bk-2")
    march = (await claim(store))["r-root"]
    assert (march.status, march.carry_reason, march.carried_credit_minor) == (CARRIED, CarryReason.BELOW_MINIMUM, 476)
    assert march.minimum_payout_minor == 700
    with pytest.raises(IllegalMove, match="carried over"):
        await begin(store, march)
    await matured(store, "bk-3", matures_at=APRIL_DAY)
    april = (await claim(store, "2026-04"))["r-root"]
    assert (april.opening_credit_minor, april.earned_minor, april.payable_minor) == (476, 200, 714)
    await paid(store, april)
    assert (await row_of(store, march)).brought_into == april.id
    async with store.begin() as tx:
        for uid in ("bk-1", "bk-2", "bk-3"):
            root = (await tx.money.commissions(uid))[2]
            assert (root.status, root.transfer_key) == (
                CommissionStatus.SETTLED,
                (await row_of(store, april)).transfer_key,
            )
        statement = await tx.settlements.statement(april.id)
        assert (statement.brought_from, statement.brought_into) == (("S-2026-03-r-root-EUR-1",), None)
    await explained(store)


async def test_on_hold_keeps_it_until_the_mode_changes(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", mode=PayoutMode.ON_HOLD)
    await reseller_terms(store, "r-leaf", mode="on_hold")
    held = (await claim(store))["r-leaf"]
    assert (held.carry_reason, held.carried_credit_minor) == (CarryReason.ON_HOLD, 2_975)
    await reseller_terms(store, "r-leaf", mode="monthly")
    assert (await claim(store, "2026-04"))["r-leaf"].payable_minor == 2_975


async def test_a_debt_is_parked_after_some_months_and_written_off_by_two(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    for row in (await claim(store)).values():
        await paid(store, row)
    await seed.refund(store, "bk-1", 11_900)
    months = [(await claim(store, period))["r-leaf"] for period in ("2026-04", "2026-05", "2026-06")]
    assert [(one.status, one.carried_debt_minor, one.negative_since) for one in months] == [
        (CARRIED, 2_975, "2026-04"),
        (CARRIED, 2_975, "2026-04"),
        (PARKED, 2_975, "2026-04"),
    ]
    async with store.begin() as tx:
        parked = await tx.settlements.attention()
        assert {one.reason for one in parked} == {ParkReason.NEGATIVE_BALANCE}
        assert {one.reseller_id for one in parked} == {"r-leaf", "r-mid", "r-root"}
        (balance,) = await tx.settlements.account_balance("r-leaf")
        assert (balance.owing_minor, balance.carried_debt_minor, balance.owed_minor) == (2_975, 2_975, 0)
    await adjusted(store, "A-1", "r-leaf", 2_975, AdjustmentDirection.CREDIT)
    july = (await claim(store, "2026-07"))["r-leaf"]
    assert (july.carry_reason, july.carried_debt_minor, july.adjustment_credit_minor) == (
        CarryReason.NOTHING_DUE,
        0,
        2_975,
    )
    assert (await row_of(store, months[2])).status is CARRIED
    assert "r-leaf" not in await claim(store, "2026-08")
    await explained(store)


async def test_a_person_may_carry_over_what_is_payable(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-leaf"]
    for _ in range(2):
        async with store.begin() as tx:
            carried = await tx.settlements.carry_over(row.id, "ops-anna")
    assert (carried.status, carried.carried_by, carried.left_credit_minor) == (CARRIED, "ops-anna", 2_975)
    with pytest.raises(IllegalMove, match="carried over"):
        await begin(store, row)
    await explained(store)
    april = (await claim(store, "2026-04"))["r-leaf"]
    assert (april.opening_credit_minor, april.payable_minor) == (2_975, 2_975)
    await paid(store, april)
    await explained(store)


async def _other_account(store: Store, account_id: str) -> None:
    async with store.begin() as tx:
        await tx.connection.execute(
            text("UPDATE resellers SET stripe_account_id = :account_id WHERE id = 'r-mid'"), {"account_id": account_id}
        )


async def test_large_amounts_and_adjustments_need_a_second_person(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    await adjusted(store, "A-1", "r-mid", 100, AdjustmentDirection.CREDIT)
    rows = await claim(store, by="ops-dora", approval={"EUR": 2_975})
    assert {one: row.needs_approval for one, row in rows.items()} == {"r-leaf": True, "r-mid": True, "r-root": False}
    assert rows["r-mid"].asked_by == ("ops-anna", "ops-dora")
    for asked in ("ops-anna", "ops-dora", "OPS-Anna", " ops-\uff44ora ", "ops\u200b-anna"):
        with pytest.raises(NotSecondPerson):
            async with store.begin() as tx:
                await tx.settlements.approve(rows["r-mid"].id, asked)
    with pytest.raises(IllegalMove, match="second person"):
        await begin(store, rows["r-mid"])
    for who in ("ops-bert", "ops-carl"):
        async with store.begin() as tx:
            assert (await tx.settlements.approve(rows["r-mid"].id, who.upper())).approved_by == "ops-bert"
    # Who it was approved for is the account of that moment: another one is not paid without a new approval.
    await _other_account(store, "acct_mine")
    with pytest.raises(IllegalMove, match="another account"):
        async with store.begin() as tx:
            await tx.settlements.begin(rows["r-mid"].id, key="other", destination_account_id="acct_mine")
    async with store.begin() as tx:
        assert not await tx.settlements.withdraw_approval(rows["r-mid"].id, "acct_mid")
        assert await tx.settlements.withdraw_approval(rows["r-mid"].id, "acct_mine")
        assert (await tx.settlements.row(rows["r-mid"].id)).approved_by is None
        again = await tx.settlements.approve(rows["r-mid"].id, "ops-carl")
        assert (again.approved_by, again.approved_account_id) == ("ops-carl", "acct_mine")
    await _other_account(store, "acct_mid")
    async with store.begin() as tx:
        assert (await tx.settlements.approve(rows["r-mid"].id, "ops-bert")).approved_by == "ops-bert"
    await paid(store, rows["r-mid"])
    with pytest.raises(IllegalMove, match="no approval"):
        async with store.begin() as tx:
            await tx.settlements.approve(rows["r-root"].id, "ops-bert")
    assert not (await claim(store, "2026-04", approval={"CHF": 1})).get("r-leaf")


async def test_an_own_transfer_is_listed_with_its_vat_and_comes_back_with_the_clawback(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    await seed.pay_reseller(store, "bk-1", "r-leaf")
    rows = await claim(store)
    assert set(rows) == {"r-leaf"}
    row = rows["r-leaf"]
    assert (row.earned_minor, row.transferred_minor, row.vat_credit_minor, row.payable_minor) == (
        2_500,
        2_500,
        475,
        475,
    )
    await paid(store, row)
    async with store.begin() as tx:
        assert (await tx.money.commissions("bk-1"))[0].transfer_key == "transfer:bk-1:r-leaf"
    await explained(store)


async def test_a_statement_that_does_not_exist(store: Store) -> None:
    for missing in ("row", "statement"):
        with pytest.raises(UnknownRow):
            async with store.begin() as tx:
                await getattr(tx.settlements, missing)(7)


async def test_an_own_transfer_that_is_taken_back_in_parts_is_returned_in_parts(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    await seed.pay_reseller(store, "bk-1", "r-leaf")
    await claim(store)
    for number, period in enumerate(("2026-04", "2026-05"), start=1):
        await taken_back(store, "bk-1", "r-leaf", 1_250, number)
        await seed.refund(store, "bk-1", 5_950, sequence=number)
        await explained(store)
        row = (await claim(store, period))["r-leaf"]
        assert (row.returned_minor, row.clawback_minor, row.vat_debit_minor) == (1_250, 1_250, 238)
        await explained(store)
    last = (await claim(store, "2026-06"))["r-leaf"]
    assert (last.line_count, last.opening_debt_minor) == (0, row.carried_debt_minor)
