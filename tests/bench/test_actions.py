"""Events, bytes and billable actions of a history, step by step."""

from __future__ import annotations

import json
from pathlib import Path

from temporalio.api.common.v1 import ActivityType, Payload, Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import (
    ActivityTaskScheduledEventAttributes,
    ActivityTaskStartedEventAttributes,
    HistoryEvent,
    MarkerRecordedEventAttributes,
    UpsertWorkflowSearchAttributesEventAttributes,
)
from temporalio.client import WorkflowHistory

from bench.actions import Step, steps

MATURED = Path(__file__).parents[1] / "replay" / "histories" / "matured.json"

STARTED = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
TASK_DONE = HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
TIMER = HistoryEvent(event_type=EventType.EVENT_TYPE_TIMER_STARTED)
FIRED = HistoryEvent(event_type=EventType.EVENT_TYPE_TIMER_FIRED)


def local(name: str) -> HistoryEvent:
    data = Payloads(payloads=[Payload(data=json.dumps({"activity_type": name, "attempt": 1}).encode())])
    attributes = MarkerRecordedEventAttributes(marker_name="core_local_activity", details={"data": data})
    return HistoryEvent(event_type=EventType.EVENT_TYPE_MARKER_RECORDED, marker_recorded_event_attributes=attributes)


def patch_marker() -> HistoryEvent:
    return HistoryEvent(
        event_type=EventType.EVENT_TYPE_MARKER_RECORDED,
        marker_recorded_event_attributes=MarkerRecordedEventAttributes(marker_name="core_patch"),
    )


def upsert(*names: str) -> HistoryEvent:
    attributes = UpsertWorkflowSearchAttributesEventAttributes()
    for name in names:
        attributes.search_attributes.indexed_fields[name].data = b'"x"'
    return HistoryEvent(
        event_type=EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        upsert_workflow_search_attributes_event_attributes=attributes,
    )


def actions(*events: HistoryEvent) -> int:
    return sum(step.actions for step in steps(events))


def test_local_activities_of_one_workflow_task_are_one_action_together() -> None:
    assert actions(TASK_DONE, local("quote"), local("bill")) == 1
    assert actions(TASK_DONE, local("quote"), TASK_DONE, local("bill")) == 2


def test_a_patch_is_free_and_does_not_stand_for_a_local_activity() -> None:
    assert actions(TASK_DONE, patch_marker(), upsert("TemporalChangeVersion")) == 0
    assert actions(TASK_DONE, patch_marker(), local("bill")) == 1


def test_an_upsert_is_one_action_however_many_attributes_it_has() -> None:
    assert actions(upsert("BillingStage", "BillingCustomer", "BillingPeriod")) == 1
    assert actions(upsert("BillingStage"), upsert("BillingStage")) == 2


def test_a_timer_is_billed_when_it_starts() -> None:
    assert steps([TIMER, FIRED]) == [Step("timer", 2, TIMER.ByteSize() + FIRED.ByteSize(), 1)]


def test_events_of_an_activity_stand_with_its_name() -> None:
    scheduled = HistoryEvent(
        event_id=5,
        event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        activity_task_scheduled_event_attributes=ActivityTaskScheduledEventAttributes(
            activity_type=ActivityType(name="charge")
        ),
    )
    started = HistoryEvent(
        event_type=EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
        activity_task_started_event_attributes=ActivityTaskStartedEventAttributes(scheduled_event_id=5),
    )
    (step,) = steps([scheduled, started])
    assert (step.name, step.events, step.actions) == ("activity charge", 2, 1)


def test_an_unknown_marker_is_told_by_its_kind() -> None:
    assert [step.name for step in steps([HistoryEvent(event_type=EventType.EVENT_TYPE_MARKER_RECORDED)])] == [
        "marker recorded"
    ]


def test_the_steps_of_a_recorded_chain_add_up_to_its_history() -> None:
    recorded = json.loads(MATURED.read_text())
    events = WorkflowHistory.from_json(recorded["workflow_id"], recorded["history"]).events
    found = steps(events)
    assert sum(step.events for step in found) == len(events)
    assert sum(step.size_bytes for step in found) == sum(event.ByteSize() for event in events)
    by_name = {step.name: step for step in found}
    assert by_name["workflow execution started"].actions == 1
    assert by_name["activity charge"].events == 3
    assert by_name["local activity bill"].events == 1
    assert "local activity ?" not in by_name
