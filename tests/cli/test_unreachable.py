"""What is out of reach becomes one line that says what to do, and exit code 1."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Billing, free_port


@pytest.mark.parametrize("arguments", [["chains"], ["show", "abc"], ["ledger"], ["audit", "--offline"], ["migrate"]])
def test_no_database(unconfigured: Billing, arguments: list[str]) -> None:
    port = free_port()
    unconfigured.configure(f"postgresql://billing:hidden-word@127.0.0.1:{port}/billing")
    result = unconfigured(*arguments)
    assert result.exit_code == 1
    assert f"PostgreSQL does not answer at 127.0.0.1:{port}/billing" in result.stderr
    assert "DATABASE_URL" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "hidden-word" not in result.output


@pytest.mark.parametrize("arguments", [["chains"], ["ledger"], ["show", "abc"]])
def test_no_tables(unconfigured: Billing, empty_database_url: str, arguments: list[str]) -> None:
    unconfigured.configure(empty_database_url)
    result = unconfigured(*arguments)
    assert result.exit_code == 1
    assert "Run `billing migrate`" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["retry", "abc", "--by", "anna", "--why", "price added"],
        ["rollback", "abc", "--by", "anna", "--why", "wrong customer"],
        ["settle", "--month", "2026-01"],
        ["migrate"],
    ],
)
def test_no_temporal(billing: Billing, arguments: list[str]) -> None:
    result = billing(*arguments)
    assert result.exit_code == 1
    assert "Temporal does not answer at 127.0.0.1:" in result.stderr
    assert "TEMPORAL_ADDRESS" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_schema_is_migrated_although_temporal_is_away(unconfigured: Billing, empty_database_url: str) -> None:
    unconfigured.configure(empty_database_url)
    result = unconfigured("migrate")
    assert result.exit_code == 1
    assert "schema: applied" in result.stdout
    assert "schema: up to date" in unconfigured("migrate").stdout


def test_health_names_everything_that_is_broken(billing: Billing) -> None:
    checks = {check["name"]: check for check in billing.json("health")}
    assert billing("health").exit_code == 1
    broken = {name for name, check in checks.items() if check["state"] == "broken"}
    assert broken == {
        *("temporal", "search attributes", "schedules", "workers", "webhook app", "stripe", "cal.com"),
    }
    assert all(checks[name]["to_do"] for name in broken)
    assert checks["database"]["found"].endswith("schema current")
    told = billing("health").stdout
    assert "BROKEN  workers" in told
    assert "→ workers: Start `billing worker`" in told
    assert "7 of 14 parts are broken" in told


def test_health_tells_of_an_old_schema(unconfigured: Billing, empty_database_url: str) -> None:
    unconfigured.configure(empty_database_url)
    checks = {check["name"]: check for check in unconfigured.json("health")}
    assert checks["database"]["to_do"] == "Run `billing migrate`."
