"""What became of the demo's settlement: what is wrong with it, its table, and one statement as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from rich.table import Table
from rich.text import Text

from domain.effects import CarryReason, SettlementStatus
from domain.model import ParkReason
from domain.money import format_amount
from domain.settlement import Statement
from domain.statement_text import page
from local.demo_settlement import ADJUSTED, BELOW_MINIMUM, NOT_READY, Settled
from store.rows import SettlementRow

_SHOWN: Final = 4
"""Lines of a statement's section that are printed."""


def problems(settled: Settled, period: str) -> Iterable[str]:
    """What did not come out as it must."""
    rows = {row.reseller_id: row for row in settled.rows}
    if not rows:
        yield f"nothing was settled for {period}"
    for row in settled.rows:
        if row.status not in (SettlementStatus.PAID, SettlementStatus.CARRIED_OVER):
            yield f"settlement of {row.reseller_id}: {row.status} {row.reason or ''}"
    for reseller_id, reason in ((NOT_READY, ParkReason.RESELLER_NOT_READY), (ADJUSTED, ParkReason.APPROVAL_REQUIRED)):
        found = settled.was_parked.get(reseller_id)
        if found is not reason:
            yield f"settlement of {reseller_id} was not parked for {reason} but for {found}"
        if reseller_id not in rows or rows[reseller_id].status is not SettlementStatus.PAID:
            yield f"settlement of {reseller_id} is not paid"
    small = rows.get(BELOW_MINIMUM)
    if small is None or small.carry_reason is not CarryReason.BELOW_MINIMUM:
        yield f"settlement of {BELOW_MINIMUM} is not carried over for his minimum payout"
    if len(settled.refusals) < 2:
        yield f"who asked for a bonus and for the run was refused {len(settled.refusals)} times instead of at least 2"
    for statement_id in settled.differs_from_dry_run:
        yield f"{statement_id}: the dry run showed other figures"
    if not settled.payout:
        yield "no payout to a reseller's bank was heard of"
    if settled.page is None:
        yield f"{ADJUSTED} has no statement to print"


def table(settled: Settled, period: str) -> Table:
    """How each closing amount came about, and where it went."""
    made = Table(
        title=f"Settlement of {period}: a statement for each reseller",
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    amounts = ("earned", "VAT", "adjusted", "paid before", "closing")
    for column in ("reseller", *amounts, "status"):
        made.add_column(column, justify="right" if column in amounts else "left", no_wrap=column != "paid before")
    for row in settled.rows:
        made.add_row(*(Text(cell) for cell in _cells(row)))
    return made


def reasons(settled: Settled) -> Iterator[str]:
    """A line for each statement that was not simply paid."""
    for row in settled.rows:
        told = settled.stories.get(row.reseller_id, "") or _reason(row)
        if told:
            yield f"  {row.reseller_id}: {told}"
    if settled.payout:
        yield f"  {settled.payout}"


def _cells(row: SettlementRow) -> Iterator[str]:
    yield row.reseller_id
    for signed_minor in (
        row.earned_minor - row.clawback_minor,
        row.vat_credit_minor - row.vat_debit_minor,
        row.adjustment_credit_minor - row.adjustment_debit_minor,
        row.returned_minor - row.transferred_minor,
    ):
        yield format_amount(signed_minor, row.currency) if signed_minor else ""
    yield format_amount(row.payable_minor + row.carried_credit_minor - row.carried_debt_minor, row.currency)
    yield row.status.value.replace("_", " ")


def _reason(row: SettlementRow) -> str:
    amount = format_amount(row.carried_credit_minor, row.currency)
    if row.carry_reason is CarryReason.BELOW_MINIMUM:
        minimum = format_amount(row.minimum_payout_minor, row.currency)
        return f"{amount} are below his minimum payout of {minimum}: carried over to the next month"
    if row.carry_reason is not None:
        return f"carried over: {row.carry_reason.value.replace('_', ' ')}"
    if row.transferred_minor:
        return "paid booking by booking; with the month only the VAT"
    return ""


def shortened(statement: Statement) -> Iterator[str]:
    """The page of a statement, with the first lines of each long section only."""
    for is_detail, group in groupby(page(statement), key=lambda line: line.startswith("  ") and "  " in line[2:]):
        lines = list(group)
        if not is_detail or len(lines) <= _SHOWN + 3:
            yield from lines
            continue
        yield from lines[: _SHOWN + 1]
        yield f"  … {len(lines) - _SHOWN - 2} more"
        yield lines[-1]
