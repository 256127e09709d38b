from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.settlement import Carried, MaturedCommission, Statement, statements, totals


def matured(
    chain: str, reseller: str = "r-1", amount: int = 1225, reversed_minor: int = 0, *, currency: str = "EUR",
    period: str = "2026-03", level: int = 0
) -> MaturedCommission:  # fmt: skip
    return MaturedCommission(
        chain_uid=chain,
        reseller_id=reseller,
        level=level,
        currency=currency,
        accrued_minor=amount,
        reversed_minor=reversed_minor,
        period=period,
    )


def test_one_statement_for_each_reseller_and_currency_with_late_lines_and_net_of_refunds() -> None:
    closed = statements(
        [
            matured("b", amount=245, level=1),
            matured("a", period="2026-01"),
            matured("c", amount=100, reversed_minor=40),
            matured("d", "r-0", 7),
            matured("e", amount=5, currency="CHF"),
        ],
        period="2026-03",
    )
    assert [(s.reseller_id, s.currency, s.payable_minor) for s in closed] == [
        ("r-0", "EUR", 7),
        ("r-1", "CHF", 5),
        ("r-1", "EUR", 1225 + 245 + 60),
    ]
    assert [(line.chain_uid, line.amount_minor) for line in closed[2].lines] == [("a", 1225), ("b", 245), ("c", 60)]
    assert totals(closed) == {"EUR": 7 + 1530, "CHF": 5}


def test_a_wholly_refunded_commission_is_closed_by_a_line_of_zero() -> None:
    (closed,) = statements([matured("a", amount=50, reversed_minor=50)], period="2026-03")
    assert [line.amount_minor for line in closed.lines] == [0]
    assert closed.payable_minor == 0


def test_below_the_minimum_it_is_carried_over_and_paid_with_the_next() -> None:
    (march,) = statements([matured("a", amount=900)], period="2026-03", minimum_payout_minor=1000)
    assert (march.payable_minor, march.carried_over) == (0, Carried(credit_minor=900))
    april = statements(
        [matured("b", amount=100, period="2026-04")],
        period="2026-04",
        brought_forward={("r-1", "EUR"): march.carried_over},
        minimum_payout_minor=1000,
    )
    assert april[0].payable_minor == 1000
    assert april[0].carried_over == Carried()


def test_a_debt_is_carried_over_until_it_is_earned() -> None:
    (march,) = statements([matured("a", amount=100)], period="2026-03", deductions_minor={("r-1", "EUR"): 350})
    assert (march.payable_minor, march.carried_over) == (0, Carried(debt_minor=250))
    (april,) = statements([], period="2026-04", brought_forward={("r-1", "EUR"): march.carried_over})
    assert april.carried_over == Carried(debt_minor=250), "a month without lines keeps it"


def test_a_later_month_is_not_settled_early() -> None:
    with pytest.raises(ValueError, match="after 2026-03"):
        statements([matured("a", period="2026-04")], period="2026-03")


@given(
    lines=st.lists(
        st.tuples(st.sampled_from(["r-1", "r-2"]), st.integers(0, 5_000), st.integers(0, 5_000)), max_size=20
    ),
    deducted=st.integers(0, 20_000),
    credit=st.integers(0, 3_000),
    minimum=st.integers(0, 3_000),
)
def test_nothing_is_lost_between_earned_paid_and_carried_over(
    lines: list[tuple[str, int, int]], deducted: int, credit: int, minimum: int
) -> None:
    commissions = [
        matured(f"u{n}", reseller, amount, min(amount, back)) for n, (reseller, amount, back) in enumerate(lines)
    ]

    def close(found: list[MaturedCommission]) -> tuple[Statement, ...]:
        return statements(
            found,
            period="2026-03",
            minimum_payout_minor=minimum,
            deductions_minor={("r-1", "EUR"): deducted},
            brought_forward={("r-1", "EUR"): Carried(credit_minor=credit)},
        )

    closed = close(commissions)
    assert closed == close(commissions[::-1])
    due = sum(c.accrued_minor - c.reversed_minor for c in commissions) + credit - deducted
    paid_or_open = sum(s.payable_minor + s.carried_over.credit_minor - s.carried_over.debt_minor for s in closed)
    assert paid_or_open == due
    assert all(s.payable_minor == 0 or s.payable_minor >= minimum for s in closed)
    assert sorted(line.chain_uid for s in closed for line in s.lines) == sorted(c.chain_uid for c in commissions)


def test_a_statement_that_does_not_balance_cannot_exist() -> None:
    (good,) = statements([matured("a")], period="2026-03")
    for wrong in ({"payable_minor": 1}, {"earned_minor": 1226, "payable_minor": 1226}):
        with pytest.raises(ValidationError, match="does not balance"):
            Statement.model_validate({**good.model_dump(), **wrong})
    with pytest.raises(ValidationError, match="more is reversed"):
        matured("a", amount=1, reversed_minor=2)
