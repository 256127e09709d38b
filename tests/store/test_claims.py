"""Who is claimed when: boundaries of months, supplements, late ones, races, adjustments."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from domain.chain import ChainOutcome, ChainStage
from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus
from domain.model import ParkReason, PayoutMode
from domain.pricing import period_bounds
from store import Store
from store.audit import audit
from store.rows import IllegalMove, KeyConflict, NotSecondPerson, UnknownRow
from tests.store import seed
from tests.store.closing import adjusted, claim, explained, matured, paid, reseller_terms, taken_back

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("period", "midnight"),
    [
        ("2026-03", datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("2026-10", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("2028-02", datetime(2028, 2, 29, 23, tzinfo=UTC)),
        ("2027-02", datetime(2027, 2, 28, 23, tzinfo=UTC)),
        ("2026-12", datetime(2026, 12, 31, 23, tzinfo=UTC)),
    ],
)
async def test_a_month_ends_at_midnight_in_berlin_to_the_second(store: Store, period: str, midnight: datetime) -> None:
    assert period_bounds(period)[1] == midnight
    assert midnight.astimezone(BERLIN).hour == 0
    await seed.apply(store)
    await matured(store, "before", matures_at=midnight - timedelta(seconds=1))
    await matured(store, "at", matures_at=midnight)
    await matured(store, "after", matures_at=midnight + timedelta(seconds=1))
    row = (await claim(store, period))["r-leaf"]
    async with store.begin() as tx:
        assert [line.chain_uid for line in await tx.settlements.lines(row.id)] == ["before"]
    following = datetime.strftime(midnight.astimezone(BERLIN), "%Y-%m")
    later = (await claim(store, following))["r-leaf"]
    async with store.begin() as tx:
        assert [line.chain_uid for line in await tx.settlements.lines(later.id)] == ["at", "after"]


async def test_what_is_late_goes_into_the_next_run_or_a_supplement(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    with pytest.raises(IllegalMove, match="nothing to supplement"):
        await claim(store, "2026-03", 2)
    march = await claim(store)
    await matured(store, "late")
    supplement = await claim(store, "2026-03", 2)
    assert {row.statement_id for row in supplement.values()} == {
        f"S-2026-03-{reseller}-EUR-2" for reseller in ("r-leaf", "r-mid", "r-root")
    }
    assert supplement["r-leaf"].earned_minor == 2_500
    assert await claim(store) == march
    await matured(store, "later")
    assert (await claim(store, "2026-04"))["r-leaf"].earned_minor == 2_500
    assert await claim(store, "2026-05") == {}
    with pytest.raises(KeyConflict, match="boundary"):
        await claim(store, "2026-05", boundary=period_bounds("2026-04")[1])
    await explained(store)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (ChainStage.UNDOING, None),
        (ChainStage.PARKED, ParkReason.REVERSAL_REFUSED),
        (ChainStage.PARKED, ParkReason.OUTCOME_UNKNOWN),
    ],
)
async def test_a_transfer_that_is_taken_back_is_not_paid_out_again(
    store: Store, stage: ChainStage, reason: ParkReason | None
) -> None:
    """The way back stops between the transfers and the commission, before it was stated and after."""
    await seed.apply(store)
    await matured(store, "stated", "new", mode=PayoutMode.PER_BOOKING)
    await seed.pay_reseller(store, "stated", "r-leaf")
    march = (await claim(store))["r-leaf"]
    assert (march.earned_minor, march.transferred_minor, march.payable_minor) == (2_500, 2_500, 475)
    await seed.pay_reseller(store, "new", "r-leaf")
    await seed.refund(store, "stated", 5_950)
    for uid in ("stated", "new"):
        await taken_back(store, uid, "r-leaf", 2_500, 1)
        await _moved(store, uid, stage, reason)
    april = (await claim(store, "2026-04"))["r-leaf"]
    assert (april.earned_minor, april.clawback_minor, april.returned_minor) == (0, 1_250, 1_250)
    assert (april.vat_debit_minor, april.payable_minor) == (238, 0)
    await explained(store)
    await seed.refund(store, "stated", 5_950, sequence=2)
    await seed.refund(store, "new", 11_900)
    for uid in ("stated", "new"):
        await _moved(store, uid, ChainStage.CLOSED, outcome=ChainOutcome.ROLLED_BACK)
    may = (await claim(store, "2026-05"))["r-leaf"]
    assert (may.earned_minor, may.clawback_minor, may.returned_minor) == (0, 1_250, 1_250)
    await explained(store)


async def test_a_disputed_booking_is_on_no_statement_before_it_is_decided(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "won", "lost", "waits")
    await matured(store, "own", mode=PayoutMode.PER_BOOKING)
    await seed.pay_reseller(store, "own", "r-leaf")
    for uid in ("won", "lost", "own"):
        await _moved(store, uid, ChainStage.PARKED, ParkReason.DISPUTED)
    await _moved(store, "waits", ChainStage.PARKED, ParkReason.RESELLER_NOT_READY)
    march = (await claim(store))["r-leaf"]
    assert (march.line_count, march.earned_minor) == (1, 2_500)
    assert await claim(store, "2026-04") == {}
    await seed.refund(store, "lost", 11_900)
    await _moved(store, "lost", ChainStage.CLOSED, outcome=ChainOutcome.ROLLED_BACK)
    for uid in ("won", "own"):
        await _moved(store, uid, ChainStage.CLOSED, outcome=ChainOutcome.MATURED)
    may = (await claim(store, "2026-05"))["r-leaf"]
    assert (may.line_count, may.earned_minor, may.transferred_minor) == (2, 5_000, 2_500)
    await explained(store)


async def test_what_is_left_is_netted_whichever_month_is_closed_when(store: Store) -> None:
    """A supplement of March after the debt of April; and a month that was closed by mistake, far in the future."""
    await seed.apply(store)
    await matured(store, "march", "april")
    await paid(store, (await claim(store))["r-leaf"])
    await seed.refund(store, "march", 11_900)
    april = (await claim(store, "2026-04"))["r-leaf"]
    assert (april.clawback_minor, april.carried_debt_minor) == (2_500, 2_975)
    await matured(store, "late")
    supplement = (await claim(store, "2026-03", 2))["r-leaf"]
    assert (supplement.earned_minor, supplement.opening_debt_minor, supplement.payable_minor) == (2_500, 2_975, 0)
    await matured(store, "small")
    await reseller_terms(store, "r-leaf", minimum_minor=100_000)
    far = (await claim(store, "2062-04"))["r-leaf"]
    assert far.carried_credit_minor == 2_975
    await reseller_terms(store, "r-leaf")
    may = (await claim(store, "2026-05"))["r-leaf"]
    assert (may.opening_credit_minor, may.payable_minor) == (2_975, 2_975)
    async with store.begin() as tx:
        assert (await tx.settlements.statement(may.id)).brought_from == ("S-2062-04-r-leaf-EUR-1",)
    await explained(store)
    assert [one for one in await audit(store, None, grace_seconds=-60) if one.what.startswith("a remainder")] == []


async def test_a_supplement_is_for_accounts_with_something_new(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    for reseller in ("r-leaf", "r-mid"):
        await reseller_terms(store, reseller, minimum_minor=100_000)
    assert (await claim(store))["r-leaf"].carried_credit_minor == 2_975
    for reseller in ("r-leaf", "r-mid"):
        await reseller_terms(store, reseller)
    await adjusted(store, "A-1", "r-mid", 5, AdjustmentDirection.CREDIT)
    supplement = await claim(store, "2026-03", 2)
    assert {one: row.payable_minor for one, row in supplement.items()} == {"r-mid": 600}
    assert (await claim(store, "2026-04"))["r-leaf"].payable_minor == 2_975


async def test_an_adjustment_that_left_nothing_over_asks_nobody_again(store: Store) -> None:
    await seed.apply(store)
    await adjusted(store, "A-1", "r-leaf", 5_000, AdjustmentDirection.CREDIT)
    await adjusted(store, "A-2", "r-leaf", 5_000, AdjustmentDirection.DEBIT)
    march = (await claim(store, by="ops-carl"))["r-leaf"]
    assert (march.payable_minor, march.carry_reason, march.needs_approval) == (0, "nothing_due", True)
    await matured(store, "bk-late", matures_at=datetime(2026, 4, 10, 12, tzinfo=UTC))
    april = (await claim(store, "2026-04", by="ops-dora"))["r-leaf"]
    assert (april.payable_minor > 0, april.needs_approval, april.asked_by) == (True, False, ("ops-dora",))


@pytest.mark.parametrize("by_hand", [False, True])
async def test_what_needs_an_approval_needs_it_after_it_was_carried_over(store: Store, by_hand: bool) -> None:
    await seed.apply(store)
    await adjusted(store, "A-1", "r-leaf", 50_000, AdjustmentDirection.CREDIT)
    await reseller_terms(store, "r-leaf", mode=None if by_hand else "on_hold")
    march = (await claim(store, by="ops-carl"))["r-leaf"]
    if by_hand:
        async with store.begin() as tx:
            await tx.settlements.carry_over(march.id, "ops-anna")
    april = await claim(store, "2026-04", by="ops-dora")
    if not by_hand:
        await reseller_terms(store, "r-leaf", mode="monthly")
        april = await claim(store, "2026-05", by="ops-dora")
    row = april["r-leaf"]
    assert (row.payable_minor, row.needs_approval, row.may_be_paid) == (50_000, True, False)
    assert {"ops-anna", "ops-dora"} <= set(row.asked_by)
    for who in ("ops-anna", "ops-dora"):
        with pytest.raises(NotSecondPerson):
            async with store.begin() as tx:
                await tx.settlements.approve(row.id, who)
    async with store.begin() as tx:
        assert (await tx.settlements.approve(row.id, "ops-bert")).may_be_paid


async def _moved(
    store: Store,
    chain_uid: str,
    stage: ChainStage,
    reason: ParkReason | None = None,
    outcome: ChainOutcome | None = None,
) -> None:
    async with store.begin() as tx:
        await tx.chains.update(chain_uid, stage=stage, reason=reason, outcome=outcome)


async def test_the_dry_run_shows_the_same_and_writes_nothing(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    _, boundary = period_bounds("2026-03")
    async with store.begin() as tx:
        before = await tx.ledger.trial_balance()
        shown = await tx.settlements.preview("2026-03", boundary, requested_by="ops-anna")
        assert await tx.ledger.trial_balance() == before
        assert await tx.settlements.latest_sequence("2026-03") == 0
        assert await tx.settlements.of("2026-03") == []
    made = list((await claim(store)).values())
    own = {"id", "frozen_at", "finished_at"}
    assert [row.model_dump(exclude=own) for row in shown] == [row.model_dump(exclude=own) for row in made]


async def test_reversals_while_a_month_is_claimed_are_in_it_or_in_the_next_one(store: Store) -> None:
    await seed.apply(store)
    uids = [f"bk-{number}" for number in range(12)]
    await matured(store, *uids)

    async def refund(uid: str) -> None:
        await seed.refund(store, uid, 5_950)
        await seed.refund(store, uid, 5_950, sequence=2)

    await asyncio.gather(claim(store), claim(store), *(refund(uid) for uid in uids))
    await explained(store)
    await claim(store, "2026-04")
    await explained(store)
    async with store.begin() as tx:
        for balance in await tx.settlements.account_balances():
            assert (balance.owed_minor, balance.unstated_credit_minor, balance.unstated_debt_minor) == (
                balance.unpaid_minor - balance.carried_debt_minor + balance.owing_minor,
                0,
                0,
            )


async def test_two_months_at_once_claim_each_commission_once(store: Store) -> None:
    await seed.apply(store)
    await matured(store, *(f"bk-{number}" for number in range(8)))
    made = await asyncio.gather(claim(store), claim(store, "2026-04"), claim(store, "2026-05"))
    assert sum(rows["r-leaf"].earned_minor for rows in made if "r-leaf" in rows) == 8 * 2_500
    async with store.begin() as tx:
        lines = await tx.connection.execute(
            text("SELECT count(*), count(DISTINCT commission_id) FROM settlement_lines")
        )
        assert tuple(lines.one()) == (24, 24)


async def test_what_was_earned_before_does_not_follow_the_tax_status(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    march = (await claim(store))["r-leaf"]
    assert (march.vat_rate_bps, march.vat_credit_minor) == (1_900, 475)
    async with store.begin() as tx:
        await tx.connection.execute(text("UPDATE resellers SET name = 'Other Name'"))
        await tx.connection.execute(
            text(
                "INSERT INTO reseller_tax_statuses"
                " (reseller_id, sequence, valid_from, small_business, country, recorded_by)"
                " SELECT id, 2, '2026-04-01', true, country, 'tests' FROM resellers"
            )
        )
    await seed.refund(store, "bk-1", 11_900)
    await matured(store, "bk-2", matures_at=datetime(2026, 4, 2, tzinfo=UTC))
    april = (await claim(store, "2026-04"))["r-leaf"]
    assert (april.vat_reason, april.vat_credit_minor, april.vat_debit_minor) == ("small_business", 0, 475)
    async with store.begin() as tx:
        old, new = [await tx.settlements.statement(row.id) for row in (march, april)]
        assert (old.party.name, new.party.name) == ("Leaf GmbH", "Other Name")
        assert [(tax.vat_rate_bps, tax.net_minor, tax.is_debit) for tax in new.taxes] == [
            (0, 2_500, False),
            (1_900, 2_500, True),
        ]
        assert [(line.vat_rate_bps, line.rule["rate_bps"]) for line in new.lines] == [(0, 2_500), (1_900, 2_500)]
    await explained(store)


async def test_an_adjustment_moves_nothing_before_another_person_approves_it(store: Store) -> None:
    await seed.apply(store)
    given: dict[str, Any] = {
        "reseller_id": "r-leaf",
        "currency": "EUR",
        "amount_minor": 1_000,
        "direction": AdjustmentDirection.DEBIT,
        "kind": AdjustmentKind.CORRECTION,
        "why": "paid twice elsewhere",
        "requested_by": "ops-anna",
    }
    async with store.begin() as tx:
        first = await tx.settlements.adjust("A-1", **given)
        assert await tx.settlements.adjust("A-1", **given) == first
        assert await tx.settlements.waiting_adjustments() == [first]
        assert await tx.settlements.account_balance("r-leaf") == []
    with pytest.raises(KeyConflict, match="amount_minor"):
        async with store.begin() as tx:
            await tx.settlements.adjust("A-1", **{**given, "amount_minor": 1})
    with pytest.raises(UnknownRow):
        async with store.begin() as tx:
            await tx.settlements.adjust("A-2", **{**given, "reseller_id": "r-none"})
    for spelling in ("ops-anna", "OPS-Anna", "ops-an\uff4ea "):
        with pytest.raises(NotSecondPerson):
            async with store.begin() as tx:
                await tx.settlements.decide_adjustment("A-1", spelling, approved=True)
    assert await claim(store) == {}
    for who in ("ops-bert", "ops-carl"):
        async with store.begin() as tx:
            decided = await tx.settlements.decide_adjustment("A-1", who, approved=True)
            assert (decided.status, decided.decided_by) == (AdjustmentStatus.APPROVED, "ops-bert")
    with pytest.raises(IllegalMove, match="approved by ops-bert"):
        async with store.begin() as tx:
            await tx.settlements.decide_adjustment("A-1", "ops-carl", approved=False)
    row = (await claim(store, "2026-04"))["r-leaf"]
    assert (row.adjustment_debit_minor, row.carried_debt_minor) == (1_000, 1_000)
    async with store.begin() as tx:
        assert [one.id for one in (await tx.settlements.statement(row.id)).adjustments] == ["A-1"]
    await explained(store)


async def test_a_rejected_adjustment_is_on_no_statement(store: Store) -> None:
    await seed.apply(store)
    await adjusted(store, "A-1", "r-leaf", 5, AdjustmentDirection.CREDIT)
    async with store.begin() as tx:
        await tx.settlements.adjust(
            "A-2",
            reseller_id="r-mid",
            currency="JPY",
            amount_minor=5,
            direction=AdjustmentDirection.CREDIT,
            kind=AdjustmentKind.CORRECTION,
            why="no",
            requested_by="ops-anna",
        )
        await tx.settlements.decide_adjustment("A-2", "ops-bert", approved=False)
    assert set(await claim(store)) == {"r-leaf"}


async def test_the_appointment_on_a_statement_does_not_move(store: Store) -> None:
    """Neither when Cal.com says another hour of the same booking later, nor by a rescheduling that comes too late."""
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-leaf"]
    later = seed.START.replace(month=9)
    async with store.begin() as tx:
        assert [line.appointment_at for line in (await tx.settlements.statement(row.id)).lines] == [seed.START]
        for uid in ("bk-1", "moved"):
            await tx.chains.save_booking("bk-1", seed.booking(uid, start_at=later, end_at=later))
    async with store.begin() as tx:
        await tx.chains.save_quote(await seed.quote_for(tx, "bk-1", booking_uid="moved"))
    async with store.begin() as tx:
        assert [line.appointment_at for line in (await tx.settlements.statement(row.id)).lines] == [seed.START]
