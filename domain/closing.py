"""The rule that closes an account: what is due becomes lines, lines become figures, figures a payment or a remainder.

The database does the same for all accounts at once (`store/claims.py`), because a million lines must not pass through
Python. This is its independent twin: tests let both close the same accounts and compare every amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from domain.effects import AdjustmentDirection, CarryReason, LineKind, SettlementStatus
from domain.model import CommissionStatus, Frozen, Id, PayoutMode, Period, UtcDatetime
from domain.money import AmountMinor, RateBps, percentage
from domain.settlement import Adjustment, Count, Figures, StatementLine, TaxLine, sum_of


class Earning(Frozen):
    """One commission as it stands when an account is closed."""

    commission_id: int
    chain_uid: Id
    level: Count
    accrued_minor: AmountMinor
    reversed_minor: AmountMinor
    status: CommissionStatus
    payout_mode: PayoutMode
    """As frozen when it was earned."""
    matures_at: UtcDatetime
    is_paid: bool
    """A transfer of the booking's own, or of a settlement, that carried it has succeeded."""
    settled_minor: AmountMinor
    """What that transfer still carries for it."""
    is_held: bool = False
    """Its chain is being undone, or waits for a person to decide about the booking."""


class Left(Frozen):
    """What an earlier statement of the account left over and no other has brought forward."""

    period: Period
    credit_minor: AmountMinor = 0
    debt_minor: AmountMinor = 0
    negative_since: Period | None = None
    needs_approval: bool = False

    @property
    def hands_on_approval(self) -> bool:
        """Where nothing was left over there is nothing that a second person had to look at again."""
        return self.needs_approval and self.credit_minor + self.debt_minor > 0


class Terms(Frozen):
    """What of the reseller decides about a closing: present data, but for VAT."""

    vat_rate_bps: RateBps
    """By the tax status of the closed month's last day (`domain.tax_status.in_force`), as the reason."""
    vat_reason: str
    minimum_payout_minor: AmountMinor = 0
    is_on_hold: bool = False


class Closing(Frozen):
    figures: Figures
    lines: tuple[StatementLine, ...]
    taxes: tuple[TaxLine, ...]
    status: SettlementStatus
    """`open` (to be transferred), `carried_over`, or `parked` where a debt has lasted too long."""
    needs_approval: bool
    """Because of an adjustment on it, or on what it brings forward. By the amount: not decided here."""


def close(
    *,
    period: str,
    boundary: UtcDatetime,
    terms: Terms,
    earnings: Iterable[Earning],
    stated: Mapping[int, Sequence[StatementLine]],
    adjustments: Sequence[Adjustment],
    left: Sequence[Left],
    negative_months: int,
    is_supplement: bool = False,
) -> Closing | None:
    """The closing of one account. None: nothing happened and nothing is left, so there is no statement.

    `stated`: the lines that each commission has on earlier statements, by commission id. `adjustments`: those that are
    approved and on no statement yet. `left`: of all months that were closed before, also of later ones.
    `negative_months`: a debt that lasts so many statements is parked. `is_supplement`: what is left alone makes none.
    """
    lines: list[StatementLine] = []
    for earning in earnings:
        before = stated.get(earning.commission_id, ())
        line = _clawback(earning, before) if before else _earned(earning, boundary, terms)
        if line is not None:
            lines.append(line)
    lines.sort(key=lambda line: (line.sequence > 0, line.matures_at, line.chain_uid, line.level))
    is_left = not is_supplement and any(one.credit_minor or one.debt_minor for one in left)
    if not lines and not adjustments and not is_left:
        return None
    taxes = tax_table(lines)
    figures = _figures(period, terms, lines, taxes, adjustments, left)
    return Closing(
        figures=figures,
        lines=tuple(lines),
        taxes=taxes,
        status=_status(figures, period, negative_months),
        needs_approval=bool(adjustments) or any(one.hands_on_approval for one in left),
    )


def tax_table(lines: Iterable[StatementLine]) -> tuple[TaxLine, ...]:
    """VAT once per rate and reason, on what its lines come to together; those that come to nothing are left out."""
    net: dict[tuple[int, str], int] = {}
    for line in lines:
        key = (line.vat_rate_bps, line.vat_reason)
        net[key] = net.get(key, 0) + (-line.amount_minor if line.sequence else line.amount_minor)
    return tuple(
        TaxLine(
            vat_rate_bps=rate_bps,
            vat_reason=reason,
            net_minor=abs(signed),
            vat_minor=percentage(abs(signed), rate_bps),
            is_debit=signed < 0,
        )
        for (rate_bps, reason), signed in sorted(net.items())
        if signed
    )


def months_between(first: str, last: str) -> int:
    """Number of months from one period to another: 0 for the same, negative where `last` is earlier."""
    return (int(last[:4]) - int(first[:4])) * 12 + int(last[5:]) - int(first[5:])


