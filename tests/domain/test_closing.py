"""The rule that closes an account, and statements that refuse not to add up. The database's twin: tests/store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.closing import Closing, Earning, Left, Terms, close, months_between, tax_table
from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus, CarryReason, SettlementStatus
from domain.model import CommissionStatus, PayoutMode
from domain.settlement import Adjustment, Figures, StatementLine, TaxLine, check_sums

BOUNDARY = datetime(2026, 3, 31, 22, tzinfo=UTC)
STANDARD = Terms(vat_rate_bps=1_900, vat_reason="standard")
SMALL = Terms(vat_rate_bps=0, vat_reason="small_business")


def earning(number: int, accrued: int = 1_000, reversed_minor: int = 0, **changed: Any) -> Earning:
    fields: dict[str, Any] = {
        "commission_id": number,
        "chain_uid": f"bk-{number}",
        "level": 0,
        "accrued_minor": accrued,
        "reversed_minor": reversed_minor,
        "status": CommissionStatus.MATURED,
        "payout_mode": PayoutMode.MONTHLY,
        "matures_at": BOUNDARY - timedelta(days=1),
        "is_paid": False,
        "settled_minor": 0,
    }
    return Earning(**{**fields, **changed})


def closed(
    *earnings: Earning,
    terms: Terms = STANDARD,
    stated: dict[int, Sequence[StatementLine]] | None = None,
    adjustments: Sequence[Adjustment] = (),
    left: Sequence[Left] = (),
    period: str = "2026-03",
) -> Closing | None:
    return close(
        period=period,
        boundary=BOUNDARY,
        terms=terms,
        earnings=earnings,
        stated=stated or {},
        adjustments=adjustments,
        left=left,
        negative_months=3,
    )


def made(*earnings: Earning, **given_: Any) -> Closing:
    found = closed(*earnings, **given_)
    assert found is not None
    return found


def adjustment(amount_minor: int, direction: AdjustmentDirection, **changed: Any) -> Adjustment:
    fields: dict[str, Any] = {
        "id": "A-1",
        "reseller_id": "r-1",
        "currency": "EUR",
        "amount_minor": amount_minor,
        "direction": direction,
        "kind": AdjustmentKind.CORRECTION,
        "why": "because",
        "requested_by": "anna",
        "requested_at": BOUNDARY,
        "status": AdjustmentStatus.APPROVED,
        "decided_by": "bert",
        "decided_at": BOUNDARY,
        "settlement_id": None,
    }
    return Adjustment(**{**fields, **changed})


def test_what_matured_is_earned_net_of_reversals_with_overrides_and_vat() -> None:
    closing = made(earning(2, 500, 200, level=1), earning(1), earning(3, matures_at=BOUNDARY - timedelta(days=60)))
    figures = closing.figures
    assert (figures.earned_minor, figures.override_minor, figures.line_count) == (2_300, 300, 3)
    assert (figures.vat_credit_minor, figures.payable_minor, figures.carry_reason) == (437, 2_737, None)
    assert [line.chain_uid for line in closing.lines] == ["bk-3", "bk-1", "bk-2"]
    assert closing.status is SettlementStatus.OPEN


@pytest.mark.parametrize(
    "left_out",
    [
        earning(1, matures_at=BOUNDARY),
        earning(1, status=CommissionStatus.ACCRUED),
        earning(1, 1_000, 1_000, status=CommissionStatus.REVERSED),
        earning(1, is_held=True),
        earning(1, payout_mode=PayoutMode.PER_BOOKING),
        earning(1, 100, 100, payout_mode=PayoutMode.PER_BOOKING, status=CommissionStatus.REVERSED, is_paid=True),
    ],
)
def test_what_is_not_due_makes_no_statement(left_out: Earning) -> None:
    assert closed(left_out) is None


def test_vat_is_rounded_once_a_rate_and_not_once_a_line() -> None:
    closing = made(*(earning(number, 3) for number in range(10)))
    assert closing.figures.vat_credit_minor == 6  # 10 lines of 3 at 19 %: 5.7, where each alone gives 0.57, so 10


def test_a_clawback_keeps_the_vat_of_its_earned_line_and_never_counts_twice() -> None:
    first = made(earning(1), earning(2)).lines
    stated: dict[int, Sequence[StatementLine]] = {line.commission_id: (line,) for line in first}
    halved = earning(1, 1_000, 500)
    second = made(halved, earning(2), earning(3, 700), terms=SMALL, stated=stated)
    assert (second.figures.clawback_minor, second.figures.vat_debit_minor, second.figures.earned_minor) == (
        500,
        95,
        700,
    )
    assert [(tax.vat_rate_bps, tax.net_minor, tax.is_debit) for tax in second.taxes] == [
        (0, 700, False),
        (1_900, 500, True),
    ]
    assert second.figures.payable_minor == 700 - 500 - 95
    stated[1] = (*stated[1], second.lines[-1])
    assert closed(halved, stated=stated) is None
    third = made(earning(1, 1_000, 1_000, status=CommissionStatus.REVERSED), stated=stated)
    assert (third.lines[0].sequence, third.lines[0].amount_minor) == (2, 500)


def test_an_own_transfer_is_set_against_what_it_paid_and_comes_back_when_it_was_taken_back() -> None:
    own: dict[str, Any] = {"payout_mode": PayoutMode.PER_BOOKING, "status": CommissionStatus.SETTLED, "is_paid": True}
    first = made(earning(1, settled_minor=1_000, **own))
    assert (first.figures.transferred_minor, first.figures.payable_minor) == (1_000, 190)
    back = earning(1, 1_000, 1_000, **{**own, "status": CommissionStatus.REVERSED})
    second = made(back, stated={1: first.lines})
    assert (second.figures.returned_minor, second.figures.clawback_minor) == (1_000, 1_000)
    assert (second.figures.carried_debt_minor, second.figures.carry_reason) == (190, CarryReason.NEGATIVE)
    refused = made(back.model_copy(update={"settled_minor": 1_000}), stated={1: first.lines})
    assert (refused.figures.returned_minor, refused.figures.carried_debt_minor) == (0, 1_190)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (SMALL.model_copy(update={"minimum_payout_minor": 1_001}), CarryReason.BELOW_MINIMUM),
        (SMALL.model_copy(update={"is_on_hold": True}), CarryReason.ON_HOLD),
        (SMALL.model_copy(update={"minimum_payout_minor": 1_000}), None),
    ],
)
def test_what_is_too_little_or_on_hold_is_left_for_the_next(terms: Terms, reason: CarryReason | None) -> None:
    figures = made(earning(1), terms=terms).figures
    assert (figures.carry_reason, figures.carried_credit_minor) == (reason, 1_000 if reason else 0)
    following = made(left=[Left(period="2026-02", credit_minor=1_000)], terms=terms).figures
    assert (following.opening_credit_minor, following.payable_minor) == (1_000, 0 if reason else 1_000)


def test_a_debt_is_parked_when_it_has_lasted() -> None:
    debit = [adjustment(100, AdjustmentDirection.DEBIT)]
    march = made(adjustments=debit)
    assert (march.status, march.figures.negative_since) == (SettlementStatus.CARRIED_OVER, "2026-03")
    since: dict[str, Any] = {"debt_minor": 100, "negative_since": "2026-03"}
    april = made(left=[Left(period="2026-03", **since)], period="2026-04")
    assert (april.status, april.figures.negative_since) == (SettlementStatus.CARRIED_OVER, "2026-03")
    may = made(left=[Left(period="2026-04", **since)], period="2026-05")
    assert (may.status, may.figures.carried_debt_minor) == (SettlementStatus.PARKED, 100)
    written_off = made(
        left=[Left(period="2026-05", **since)],
        adjustments=[adjustment(100, AdjustmentDirection.CREDIT, kind=AdjustmentKind.WRITE_OFF)],
        period="2026-06",
    )
    assert (written_off.figures.carry_reason, written_off.figures.negative_since) == (CarryReason.NOTHING_DUE, None)
    assert closed(left=[Left(period="2026-06")]) is None


_AMOUNT = st.integers(0, 10**9)
_EARNINGS = st.lists(
    st.tuples(st.integers(1, 10**9), st.integers(0, 100), st.sampled_from([0, 1]), st.booleans()), max_size=12
)


@given(
    rows=_EARNINGS,
    credit=_AMOUNT,
    debt=_AMOUNT,
    adjusted=st.integers(1, 10**9),
    direction=st.sampled_from(AdjustmentDirection),
    minimum=_AMOUNT,
    rate=st.sampled_from([0, 700, 1_900]),
)
def test_every_closing_balances_and_leaves_one_thing(
    rows: list[tuple[int, int, int, bool]],
    credit: int,
    debt: int,
    adjusted: int,
    direction: AdjustmentDirection,
    minimum: int,
    rate: int,
) -> None:
    earnings = []
    stated: dict[int, Sequence[StatementLine]] = {}
    for number, (accrued, percent, level, is_stated) in enumerate(rows):
        undone = accrued * percent // 100
        status = CommissionStatus.REVERSED if undone == accrued else CommissionStatus.MATURED
        if is_stated:
            stated[number] = made(earning(number, accrued, level=level)).lines
        earnings.append(earning(number, accrued, undone, level=level, status=status))
    adjustments = [adjustment(adjusted, direction)]
    closing = made(
        *earnings,
        terms=Terms(vat_rate_bps=rate, vat_reason="any", minimum_payout_minor=minimum),
        stated=stated,
        adjustments=adjustments,
        left=[Left(period="2026-02", credit_minor=credit), Left(period="2026-01", debt_minor=debt)],
    )
    check_sums(closing.figures, closing.lines, closing.taxes, adjustments)
    figures = closing.figures
    assert (figures.payable_minor == 0) == (closing.status is not SettlementStatus.OPEN)
    assert figures.payable_minor == 0 or figures.payable_minor >= minimum
    net = sum(-line.amount_minor if line.sequence else line.amount_minor for line in closing.lines)
    assert net == figures.earned_minor - figures.clawback_minor


FIGURES = made(earning(1), earning(2, level=1), earning(3, 5))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("payable_minor", 2_385, "does not balance"),
        ("opening_credit_minor", 1, "does not balance"),
        ("carry_reason", CarryReason.ON_HOLD, "says why"),
        ("negative_since", "2026-03", "since when"),
        ("override_minor", 9_999, "part of what was earned"),
        ("minimum_payout_minor", 9_999, "minimum"),
        ("vat_credit_minor", -1, "greater than or equal"),
    ],
)
def test_figures_that_do_not_fit_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Figures(**{**FIGURES.figures.model_dump(), name: value})


def test_figures_that_are_not_what_is_listed_are_refused() -> None:
    figures, lines, taxes = FIGURES.figures, FIGURES.lines, FIGURES.taxes
    check_sums(figures, lines, taxes, [])
    with pytest.raises(ValueError, match=r"earned_minor.*line_count.*taxes"):
        check_sums(figures, lines[1:], taxes, [])
    with pytest.raises(ValueError, match="vat_credit_minor, taxes"):
        check_sums(figures, lines, [], [])
    with pytest.raises(ValueError, match="adjustment_debit_minor"):
        check_sums(figures, lines, taxes, [adjustment(1, AdjustmentDirection.DEBIT)])
    with pytest.raises(ValidationError, match="is not 1900 bps of 100"):
        TaxLine(vat_rate_bps=1_900, vat_reason="standard", net_minor=100, vat_minor=20, is_debit=False)
    with pytest.raises(ValidationError, match="the person who asked"):
        adjustment(1, AdjustmentDirection.DEBIT, decided_by="anna")


def test_a_rate_that_comes_to_nothing_has_no_tax_row() -> None:
    (line,) = made(earning(1)).lines
    assert tax_table([line, line.model_copy(update={"sequence": 1})]) == ()


def test_months_between() -> None:
    assert [months_between("2025-11", last) for last in ("2025-11", "2026-01", "2025-10")] == [0, 2, -1]


def test_a_supplement_alone_and_approvals_that_go_on() -> None:
    given_: dict[str, Any] = {
        "period": "2026-03",
        "boundary": BOUNDARY,
        "terms": STANDARD,
        "stated": {},
        "adjustments": (),
        "negative_months": 3,
    }
    left = [Left(period="2026-04", credit_minor=500, needs_approval=True), Left(period="2026-05", debt_minor=200)]
    assert close(**given_, earnings=(), left=left, is_supplement=True) is None
    closing = close(**given_, earnings=(earning(1, 100),), left=left, is_supplement=True)
    assert closing is not None
    assert (closing.figures.opening_credit_minor, closing.needs_approval) == (300, True)
    assert not made(earning(1)).needs_approval
