"""Resellers as a table, one a line, as a spreadsheet saves it: all errors of a file at once, or all of its resellers.

UTF-8 with or without a byte order mark; comma, semicolon or tab; Excel's line `sep=;`. A column that is missing and a
cell that is empty say nothing: a new reseller gets the default, a known one keeps what is stored. `-` empties a field.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from domain.catalog_model import CatalogReseller
from domain.reseller_cells import COLUMNS, REQUIRED, CellProblem, reseller_of

MAX_BYTES: Final = 32 * 1_048_576
"""Some 100,000 resellers: a wrong file is not read into memory."""

_DELIMITERS: Final = ",;\t"


@dataclass(frozen=True)
class TableProblem:
    """One thing that is wrong with a file. `line` counts from 1, as an editor does; 0: the file as a whole."""

    line: int
    column: str
    """Name of the column; empty: the whole line."""
    problem: str
    hint: str

    def __str__(self) -> str:
        where = f"{self.line}: " if self.line else ""
        return f"{where}{self.column + ': ' if self.column else ''}{self.problem}. {self.hint}."


class TableErrors(Exception):
    """A table with errors; nothing of it may be used. `errors` are in the order of their lines."""

    def __init__(self, errors: Collection[TableProblem]) -> None:
        self.errors = tuple(sorted(errors, key=lambda error: error.line))
        super().__init__("\n".join(str(error) for error in self.errors))


@dataclass(frozen=True)
class Known:
    """What is stored already."""

    resellers: Mapping[str, CatalogReseller] = field(default_factory=dict)
    agreed: Collection[str] = ()
    """Ids of those who have an agreement."""


@dataclass(frozen=True)
class Entry:
    """One reseller of a table, merged with what is stored of him."""

    line: int
    reseller: CatalogReseller
    agreement_like: str | None
    """The reseller whose agreement he gets a copy of, where he has none."""


@dataclass
class _Row:
    line: int
    cells: dict[str, str]


def parse_resellers(raw: bytes, known: Known) -> list[Entry]:
    """The table's resellers, parents before their children. Raises TableErrors with everything that is wrong."""
    problems: list[TableProblem] = []
    rows = list(_rows(raw, problems))
    entries: list[Entry] = []
    for row in rows:
        found = _entry(row, known, problems)
        if found is not None:
            entries.append(found)
    _check_between(rows, entries, known, problems)
    if problems:
        raise TableErrors(problems)
    depth = _depths(entries, known)
    return sorted(entries, key=lambda entry: depth[entry.reseller.id])


def _rows(raw: bytes, problems: list[TableProblem]) -> Iterator[_Row]:
    text = _decoded(raw, problems)
    if text is None:
        return
    lines = io.StringIO(text, newline="")
    first_line, delimiter = 1, None
    start = text[:6].lower()
    if start.startswith("sep=") and len(start) > 4:
        delimiter, first_line = start[4], 2
        lines.readline()
    header_at = lines.tell()
    delimiter = delimiter or max(_DELIMITERS, key=lines.readline().count)
    lines.seek(header_at)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        line = reader.line_num + first_line
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.append(
                TableProblem(line, "", f"the quotes are broken: {error}", 'Double a quote within a cell: ""')
            )
            return
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = _header(line, cells, problems)
            if names is None:
                return
            continue
        if any(cell.strip() for cell in cells[len(names) :]):
            problem = f"{len(cells)} cells, but the header names {len(names)} columns"
            problems.append(TableProblem(line, "", problem, "Put a cell that holds the delimiter into quotes"))
        yield _Row(line, {name: cell for name, cell in zip(names, cells, strict=False) if name})
    if names is None:
        hint = f"Its first line names the columns: {', '.join(COLUMNS)}"
        problems.append(TableProblem(0, "", "the file is empty", hint))


def _decoded(raw: bytes, problems: list[TableProblem]) -> str | None:
    save = "Save it as `CSV UTF-8`"
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in raw:
        problems.append(TableProblem(0, "", "the file is no UTF-8, but UTF-16 or a workbook", save))
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.append(TableProblem(line, "", f"byte {error.start} of the file is no UTF-8", save))
        return None


