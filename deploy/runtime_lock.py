"""Prints the part of requirements.lock that runs in production: without the tools of the tests.

There is one lock file; this follows its `# via` notes from the project's own dependencies. `--without NAME` leaves out
packages that a container never uses (the embedded servers of the local default), with what only they need.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")


def normal(name: str) -> str:
    """The package name as indexes compare it: `PyYAML` and `pyyaml` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(lock: str) -> dict[str, str]:
    """Each package's lines (pin, hashes, notes) by its normal name."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.splitlines(keepends=True):
        if line.startswith("#") or not line.strip():
            continue
        if not line[0].isspace():
            match = _NAME.match(line)
            if match is None:
                raise ValueError(f"requirements.lock: not understood: {line.strip()}")
            name = normal(match[1])
        found.setdefault(name, []).append(line)
    return {name: "".join(lines) for name, lines in found.items()}


def wanted_by(block: str) -> set[str]:
    """Normal names of the packages that need this one, as its `# via` notes say."""
    notes = (line.split("#", 1)[1].strip() for line in block.splitlines() if line.lstrip().startswith("#"))
    words = (note.removeprefix("via").strip() for note in notes)
    return {normal(word.split(" ", 1)[0]) for word in words if word}


def runtime(lock: str, pyproject: str, without: Collection[str] = ()) -> str:
    """The lines of the lock that the project's dependencies need, hashes included.

    Raises ValueError where a dependency of pyproject.toml is not in the lock.
    """
    packages = blocks(lock)
    left_out = {normal(name) for name in without}
    direct = set()
    for requirement in tomllib.loads(pyproject)["project"]["dependencies"]:
        match = _NAME.match(requirement)
        assert match is not None
        direct.add(normal(match[1]))
    if missing := direct - packages.keys():
        raise ValueError(f"requirements.lock lacks {', '.join(sorted(missing))}: run `make lock`")
    kept = direct - left_out
    while more := {name for name in packages.keys() - kept - left_out if wanted_by(packages[name]) & kept}:
        kept |= more
    return "".join(packages[name] for name in packages if name in kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    options = parser.parse_args()
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    sys.stdout.write(runtime(lock, pyproject, options.without))
    return 0


if __name__ == "__main__":
    sys.exit(main())
