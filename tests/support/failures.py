"""Make a named step fail before or after its effect, once, for one chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from temporalio import activity, client, worker
from temporalio.exceptions import ApplicationError

When = Literal["before", "after"]


@dataclass
class Failures(client.Interceptor, worker.Interceptor):
    """Interceptor of a worker in this process: give it to the client that the worker is built with.

    A planned failure is final (`SetupError`, not retried): the chain parks. `lost` raises what Temporal retries.
    """

    plans: dict[tuple[str, str], list[tuple[When, bool] | None]] = field(default_factory=dict)
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Every step that ran, as (name, chain), failed or not."""

    def plan(self, step: str, chain_uid: str, when: When, *, final: bool = True, skip: int = 0) -> None:
        """The next run of `step` for the chain fails; `skip` runs before it pass."""
        self.plans.setdefault((step, chain_uid), []).extend([None] * skip + [(when, final)])

    def ran(self, chain_uid: str) -> list[str]:
        """Names of the steps that ran for a chain, in order."""
        return [step for step, uid in self.seen if uid == chain_uid]

    def take(self, step: str, chain_uid: str) -> tuple[When, bool] | None:
        key = (step, chain_uid)
        self.seen.append(key)
        queue = self.plans.get(key)
        return queue.pop(0) if queue else None

    def intercept_activity(self, next: worker.ActivityInboundInterceptor) -> worker.ActivityInboundInterceptor:
        return _Inbound(next, self)


class _Inbound(worker.ActivityInboundInterceptor):
    def __init__(self, next: worker.ActivityInboundInterceptor, failures: Failures) -> None:
        super().__init__(next)
        self._failures = failures

    async def execute_activity(self, input: worker.ExecuteActivityInput) -> Any:
        step = activity.info().activity_type
        plan = self._failures.take(step, chain_of(input.args))
        if plan is None:
            return await super().execute_activity(input)
        when, final = plan
        if when == "after":
            await super().execute_activity(input)
        kind = "SetupError" if final else "OutcomeUnknown"
        raise ApplicationError(f"planned failure {when} {step}", type=kind, non_retryable=final)


def chain_of(args: Sequence[Any] | Mapping[str, Any]) -> str:
    """The chain that a step works for, by its input; empty where it works for none."""
    first = args[0] if isinstance(args, Sequence) and args else None
    return str(getattr(first, "chain_uid", ""))
