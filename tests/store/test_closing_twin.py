"""The SQL that closes all accounts at once and the rule in `domain.closing` agree, whatever happened before.

Both close the same accounts, month after month and in any order, with supplements; after each event the ledger's
accounts are what statements and open commissions explain.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from domain.closing import Closing, Earning, Left, Terms, close
from domain.effects import SettlementStatus
from domain.model import Reseller
from domain.pricing import BERLIN, period_bounds
from domain.settlement import Figures, StatementLine
from domain.tax import reseller_vat
from domain.tax_status import in_force
from store import Store, Tx
from store.audit import audit
from tests.conftest import create_database, drop_database, url_of
from tests.store.lives import MONTHS, Event, Life, explained

Account = tuple[str, str]
NEGATIVE_MONTHS = 2

_NUMBERS = itertools.count(1)
_NUMBER = st.integers(0, 10_000)
_KINDS = (*["earn", "close"] * 3, *["reverse", "pay"] * 2, "mature", "adjust", "change", "carry", "undo", "park")
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(_KINDS),
        _NUMBER,
        _NUMBER,
        _NUMBER,
    ),
    min_size=25,
    max_size=45,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(events=_EVENTS)
def test_the_database_closes_as_the_rule_does(postgres_url: str, migrated_template: str, events: list[Event]) -> None:
    name = f"billing_test_twin_{os.getpid()}_{next(_NUMBERS)}"
    create_database(postgres_url, name, template=migrated_template)
    try:
        asyncio.run(_live(url_of(postgres_url, name), events))
    finally:
        drop_database(postgres_url, name)


async def _live(url: str, events: list[Event]) -> None:
    async with Store(url, pool_size=2) as store:
        life = Life(store)
        await life.begin()
        for event in events:
            if event[0] == "close":
                await _close(life, MONTHS[event[1] % 12])
            else:
                await life.happens(event)
            await explained(store)
        await life.goes_on()
        await _close(life, "2027-12")
        await explained(store)
        found = [one for one in await audit(store, None, grace_seconds=-60) if one.invariant in ("I6", "I7", "I8")]
        assert [one for one in found if one.what != "a statement was never paid"] == []


async def _close(life: Life, period: str) -> None:
    _, boundary = period_bounds(period)
    async with life.store.begin() as tx:
        sequence = await tx.settlements.latest_sequence(period) + 1
        expected = {
            account: closing
            for account in await _accounts(tx)
            if (closing := await _twin(tx, account, period, sequence)) is not None
        }
        terms: dict[str, Any] = {"requested_by": "ops-anna", "negative_months": NEGATIVE_MONTHS}
        shown = await tx.settlements.preview(period, boundary, **terms)
        assert await tx.settlements.latest_sequence(period) == sequence - 1
        summary = await tx.settlements.claim(period, sequence, boundary, **terms)
        rows = await tx.settlements.of(period, sequence)
        assert summary.is_new
        assert summary.statements == len(rows) == len(expected)
        assert [_figures(row) for row in shown] == [_figures(row) for row in rows]
        for row in rows:
            closing = expected[row.reseller_id, row.currency]
            statement = await tx.settlements.statement(row.id)
            assert _figures(row) == closing.figures
            assert (row.status, row.needs_approval) == (closing.status, closing.needs_approval)
            assert [line.model_copy(update={"rule": {}}) for line in statement.lines] == list(closing.lines)
            assert statement.taxes == closing.taxes
        assert not (await tx.settlements.claim(period, sequence, boundary, **terms)).is_new
    life.closed.append((period, sequence))


def _figures(row: Figures) -> Figures:
    return Figures(**{name: getattr(row, name) for name in Figures.model_fields})


async def _accounts(tx: Tx) -> list[Account]:
    found = await tx.connection.execute(
        text("SELECT reseller_id, currency FROM commissions UNION SELECT reseller_id, currency FROM adjustments")
    )
    return [(row.reseller_id, row.currency) for row in found]


async def _twin(tx: Tx, account: Account, period: str, sequence: int) -> Closing | None:
    """The closing by the rule, from what is stored, read one account at a time."""
    reseller_id, currency = account
    found = await tx.connection.execute(
        text(
            "SELECT c.id AS commission_id, c.chain_uid, c.level, c.accrued_minor, c.reversed_minor, c.status,"
            " c.payout_mode, c.matures_at, c.settled_minor, coalesce(t.status = 'succeeded', false) AS is_paid,"
            " chains.stage = 'undoing' OR chains.stage = 'parked' AND chains.reason <> 'reseller_not_ready' AS is_held"
            " FROM commissions AS c JOIN chains USING (chain_uid) LEFT JOIN transfers AS t ON t.key = c.transfer_key"
            " WHERE c.reseller_id = :reseller_id AND c.currency = :currency"
        ),
        {"reseller_id": reseller_id, "currency": currency},
    )
    stated: dict[int, list[StatementLine]] = {}
    left = []
    for row in await tx.settlements.of_reseller(reseller_id):
        if row.currency != currency:
            continue
        for line in (await tx.settlements.statement(row.id)).lines:
            stated.setdefault(line.commission_id, []).append(line.model_copy(update={"rule": {}}))
        is_left = row.status is SettlementStatus.CARRIED_OVER or not row.payable_minor
        if row.brought_into is None and is_left:
            left.append(
                Left(
                    period=row.period,
                    credit_minor=row.left_credit_minor,
                    debt_minor=row.carried_debt_minor,
                    negative_since=row.negative_since,
                    needs_approval=row.needs_approval,
                )
            )
    reseller = await tx.catalog.reseller(reseller_id)
    boundary = period_bounds(period)[1]
    last_day = (boundary - timedelta(seconds=1)).astimezone(BERLIN).date()
    status = in_force(await tx.resellers.tax_statuses(reseller_id), last_day)
    if status is not None:
        reseller = reseller.model_copy(update={"small_business": status.small_business, "country": status.country})
    return close(
        period=period,
        boundary=boundary,
        terms=_terms(reseller, currency),
        earnings=[Earning.model_validate(dict(row)) for row in found.mappings()],
        stated=stated,
        adjustments=[
            one
            for one in await tx.settlements.adjustments(reseller_id)
            if one.currency == currency and one.status == "approved" and one.settlement_id is None
        ],
        left=left,
        negative_months=NEGATIVE_MONTHS,
        is_supplement=sequence > 1,
    )


def _terms(reseller: Reseller, currency: str) -> Terms:
    vat = reseller_vat(reseller, 0)
    return Terms(
        vat_rate_bps=vat.rate_bps,
        vat_reason=vat.reason,
        minimum_payout_minor=reseller.minimum_payouts.get(currency, 0),
        is_on_hold=reseller.payout_mode == "on_hold",
    )
