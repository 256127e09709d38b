"""A statement as data: what moved the account, one row each, as CSV for a spreadsheet and as JSON for programs.

Both carry every amount twice: as integer minor units, and as people of German-speaking countries write it. The rows of
the CSV add up: the sum of `credit` equals the sum of `debit`, the closing amount included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from domain import statement_words as words
from domain.effects import AdjustmentDirection, LineKind
from domain.money import MINOR_DIGITS, format_amount
from domain.pricing import BERLIN
from domain.settlement import Statement, StatementLine

SEPARATOR: Final = ";"
"""What a German Excel expects, whose decimal mark is the comma."""
BYTE_ORDER_MARK: Final = "\ufeff"
"""Tells Excel that the file is UTF-8."""
LINE_END: Final = "\r\n"

COLUMNS: Final = (
    *("statement", "month", "reseller", "currency", "what", "booking", "level", "appointment", "matured", "VAT rate"),
    *("VAT reason", "explanation", "credit", "debit", "credit_minor", "debit_minor"),
)


class Movement(NamedTuple):
    """One amount of a statement, in minor units of its currency.

    Credit is what the platform owes the reseller. The closing row stands on the side that makes both sums equal.
    """

    what: str
    is_credit: bool
    amount_minor: int
    explanation: str
    line: StatementLine | None = None
    vat_rate_bps: int | None = None
    vat_reason: str = ""

    @property
    def credit_minor(self) -> int:
        return self.amount_minor if self.is_credit else 0

    @property
    def debit_minor(self) -> int:
        return 0 if self.is_credit else self.amount_minor


def movements(statement: Statement) -> Iterator[Movement]:
    """Everything that moved the account, in the order of the page: opening, lines, adjustments, VAT, closing."""
    brought = ", ".join(statement.brought_from)
    if statement.opening_credit_minor:
        yield Movement("brought forward", True, statement.opening_credit_minor, brought)
    if statement.opening_debt_minor:
        yield Movement("brought forward", False, statement.opening_debt_minor, brought)
    for line in statement.lines:
        yield from _line(line, statement.currency)
    for one in statement.adjustments:
        is_credit = one.direction is AdjustmentDirection.CREDIT
        yield Movement(one.kind.value.replace("_", "-"), is_credit, one.amount_minor, words.adjustment(one))
    for tax in statement.taxes:
        on = f"{words.vat(tax)} on {format_amount(tax.net_minor, statement.currency)}"
        yield Movement("VAT", not tax.is_debit, tax.vat_minor, on, None, tax.vat_rate_bps, tax.vat_reason)
    outcome = words.outcome(statement)
    if statement.carried_debt_minor:
        yield Movement("carried over", True, statement.carried_debt_minor, outcome)
    else:
        what = "carried over" if statement.carried_credit_minor or statement.carried_by else "payable"
        yield Movement(what, False, statement.due_minor, outcome)


def _line(line: StatementLine, currency: str) -> Iterator[Movement]:
    """A commission or its clawback; where the booking had a transfer of its own, that as a row of its own."""
    how, rate, reason = words.how(line, currency), line.vat_rate_bps, line.vat_reason
    if line.kind is LineKind.EARNED:
        yield Movement("override" if line.level else "commission", True, line.amount_minor, how, line, rate, reason)
        if line.transferred_minor:
            yield Movement("paid already", False, line.transferred_minor, "own transfer of the booking", line)
        return
    if line.amount_minor:
        yield Movement("clawback", False, line.amount_minor, how, line, rate, reason)
    if line.transferred_minor:
        yield Movement("taken back", True, line.transferred_minor, "own transfer of the booking, taken back", line)


def csv_lines(statement: Statement) -> Iterator[str]:
    """The CSV piece by piece, each with its line end; joined it opens in a German Excel by a double click.

    Days are Berlin's, as YYYY-MM-DD. A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    yield BYTE_ORDER_MARK + _row(COLUMNS)
    for one in movements(statement):
        line = one.line
        yield _row(
            (
                statement.id,
                statement.period,
                statement.reseller_id,
                statement.currency,
                one.what,
                line.chain_uid if line else "",
                str(line.level) if line else "",
                _day(line.appointment_at) if line else "",
                _day(line.matures_at) if line else "",
                words.rate(one.vat_rate_bps).removesuffix(" %") if one.vat_rate_bps is not None else "",
                one.vat_reason,
                one.explanation,
                decimal(one.credit_minor, statement.currency),
                decimal(one.debit_minor, statement.currency),
                str(one.credit_minor),
                str(one.debit_minor),
            )
        )


def decimal(amount_minor: int, currency: str) -> str:
    """A figure for a German spreadsheet: decimal comma, no grouping, no currency. `1234567` EUR is `12345,67`."""
    digits = MINOR_DIGITS.get(currency, 2)
    whole, rest = divmod(amount_minor, 10**digits)
    return f"{whole},{rest:0{digits}d}" if digits else str(whole)


def _row(cells: Iterable[str]) -> str:
    return SEPARATOR.join(_cell(text) for text in cells) + LINE_END


def _cell(text: str) -> str:
    if text[:1] in ("=", "+", "-", "@", "\t", "\r"):
        text = f"'{text}"
    if any(mark in text for mark in (SEPARATOR, '"', "\r", "\n")):
        return '"' + text.replace('"', '""') + '"'
    return text


def _day(moment: datetime | None) -> str:
    return moment.astimezone(BERLIN).date().isoformat() if moment else ""


def as_json(statement: Statement) -> dict[str, Any]:
    """Everything that a document needs: the frozen record as it is, and under `readable` the same in words.

    Amounts named `…_minor` are integer minor units; moments are UTC. PERSONAL DATA of a sole trader: `party`.
    """
    currency = statement.currency
    found = statement.model_dump(mode="json")
    lines = zip(found["lines"], statement.lines, strict=True)
    found["lines"] = [{"kind": line.kind.value, **dumped, **_readable_line(line, currency)} for dumped, line in lines]
    taxes = zip(found["taxes"], statement.taxes, strict=True)
    found["taxes"] = [{**dumped, "readable": words.vat(tax)} for dumped, tax in taxes]
    found["due_minor"] = statement.due_minor
    found["readable"] = {
        "document": words.document(statement),
        "month": words.month(statement.period),
        "service": words.SERVICE,
        "outcome": words.outcome(statement),
        "missing": list(words.missing(statement)),
        "amounts": {
            name.removesuffix("_minor"): format_amount(value, currency)
            for name, value in found.items()
            if name.endswith("_minor")
        },
    }
    return found


def _readable_line(line: StatementLine, currency: str) -> dict[str, Any]:
    return {
        "readable": {
            "amount": format_amount(line.amount_minor, currency),
            "appointment": words.day(line.appointment_at),
            "how": words.how(line, currency),
        }
    }
