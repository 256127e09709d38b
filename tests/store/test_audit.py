"""`audit`: silent on sound books, and one planted break for each invariant is found and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import text

from domain import ledger
from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason, PayoutMode
from domain.ports import BalanceTransaction, PaymentGateway
from domain.pricing import period_bounds
from store import Store
from store.audit import Finding, audit
from store.rows import ChargeStatus, EffectStatus, RefundState, SettlementStatus
from tests.store import seed
from tests.store.breaks import BREAKS

LATER = datetime.now(UTC) + timedelta(minutes=10)
"""Late enough that nothing is in the grace period, early enough that nothing is overdue."""


class Statement:
    """A gateway that knows only the balance's movements."""

    def __init__(self, *movements: tuple[str, str, int, bool, int]) -> None:
        self.movements = list(movements)

    async def list_balance_transactions(
        self, *, created_after: datetime, created_before: datetime
    ) -> AsyncIterator[BalanceTransaction]:
        for number, (kind, source, amount_minor, is_credit, fee_minor) in enumerate(self.movements):
            yield BalanceTransaction(
                balance_transaction_id=f"txn_{number}",
                type=kind,
                source_id=source,
                amount_minor=amount_minor,
                is_credit=is_credit,
                fee_minor=fee_minor,
                currency="EUR",
                created_at=datetime.now(UTC),
            )


def sound_statement() -> Statement:
    """What Stripe says of `sound_books`."""
    return Statement(
        ("charge", "ch_month", 11_900, True, 199),
        ("charge", "ch_own", 11_900, True, 199),
        ("charge", "ch_back", 11_900, True, 199),
        ("refund", "re_back_1", 11_900, False, 0),
        ("transfer", "tr_own_r-leaf", 2_500, False, 0),
        ("transfer", "tr_settled", 3_450, False, 0),
        ("payout", "po_1", 5_000, False, 0),
    )


async def sound_books(store: Store) -> None:
    """One chain settled by month, one paid by itself, one refunded in full, one parked."""
    await seed.apply(store)
    for uid, mode in (("month", PayoutMode.MONTHLY), ("own", PayoutMode.PER_BOOKING), ("back", PayoutMode.MONTHLY)):
        await seed.charged_chain(store, uid, mode=mode)
    await seed.refund(store, "back", 11_900)
    async with store.begin() as tx:
        bill = await tx.ledger.entry("billed:back")
        assert bill is not None
        correction = ledger.invoice_corrected(
            bill, sequence=1, total_reversed_before=(0, 0), corrected_gross_minor=11_900, effective_at=seed.NOW
        )
        assert correction is not None
        await tx.ledger.post(correction)
        for uid in ("month", "own"):
            await tx.money.mature(uid)
    await seed.pay_reseller(store, "own", "r-leaf")
    async with store.begin() as tx:
        await tx.settlements.claim("2026-03", 1, period_bounds("2026-03")[1], requested_by="ops-anna")
        rows = await tx.settlements.of("2026-03")
        leaf = next(row for row in rows if row.reseller_id == "r-leaf")
        transfer = await tx.settlements.begin(leaf.id, key="settlement:leaf", destination_account_id="acct_leaf")
        assert transfer is not None
    async with store.begin() as tx:
        await tx.money.finish_transfer(transfer.key, status=EffectStatus.SUCCEEDED, transfer_id="tr_settled")
        await tx.settlements.finish(leaf.id, status=SettlementStatus.PAID)
        await tx.ledger.post(
            ledger.transferred(
                transfer_key=transfer.key,
                chain_uid=None,
                reseller_id="r-leaf",
                currency="EUR",
                amount_minor=transfer.amount_minor,
                effective_at=seed.NOW,
            )
        )
        await tx.chains.update("month", stage=ChainStage.CLOSED, outcome=ChainOutcome.MATURED)
        await tx.chains.update("own", stage=ChainStage.CLOSED, outcome=ChainOutcome.PAID)
        await tx.chains.update("back", stage=ChainStage.CLOSED, outcome=ChainOutcome.REFUNDED)
        await tx.chains.update(
            "parked", stage=ChainStage.PARKED, reason=ParkReason.NO_PRICE, deadline_at=LATER + timedelta(days=1)
        )


async def found(store: Store, statement: Statement | None = None, now: datetime = LATER) -> list[Finding]:
    return await audit(store, cast("PaymentGateway | None", statement), now=now)


async def plant(store: Store, *statements: str) -> None:
    """Break the books as only somebody with the database's password can: past the triggers and foreign keys."""
    async with store.begin() as tx:
        await tx.connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            await tx.connection.execute(text(statement))


async def test_sound_books_have_no_findings(store: Store) -> None:
    assert await found(store) == []
    await sound_books(store)
    assert await found(store) == []
    assert await found(store, sound_statement()) == []


