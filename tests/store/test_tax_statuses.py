"""Tax statuses by day: which one is recorded when master data change, and which one a month's statement takes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, text

from domain.tax_status import TaxStatus, in_force
from store import Store, migrate
from store.database import alembic_config
from tests.store import seed
from tests.store.closing import claim, explained, matured

APRIL_1 = date(2026, 4, 1)
Seen = tuple[str | None, int, bool | None]
"""VAT rule of a statement, its VAT, and what the frozen party says of § 19 UStG."""


async def change(store: Store, **fields: Any) -> list[str]:
    """What `billing reseller add r-leaf` does: options on top of what is stored. Returns what it says."""
    async with store.begin() as tx:
        stored = (await tx.resellers.get("r-leaf")).master_data()
        changed = stored.model_copy(update=fields)
        return (await tx.resellers.save([changed], saved_by="ops-anna")).get("r-leaf", [])


async def statuses(store: Store) -> list[TaxStatus]:
    async with store.begin() as tx:
        return await tx.resellers.tax_statuses("r-leaf")


async def closed(store: Store, period: str, sequence: int = 1) -> Seen:
    row = (await claim(store, period, sequence))["r-leaf"]
    async with store.begin() as tx:
        party = (await tx.settlements.statement(row.id)).party
    return row.vat_reason, row.vat_credit_minor, party.small_business


async def late(store: Store, uid: str, month: int) -> None:
    await matured(store, uid, matures_at=datetime(2026, month, 10, tzinfo=UTC))


async def test_a_month_closed_after_a_change_keeps_the_status_of_its_last_day(store: Store) -> None:
    await seed.apply(store)
    await matured(store, "bk-1")
    told = await change(store, small_business=True, tax_status_from=APRIL_1, tax_status_proof="letter 4")
    assert told == ["changed small_business, tax_status_from, tax_status_proof", "tax status from 2026-04-01"]
    assert await closed(store, "2026-03") == ("standard", 475, False)
    await late(store, "bk-2", 4)
    assert await closed(store, "2026-04") == ("small_business", 0, True)
    await late(store, "bk-3", 3)
    assert await closed(store, "2026-03", 2) == ("standard", 475, False)
    await explained(store)


async def test_a_status_of_the_future_takes_effect_by_its_date(store: Store) -> None:
    await seed.apply(store)
    ahead = seed.today() + timedelta(days=400)
    await change(store, country="AT", vat_id="ATU12345675", tax_status_from=ahead)
    await matured(store, "bk-1")
    assert (await closed(store, "2026-03"))[:2] == ("standard", 475)
    # Something else of it changes meanwhile: that begins with it, not before.
    assert await change(store, tax_status_proof="letter 5") == [
        "changed tax_status_proof",
        f"tax status from {ahead.isoformat()}",
    ]
    found = await statuses(store)
    assert [one.valid_from for one in found] == [None, ahead, ahead]
    assert in_force(found, ahead - timedelta(days=1)) == found[0]
    assert in_force(found, ahead) == found[2]
    await matured(store, "bk-2", matures_at=datetime(ahead.year, ahead.month, 1, tzinfo=UTC) - timedelta(days=10))
    before = (ahead.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    assert (await closed(store, before))[:2] == ("standard", 475)
    await matured(store, "bk-3", matures_at=datetime(ahead.year, ahead.month, 2, tzinfo=UTC))
    assert (await closed(store, ahead.strftime("%Y-%m")))[:2] == ("reverse_charge", 0)
    await explained(store)


@pytest.mark.parametrize(
    ("period", "reason"),
    [("2026-02", "standard"), ("2026-03", "small_business"), ("2026-04", "small_business"), ("2026-05", "standard")],
)
async def test_the_last_day_of_the_month_decides(store: Store, period: str, reason: str) -> None:
    await seed.apply(store)
    await change(store, small_business=True, tax_status_from=date(2026, 3, 31))
    await change(store, small_business=False, tax_status_from=date(2026, 5, 31))
    await late(store, "bk-1", int(period[-2:]))
    assert (await closed(store, period))[0] == reason


async def test_without_a_new_day_a_change_counts_from_today(store: Store) -> None:
    await seed.apply(store)
    await change(store, tax_status_from=date(2026, 1, 1), tax_status_proof="letter 1")
    assert await change(store, small_business=True) == [
        "changed small_business",
        f"tax status from {seed.today().isoformat()}",
    ]
    await change(store, vat_id="DE136695976")
    assert [
        (one.valid_from, one.small_business, one.vat_id, one.tax_status_from, one.proof, one.recorded_by)
        for one in await statuses(store)
    ] == [
        (None, False, None, None, None, "tester"),
        (date(2026, 1, 1), False, None, date(2026, 1, 1), "letter 1", "ops-anna"),
        (seed.today(), True, None, seed.today(), "letter 1", "ops-anna"),
        (seed.today(), True, "DE136695976", seed.today(), "letter 1", "ops-anna"),
    ]


async def test_the_catalogue_records_them_as_well_and_only_changes(store: Store) -> None:
    await seed.apply(store)
    old = "email: leaf@example.com,"
    assert await seed.apply(store, {old: "email: other@example.com,"}) == ["reseller r-leaf: changed email"]
    assert len(await statuses(store)) == 1
    new = {old: f"{old} small_business: true, tax_status_from: 2026-04-01,"}
    assert "reseller r-leaf: tax status from 2026-04-01" in await seed.apply(store, new)
    assert await seed.apply(store, new) == []
    assert [(one.valid_from, one.recorded_by) for one in await statuses(store)] == [
        (None, "tester"),
        (APRIL_1, "tester"),
    ]


def test_of_two_for_the_same_day_the_later_one_counts() -> None:
    def status(sequence: int, valid_from: date | None) -> TaxStatus:
        return TaxStatus(
            sequence=sequence,
            valid_from=valid_from,
            small_business=False,
            country="DE",
            vat_id=None,
            tax_status_from=None,
            proof=None,
            recorded_at=seed.NOW,
            recorded_by="ops-anna",
        )

    first, july, corrected, april = (
        status(1, None),
        status(2, date(2026, 7, 1)),
        status(3, date(2026, 7, 1)),
        status(4, APRIL_1),
    )
    known = [first, july, corrected, april]
    for day, expected in ((date(2026, 3, 31), first), (date(2026, 6, 30), april), (date(2026, 7, 1), corrected)):
        assert in_force(known, day) == expected
    assert in_force([], APRIL_1) is None


async def test_what_was_stored_before_is_the_first_status(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    engine = create_engine(empty_database_url)
    try:
        with engine.begin() as connection:
            command.downgrade(alembic_config(connection), "0013")
            connection.execute(
                text(
                    "INSERT INTO resellers (id, name, email, payout_mode, country, small_business, vat_id,"
                    " tax_status_from, tax_status_proof) VALUES ('r-leaf', 'Leaf', 'leaf@example.com', 'monthly',"
                    " 'DE', true, 'DE136695976', '2026-02-01', 'letter 2')"
                )
            )
    finally:
        engine.dispose()
    assert "0014" in await migrate(empty_database_url)
    async with Store(empty_database_url) as store:
        (first,) = await statuses(store)
    assert (first.valid_from, first.small_business, first.country, first.vat_id) == (None, True, "DE", "DE136695976")
    assert (first.tax_status_from, first.proof, first.recorded_by) == (date(2026, 2, 1), "letter 2", "migration")
