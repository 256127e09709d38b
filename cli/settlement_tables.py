"""Statements as a table, and what a person can do about those that wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from cli import output
from domain.effects import SettlementStatus
from domain.model import ParkReason
from domain.money import format_amount

if TYPE_CHECKING:
    from rich.table import Table

    from store.rows import SettlementRow

WHAT_NEXT: Final = {
    ParkReason.APPROVAL_REQUIRED: "another person decides: billing approve settlement {name} --by YOU --why REASON",
    ParkReason.RESELLER_NOT_READY: "it is paid by itself once his account is ready (billing reseller show "
    "{reseller_id}), or he is resumed (billing reseller resume {reseller_id})",
    ParkReason.CURRENCY_MISMATCH: "his account at Stripe holds another currency: billing carry-over {name} "
    "--by YOU --why REASON, or {retry} when it is put right",
    ParkReason.NEGATIVE_BALANCE: "he owes for months: agree with him, or billing write-off {reseller_id} "
    "--currency {currency} --by YOU --why REASON",
    ParkReason.BALANCE_INSUFFICIENT: "top up the balance at Stripe; it is tried again by itself",
}
"""What to do about a statement that waits, by its reason."""
_RETRY: Final = (
    "billing retry {reseller_id} --settlement {period} --currency {currency}{supplement} --by YOU --why REASON"
)


def show(title: str, rows: list[SettlementRow], *, sums: bool = True) -> None:
    """The statements as a table, their sums where they belong together, and what to do about those that wait."""
    if not rows:
        return
    console = output.console()
    console.print(table(title, rows))
    for currency in sorted({row.currency for row in rows}) if sums else ():
        of_it = [row for row in rows if row.currency == currency]
        payable = format_amount(sum(row.payable_minor for row in of_it), currency)
        carried = format_amount(sum(row.carried_credit_minor for row in of_it), currency)
        count = "1 statement" if len(of_it) == 1 else f"{len(of_it)} statements"
        console.print(f"{count} in {currency}: {payable} payable, {carried} carried over")
    for row in rows:
        hint = what_next(row)
        if hint:
            console.print(f"→ {row.statement_id}: {hint}", soft_wrap=True)


def table(title: str, rows: Iterable[SettlementRow]) -> Table:
    """One row a statement: how its amount came about and what became of it."""
    return output.table(
        title,
        ("statement", "lines", "opening", "commissions", "clawed back", "adjusted", "VAT", "paid before", "closing",
         "status", "why"),
        (
            (
                row.statement_id,
                str(row.line_count),
                _signed(row.opening_credit_minor - row.opening_debt_minor, row.currency),
                _signed(row.earned_minor, row.currency),
                _signed(-row.clawback_minor, row.currency),
                _signed(row.adjustment_credit_minor - row.adjustment_debit_minor, row.currency),
                _signed(row.vat_credit_minor - row.vat_debit_minor, row.currency),
                _signed(row.returned_minor - row.transferred_minor, row.currency),
                format_amount(row.payable_minor + row.carried_credit_minor - row.carried_debt_minor, row.currency),
                row.status.value.replace("_", " "),
                why(row),
            )
            for row in rows
        ),
        right=("lines", "opening", "commissions", "clawed back", "adjusted", "VAT", "paid before", "closing"),
    )  # fmt: skip


def why(row: SettlementRow) -> str:
    """Why a statement is not simply paid, in words; what a paid one was transferred by."""
    if row.reason is not None:
        since = f" since {output.when(row.waiting_since)}" if row.waiting_since else ""
        return f"{row.reason.value}{since}: {row.detail}" if row.detail else f"{row.reason.value}{since}"
    if row.carried_by is not None:
        return f"by decision of {row.carried_by}"
    if row.carry_reason is not None:
        minimum = ""
        if row.carry_reason.value == "below_minimum":
            minimum = f" of {format_amount(row.minimum_payout_minor, row.currency)}"
        return row.carry_reason.value.replace("_", " ") + minimum
    approved = f"approved by {row.approved_by}" if row.approved_by else ""
    if not approved and row.needs_approval and row.status is SettlementStatus.OPEN:
        return "needs a second person"
    return approved


def what_next(row: SettlementRow) -> str:
    """What a person can do about a statement that waits or is parked; empty for all others."""
    if row.reason is None or row.status not in (SettlementStatus.PARKED, SettlementStatus.WAITING):
        return ""
    supplement = f" --supplement {row.sequence}" if row.sequence > 1 else ""
    retry = _RETRY.format(reseller_id=row.reseller_id, period=row.period, currency=row.currency, supplement=supplement)
    name = f"{row.reseller_id} --month {row.period} --currency {row.currency}{supplement}"
    words = WHAT_NEXT.get(row.reason, "when it is put right: {retry}")
    return words.format(name=name, retry=retry, reseller_id=row.reseller_id, currency=row.currency)


def _signed(amount_minor: int, currency: str) -> str:
    return format_amount(amount_minor, currency) if amount_minor else ""
