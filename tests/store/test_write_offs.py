"""Write-offs: what statements left over, once, and as the account is when the second person agrees."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus
from domain.model import PayoutMode
from store import Store
from store.claims import _LOCK_KEY
from store.rows import IllegalMove
from tests.store import seed
from tests.store.closing import adjusted, claim, explained, matured, paid, reseller_terms

CREDIT, DEBIT = AdjustmentDirection.CREDIT, AdjustmentDirection.DEBIT


async def open_amount(store: Store) -> tuple[AdjustmentDirection, int]:
    async with store.begin() as tx:
        return await tx.settlements.to_write_off("r-leaf", "EUR")


async def asked(store: Store, adjustment_id: str, amount_minor: int, direction: AdjustmentDirection = DEBIT) -> None:
    async with store.begin() as tx:
        await tx.settlements.adjust(
            adjustment_id,
            reseller_id="r-leaf",
            currency="EUR",
            amount_minor=amount_minor,
            direction=direction,
            kind=AdjustmentKind.WRITE_OFF,
            why="he left",
            requested_by="ops-anna",
        )


async def approved(store: Store, adjustment_id: str) -> None:
    async with store.begin() as tx:
        await tx.settlements.decide_adjustment(adjustment_id, "ops-bert", approved=True)


async def left_over(store: Store) -> None:
    """29.75 EUR of a reseller on hold, on a statement that left them."""
    await seed.apply(store)
    await matured(store, "bk-1")
    await reseller_terms(store, "r-leaf", mode="on_hold")
    await claim(store)


async def test_nothing_is_written_off_before_it_stands_on_a_statement(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    with pytest.raises(IllegalMove, match="stand on no statement"):
        await open_amount(store)
    await reseller_terms(store, "r-leaf", mode="on_hold")
    await claim(store)
    # With its VAT: the account is at zero then, and stays there.
    assert await open_amount(store) == (DEBIT, 2_975)
    await asked(store, "A-1", 2_975)
    await approved(store, "A-1")
    with pytest.raises(IllegalMove, match="nothing open"):
        await open_amount(store)
    row = (await claim(store, "2026-04"))["r-leaf"]
    assert (row.opening_credit_minor, row.adjustment_debit_minor, row.vat_credit_minor) == (2_975, 2_975, 0)
    assert (row.payable_minor, row.carried_credit_minor, row.carried_debt_minor) == (0, 0, 0)
    await explained(store)


async def test_a_refund_after_the_statement_has_to_be_on_the_next_one_first(store: Store) -> None:
    await left_over(store)
    await seed.refund(store, "bk-1", 5_950)
    with pytest.raises(IllegalMove, match="stand on no statement"):
        await open_amount(store)
    await claim(store, "2026-04")
    assert (await open_amount(store))[0] is DEBIT


async def test_an_own_transfer_has_to_be_listed_first(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1", mode=PayoutMode.PER_BOOKING)
    await seed.pay_reseller(store, "bk-1", "r-leaf")
    with pytest.raises(IllegalMove, match="stand on no statement"):
        await open_amount(store)


async def test_what_waits_for_its_transfer_is_carried_over_first(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    row = (await claim(store))["r-leaf"]
    with pytest.raises(IllegalMove, match="not paid yet"):
        await open_amount(store)
    await paid(store, row)
    with pytest.raises(IllegalMove, match="nothing open"):
        await open_amount(store)


async def test_the_account_is_looked_at_again_when_it_is_decided(store: Store) -> None:
    await left_over(store)
    await asked(store, "A-1", 2_975)
    await adjusted(store, "A-2", "r-leaf", 1_000, CREDIT)
    with pytest.raises(IllegalMove, match="has changed since"):
        await approved(store, "A-1")
    async with store.begin() as tx:
        await tx.settlements.decide_adjustment("A-1", "ops-bert", approved=False)
    await asked(store, "A-3", 3_975)
    await matured(store, "bk-2", matures_at=datetime(2026, 4, 2, tzinfo=UTC))
    with pytest.raises(IllegalMove, match="stand on no statement"):
        await approved(store, "A-3")
    await explained(store)


async def test_it_is_not_decided_while_a_month_is_being_closed(store: Store) -> None:
    await left_over(store)
    await asked(store, "A-1", 2_975)
    async with store.begin() as closing:
        await closing.connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        with pytest.raises(IllegalMove, match="being closed"):
            await approved(store, "A-1")
    await approved(store, "A-1")


async def test_one_write_off_of_an_account_waits_at_a_time(store: Store) -> None:
    await left_over(store)
    results = await asyncio.gather(*(asked(store, f"A-{n}", 2_975) for n in range(6)), return_exceptions=True)
    refused = [one for one in results if one is not None]
    assert len(refused) == 5
    assert all(isinstance(one, IllegalMove) and "decide that one" in str(one) for one in refused)
    async with store.begin() as tx:
        (waiting,) = await tx.settlements.waiting_adjustments()
    await asked(store, waiting.id, 2_975)
    await approved(store, waiting.id)
    async with store.begin() as tx:
        (only,) = await tx.settlements.adjustments("r-leaf")
    assert only.status is AdjustmentStatus.APPROVED
    await explained(store)


async def test_the_database_itself_knows_two_spellings_of_one_person(store: Store) -> None:
    await left_over(store)
    await asked(store, "A-1", 2_975)
    change = "UPDATE adjustments SET status = 'approved', decided_by = :who, decided_at = now()"
    for who in ("ops-anna", "OPS-Anna", "ops-ann\uff41"):
        with pytest.raises(IntegrityError, match="two_persons"):
            async with store.begin() as tx:
                await tx.connection.execute(text(change), {"who": who})
