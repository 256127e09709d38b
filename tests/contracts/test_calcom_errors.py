"""Each row of the Cal.com gateway's error tables, and that no message carries what a person typed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from domain.ports import (
    NotFound,
    OutcomeUnknown,
    OutsideError,
    RateLimited,
    Refused,
    SetupError,
)
from gateways.calcom import CalcomGateway
from gateways.http_errors import NO_ANSWER_TABLE, STATUS_TABLE, of_no_answer, of_status, retry_after_seconds
from tests.contracts.calcom_answers import CALLS, booking, error, failure, gateway, page, success

STATUS_ROWS = [
    (301, SetupError, "redirected"),
    (400, SetupError, "bad_request"),
    (401, SetupError, "unauthorized"),
    (402, SetupError, "bad_request"),
    (403, SetupError, "forbidden"),
    (404, NotFound, "not_found"),
    (408, OutcomeUnknown, "request_timeout"),
    (409, OutcomeUnknown, "conflict"),
    (413, SetupError, "bad_request"),
    (422, SetupError, "bad_request"),
    (425, OutcomeUnknown, "too_early"),
    (429, RateLimited, "rate_limited"),
    (500, OutcomeUnknown, "server_error"),
    (502, OutcomeUnknown, "server_error"),
    (503, OutcomeUnknown, "server_error"),
    (504, OutcomeUnknown, "server_error"),
    (599, OutcomeUnknown, "server_error"),
]


class TestStatuses:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(("status", "kind", "code"), STATUS_ROWS)
    async def test_row(self, call: str, status: int, kind: type[OutsideError], code: str) -> None:
        caught = await failure(gateway(error(status)), call)
        assert type(caught) is kind
        assert caught.code == code
        assert f"answered {status} BadRequestException" in caught.message

    def test_every_row_is_tested(self) -> None:
        tested = {
            next(i for i, r in enumerate(STATUS_TABLE) if r.low <= status <= r.high) for status, _, _ in STATUS_ROWS
        }
        assert tested == set(range(len(STATUS_TABLE)))

    @pytest.mark.parametrize("status", [100, 199, 600])
    def test_a_status_out_of_the_table(self, status: int) -> None:
        assert of_status("x", status, httpx.Headers()).code == "unexpected_status"

    def test_a_vendor_code_is_cut_to_a_word(self) -> None:
        got = of_status("get", 400, httpx.Headers(), "jane@example.com <b>" + "x" * 99)
        assert "@" not in got.message
        assert len(got.message) < 100

    @pytest.mark.parametrize("call", CALLS)
    async def test_a_404_that_is_not_about_the_booking(self, call: str) -> None:
        wrong_path = error(404, "NotFoundException", "Cannot GET /v2/bookings/u1")
        for answer in (wrong_path, httpx.Response(404, text="<html>Jane</html>"), httpx.Response(404)):
            caught = await failure(gateway(answer), call)
            assert type(caught) is SetupError
            assert caught.code == "route_not_found"


class TestCancelWords:
    @pytest.mark.parametrize(
        "message",
        [
            "This booking has already been cancelled.",
            "This booking has already been canceled",
            "Booking with uid u1 has been cancelled already",
        ],
    )
    async def test_already_cancelled_is_success(self, message: str) -> None:
        made = gateway(error(400, message=message))
        await made.cancel_booking("u1", reason="x")
        caught = await failure(made)
        assert type(caught) is SetupError

    async def test_the_words_count_only_with_400(self) -> None:
        words = "This booking has already been cancelled."
        assert type(await failure(gateway(error(500, message=words)), "cancel")) is OutcomeUnknown

    async def test_not_allowed_is_a_refusal(self) -> None:
        answer = error(400, message="This event type does not allow cancellations")
        caught = await failure(gateway(answer), "cancel")
        assert type(caught) is Refused
        assert caught.code == "cancellation_not_allowed"

    @pytest.mark.parametrize("answer", [httpx.Response(200, text="ok"), success(None), page(booking())])
    async def test_what_success_needs(self, answer: httpx.Response) -> None:
        made = gateway(answer)
        if answer.text == "ok":
            assert (await failure(made, "cancel")).code == "bad_json"
        else:
            await made.cancel_booking("u1", reason="x")
            await made.aclose()

    async def test_another_shape_is_unknown_because_it_may_have_happened(self) -> None:
        caught = await failure(gateway(httpx.Response(200, json={"status": "error"})), "cancel")
        assert type(caught) is OutcomeUnknown
        assert caught.code == "unexpected_answer"


REQUEST = httpx.Request("GET", "https://api.example.com/v2/bookings/u1?name=Jane")

NO_ANSWER_ROWS = [
    (httpx.ConnectTimeout("Jane"), OutcomeUnknown, "connect_failed"),
    (httpx.PoolTimeout("Jane"), OutcomeUnknown, "pool_exhausted"),
    (httpx.ReadTimeout("Jane"), OutcomeUnknown, "timeout"),
    (httpx.WriteTimeout("Jane"), OutcomeUnknown, "timeout"),
    (httpx.ConnectError("Jane"), OutcomeUnknown, "connect_failed"),
    (httpx.UnsupportedProtocol("Jane"), SetupError, "bad_address"),
    (httpx.LocalProtocolError("Jane"), SetupError, "bad_request_of_ours"),
    (httpx.ProxyError("Jane"), OutcomeUnknown, "proxy_failed"),
    (httpx.DecodingError("Jane"), OutcomeUnknown, "undecodable"),
    (httpx.ReadError("Jane"), OutcomeUnknown, "connection_lost"),
    (httpx.WriteError("Jane"), OutcomeUnknown, "connection_lost"),
    (httpx.CloseError("Jane"), OutcomeUnknown, "connection_lost"),
    (httpx.RemoteProtocolError("Jane"), OutcomeUnknown, "connection_lost"),
    (httpx.InvalidURL("Jane"), SetupError, "bad_address"),
    (httpx.TooManyRedirects("Jane", request=REQUEST), OutcomeUnknown, "http_failed"),
    (TimeoutError("Jane"), OutcomeUnknown, "timeout"),
]


class TestNoAnswer:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(("raised", "kind", "code"), NO_ANSWER_ROWS, ids=lambda v: type(v).__name__)
    async def test_row(self, call: str, raised: Exception, kind: type[OutsideError], code: str) -> None:
        caught = await failure(gateway(raised), call)
        assert type(caught) is kind
        assert caught.code == code

    def test_every_row_is_tested(self) -> None:
        tested = {
            next(i for i, (kind, _, _) in enumerate(NO_ANSWER_TABLE) if isinstance(raised, kind))
            for raised, _, _ in NO_ANSWER_ROWS
        }
        assert tested == set(range(len(NO_ANSWER_TABLE)))

    def test_anything_else_is_unknown(self) -> None:
        assert type(of_no_answer("x", RuntimeError("Jane"))) is OutcomeUnknown

    async def test_nobody_listens(self) -> None:
        made = CalcomGateway(api_key="cal_live_secret", base_url="http://127.0.0.1:9")
        assert (await failure(made)).code == "connect_failed"

    async def test_cancellation_of_the_task_is_not_swallowed(self) -> None:
        never = asyncio.Event()

        class Hanging(httpx.AsyncBaseTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                await never.wait()
                raise AssertionError

        made = CalcomGateway(api_key="cal_live_secret", base_url="https://api.example.com", transport=Hanging())
        task = asyncio.create_task(made.get_booking("u1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await made.aclose()


class TestHints:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, None),
            ({"Retry-After": "7"}, 7),
            ({"Retry-After": " 1.5 "}, 1.5),
            ({"X-RateLimit-Reset-Default": "42"}, 42),
            ({"X-RateLimit-Reset": "41"}, 41),
            ({"Retry-After-Default": "3"}, 3),
            ({"Retry-After": "7", "X-RateLimit-Reset-Default": "42"}, 7),
            ({"Retry-After": "soon", "X-RateLimit-Reset-Default": "42"}, 42),
            ({"X-RateLimit-Reset-Default": "1795000000"}, None),
            ({"Retry-After": "-1"}, None),
            ({"Retry-After": "nan"}, None),
            ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ],
    )
    async def test_seconds(self, headers: dict[str, str], expected: float | None) -> None:
        answer = error(429, "ThrottlerException")
        answer.headers.update(headers)
        caught = await failure(gateway(answer))
        assert isinstance(caught, RateLimited)
        assert caught.retry_after_seconds == expected

    def test_a_date(self) -> None:
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
        seconds = retry_after_seconds(httpx.Headers({"Retry-After": when}))
        assert seconds is not None
        assert 85 < seconds <= 90


@pytest.mark.parametrize("key", ["", "abc", "cal_live_a b", "cal_live_\n", "cal_live_ü", "x" * 600])
def test_an_impossible_key_is_told_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError) as caught:
        CalcomGateway(api_key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("address", ["api.cal.com", "ftp://x", "https://api.cal.com/v2", "https://", "https://a b"])
def test_an_impossible_address_is_told(address: str) -> None:
    with pytest.raises(ValueError):
        CalcomGateway(api_key="cal_live_x", base_url=address)


async def test_the_request_that_cancels() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return success({})

    made = gateway(answer)
    await made.cancel_booking("u1", reason="Rolled back")
    await made.aclose()
    assert (sent[0].method, str(sent[0].url)) == ("POST", "https://api.example.com/v2/bookings/u1/cancel")
    assert json.loads(sent[0].content) == {"cancellationReason": "Rolled back"}
    assert sent[0].headers["authorization"] == "Bearer cal_live_secret"
    assert sent[0].headers["cal-api-version"] == "2024-08-13"