def _header(line: int, cells: list[str], problems: list[TableProblem]) -> list[str] | None:
    """The columns' names; None where no line below could be understood."""
    names = [cell.strip().lower().replace(" ", "_") for cell in cells]
    while names and not names[-1]:
        names.pop()
    before = len(problems)
    for name in dict.fromkeys(names):
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(COLUMNS)}"
            problems.append(TableProblem(line, name, "there is no such column", hint.removesuffix(".")))
        elif names.count(name) > 1:
            problems.append(TableProblem(line, name, "the column is there twice", "Keep one of them"))
    for name in REQUIRED:
        if name not in names:
            problems.append(TableProblem(line, name, "the column is missing", "Add it"))
    return names if len(problems) == before else None


def _entry(row: _Row, known: Known, problems: list[TableProblem]) -> Entry | None:
    reseller_id = row.cells.get("id", "").strip()
    try:
        reseller, like = reseller_of(row.cells, known.resellers.get(reseller_id))
    except CellProblem as error:
        problems += [TableProblem(row.line, one.column, one.problem, one.hint) for one in error.problems]
        return None
    return Entry(row.line, reseller, like)


def _check_between(rows: list[_Row], entries: list[Entry], known: Known, problems: list[TableProblem]) -> None:
    """What lines must be to each other and to what is stored. Lines that have errors count as far as they are read."""
    first: dict[tuple[str, str], int] = {}
    ids = {row.cells.get("id", "").strip() for row in rows} | set(known.resellers)
    owners = {one.stripe_account_id: one.id for one in known.resellers.values() if one.stripe_account_id}
    for row in rows:
        cells = {name: cell.strip() for name, cell in row.cells.items()}
        for name in ("id", "stripe_account_id"):
            value = cells.get(name, "")
            earlier = first.setdefault((name, value), row.line)
            if value not in ("", "-") and earlier != row.line:
                problem = f"{value!r} is in line {earlier} already"
                problems.append(TableProblem(row.line, name, problem, "Give each his own, or remove one"))
        parent = cells.get("parent_id", "")
        if parent not in ("", "-") and parent not in ids:
            hint = "Add him to the file, or correct the id"
            problems.append(TableProblem(row.line, "parent_id", f"reseller {parent!r} does not exist", hint))
        owner = owners.get(cells.get("stripe_account_id", ""))
        if owner is not None and owner != cells.get("id"):
            problem = f"the account belongs to reseller {owner!r}"
            problems.append(TableProblem(row.line, "stripe_account_id", problem, "Correct the account"))
        like = cells.get("agreement_like", "")
        if like not in ("", "-") and like not in known.agreed:
            problem = f"reseller {like!r} has no agreement"
            problems.append(TableProblem(row.line, "agreement_like", problem, "Name one who has, or leave it empty"))
    _check_tree(entries, known, problems)


def _check_tree(entries: list[Entry], known: Known, problems: list[TableProblem]) -> None:
    parents = _parents(entries, known)
    for entry in entries:
        above = _above(entry.reseller.id, parents)
        if parents.get(above[-1]) == entry.reseller.id:
            circle = " → ".join([*above, entry.reseller.id])
            problem = f"the resellers form a circle: {circle}"
            problems.append(TableProblem(entry.line, "parent_id", problem, "Let one of them have none: -"))


def _parents(entries: list[Entry], known: Known) -> dict[str, str | None]:
    stored = {one.id: one.parent_id for one in known.resellers.values()}
    return {**stored, **{entry.reseller.id: entry.reseller.parent_id for entry in entries}}


def _above(reseller_id: str, parents: Mapping[str, str | None]) -> list[str]:
    """The reseller and all above him; stops where a circle closes."""
    path, current = [reseller_id], parents.get(reseller_id)
    while current is not None and current not in path:
        path.append(current)
        current = parents.get(current)
    return path


def _depths(entries: list[Entry], known: Known) -> dict[str, int]:
    parents = _parents(entries, known)
    return {entry.reseller.id: len(_above(entry.reseller.id, parents)) for entry in entries}
