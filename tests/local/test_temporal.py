"""The local Temporal server: settings that matter, attach, kill -9, ports taken, a database that grew."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

from local import processes
from local.temporal import LocalTemporal, TemporalError, find_temporal

ROOT = Path(__file__).resolve().parents[2]
ATTRIBUTES = {"Stage": "Keyword", "AmountMinor": "Int", "NeedsAttention": "Bool"}


@pytest.fixture
def temporal(state_dir: Path) -> Iterator[LocalTemporal]:
    server = LocalTemporal(state_dir, port=0, ui_port=0, search_attributes=ATTRIBUTES)
    yield server
    server.kill()  # a proper stop takes a second; one test does it
    server.stop()


def attributes_of(server: LocalTemporal) -> dict[str, str]:
    told = subprocess.run(
        [find_temporal(), "operator", "search-attribute", "list", "-o", "json", "--address", server.address],
        capture_output=True,
        check=True,
    )
    found: dict[str, str] = json.loads(told.stdout)["customAttributes"]
    return found


async def test_it_serves_with_its_web_ui_and_a_second_start_attaches(temporal: LocalTemporal, state_dir: Path) -> None:
    address = temporal.start()
    assert address == f"127.0.0.1:{temporal.port}"
    assert temporal.is_alive()
    with urllib.request.urlopen(temporal.ui_url, timeout=10) as page:
        assert page.status == 200
    client = await Client.connect(address)
    namespace = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    assert namespace.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=90)
    assert set(attributes_of(temporal)) == set(ATTRIBUTES)

    other = LocalTemporal(state_dir, search_attributes=ATTRIBUTES)
    assert other.start() == address
    assert other.process == temporal.process
    assert other.ui_url == temporal.ui_url
    other.stop()
    assert not temporal.is_alive()
    assert temporal.process is None
    other.stop()


async def test_a_schedule_and_the_address_survive_kill_9(temporal: LocalTemporal) -> None:
    address = temporal.start()
    client = await Client.connect(address)
    await client.create_schedule(
        "monthly",
        Schedule(
            action=ScheduleActionStartWorkflow("Settle", id="settle", task_queue="none"),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=30))]),
        ),
    )
    started = await client.start_workflow("Kept", id="kept", task_queue="none")
    temporal.kill()
    assert not temporal.is_alive()
    assert temporal.start() == address
    client = await Client.connect(address)
    described = await client.get_schedule_handle("monthly").describe()
    assert described.schedule.spec.intervals[0].every == timedelta(days=30)
    assert (await client.get_workflow_handle("kept").describe()).run_id == started.result_run_id


def test_an_old_database_learns_new_search_attributes_and_refuses_another_type(
    temporal: LocalTemporal, state_dir: Path
) -> None:
    temporal.start()
    temporal.kill()
    grown = LocalTemporal(state_dir, port=0, ui_port=0, search_attributes={**ATTRIBUTES, "Reseller": "Keyword"})
    grown.start()
    assert attributes_of(grown)["Reseller"] == "INDEXED_VALUE_TYPE_KEYWORD"
    grown.kill()
    with pytest.raises(TemporalError, match="Stage is keyword, wanted Int"):
        LocalTemporal(state_dir, port=0, ui_port=0, search_attributes={"Stage": "Int"}).start()


def test_taken_ports_are_replaced_and_named(state_dir: Path) -> None:
    said: list[str] = []
    with socket.socket() as first, socket.socket() as second:
        for other in (first, second):
            other.bind(("127.0.0.1", 0))
            other.listen(8)
        port, ui_port = first.getsockname()[1], second.getsockname()[1]
        server = LocalTemporal(
            state_dir, port=port, ui_port=ui_port, search_attributes={}, persistent=False, say=said.append
        )
        server.start()
    try:
        assert server.is_alive()
        assert len({server.port, server.ui_port, port, ui_port}) == 4
        assert said == [
            f"Port {port} is taken, so Temporal listens on {server.port}.",
            f"Port {ui_port} is taken, so the Temporal Web UI listens on {server.ui_port}.",
        ]
    finally:
        server.stop()


def test_in_memory_it_writes_no_database_and_skips_time(state_dir: Path) -> None:
    server = LocalTemporal(
        state_dir, port=0, ui_port=0, search_attributes=ATTRIBUTES, persistent=False, time_skipping=True
    )
    server.start()
    process = server.process
    assert process is not None
    arguments = processes.command_line(process.pid)
    server.stop()
    assert "frontend.WorkflowTimeSkippingEnabled=true" in arguments
    assert not list(state_dir.rglob("*.db*"))


def test_settings_of_the_environment_do_not_lead_elsewhere(
    temporal: LocalTemporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "elsewhere")
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    temporal.start()
    assert temporal.is_alive()


def test_the_orphan_of_a_killed_starter_is_attached_to_and_stopped(temporal: LocalTemporal, state_dir: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from local.temporal import LocalTemporal\n"
        "print(LocalTemporal(Path(sys.argv[1]), port=0, ui_port=0, search_attributes={}).start(), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    starter = subprocess.run([sys.executable, "-c", script, state_dir], cwd=ROOT, capture_output=True, text=True)
    assert starter.returncode == -signal.SIGKILL, starter.stderr
    assert temporal.start() == starter.stdout.strip()
    orphan = temporal.process
    assert orphan is not None
    LocalTemporal(state_dir, search_attributes={}).stop()
    assert not processes.is_live(orphan)


def test_a_record_that_names_a_stranger_kills_nobody(temporal: LocalTemporal, state_dir: Path) -> None:
    temporal.start()
    temporal.kill()
    record = state_dir / "temporal" / "server.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "pid": os.getpid()}))
    temporal.stop()
    temporal.start()
    assert temporal.is_alive()


def test_a_server_that_refuses_to_start_shows_why(state_dir: Path) -> None:
    server = LocalTemporal(state_dir, port=0, ui_port=0, search_attributes={f"N{i}": "Int" for i in range(4)})
    with pytest.raises(TemporalError, match="cannot have more than 3 search attributes of type Int"):
        server.start()
    assert server.process is None
