"""The import rules of pyproject.toml hold, and each of them can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINTER = PYPROJECT["tool"]["importlinter"]
CONTRACTS = {contract["id"]: contract["name"] for contract in LINTER["contracts"]}

PLANTED = {
    "layers": ("domain/planted.py", "import workflows"),
    "gateways-and-store": ("gateways/planted_settings.py", "import settings"),
    "gateways-store-apart": ("store/planted_gateways.py", "import gateways"),
    "stranger": ("sandbox/planted.py", "import domain"),
    "nobody-imports-sandbox": ("starter/planted.py", "import sandbox"),
    "steps-hold-ports": ("workflows/planted.py", "import store"),
    "deterministic-workflows": ("workflows/planted_chance.py", "import random"),
    "pure-domain": ("domain/planted_framework.py", "import temporalio"),
    "stripe-library": ("store/planted.py", "import stripe"),
    "http-client": ("store/planted_http.py", "import httpx"),
    "database-libraries": ("starter/planted_database.py", "import sqlalchemy"),
    "database-driver": ("gateways/planted.py", "import psycopg"),
    "composition-root": ("starter/planted_worker.py", "import worker"),
}
"""One wrong import for each contract."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def copy_of_the_tree(folder: Path) -> Path:
    for package in LINTER["root_packages"]:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "settings.py", "worker.py"):
        shutil.copy(ROOT / file, folder / file)
    return folder


def test_all_contracts_are_kept() -> None:
    answer = lint(ROOT)
    counts = re.search(r"Contracts: (\d+) kept, (\d+) broken", answer.stdout)
    assert counts, answer.stdout + answer.stderr
    assert len(CONTRACTS) > 0
    assert (int(counts[1]), int(counts[2])) == (len(CONTRACTS), 0), answer.stdout
    assert answer.returncode == 0


def test_a_wrong_import_breaks_its_contract(tmp_path: Path) -> None:
    folder = copy_of_the_tree(tmp_path)
    assert PLANTED.keys() == CONTRACTS.keys(), "plant one wrong import for every contract"
    for file, statement in PLANTED.values():
        (folder / file).write_text(f'"""Planted."""\n\n{statement}\n', encoding="utf-8")
    answer = lint(folder)
    assert answer.returncode != 0
    for contract, name in CONTRACTS.items():
        assert f"{name} BROKEN" in answer.stdout, f"{contract} let a wrong import pass:\n{answer.stdout}"


def test_an_import_for_the_type_checker_alone_is_allowed(tmp_path: Path) -> None:
    folder = copy_of_the_tree(tmp_path)
    text = '"""Planted."""\n\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import store\n'
    (folder / "activities/planted.py").write_text(text, encoding="utf-8")
    assert lint(folder).returncode == 0


def test_every_package_is_under_the_rules_and_is_installed() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.rglob("__init__.py")
        if not {"bench", "tests", "build"} & set(path.relative_to(ROOT).parts)
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    assert {name.split(".")[0] for name in found} == set(LINTER["root_packages"])
    assert found == set(PYPROJECT["tool"]["setuptools"]["packages"])


def test_settings_stand_at_the_bottom() -> None:
    """`settings` is a single module, which the import graph does not look into."""
    text = (ROOT / "settings.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^\s*(?:from|import) ([a-z_]+)", text, flags=re.MULTILINE))
    assert not imported & {*LINTER["root_packages"], "worker"}


@pytest.mark.parametrize("library", ["stripe", "sqlalchemy", "temporalio"])
def test_the_planted_libraries_exist(library: str) -> None:
    """A contract about a misspelt library would hold for ever."""
    assert library in {name for contract in LINTER["contracts"] for name in contract.get("forbidden_modules", ())}
    __import__(library)
