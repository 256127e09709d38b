"""A statement as a page of text that a reseller understands. Yields it line by line, so that long ones need no memory.

The words are English like the rest of the command line; amounts, days and what the tax law demands are German.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from domain import statement_words as words
from domain.effects import AdjustmentDirection, LineKind
from domain.model import JsonDict
from domain.money import format_amount
from domain.pricing import BERLIN
from domain.settlement import Party, Statement, StatementLine

WIDTH: Final = 110
_AMOUNT: Final = 16
_BOOKING: Final = 26


def page(statement: Statement) -> Iterator[str]:
    """The page, line by line, without line ends."""
    yield from _head(statement)
    own = [line for line in statement.lines if line.kind is LineKind.EARNED and not line.level]
    above = [line for line in statement.lines if line.kind is LineKind.EARNED and line.level]
    back = [line for line in statement.lines if line.kind is LineKind.CLAWBACK and line.amount_minor]
    own_minor = statement.earned_minor - statement.override_minor
    yield from _opening(statement)
    yield from _lines("COMMISSIONS ON YOUR OWN CUSTOMERS", statement, own, own_minor)
    yield from _lines("OVERRIDES: BOOKINGS OF RESELLERS BELOW YOU", statement, above, statement.override_minor)
    yield from _lines("CLAWBACKS: BOOKINGS REFUNDED LATER, TAKEN BACK", statement, back, statement.clawback_minor)
    yield from _adjustments(statement)
    yield from _own_transfers(statement)
    yield from _vat(statement)
    yield from _closing(statement)
    yield from _notes(statement)


def _head(statement: Statement) -> Iterator[str]:
    zone_day = words.minute(statement.boundary)
    supplement = f", supplement {statement.sequence}" if statement.sequence > 1 else ""
    yield _both(f"STATEMENT {statement.id}", f"{words.month(statement.period)}{supplement}")
    yield words.document(statement)
    yield ""
    yield from _named("for", _party(statement.party))
    yield from _named("by", _issuer(statement.issuer or {}))
    yield from _named("issued", [f"{words.day(statement.frozen_at)}, amounts in {statement.currency}"])
    yield from _named(
        "covers",
        [
            f"{words.SERVICE}: everything whose refund window",
            f"ended before {zone_day} (Berlin) and that stood on no statement before",
        ],
    )


def _party(party: Party) -> Iterator[str]:
    yield party.name
    address = party.address or {}
    yield from (str(address[part]) for part in ("line1", "line2") if address.get(part))
    town = " ".join(str(address[part]) for part in ("postal_code", "city") if address.get(part))
    yield f"{town}, {party.country}" if town else party.country
    if party.vat_id:
        yield f"VAT id {party.vat_id}"
    if party.small_business:
        since = f", since {party.tax_status_from}" if party.tax_status_from else ""
        yield f"Kleinunternehmer (§ 19 UStG){since}"


def _issuer(issuer: JsonDict) -> Iterator[str]:
    if not issuer.get("name"):
        return
    yield str(issuer["name"])
    yield from (str(part) for part in issuer.get("address") or ())
    if issuer.get("vat_id"):
        yield f"VAT id {issuer['vat_id']}"


def _opening(statement: Statement) -> Iterator[str]:
    if not (statement.brought_from or statement.opening_credit_minor or statement.opening_debt_minor):
        return
    yield from _title("BROUGHT FORWARD")
    debt = " (you owe)" if statement.opening_debt_minor else ""
    opening_minor = statement.opening_credit_minor or statement.opening_debt_minor
    for last, one in _marked(statement.brought_from or ("earlier statements",)):
        yield _both(f"  from {one}{debt}", format_amount(opening_minor, statement.currency) if last else "")


def _lines(title: str, statement: Statement, lines: Sequence[StatementLine], total_minor: int) -> Iterator[str]:
    if not lines:
        return
    yield from _title(f"{title} ({len(lines)})")
    yield _both(f"  {'booking':{_BOOKING}}  {'appointment':11}  how", "net")
    for line in lines:
        left = f"  {line.chain_uid:{_BOOKING}}  {words.day(line.appointment_at):11}  "
        text = f"{left}{words.how(line, statement.currency)}"
        yield _both(text.rstrip(), format_amount(line.amount_minor, statement.currency))
    yield _both("  together", format_amount(total_minor, statement.currency))


def _adjustments(statement: Statement) -> Iterator[str]:
    if not statement.adjustments:
        return
    yield from _title("ADJUSTMENTS (as they stand: no VAT is computed on them)")
    for one in statement.adjustments:
        sign = "+" if one.direction is AdjustmentDirection.CREDIT else "−"
        day = one.decided_at.astimezone(BERLIN).strftime("%d.%m.%Y") if one.decided_at else ""
        text = f"  {words.adjustment(one)}" + (f" ({day})" if day else "")
        yield _both(text, f"{sign} {format_amount(one.amount_minor, statement.currency)}")


def _own_transfers(statement: Statement) -> Iterator[str]:
    moved = [line for line in statement.lines if line.transferred_minor]
    if not moved:
        return
    yield from _title(f"PAID ALREADY, BOOKING BY BOOKING ({len(moved)})")
    for line in moved:
        back = "taken back" if line.kind is LineKind.CLAWBACK else "transferred"
        sign = "+" if line.kind is LineKind.CLAWBACK else "−"
        text = f"  {line.chain_uid:{_BOOKING}}  {back}"
        yield _both(text, f"{sign} {format_amount(line.transferred_minor, statement.currency)}")


def _vat(statement: Statement) -> Iterator[str]:
    if not statement.taxes:
        return
    yield from _title("VAT (Umsatzsteuer)")
    for tax in statement.taxes:
        back = "taken back: " if tax.is_debit else ""
        sign = "− " if tax.is_debit else ""
        text = f"  {back}{words.vat(tax)} on {format_amount(tax.net_minor, statement.currency)} net"
        yield _both(text, f"{sign}{format_amount(tax.vat_minor, statement.currency)}")


def _closing(statement: Statement) -> Iterator[str]:
    yield from _title("CLOSING")
    figures = (
        ("brought forward", "+", statement.opening_credit_minor),
        ("brought forward, owed by you", "−", statement.opening_debt_minor),
        ("commissions and overrides, net", "+", statement.earned_minor),
        ("clawbacks, net", "−", statement.clawback_minor),
        ("adjustments for you", "+", statement.adjustment_credit_minor),
        ("adjustments against you", "−", statement.adjustment_debit_minor),
        ("VAT", "+", statement.vat_credit_minor),
        ("VAT on what is taken back", "−", statement.vat_debit_minor),
        ("transferred booking by booking", "−", statement.transferred_minor),
        ("taken back of such transfers", "+", statement.returned_minor),
    )
    for name, sign, amount_minor in figures:
        if amount_minor:
            yield _both(f"  {name}", f"{sign} {format_amount(amount_minor, statement.currency)}")
    name = "YOU OWE" if statement.carried_debt_minor else "CARRIED OVER"
    if statement.payable_minor and statement.carried_by is None:
        name = "PAID" if statement.status.value == "paid" else "TO BE PAID"
    closing_minor = statement.carried_debt_minor or statement.due_minor
    yield " " * (WIDTH - _AMOUNT) + "-" * _AMOUNT
    yield _both(f"  {name}", format_amount(closing_minor, statement.currency))


def _notes(statement: Statement) -> Iterator[str]:
    yield ""
    yield from _wrapped(words.outcome(statement))
    if any(not tax.is_debit for tax in statement.taxes):
        yield from _wrapped(words.OBJECTION)
    lacking = words.missing(statement)
    if lacking:
        yield from _wrapped(f"Not recorded, and needed on a credit note (§ 14 Abs. 4 UStG): {', '.join(lacking)}.")


def _title(words_of_it: str) -> Iterator[str]:
    yield ""
    yield words_of_it


def _named(name: str, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{name if number == 0 else '':8}{line}"


def _both(left: str, right: str) -> str:
    """Text on the left, a figure on the right; a text that is too long keeps its figure behind it."""
    room = WIDTH - max(len(right), _AMOUNT)
    return f"{left:{room}}{right:>{WIDTH - room}}".rstrip() if len(left) < room else f"{left}  {right}"


def _wrapped(text: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def _marked(items: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """Each item, with whether it is the last."""
    return ((number == len(items), item) for number, item in enumerate(items, 1))
