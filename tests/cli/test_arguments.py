"""Arguments, settings and exit codes: what is wrong is said in one message, and nothing is done."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.pricing import period_of
from settings import documented
from tests.cli.conftest import Billing

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("up", "demo", "worker", "webhooks", "migrate", "catalog", "chains", "show", "retry", "rollback"),
    *("settle", "statement", "approve", "reject", "adjust", "write-off", "carry-over", "audit", "ledger", "health"),
)


def test_help_names_every_command(unconfigured: Billing) -> None:
    result = unconfigured("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_settings(unconfigured: Billing, command: str) -> None:
    result = unconfigured(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    heavy = {"temporalio", "sqlalchemy", "httpx", "stripe", "pydantic"}
    code = f"import sys, cli.main; print(sorted({heavy} & {{*sys.modules}}))"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command"),
        (["show"], "UID"),
        (["retry", "abc"], "--by"),
        (["retry", "abc", "--by", "anna"], "--why"),
        (["rollback", "abc", "--by", "anna", "--why", "  "], "--why"),
        (["rollback", "abc", "--by", "x" * 100, "--why", "because"], "--by"),
        (["settle"], "--month"),
        (["settle", "--month", "2026-13"], "YYYY-MM"),
        (["settle", "--month", "last"], "YYYY-MM"),
        (["chains", "--limit", "0"], "--limit"),
        (["catalog", "apply"], "FILE"),
        (["ledger", "stripe", "more"], "unexpected"),
    ],
)
def test_wrong_arguments_end_with_2(unconfigured: Billing, arguments: list[str], told: str) -> None:
    result = unconfigured(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_month_that_is_not_over_is_not_settled_by_mistake(unconfigured: Billing) -> None:
    result = unconfigured("settle", "--month", period_of(datetime.now(UTC)))
    assert result.exit_code == 2
    assert "--early" in result.stderr


@pytest.mark.parametrize("also", [[], ["--early"], ["--dry-run"]])
def test_a_month_that_has_not_begun_is_never_settled(unconfigured: Billing, also: list[str]) -> None:
    result = unconfigured("settle", "--month", "2062-04", *also)
    assert (result.exit_code, "has not begun" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("name", ["schedule", " Workflow"])
def test_nobody_settles_under_a_name_of_the_system(unconfigured: Billing, name: str) -> None:
    result = unconfigured("settle", "--month", "2021-01", "--by", name)
    assert (result.exit_code, "own login" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("arguments", [["chains"], ["migrate"], ["worker"], ["webhooks"], ["health"], ["ledger"]])
def test_missing_settings_are_named_together(unconfigured: Billing, arguments: list[str]) -> None:
    result = unconfigured(*arguments)
    assert result.exit_code == 2
    for name, meaning, default, example in documented():
        if default == "required":
            assert f"{name} is missing: {meaning}" in result.stderr
            assert f"{name}={example}" in result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_setting_is_named_and_no_secret_shown(billing: Billing) -> None:
    billing.set(RELAY_MAX_ATTEMPTS="often")
    result = billing("chains")
    assert result.exit_code == 2
    assert "RELAY_MAX_ATTEMPTS is wrong" in result.stderr
    assert "sk_test_example" not in result.output


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_process_ends_with_the_codes(tmp_path: Path) -> None:
    """`main` leaves without the interpreter's clean-up, so codes and output must survive that."""
    wrong = run("nonsense")
    assert (wrong.returncode, "No such command" in wrong.stderr) == (2, True)
    good = run("--help")
    assert (good.returncode, "Usage:" in good.stdout) == (0, True)
    missing = run("catalog", "apply", str(tmp_path / "missing.yaml"))
    assert (missing.returncode, "cannot be read" in missing.stderr) == (2, True)
