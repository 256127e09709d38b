"""Workflow code must give the same commands in a replay: no clock but Temporal's, no chance, no loop of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"

CLOCKS = {"now", "today", "utcnow", "fromtimestamp", "monotonic", "perf_counter", "time"}
OF_TEMPORAL = {"workflow"}
ASYNCIO = {"CancelledError", "Event", "Lock", "Queue", "Semaphore", "create_task", "gather", "shield"}
"""What workflows use of asyncio and Temporal runs in its order. `sleep`, `wait` and `as_completed` have counterparts in
`temporalio.workflow`."""


def offences(text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        owner, name = node.value.id, node.attr
        if (name in CLOCKS and owner not in OF_TEMPORAL) or (owner == "asyncio" and name not in ASYNCIO):
            found.append(f"line {node.lineno}: {owner}.{name}")
    return found


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.py")), ids=lambda path: path.stem)
def test_a_workflow_asks_no_clock_but_temporals(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("code", ["datetime.now(UTC)", "date.today()", "time.time()", "asyncio.wait(tasks)"])
def test_the_look_finds_them(code: str) -> None:
    assert len(offences(f"def f():\n    return {code}\n")) == 1
