"""Recorded histories replay: chains that run while a new version is rolled out must find their way in its code."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from activities.intake import IntakeActivities
from activities.models import BookingRef
from domain.catalog import parse_catalog
from tests.replay.stories import STORIES
from tests.support.desk import CATALOGUE
from tests.support.sandboxes import ATTENDEE
from worker import WORKFLOWS, workflow_runner
from workflows import policies
from workflows.booking import BookingWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))

ADVICE = """history {name} no longer fits the workflows' code: chains that run now would be stuck after a deploy.
Guard the changed commands with `if workflow.patched("what-changed"):` and keep the old way in the else branch; then
record one more history (tests/replay/record.py) instead of overwriting this one. What Temporal says: {error}"""


async def replay(path: Path, *, sandbox: bool = True) -> None:
    """Replay one recorded history with the worker's own workflows and converter, in the sandbox or as workers do."""
    recorded = json.loads(path.read_text())
    runner = workflow_runner(sandbox=sandbox)
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter, workflow_runner=runner)
    history = WorkflowHistory.from_json(recorded["workflow_id"], recorded["history"])
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    if result.replay_failure is not None:
        raise AssertionError(ADVICE.format(name=path.name, error=result.replay_failure))


def strings(value: Any) -> Iterator[str]:
    """Every string of a history, payloads decoded."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "data" and isinstance(one, str):
                yield base64.b64decode(one).decode("utf-8", "replace")
            else:
                yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "worker"])
@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path: Path, sandbox: bool) -> None:
    await replay(path, sandbox=sandbox)


async def test_the_sandbox_of_the_tests_stops_workflow_code_that_looks_at_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looked_up(self: BookingWorkflow, step: str) -> None:
        with open(__file__) as file:
            self.steps.append(f"{step} {file.readline()}")

    monkeypatch.setattr(BookingWorkflow, "note", looked_up)
    (matured,) = [path for path in HISTORIES if path.stem == "matured"]
    with pytest.raises(AssertionError, match="RestrictedWorkflowAccessError"):
        await replay(matured)


def test_every_story_and_every_long_workflow_is_recorded() -> None:
    assert {path.stem for path in HISTORIES} >= {story.__name__ for story in STORIES}
    types = set()
    for path in HISTORIES:
        first = json.loads(path.read_text())["history"]["events"][0]
        types.add(first["workflowExecutionStartedEventAttributes"]["workflowType"]["name"])
    month = {"SettlementWorkflow", "ResellerSettlementWorkflow", "AdjustmentWorkflow"}
    assert types >= {"BookingWorkflow", "UndoWorkflow", *month}


async def test_an_inserted_command_is_caught_and_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    accrue = BookingWorkflow._accrue

    async def with_one_more_step(self: BookingWorkflow) -> None:
        await workflow.execute_activity_method(
            IntakeActivities.read_booking,
            BookingRef(chain_uid=self.chain_uid, booking_uid=self.booking_uid),
            **policies.calcom_step(60, "Read once more"),
        )
        await accrue(self)

    monkeypatch.setattr(BookingWorkflow, "_accrue", with_one_more_step)
    (matured,) = [path for path in HISTORIES if path.stem == "matured"]
    with pytest.raises(AssertionError, match=r"workflow\.patched") as caught:
        await replay(matured)
    assert "matured.json" in str(caught.value)
    assert "Nondeterminism" in str(caught.value) or "nondeterminism" in str(caught.value)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_no_history_knows_a_person(path: Path) -> None:
    catalog = parse_catalog(CATALOGUE.read_text())
    people = [word for customer in catalog.customers for word in (customer.name, customer.email)]
    people += [word for reseller in catalog.resellers for word in (reseller.name, reseller.email)]
    words = [*people, *ATTENDEE.values(), "@", "organizer-"]
    text = "\n".join(strings(json.loads(path.read_text())))
    assert "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED" in text
    assert [word for word in words if word in text] == []
