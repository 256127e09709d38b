"""Settings of a running `billing up` are used, but never mixed with those of another system."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import local_state
from tests.cli.conftest import Billing, free_port


@pytest.fixture
def listening() -> Iterator[int]:
    """A port on which something listens, as a database would."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def write(folder: Path, port: int, mode: int = 0o600) -> Path:
    path = folder / ".billing" / "env"
    path.parent.mkdir(exist_ok=True)
    url = f"postgresql+psycopg://billing:word@127.0.0.1:{port}/billing"
    path.write_text(
        f"# local\nDATABASE_URL={url}\n\nTEMPORAL_ADDRESS=127.0.0.1:7233\nWEBHOOK_PORT=8081\n", encoding="utf-8"
    )
    path.chmod(mode)
    return path


@pytest.fixture
def folder(unconfigured: Billing) -> Path:
    return unconfigured.folder


def test_a_running_system_is_adopted(folder: Path, listening: int) -> None:
    path = write(folder, listening)
    environment = {"WEBHOOK_PORT": "9000"}
    assert local_state.adopt(environment) == path
    assert environment["TEMPORAL_ADDRESS"] == "127.0.0.1:7233"
    assert environment["WEBHOOK_PORT"] == "9000", "the environment wins"


def test_one_that_was_killed_is_not(folder: Path) -> None:
    write(folder, free_port())
    environment: dict[str, str] = {}
    assert local_state.adopt(environment) is None
    assert environment == {}


@pytest.mark.parametrize("name", local_state.WHERE)
def test_another_system_in_the_environment_is_not_mixed_with_it(folder: Path, listening: int, name: str) -> None:
    write(folder, listening)
    environment = {name: "elsewhere"}
    assert local_state.adopt(environment) is None
    assert environment == {name: "elsewhere"}


def test_a_file_that_others_may_write_is_not_trusted(folder: Path, listening: int) -> None:
    write(folder, listening, mode=0o622)
    assert local_state.adopt({}) is None


def test_no_file_is_no_error(folder: Path) -> None:
    assert local_state.adopt({}) is None


def test_a_command_uses_it(unconfigured: Billing, database_url: str) -> None:
    path = write(unconfigured.folder, 1)
    names = ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "CALCOM_API_KEY", "CALCOM_WEBHOOK_SECRET")
    lines = [
        f"DATABASE_URL={database_url}",
        "TEMPORAL_ADDRESS=127.0.0.1:7233",
        *(f"{name}=example-word" for name in names),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert unconfigured.json("chains") == []