def _earned(earning: Earning, boundary: UtcDatetime, terms: Terms) -> StatementLine | None:
    """The first line of a commission, if it is due: no lower date bound, so that a late one is never orphaned."""
    owed_minor = earning.accrued_minor - earning.reversed_minor
    if earning.matures_at >= boundary or earning.is_held:
        return None
    if earning.payout_mode is PayoutMode.PER_BOOKING:
        # Listed once it is paid. All of it reversed: only where the reseller still holds money for it.
        holds = earning.is_paid and (owed_minor > 0 or earning.settled_minor > 0)
        if earning.status not in (CommissionStatus.SETTLED, CommissionStatus.REVERSED) or not holds:
            return None
    elif earning.status is not CommissionStatus.MATURED:
        return None
    return StatementLine(
        commission_id=earning.commission_id,
        sequence=0,
        chain_uid=earning.chain_uid,
        level=earning.level,
        amount_minor=owed_minor,
        transferred_minor=earning.settled_minor if earning.payout_mode is PayoutMode.PER_BOOKING else 0,
        vat_rate_bps=terms.vat_rate_bps,
        vat_reason=terms.vat_reason,
        matures_at=earning.matures_at,
    )


def _clawback(earning: Earning, before: Sequence[StatementLine]) -> StatementLine | None:
    """What was reversed, and what was taken back of its transfer, since the commission's last line."""
    first = next(line for line in before if line.sequence == 0)
    later = [line for line in before if line.sequence]
    kept_minor = first.amount_minor - sum(line.amount_minor for line in later)
    carried_minor = first.transferred_minor if earning.payout_mode is PayoutMode.PER_BOOKING else first.amount_minor
    carried_minor -= sum(line.transferred_minor for line in later)
    returned_minor = carried_minor - earning.settled_minor if earning.is_paid else 0
    amount_minor = kept_minor - (earning.accrued_minor - earning.reversed_minor)
    if earning.is_held:  # the way back takes the transfer first, the commission last: no credit without its debit
        returned_minor = min(returned_minor, amount_minor)
    if amount_minor == 0 and returned_minor == 0:
        return None
    return first.model_copy(
        update={
            "sequence": max(line.sequence for line in before) + 1,
            "amount_minor": amount_minor,
            "transferred_minor": returned_minor,
        }
    )


def _figures(
    period: str,
    terms: Terms,
    lines: Sequence[StatementLine],
    taxes: Sequence[TaxLine],
    adjustments: Sequence[Adjustment],
    left: Sequence[Left],
) -> Figures:
    opening = sum(one.credit_minor - one.debt_minor for one in left)
    amounts = {
        "opening_credit_minor": max(0, opening),
        "opening_debt_minor": max(0, -opening),
        "earned_minor": sum(line.amount_minor for line in lines if line.kind is LineKind.EARNED),
        "clawback_minor": sum(line.amount_minor for line in lines if line.kind is LineKind.CLAWBACK),
        "transferred_minor": sum(line.transferred_minor for line in lines if line.kind is LineKind.EARNED),
        "returned_minor": sum(line.transferred_minor for line in lines if line.kind is LineKind.CLAWBACK),
        "adjustment_credit_minor": sum_of(adjustments, AdjustmentDirection.CREDIT),
        "adjustment_debit_minor": sum_of(adjustments, AdjustmentDirection.DEBIT),
        "vat_credit_minor": sum(tax.vat_minor for tax in taxes if not tax.is_debit),
        "vat_debit_minor": sum(tax.vat_minor for tax in taxes if tax.is_debit),
    }
    owing = ("opening_debt_minor", "clawback_minor", "transferred_minor", "adjustment_debit_minor", "vat_debit_minor")
    due = sum(-minor if name in owing else minor for name, minor in amounts.items())
    reason = _carry_reason(due, terms)
    since = [one.negative_since for one in left if one.negative_since is not None]
    return Figures(
        **amounts,
        override_minor=sum(line.amount_minor for line in lines if line.kind is LineKind.EARNED and line.level),
        payable_minor=due if reason is None else 0,
        carried_credit_minor=max(0, due) if reason is not None else 0,
        carried_debt_minor=max(0, -due),
        minimum_payout_minor=terms.minimum_payout_minor,
        line_count=len(lines),
        carry_reason=reason,
        negative_since=min([*since, period]) if due < 0 else None,
        vat_rate_bps=terms.vat_rate_bps,
        vat_reason=terms.vat_reason,
    )


def _carry_reason(due: int, terms: Terms) -> CarryReason | None:
    if due < 0:
        return CarryReason.NEGATIVE
    if due == 0:
        return CarryReason.NOTHING_DUE
    if terms.is_on_hold:
        return CarryReason.ON_HOLD
    return CarryReason.BELOW_MINIMUM if due < terms.minimum_payout_minor else None


def _status(figures: Figures, period: str, negative_months: int) -> SettlementStatus:
    if figures.payable_minor:
        return SettlementStatus.OPEN
    since = figures.negative_since
    lasted = since is not None and months_between(since, period) + 1 >= negative_months
    return SettlementStatus.PARKED if lasted else SettlementStatus.CARRIED_OVER
