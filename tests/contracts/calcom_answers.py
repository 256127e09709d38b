"""Helpers of the Cal.com gateway tests: answers made by hand, and the error of one call."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from domain.ports import (
    OutsideError,
)
from gateways.calcom import CalcomGateway

SECRET_WORDS = ("Jane", "jane@example.com", "cal_live_secret", "api.example.com")


def booking(**change: Any) -> dict[str, Any]:
    """A booking as the API answers it."""
    return {
        "id": 1,
        "uid": "u1",
        "title": "60min between Pro and Jane",
        "status": "accepted",
        "start": "2026-11-25T09:30:00.000Z",
        "end": "2026-11-25T10:30:00.000Z",
        "eventTypeId": 7,
        "eventType": {"id": 7, "slug": "60min"},
        "hosts": [{"id": 5, "name": "Pro Example"}],
        "attendees": [{"name": "Jane", "email": "jane@example.com", "absent": False}],
        "absentHost": False,
        "createdAt": "2026-11-22T18:30:00.000Z",
        "updatedAt": None,
        "surprise": {"new": "field"},
        **change,
    }


def success(data: Any, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "data": data, **more})


def page(*items: Any, has_next: bool = False) -> httpx.Response:
    return success(list(items), pagination={"hasNextPage": has_next, "totalItems": 99})


def error(status: int, code: str = "BadRequestException", message: str = "Jane jane@example.com") -> httpx.Response:
    body = {"status": "error", "timestamp": "x", "path": "/x", "error": {"code": code, "message": message}}
    return httpx.Response(status, json=body)


def gateway(answer: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> CalcomGateway:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    return CalcomGateway(
        api_key="cal_live_secret",
        base_url="https://api.example.com",
        transport=httpx.MockTransport(handle),
    )


async def failure(made: CalcomGateway, call: str = "get") -> OutsideError:
    """The error of one call. Its text, its traceback and its causes name nothing secret."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: made.get_booking("u1"),
        "list": lambda: made.list_bookings(),
        "team": lambda: made.booking_in_team("u1", 3),
        "cancel": lambda: made.cancel_booking("u1", reason="Jane is ill"),
    }
    with pytest.raises(OutsideError) as caught:
        await calls[call]()
    await made.aclose()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = str(caught.value) + repr(caught.value)
    shown += "".join(traceback.TracebackException.from_exception(caught.value).format_exception_only())
    assert not [w for w in SECRET_WORDS if w in shown]
    return caught.value


CALLS = ("get", "list", "team", "cancel")
