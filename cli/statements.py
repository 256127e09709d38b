"""`billing statement`: one statement as a page, as CSV or as JSON, or the list of a reseller's statements."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from cli import output, session, settlements
from cli import settlement_tables as tables
from domain.money import format_amount
from settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from domain.settlement import Adjustment, Statement
    from store.rows import OpenBalance, SettlementRow

FORMATS: Final = ("text", "csv", "json")


def statement(reseller_id: str, month: str, *, currency: str, supplement: int, form: str) -> None:
    """Writes one statement, piece by piece. PERSONAL DATA of a sole trader: name and address stand on it."""
    if form not in FORMATS:
        session.fail(f"--format {form}: one of {', '.join(FORMATS)}.", session.WRONG)
    settlements.known_month(month)

    async def work(given: Settings) -> Statement:
        async with session.open_store(given) as store, store.begin() as tx:
            row = await settlements.one_statement(tx, reseller_id, month, currency, supplement)
            return await tx.settlements.statement(row.id)

    _write(session.run(work), form)


def _write(found: Statement, form: str) -> None:
    if form == "csv":
        from domain.statement_data import csv_lines

        # The line ends and the byte order mark belong to the file: no translation by the terminal's text layer.
        sys.stdout.flush()
        for piece in csv_lines(found):
            sys.stdout.buffer.write(piece.encode())
        sys.stdout.buffer.flush()
    elif form == "json":
        from domain.statement_data import as_json

        for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(as_json(found)):
            sys.stdout.write(piece)
        sys.stdout.write("\n")
    else:
        from domain.statement_text import page

        for line in page(found):
            sys.stdout.write(f"{line}\n")


def statements(reseller_id: str, *, as_json: bool) -> None:
    """All statements of a reseller, his adjustments, and what his accounts hold open. Exit code 1: no such reseller."""

    async def work(given: Settings) -> tuple[list[SettlementRow], list[Adjustment], list[OpenBalance]]:
        async with session.open_store(given) as store, store.begin() as tx:
            if reseller_id not in {reseller.id for reseller in await tx.catalog.resellers()}:
                raise session.CommandFailed(f"No reseller has the id {reseller_id}.")
            return (
                await tx.settlements.of_reseller(reseller_id),
                await tx.settlements.adjustments(reseller_id),
                await tx.settlements.account_balance(reseller_id),
            )

    rows, adjustments, balances = session.run(work)
    if as_json:
        output.print_json({"statements": rows, "adjustments": adjustments, "accounts": balances})
        return
    console = output.console()
    tables.show(f"Statements of {reseller_id}", rows, sums=False)
    if adjustments:
        console.print(_adjustments(adjustments))
    for one in balances:
        console.print(_open(one), soft_wrap=True)
    if not rows and not adjustments and not balances:
        console.print(f"{reseller_id} has no statement yet, and nothing open.")


def _adjustments(rows: list[Adjustment]) -> Table:
    return output.table(
        "Adjustments",
        ("id", "amount", "", "why", "asked by", "status", "decided by"),
        (
            (
                one.id,
                format_amount(one.amount_minor, one.currency),
                f"{one.kind.value.replace('_', '-')}, {one.direction.value}",
                one.why,
                one.requested_by,
                one.status.value,
                one.decided_by or "",
            )
            for one in rows
        ),
        right=("amount",),
    )


def _open(one: OpenBalance) -> str:
    """What an account holds by the ledger, and where that stands."""
    if not one.owed_minor and not one.owing_minor:
        return f"Account in {one.currency}: nothing open."
    owed = f"we owe {format_amount(one.owed_minor, one.currency)}"
    if one.owing_minor:
        owed = f"he owes {format_amount(one.owing_minor, one.currency)}"
    parts = (
        ("not on a statement yet", one.unstated_credit_minor - one.unstated_debt_minor),
        ("on statements, not transferred", one.unpaid_minor),
        ("carried over", one.carried_credit_minor - one.carried_debt_minor),
    )
    told = "; ".join(f"{format_amount(minor, one.currency)} {name}" for name, minor in parts if minor)
    return f"Account in {one.currency}: {owed}" + (f" ({told})" if told else "")
