"""Monthly closing: matured commissions become one statement per reseller and currency.

Nothing is negative: what a reseller owes back (commissions settled earlier and reversed since) is a deduction, and
where deductions are larger than earnings the rest is carried over as a debt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from domain.model import Currency, Frozen, Id, Period
from domain.money import AmountMinor


class MaturedCommission(Frozen):
    """One level's commission of one chain that no statement has claimed yet."""

    chain_uid: Id
    reseller_id: Id
    level: Annotated[int, Field(ge=0)]
    currency: Currency
    accrued_minor: AmountMinor
    reversed_minor: AmountMinor = 0
    """Undone by refunds so far."""
    period: Period
    """Month of the appointment. May be earlier than the statement's: late ones are taken by the next run."""

    @model_validator(mode="after")
    def _not_more_than_earned(self) -> Self:
        if self.reversed_minor > self.accrued_minor:
            raise ValueError("more is reversed than was earned")
        return self


class Carried(Frozen):
    """What an earlier statement left over. At most one of the two is not zero."""

    credit_minor: AmountMinor = 0
    """Owed to the reseller: below the minimum payout, or on hold."""
    debt_minor: AmountMinor = 0
    """Owed by the reseller."""


class StatementLine(Frozen):
    chain_uid: Id
    level: int
    period: Period
    amount_minor: AmountMinor
    """Net commission of this line: accrued less reversed. Lines of zero are listed, so that they are closed."""


class Statement(Frozen):
    """`earned + carried credit == deducted + carried debt + payable + next credit - next debt`, checked."""

    reseller_id: Id
    currency: Currency
    period: Period
    """The month that is closed."""
    lines: tuple[StatementLine, ...]
    earned_minor: AmountMinor
    deducted_minor: AmountMinor
    brought_forward: Carried
    payable_minor: AmountMinor
    """To transfer now; zero where it is below the minimum or a debt remains."""
    carried_over: Carried

    @model_validator(mode="after")
    def _balances(self) -> Self:
        before, after = self.brought_forward, self.carried_over
        owed = self.earned_minor + before.credit_minor + after.debt_minor
        settled = self.deducted_minor + before.debt_minor + self.payable_minor + after.credit_minor
        if owed != settled or sum(line.amount_minor for line in self.lines) != self.earned_minor:
            raise ValueError(f"statement {self.period} of {self.reseller_id} does not balance: {owed} and {settled}")
        return self


Account = tuple[str, str]
"""(reseller id, currency)."""


def statements(
    commissions: Iterable[MaturedCommission],
    *,
    period: str,
    deductions_minor: Mapping[Account, int] | None = None,
    brought_forward: Mapping[Account, Carried] | None = None,
    minimum_payout_minor: int = 0,
) -> tuple[Statement, ...]:
    """One statement for each reseller and currency that has lines, deductions or something brought forward.

    Takes every commission up to `period`, however old; a later month's is a ValueError. Sorted by reseller and
    currency, lines by chain and level, so that the same input gives the same statements. `deductions_minor`:
    commissions settled earlier and reversed since.
    """
    deductions_minor = deductions_minor or {}
    brought_forward = brought_forward or {}
    lines: dict[Account, list[StatementLine]] = {account: [] for account in (*deductions_minor, *brought_forward)}
    for commission in commissions:
        if commission.period > period:
            raise ValueError(f"chain {commission.chain_uid} belongs to {commission.period}, after {period}")
        lines.setdefault((commission.reseller_id, commission.currency), []).append(
            StatementLine(
                chain_uid=commission.chain_uid,
                level=commission.level,
                period=commission.period,
                amount_minor=commission.accrued_minor - commission.reversed_minor,
            )
        )
    return tuple(
        _statement(
            account,
            period,
            lines[account],
            deductions_minor.get(account, 0),
            brought_forward.get(account, Carried()),
            minimum_payout_minor,
        )
        for account in sorted(lines)
    )


def totals(closed: Iterable[Statement]) -> dict[str, int]:
    """What all statements together pay out, per currency."""
    sums: dict[str, int] = {}
    for statement in closed:
        sums[statement.currency] = sums.get(statement.currency, 0) + statement.payable_minor
    return sums


def _statement(
    account: Account,
    period: str,
    lines: list[StatementLine],
    deducted_minor: int,
    before: Carried,
    minimum_payout_minor: int,
) -> Statement:
    reseller_id, currency = account
    earned_minor = sum(line.amount_minor for line in lines)
    credit_minor = earned_minor + before.credit_minor
    debt_minor = deducted_minor + before.debt_minor
    due_minor = max(0, credit_minor - debt_minor)
    payable_minor = due_minor if due_minor >= minimum_payout_minor else 0
    return Statement(
        reseller_id=reseller_id,
        currency=currency,
        period=period,
        lines=tuple(sorted(lines, key=lambda line: (line.chain_uid, line.level))),
        earned_minor=earned_minor,
        deducted_minor=deducted_minor,
        brought_forward=before,
        payable_minor=payable_minor,
        carried_over=Carried(credit_minor=due_minor - payable_minor, debt_minor=max(0, debt_minor - credit_minor)),
    )
