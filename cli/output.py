"""Tables for people, JSON for programs: the same rows either way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

BERLIN = ZoneInfo("Europe/Berlin")

PLAIN_WIDTH = 200
"""Columns where the output is no terminal: wide enough that uids and keys stay whole for grep."""


def console() -> Console:
    """Made anew for each command, so that it writes to the standard output of that moment."""
    if sys.stdout.isatty():
        return Console(highlight=False, markup=False)
    return Console(highlight=False, markup=False, width=PLAIN_WIDTH, no_color=True)


def print_json(value: Any) -> None:
    """A record, or a list of records, as JSON: amounts stay whole minor units, times UTC."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False, default=str) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A table of texts as they are: nothing in a row is taken for markup. `right` names columns of figures."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def when(moment: datetime | None) -> str:
    """A moment for people: Berlin time, to the second; empty for None."""
    return moment.astimezone(BERLIN).strftime("%d.%m.%Y %H:%M:%S") if moment else ""
