"""Every command that the documentation names exists, with the options that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
_CODE = re.compile(r"`billing ([^`]+)`")
_SHELL = re.compile(r"^(?:\$ |\.venv/bin/)?billing +(.+?)(?: +#.*)?$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, command line without `billing`) of everything in code marks or in a shell example."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\|", "|")
        found += [(page.name, match) for pattern in (_CODE, _SHELL) for match in pattern.findall(text)]
    return found


def test_the_pages_name_commands() -> None:
    assert len(commands()) > 30


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_documented_command_exists(page: str, line: str) -> None:
    words = shlex.split(line.replace("[", " ").replace("]", " ").replace("…", " "))
    command: Any = typer.main.get_command(app)
    names = []
    while hasattr(command, "commands") and words:
        names.append(words.pop(0))
        command = command.commands.get(names[-1])
        assert command is not None, f"{page}: billing {' '.join(names)}"
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in words if word.startswith("--") and word not in known]
    assert unknown == [], f"{page}: billing {' '.join(names)} has no {unknown}"
