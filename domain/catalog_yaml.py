"""YAML text into plain values that know their line, safely: a catalogue comes from a person's editor.

Scalars are read as YAML 1.2 does, so that `NO` stays Norway and `12:30` stays text. Nothing else than strings, whole
numbers, decimals, true, false and null exists; tags of other types are refused. Repeated keys are problems, because
plain YAML would silently keep the last one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

MAX_CHARACTERS: Final = 1_048_576
"""Size limit of a catalogue: thousands of customers; guards memory against a wrong file."""

MAX_VALUES: Final = 200_000
"""Limit of values after aliases are expanded: a few lines of nested aliases could mean billions."""

Path = tuple[str | int, ...]

_PREFIX = "tag:yaml.org,2002:"
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


class _Loader(yaml.SafeLoader):
    """Composes only; resolves as YAML 1.2's core schema does, without octal, hexadecimal, times and infinities."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's own class attribute


for _name, _pattern, _first in (
    ("bool", r"^(true|false)$", "tf"),
    ("null", r"^(null|~|)$", "n~"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _firsts = [*_first, ""] if _name == "null" else [*_first]
    _Loader.add_implicit_resolver(_PREFIX + _name, re.compile(_pattern), _firsts)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file. `line` counts from 1."""

    line: int
    path: Path
    problem: str
    hint: str

    @property
    def field(self) -> str:
        """The path as people write it: `price_books[0].prices[2].net_minor`; empty for the whole file."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
        return text.removeprefix(".")

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.field}" if self.path else "")
        return f"{where}: {self.problem}. {self.hint}"


@dataclass
class Document:
    """A file's value and the line of every path in it."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """Line of a path, or of the nearest thing around it that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, path: Path, problem: str, hint: str) -> None:
        self.problems.append(Problem(self.line(path), path, problem, hint))


def read(text: str) -> Document:
    """Never raises for what a text contains: everything wrong is in `problems`."""
    document = Document()
    if len(text) > MAX_CHARACTERS:
        hint = f"Keep it below {MAX_CHARACTERS} characters"
        document.report((), f"the file has {len(text)} characters", hint)
        return document
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            document.report((), "the file is empty", "Start from the example catalogue")
        else:
            document.value = _Reader(document).convert(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        document.problems.append(Problem(line, (), f"not valid YAML: {error.problem or error.context}", "Correct it"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.problems.append(Problem(line, (), "a character that YAML does not allow", "Remove it"))
    except RecursionError:
        document.report((), "lists or mappings are nested too deeply", "A catalogue needs six levels")
    except _TooMany:
        document.report((), f"more than {MAX_VALUES} values after aliases are expanded", "Use fewer aliases")
    return document


class _TooMany(Exception):
    pass


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._open: list[yaml.Node] = []

    def convert(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _TooMany
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if any(node is outer for outer in self._open):
            self._document.report(path, "an alias that contains itself", "Write the value out")
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
                return [self.convert(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str | int, Any]:
        values: dict[str | int, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if isinstance(key, bool) or not isinstance(key, str | int):
                problem = Problem(line, path, "a key that is no text and no whole number", "Write a field's name")
                self._document.problems.append(problem)
                continue
            inner = (*path, key)
            if key in values:
                first = self._document.lines[inner]
                problem = Problem(line, inner, f"stands here again, first in line {first}", "Keep one of the two")
                self._document.problems.append(problem)
                continue
            self._document.lines[inner] = line
            values[key] = self.convert(value_node, inner)
        return values

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind = node.tag.removeprefix(_PREFIX)
        if not isinstance(node, yaml.ScalarNode) or kind not in ("str", "int", "float", "bool", "null"):
            hint = "Use text, numbers, true, false, lists and mappings"
            self._document.report(path, f"the tag {node.tag} is not supported", hint)
            return None
        if kind == "str":
            return node.value
        try:
            if kind in ("bool", "null"):
                return _WORDS[node.value]
            return int(node.value) if kind == "int" else float(node.value)
        except (KeyError, ValueError):
            self._document.report(path, f"is marked as {kind}, but is none", "Correct the value")
            return None
