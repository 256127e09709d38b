"""What the Cal.com gateway makes of answers: wrong shapes, odd ones, pages."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from domain.ports import (
    BookingStatus,
    OutcomeUnknown,
    SetupError,
)
from gateways.calcom_answers import NO_EVENT_TYPE
from tests.contracts.calcom_answers import booking, failure, gateway, page, success


class TestShapes:
    @pytest.mark.parametrize("call", ["get", "list", "team"])
    @pytest.mark.parametrize("content", [b"", b"<html>Jane</html>", b'{"status":', b"\xff\xfe"])
    async def test_no_json_is_unknown(self, call: str, content: bytes) -> None:
        caught = await failure(gateway(httpx.Response(200, content=content)), call)
        assert type(caught) is OutcomeUnknown
        assert caught.code == "bad_json"

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"status": "Jane"}, "data.status"),
            ({"status": None}, "data.status"),
            ({"start": "jane@example.com"}, "data.start"),
            ({"start": "2026-11-25T09:30:00"}, "data.start"),
            ({"end": None}, "data.end"),
            ({"uid": 5}, "data.uid"),
            ({"eventTypeId": "Jane"}, "data.eventTypeId"),
            ({"attendees": "Jane"}, "data.attendees"),
            ({"hosts": None}, "data.hosts"),
            ({"createdAt": None}, "data.createdAt"),
            ({"updatedAt": "Jane"}, "data.updatedAt"),
        ],
    )
    async def test_a_wrong_field_is_named_without_its_value(self, change: dict[str, Any], field: str) -> None:
        caught = await failure(gateway(success(booking(**change))))
        assert type(caught) is SetupError
        assert caught.code == "unexpected_answer"
        assert field in caught.message

    @pytest.mark.parametrize("name", ["uid", "status", "start", "end", "hosts", "attendees", "createdAt"])
    async def test_a_missing_field_is_named(self, name: str) -> None:
        lacking = booking()
        del lacking[name]
        assert f"data.{name} missing" in (await failure(gateway(success(lacking)))).message

    @pytest.mark.parametrize(
        "body", [[], {}, {"status": "success"}, {"status": "success", "data": [booking()]}, "Jane"]
    )
    async def test_another_document(self, body: Any) -> None:
        caught = await failure(gateway(httpx.Response(200, json=body)))
        assert (type(caught), caught.code) == (SetupError, "unexpected_answer")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"eventTypeId": None, "eventType": None}, ("event_type_id", NO_EVENT_TYPE)),
            ({"eventTypeId": None}, ("event_type_id", 7)),
            ({"hosts": [{"id": "unknown", "name": "unknown"}]}, ("organizer_ids", ())),
            ({"hosts": [{"id": 5}, {"id": 6}]}, ("organizer_ids", (5, 6))),
            ({"attendees": []}, ("attendee_name", None)),
            ({"attendees": [{"name": "Jane", "seatUid": "s"}]}, ("attendee_email", None)),
            ({"attendees": []}, ("attendee_absent", False)),
            ({"attendees": [{"absent": True}, {"absent": False}]}, ("attendee_absent", False)),
            ({"attendees": [{"absent": True}, {"absent": True}]}, ("attendee_absent", True)),
            ({"status": "awaiting_host"}, ("status", BookingStatus.PENDING)),
            ({"updatedAt": "2026-11-22T19:30:00+01:00"}, ("updated_at", datetime(2026, 11, 22, 18, 30, tzinfo=UTC))),
            ({"rescheduledToUid": ""}, ("rescheduled_to_uid", None)),
        ],
    )
    async def test_what_practice_brings(self, change: dict[str, Any], expected: tuple[str, Any]) -> None:
        made = gateway(success(booking(**change)))
        got = await made.get_booking("u1")
        await made.aclose()
        assert getattr(got, expected[0]) == expected[1]

    async def test_reschedulings_in_a_circle(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            uid = request.url.path.rsplit("/", 1)[1]
            return success(booking(uid=uid, rescheduledToUid="u2" if uid == "u1" else "u1"))

        made = gateway(answer)
        with pytest.raises(SetupError) as caught:
            await made.get_booking("u1", follow_rescheduled=True)
        assert caught.value.code == "reschedule_loop"
        await made.aclose()


class TestLists:
    async def test_one_unreadable_booking_does_not_hide_the_others(self, caplog: pytest.LogCaptureFixture) -> None:
        made = gateway(page(booking(), booking(uid="u2", start="Jane"), booking(uid="Jane E"), has_next=True))
        with caplog.at_level(logging.DEBUG):
            got = await made.list_bookings()
        await made.aclose()
        assert [b.uid for b in got.bookings] == ["u1", "Jane E"]
        assert got.has_more
        ours = [r.getMessage() for r in caplog.records if r.name == "gateways.calcom"]
        assert ours == ["booking u2 in a list of Cal.com cannot be read: start datetime_from_date_parsing"]
        assert not [r for r in caplog.records if r.name == "httpx"]

    async def test_only_unreadable_bookings_mean_a_changed_api(self) -> None:
        caught = await failure(gateway(page(booking(start="Jane"), booking(end="Jane"))), "list")
        assert (type(caught), caught.code) == (SetupError, "unexpected_answer")

    async def test_a_total_that_counts_too_much_does_not_page_for_ever(self) -> None:
        made = gateway(page(has_next=True))
        assert (await made.list_bookings()).has_more is False
        await made.aclose()

    async def test_a_short_page_is_not_the_end(self) -> None:
        made = gateway(page(booking(), has_next=True))
        assert (await made.list_bookings(take=2)).has_more is True
        await made.aclose()

    async def test_a_filter_by_uid_that_is_ignored_is_seen_through(self) -> None:
        made = gateway(page(booking(uid="other")))
        assert await made.booking_in_team("u1", 3) is False
        await made.aclose()
