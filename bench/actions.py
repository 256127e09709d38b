"""What a chain's history costs: events, bytes and the actions that Temporal Cloud would bill, step by step.

Actions by https://docs.temporal.io/evaluate/cloud/actions: a start, each scheduled activity, each timer, each upsert of
search attributes (not those of the start, nor the one that a patch makes), each signal and update; all local activities
of one workflow task together. Retries of activities are billed as well and are not in a history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

_BILLED = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
    }
)
_TASKS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)
_LOCAL, _PATCH = "core_local_activity", "core_patch"
_CHANGE_VERSION = "TemporalChangeVersion"


@dataclass(frozen=True)
class Step:
    """Some events of a history that belong together."""

    name: str
    events: int
    size_bytes: int
    actions: int


def steps(events: Iterable[HistoryEvent]) -> list[Step]:
    """A history by step, in the order in which each first appears. The sums are those of the whole history."""
    found: dict[str, list[int]] = {}
    scheduled: dict[int, str] = {}
    is_local_billed = False
    for event in events:
        kind = event.event_type
        if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            is_local_billed = False
        actions = int(kind in _BILLED and not _is_of_a_patch(event))
        if _marker(event) == _LOCAL and not is_local_billed:
            is_local_billed, actions = True, 1
        step = found.setdefault(_name(event, scheduled), [0, 0, 0])
        for place, amount in enumerate((1, event.ByteSize(), actions)):
            step[place] += amount
    return [Step(name, *counts) for name, counts in found.items()]


def _marker(event: HistoryEvent) -> str:
    if event.event_type != EventType.EVENT_TYPE_MARKER_RECORDED:
        return ""
    return event.marker_recorded_event_attributes.marker_name


def _is_of_a_patch(event: HistoryEvent) -> bool:
    if event.event_type != EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
        return False
    fields = event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
    return set(fields) == {_CHANGE_VERSION}


def _name(event: HistoryEvent, scheduled: dict[int, str]) -> str:
    """What a person calls the step that an event belongs to."""
    kind = event.event_type
    if kind in _TASKS:
        return "workflow tasks"
    if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        return f"activity {scheduled[event.event_id]}"
    if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
        return f"activity {scheduled[event.activity_task_started_event_attributes.scheduled_event_id]}"
    if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        return f"activity {scheduled[event.activity_task_completed_event_attributes.scheduled_event_id]}"
    if kind in (EventType.EVENT_TYPE_TIMER_STARTED, EventType.EVENT_TYPE_TIMER_FIRED):
        return "timer"
    marker = _marker(event)
    if marker == _LOCAL:
        return f"local activity {_local_activity(event)}"
    if marker == _PATCH or _is_of_a_patch(event):
        return "patch"
    return EventType.Name(kind).removeprefix("EVENT_TYPE_").replace("_", " ").lower()


def _local_activity(event: HistoryEvent) -> str:
    """Its name, from the marker's own data; `?` where a later SDK writes that otherwise."""
    for payload in event.marker_recorded_event_attributes.details["data"].payloads:
        told = json.loads(payload.data)
        if isinstance(told, dict) and isinstance(told.get("activity_type"), str):
            return str(told["activity_type"])
    return "?"
