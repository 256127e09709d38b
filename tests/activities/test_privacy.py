"""What a step raises becomes part of a history, so it must not quote a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.privacy import PrivateErrors


class _Step(ActivityInboundInterceptor):
    def __init__(self, step: Callable[[], Awaitable[Any]]) -> None:
        self._step = step

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await self._step()


async def _run(error: Exception) -> None:
    async def step() -> None:
        raise error

    call = ExecuteActivityInput(fn=step, args=[], executor=None, headers={})
    await PrivateErrors().intercept_activity(_Step(step)).execute_activity(call)


async def test_an_untranslated_error_leaves_with_its_type_only() -> None:
    with pytest.raises(ApplicationError) as caught:
        await _run(ValueError("Failing row contains (Ann Planted, ann@planted.example.com)"))
    assert caught.value.type == "ValueError"
    assert "Planted" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not caught.value.non_retryable


async def test_a_translated_error_passes_unchanged() -> None:
    error = ApplicationError("card_declined: no", type="SetupError", non_retryable=True)
    with pytest.raises(ApplicationError) as caught:
        await _run(error)
    assert caught.value is error
