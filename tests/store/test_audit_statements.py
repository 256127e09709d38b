"""`audit` on statements: silent on two sound months with everything in them, and one finding for each planted break."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from domain.chain import ChainOutcome, ChainStage
from domain.effects import AdjustmentDirection
from domain.model import ParkReason, PayoutMode
from store import Store
from store.audit import audit
from tests.store import seed
from tests.store.closing import adjusted, claim, explained, matured, paid
from tests.store.statement_breaks import BREAKS

LATER = datetime.now(UTC) + timedelta(minutes=10)
APRIL_DAY = datetime(2026, 4, 9, tzinfo=UTC)


async def two_months(store: Store) -> None:
    """March is paid to r-leaf and too little for the others. In April half of one March booking is given back, an own
    transfer of another was taken back with it, a correction is approved, and the minimum of the others is lowered.
    """
    await seed.apply(store)
    await _minimum(store, 100_000)
    await matured(store, "month", "two")
    await matured(store, "own", mode=PayoutMode.PER_BOOKING)
    await seed.pay_reseller(store, "own", "r-leaf")
    await paid(store, (await claim(store))["r-leaf"])
    await seed.refund(store, "month", 5_950)
    await adjusted(store, "A-1", "r-leaf", 5_000, AdjustmentDirection.CREDIT)
    await adjusted(store, "A-2", "r-mid", 100, AdjustmentDirection.DEBIT)
    await matured(store, "april", matures_at=APRIL_DAY)
    await _minimum(store, 0)
    april = await claim(store, "2026-04")
    for reseller in ("r-leaf", "r-mid", "r-root"):
        async with store.begin() as tx:
            if april[reseller].needs_approval:
                await tx.settlements.approve(april[reseller].id, "ops-bert")
        await paid(store, april[reseller])
    async with store.begin() as tx:
        for uid in ("month", "two", "april"):
            await tx.chains.update(uid, stage=ChainStage.CLOSED, outcome=ChainOutcome.MATURED)
        await tx.chains.update("own", stage=ChainStage.CLOSED, outcome=ChainOutcome.PAID)


async def _minimum(store: Store, amount_minor: int) -> None:
    async with store.begin() as tx:
        await tx.connection.execute(
            text(
                "UPDATE resellers SET minimum_payouts = jsonb_build_object('EUR', CAST(:minimum AS bigint))"
                " WHERE id IN ('r-mid', 'r-root')"
            ),
            {"minimum": amount_minor},
        )


async def test_two_sound_months_have_no_findings(store: Store) -> None:
    await two_months(store)
    findings = [one for one in await audit(store, None, now=LATER) if one.invariant not in ("I2", "I4")]
    assert findings == []
    await explained(store)


async def test_what_was_held_at_a_closing_was_not_skipped_by_it(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    async with store.begin() as tx:
        await tx.chains.update("bk-1", stage=ChainStage.PARKED, reason=ParkReason.DISPUTED)
        await tx.connection.execute(text("UPDATE chains SET updated_at = updated_at - interval '1 hour'"))
    assert await claim(store) == {}
    skipped = "a closing left a commission out that was due"
    assert [one for one in await audit(store, None, now=LATER) if one.what == skipped] == []
    async with store.begin() as tx:
        await tx.chains.update("bk-1", stage=ChainStage.CLOSED, outcome=ChainOutcome.MATURED)
    assert [one for one in await audit(store, None, now=LATER) if one.what == skipped] == []
    async with store.begin() as tx:
        await tx.connection.execute(text("UPDATE chains SET updated_at = updated_at - interval '1 hour'"))
    assert len([one for one in await audit(store, None, now=LATER) if one.what == skipped]) == 3


@pytest.mark.parametrize("name", BREAKS)
async def test_a_planted_break_is_found(store: Store, name: str) -> None:
    invariant, where, statements = BREAKS[name]
    await two_months(store)
    async with store.begin() as tx:
        await tx.connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            await tx.connection.execute(text(statement))
    findings = await audit(store, None, now=LATER)
    named = [one for one in findings if (one.invariant, one.where) == (invariant, where)]
    assert named, findings
    assert all(one.what and one.what_to_do and one.expected != one.found for one in findings)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE settlements SET payable_minor = payable_minor + 1, earned_minor = earned_minor + 1",
        "UPDATE settlements SET party = '{}'",
        "UPDATE settlements SET needs_approval = NOT needs_approval",
        "UPDATE settlements SET asked_by = '[]'",
        "UPDATE settlements SET frozen_at = frozen_at - interval '1 day'",
        "DELETE FROM settlements",
        "TRUNCATE settlements CASCADE",
        "UPDATE adjustments SET amount_minor = amount_minor + 1",
        "UPDATE adjustments SET requested_by = 'somebody'",
        "DELETE FROM adjustments",
        "TRUNCATE adjustments",
    ],
)
async def test_what_is_frozen_cannot_be_changed(store: Store, change: str) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    await adjusted(store, "A-1", "r-leaf", 100, AdjustmentDirection.CREDIT)
    await claim(store)
    with pytest.raises(IntegrityError, match="refused"):
        async with store.begin() as tx:
            await tx.connection.execute(text(change))