@pytest.mark.parametrize("name", BREAKS)
async def test_a_planted_break_is_found(store: Store, name: str) -> None:
    invariant, where, statements = BREAKS[name]
    await sound_books(store)
    await plant(store, *statements)
    findings = await found(store)
    named = [finding for finding in findings if (finding.invariant, finding.where) == (invariant, where)]
    assert named, findings
    assert all(finding.what and finding.what_to_do and finding.expected != finding.found for finding in findings)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda said: said.movements.append(("charge", "ch_x", 100, True, 25)), "charge ch_x at Stripe"),
        (lambda said: said.movements.append(("adjustment", "dp_1", 11_900, False, 2_000)), "adjustment dp_1 at Stripe"),
        (lambda said: said.movements.pop(0), "charge charge:month:1"),
        (lambda said: said.movements.pop(3), "refund refund:back:1"),
        (lambda said: said.movements.append(("charge", "ch_own", 1, True, 0)), "charge charge:own:1"),
        (
            lambda said: said.movements.__setitem__(1, ("charge", "ch_own", 11_900, True, 200)),
            "charge charge:own:1",
        ),
    ],
)
async def test_stripe_and_our_records_are_compared_both_ways(store: Store, change: object, where: str) -> None:
    await sound_books(store)
    statement = sound_statement()
    assert callable(change)
    change(statement)
    (finding,) = await found(store, statement)
    assert (finding.invariant, finding.where) == ("I1", where)


async def test_what_is_on_its_way_is_not_judged(store: Store) -> None:
    await sound_books(store)
    await plant(store, "DELETE FROM ledger_entries WHERE key = 'charged:month:1'")
    statement = sound_statement()
    statement.movements.append(("charge", "ch_new", 100, True, 25))
    now = datetime.now(UTC)
    assert [one for one in await found(store, statement, now) if one.invariant == "I1"] == []
    assert {one.where for one in await found(store, statement) if one.invariant == "I1"} == {
        "charge charge:month:1",
        "charge ch_new at Stripe",
    }


async def test_a_refund_that_failed_later_is_even_when_its_entry_is_reversed(store: Store) -> None:
    await seed.apply(store)
    await seed.charged_chain(store, "bk-1")
    async with store.begin() as tx:
        charged = await tx.ledger.entry("charged:bk-1:1")
        assert charged is not None
        await tx.money.begin_refund(
            key="refund:bk-1:1",
            chain_uid="bk-1",
            sequence=1,
            charge_key="charge:bk-1:1",
            currency="EUR",
            amount_minor=500,
        )
        await tx.money.finish_refund("refund:bk-1:1", status=RefundState.SUCCEEDED, refund_id="re_1")
        entry = ledger.refunded(charged, sequence=1, amount_minor=500, effective_at=seed.NOW)
        await tx.ledger.post(entry)
        await tx.money.finish_refund("refund:bk-1:1", status=RefundState.FAILED)
        await tx.chains.update("bk-1", stage=ChainStage.HOLD, deadline_at=LATER + timedelta(days=1))
    assert [one.where for one in await found(store)] == ["refund refund:bk-1:1"]
    async with store.begin() as tx:
        await tx.ledger.post(ledger.reversal(entry, key="reversal:refunded:bk-1:1", effective_at=seed.NOW))
    assert await found(store) == []
    statement = Statement(
        ("charge", "ch_bk-1", 11_900, True, 199),
        ("refund", "re_1", 500, False, 0),
        ("refund_failure", "re_1", 500, True, 0),
    )
    assert await found(store, statement) == []


async def test_a_fee_may_come_a_day_later(store: Store) -> None:
    await seed.apply(store)
    quote = await seed.open_quoted(store, "bk-1")
    async with store.begin() as tx:
        await tx.money.begin_charge(
            key="charge:bk-1:1", chain_uid="bk-1", attempt=1, customer_id="c-1", currency="EUR", amount_minor=11_900
        )
        await tx.money.finish_charge(
            "charge:bk-1:1", status=ChargeStatus.SUCCEEDED, payment_intent_id="pi_1", charge_id="ch_1"
        )
        await tx.ledger.post(
            ledger.charged(
                chain_uid="bk-1",
                attempt=1,
                customer_id=quote.customer_id,
                currency="EUR",
                gross_minor=11_900,
                effective_at=seed.NOW,
            )
        )
        await tx.chains.update("bk-1", stage=ChainStage.HOLD, deadline_at=LATER + timedelta(days=9))
    statement = Statement(("charge", "ch_1", 11_900, True, 199))
    assert await found(store, statement) == []
    (finding,) = await found(store, statement, LATER + timedelta(days=2))
    assert (finding.invariant, finding.where) == ("I1", "charge charge:bk-1:1")
