"""Migrations on a database in use: settlements of the time before statements become statements, to the cent.

All the story is at revision 0009; what it must look like afterwards is written down by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from domain import ids, ledger
from domain.effects import EffectStatus
from domain.model import PayoutMode
from domain.pricing import period_bounds
from store import Store, migrate
from store.audit import audit
from store.database import alembic_config
from store.rows import SettlementRow, SettlementStatus
from tests.store.closing import claim
from tests.store.old_pipeline import GROSS, HALF, OWN, OldPipeline

JANUARY, FEBRUARY = timedelta(days=30), timedelta(hours=1)
"""How long ago these months were closed; an open settlement may not be older than a day."""
BETWEEN = timedelta(days=12)
RESELLERS = (
    "r-top r-paid r-refused r-gone r-moved r-debt r-early r-parked r-void r-left r-hold r-own r-crashed r-twice".split()  # noqa: SIM905
)

STATEMENTS = {
    # (month, reseller): status, earned, override, clawback, returned, payable, carried credit, lines
    ("2026-01", "r-paid"): ("paid", 5_000, 0, 1_250, 1_250, 5_000, 0, 4),
    ("2026-01", "r-top"): ("paid", 1_000, 1_000, 250, 250, 1_000, 0, 4),
    ("2026-01", "r-refused"): ("parked", 3_750, 0, 0, 0, 3_750, 0, 2),
    ("2026-01", "r-gone"): ("carried_over", 0, 0, 0, 0, 0, 0, 1),
    ("2026-01", "r-moved"): ("carried_over", 0, 0, 0, 0, 0, 0, 0),
    ("2026-01", "r-debt"): ("paid", 2_500, 0, 0, 0, 2_500, 0, 1),
    ("2026-01", "r-twice"): ("paid", 2_500, 0, 500, 500, 2_500, 0, 2),
    ("2026-02", "r-paid"): ("paid", 2_500, 0, 0, 0, 2_500, 0, 1),
    ("2026-02", "r-top"): ("open", 500, 500, 0, 0, 500, 0, 1),
    ("2026-02", "r-moved"): ("open", 2_500, 0, 0, 0, 2_500, 0, 1),
    ("2026-02", "r-early"): ("open", 2_500, 0, 0, 0, 2_500, 0, 1),
    ("2026-02", "r-parked"): ("parked", 3_750, 0, 0, 0, 3_750, 0, 2),
    ("2026-02", "r-void"): ("carried_over", 0, 0, 0, 0, 0, 0, 1),
    ("2026-02", "r-left"): ("carried_over", 2_500, 0, 0, 0, 0, 2_500, 1),
    ("2026-02", "r-crashed"): ("open", 2_500, 0, 0, 0, 2_500, 0, 1),
}

NEXT = {
    # reseller: opening credit, earned, transferred, clawback, returned, VAT, payable, carried credit, carried debt
    "r-paid": (0, 5_000, 0, 0, 0, 950, 5_950, 0, 0),
    "r-top": (0, 1_000, 0, 0, 0, 190, 1_190, 0, 0),
    "r-left": (2_500, 0, 0, 0, 0, 0, 2_500, 0, 0),
    "r-hold": (0, 2_500, 0, 0, 0, 475, 0, 2_975, 0),
    "r-own": (0, 3_750, 3_750, 0, 0, 713, 713, 0, 0),
    "r-debt": (0, 0, 0, 1_250, 0, 0, 0, 0, 1_250),
    "r-early": (0, 0, 0, 1_250, 0, 0, 0, 0, 1_250),
    "r-twice": (0, 0, 0, 750, 0, 0, 0, 0, 750),
}
"""The closing of March: what matured since, what was late, what own transfers paid, what was reversed and is owed."""


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture
def used_database_url(empty_database_url: str) -> str:
    """A database of revision 0009 that two months were settled in."""
    with connected(empty_database_url) as connection:
        command.upgrade(alembic_config(connection), "0009")
        pipeline = OldPipeline(connection)
        for reseller_id in RESELLERS:
            mode = {"r-hold": PayoutMode.ON_HOLD, "r-own": PayoutMode.PER_BOOKING}.get(reseller_id, PayoutMode.MONTHLY)
            pipeline.reseller(reseller_id, mode, "r-top" if reseller_id == "r-paid" else None)
        january(pipeline)
        february(pipeline)
        beside(pipeline)
    return empty_database_url


def january(pipeline: OldPipeline) -> None:
    for uid in ("j1", "j2", "j3"):
        pipeline.earned(uid, "r-paid", "r-top", matures="2026-01-10")
    for uid, reseller_id in (("j4", "r-refused"), ("j5", "r-refused"), ("j6", "r-gone"), ("j8", "r-debt")):
        pipeline.earned(uid, reseller_id, matures="2026-01-20")
    pipeline.earned("j9", "r-twice", matures="2026-01-20")
    pipeline.refunded("j3", GROSS, ago=JANUARY)  # claimed, and reversed before anything was transferred
    pipeline.closed("2026-01", ago=JANUARY, by="ops-anna")
    for reseller_id, uids in {"r-paid": ["j1", "j2", "j3"], "r-top": ["j1", "j2", "j3"], "r-debt": ["j8"]}.items():
        pipeline.settlement("2026-01", reseller_id, uids, "paid")
        pipeline.transferred("2026-01", reseller_id, "succeeded", ago=JANUARY)
    pipeline.settlement("2026-01", "r-twice", ["j9"], "paid")
    pipeline.transferred("2026-01", "r-twice", "succeeded", ago=JANUARY)
    for reseller_id, uids in {"r-refused": ["j4", "j5"], "r-gone": ["j6"]}.items():
        pipeline.settlement("2026-01", reseller_id, uids, "parked", reason="transfer_refused")
        pipeline.transferred("2026-01", reseller_id, "refused", ago=JANUARY, tries=2)
    pipeline.settlement("2026-01", "r-moved", [], "carried_over", amount_minor=OWN)

    pipeline.refunded("j2", HALF, ago=BETWEEN)  # each took its half back from its settlement's transfer
    for reseller_id, amount_minor in (("r-paid", 1_250), ("r-top", 250)):
        key = ids.settlement_transfer_key("2026-01", reseller_id, "EUR")
        pipeline.taken_back(key, "j2", amount_minor, ago=BETWEEN)
    pipeline.refunded("j5", HALF, ago=BETWEEN)
    pipeline.refunded("j6", GROSS, ago=BETWEEN)


def february(pipeline: OldPipeline) -> None:
    pipeline.earned("f1", "r-paid", "r-top", matures="2026-02-10")
    for uid, reseller_id in (
        ("j7", "r-moved"),
        ("f2", "r-parked"),
        ("f3", "r-parked"),
        ("f4", "r-void"),
        ("f5", "r-left"),
        ("f7", "r-early"),
        ("f8", "r-crashed"),
    ):
        pipeline.earned(uid, reseller_id, matures="2026-01-31" if uid == "j7" else "2026-02-27")
    pipeline.closed("2026-02", ago=FEBRUARY)
    pipeline.settlement("2026-02", "r-paid", ["f1"], "paid")
    pipeline.transferred("2026-02", "r-paid", "succeeded", ago=FEBRUARY)
    pipeline.settlement("2026-02", "r-crashed", ["f8"], "open")
    pipeline.transferred("2026-02", "r-crashed", "started", ago=FEBRUARY)
    for reseller_id, uid in (("r-top", "f1"), ("r-early", "f7")):
        pipeline.settlement("2026-02", reseller_id, [uid], "open")
        pipeline.transferred("2026-02", reseller_id, "started", ago=FEBRUARY)
    pipeline.settlement("2026-02", "r-moved", ["j7"], "open")
    pipeline.settlement("2026-02", "r-parked", ["f2", "f3"], "parked", reason="reseller_not_ready")
    pipeline.settlement("2026-02", "r-void", ["f4"], "open")
    pipeline.settlement("2026-02", "r-left", ["f5"], "carried_over")

    since = FEBRUARY / 2
    pipeline.refunded("f3", HALF, ago=since)
    pipeline.refunded("f4", GROSS, ago=since)
    pipeline.refunded("f7", HALF, ago=since)  # its transfer is under way and cannot change any more
    pipeline.refunded("j8", HALF, ago=since, undoing=True)  # Stripe refused to take it back
    pipeline.refunded("j9", HALF, ago=since, undoing=True)  # only a part of it could be taken back
    pipeline.taken_back(ids.settlement_transfer_key("2026-01", "r-twice", "EUR"), "j9", 500, ago=since)


def beside(pipeline: OldPipeline) -> None:
    """What no settlement shows: on hold, paid by own transfers, late, of March, not matured, not transferred yet."""
    pipeline.earned("f6", "r-hold", matures="2026-01-15", mode=PayoutMode.ON_HOLD)
    for uid in ("o1", "o2", "o3"):
        pipeline.earned(uid, "r-own", matures="2026-01-15", mode=PayoutMode.PER_BOOKING)
        pipeline.paid_alone(uid, "r-own", ago=BETWEEN)
    for uid, gross_minor, amount_minor in (("o2", HALF, 1_250), ("o3", GROSS, OWN)):
        pipeline.refunded(uid, gross_minor, ago=BETWEEN)
        pipeline.taken_back(ids.transfer_key(uid, "r-own"), uid, amount_minor, ago=BETWEEN)
    pipeline.earned("o4", "r-own", matures="2026-01-15", mode=PayoutMode.PER_BOOKING, waits=True)
    pipeline.earned("l1", "r-paid", "r-top", matures="2026-02-10")
    pipeline.earned("m1", "r-paid", "r-top", matures="2026-03-10")
    pipeline.earned("m2", "r-left", matures="2026-03-20", status="accrued")


async def green(store: Store) -> None:
    """All invariants of the audit, and every statement as a document of it is read."""
    assert await audit(store, None, now=datetime.now(UTC) + timedelta(minutes=2)) == []
    async with store.begin() as tx:
        for reseller_id in RESELLERS:
            for row in await tx.settlements.of_reseller(reseller_id):
                await tx.settlements.statement(row.id)


async def pay(store: Store, row: SettlementRow) -> str:
    """Transfer a statement as the settlement's step does; its transfer's key."""
    async with store.begin() as tx:
        begun = await tx.settlements.begin(
            row.id,
            key=ids.settlement_transfer_key(row.period, row.reseller_id, row.currency, row.sequence),
            destination_account_id="acct_x",
        )
        assert begun.amount_minor == row.payable_minor
    async with store.begin() as tx:
        await tx.money.finish_transfer(begun.key, status=EffectStatus.SUCCEEDED, transfer_id=f"tr_{begun.key}")
        await tx.settlements.finish(row.id, status=SettlementStatus.PAID)
        await tx.ledger.post(
            ledger.transferred(
                transfer_key=begun.key,
                chain_uid=None,
                reseller_id=row.reseller_id,
                currency=row.currency,
                amount_minor=begun.amount_minor,
                effective_at=datetime.now(UTC),
            )
        )
    return begun.key


async def transfer_keys(store: Store) -> dict[str, str | None]:
    """Of each booking's own reseller's commission."""
    async with store.begin() as tx:
        found = await tx.connection.execute(text("SELECT chain_uid, transfer_key FROM commissions WHERE level = 0"))
        return {row.chain_uid: row.transfer_key for row in found}


async def test_old_settlements_become_statements(used_database_url: str) -> None:
    await migrate(used_database_url)
    async with Store(used_database_url) as store:
        await green(store)
        async with store.begin() as tx:
            rows = [row for month in ("2026-01", "2026-02") for row in await tx.settlements.of(month)]
            documents = [await tx.settlements.statement(row.id) for row in rows]
        found = {
            (row.period, row.reseller_id): (
                row.status.value,
                row.earned_minor,
                row.override_minor,
                row.clawback_minor,
                row.returned_minor,
                row.payable_minor,
                row.carried_credit_minor,
                row.line_count,
            )
            for row in rows
        }
        assert found == STATEMENTS
        for row in rows:
            assert row.boundary == period_bounds(row.period)[1]
            assert (row.reason is None) == (row.status is not SettlementStatus.PARKED)
            assert row.asked_by == (("ops-anna",) if row.period == "2026-01" else ())
        by_name = {document.id: document for document in documents}
        assert by_name["S-2026-01-r-paid-EUR-1"].requested_by == "ops-anna"
        assert by_name["S-2026-02-r-paid-EUR-1"].requested_by == "unknown"
        assert by_name["S-2026-02-r-parked-EUR-1"].party.name == "r-parked GmbH"
        assert "refused (account_closed)" in (by_name["S-2026-01-r-gone-EUR-1"].detail or "")


async def test_the_next_closing_takes_what_is_due_and_nothing_twice(used_database_url: str) -> None:
    await migrate(used_database_url)
    async with Store(used_database_url) as store:
        march = await claim(store, "2026-03")
        assert {
            name: (
                row.opening_credit_minor,
                row.earned_minor,
                row.transferred_minor,
                row.clawback_minor,
                row.returned_minor,
                row.vat_credit_minor,
                row.payable_minor,
                row.carried_credit_minor,
                row.carried_debt_minor,
            )
            for name, row in march.items()
        } == NEXT
        assert min(row.id for row in march.values()) > len(STATEMENTS)
        await green(store)
        async with store.begin() as tx:
            listed = {line.chain_uid for row in march.values() for line in await tx.settlements.lines(row.id)}
        assert listed == {"m1", "l1", "f6", "o1", "o2", "j8", "f7", "j9"}

        april = await claim(store, "2026-04")
        assert {
            name: (row.earned_minor, row.clawback_minor, row.line_count) for name, row in april.items()
        } == dict.fromkeys(("r-hold", "r-debt", "r-early", "r-twice"), (0, 0, 0))
        await green(store)


async def test_old_statements_are_paid_under_their_old_keys(used_database_url: str) -> None:
    await migrate(used_database_url)
    async with Store(used_database_url) as store:
        march = await claim(store, "2026-03")
        async with store.begin() as tx:
            old = [row for month in ("2026-01", "2026-02") for row in await tx.settlements.unpaid(month)]
        unpaid = [("2026-01", "r-refused"), *(("2026-02", f"r-{name}") for name in ("crashed", "early", "moved"))]
        unpaid += [("2026-02", "r-parked"), ("2026-02", "r-top")]
        assert sorted((row.period, row.reseller_id) for row in old) == unpaid
        keys = {row.reseller_id: await pay(store, row) for row in old}
        assert keys == {name: f"settlement:{period}:{name}:EUR" for period, name in unpaid}
        for name in ("r-paid", "r-top", "r-left", "r-own"):
            await pay(store, march[name])
        await green(store)

        async with store.begin() as tx:
            again = await tx.money.transfer(keys["r-refused"])
            assert again is not None
            assert (again.amount_minor, again.tries, again.stripe_key) == (3_750, 3, f"{keys['r-refused']}~3")
            assert [row for month in ("2026-01", "2026-02") for row in await tx.settlements.unpaid(month)] == []
        paid_by = await transfer_keys(store)
        assert {uid: paid_by[uid] for uid in ("j7", "f5", "j4", "f3", "j3", "m1", "l1", "f6", "m2")} == {
            "j7": "settlement:2026-02:r-moved:EUR",
            "f5": "settlement:2026-03:r-left:EUR",  # carried over, and paid by the statement that brought it forward
            "j4": "settlement:2026-01:r-refused:EUR",
            "f3": "settlement:2026-02:r-parked:EUR",
            "j3": "settlement:2026-01:r-paid:EUR",
            "m1": "settlement:2026-03:r-paid:EUR",
            "l1": "settlement:2026-03:r-paid:EUR",
            "f6": None,
            "m2": None,
        }
        await claim(store, "2026-04")
        await green(store)


async def test_a_transfer_that_was_under_way_may_still_be_refused(used_database_url: str) -> None:
    await migrate(used_database_url)
    async with Store(used_database_url) as store:
        key = "settlement:2026-02:r-crashed:EUR"
        async with store.begin() as tx:
            await tx.money.finish_transfer(key, status=EffectStatus.REFUSED, refusal_code="never_sent")
            row = await tx.settlements.get("2026-02", "r-crashed", "EUR")
        assert row is not None
        assert (await transfer_keys(store))["f8"] is None
        assert "r-crashed" not in await claim(store, "2026-03")  # it stands on its statement still
        assert await pay(store, row) == key
        assert (await transfer_keys(store))["f8"] == key
        await green(store)


async def test_what_was_migrated_is_frozen_and_cannot_be_taken_down(used_database_url: str) -> None:
    await migrate(used_database_url)
    for change in ("settlement_lines SET amount_minor = 1", "settlements SET earned_minor = 1"):
        with pytest.raises(SQLAlchemyError, match="refused"), connected(used_database_url) as connection:
            connection.execute(text(f"UPDATE {change}"))
    with pytest.raises(SQLAlchemyError), connected(used_database_url) as connection:
        command.downgrade(alembic_config(connection), "0010")


def test_a_database_without_settlements_goes_there_and_back(empty_database_url: str) -> None:
    with connected(empty_database_url) as connection:
        command.upgrade(alembic_config(connection), "0009")
        pipeline = OldPipeline(connection)
        pipeline.reseller("r-paid")
        pipeline.earned("m1", "r-paid", matures="2026-03-10")
        command.upgrade(alembic_config(connection), "head")
        command.downgrade(alembic_config(connection), "0009")
        command.upgrade(alembic_config(connection), "head")
        assert connection.execute(text("SELECT count(*) FROM commissions")).scalar_one() == 1
