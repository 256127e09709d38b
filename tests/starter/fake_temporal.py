"""Temporal as far as the starter uses it: starts that are unique by id, signals, closed workflows, outages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode


@dataclass
class FakeWorkflow:
    workflow_id: str
    argument: Any
    options: dict[str, Any]
    signals: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    is_running: bool = True


class FakeTemporal:
    """Answers like the server for the policies that the dispatcher uses; `fail_with` makes every call an outage."""

    def __init__(self) -> None:
        self.workflows: dict[str, FakeWorkflow] = {}
        self.starts: list[str] = []
        self.fail_with: Exception | None = None

    async def start_workflow(
        self,
        workflow: object,
        argument: Any,
        *,
        id: str,
        start_signal: str | None = None,
        start_signal_args: list[Any] | None = None,
        id_conflict_policy: WorkflowIDConflictPolicy = WorkflowIDConflictPolicy.UNSPECIFIED,
        id_reuse_policy: WorkflowIDReusePolicy,
        **options: Any,
    ) -> None:
        if self.fail_with is not None:
            raise self.fail_with
        again = id_reuse_policy is WorkflowIDReusePolicy.ALLOW_DUPLICATE
        assert again or id_reuse_policy is WorkflowIDReusePolicy.REJECT_DUPLICATE
        assert start_signal is None or id_conflict_policy is WorkflowIDConflictPolicy.UNSPECIFIED
        known = self.workflows.get(id)
        if known is not None and again and not known.is_running:
            known = None
        if known is not None and (start_signal is None or not known.is_running):
            raise WorkflowAlreadyStartedError(id, "BookingWorkflow")
        if known is None:
            known = self.workflows[id] = FakeWorkflow(id, argument, options)
            self.starts.append(id)
        if start_signal is not None:
            known.signals.append((start_signal, tuple(start_signal_args or ())))

    def get_workflow_handle(self, workflow_id: str) -> FakeHandle:
        return FakeHandle(self, workflow_id)

    def signals(self, workflow_id: str) -> list[str]:
        return [name for name, _ in self.workflows[workflow_id].signals]


class FakeHandle:
    def __init__(self, temporal: FakeTemporal, workflow_id: str) -> None:
        self._temporal = temporal
        self._workflow_id = workflow_id

    async def signal(self, name: str, *args: Any, rpc_timeout: Any = None) -> None:
        if self._temporal.fail_with is not None:
            raise self._temporal.fail_with
        known = self._temporal.workflows.get(self._workflow_id)
        if known is None or not known.is_running:
            raise RPCError("workflow execution already completed", RPCStatusCode.NOT_FOUND, b"")
        known.signals.append((name, args))


def outage() -> RPCError:
    return RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")
