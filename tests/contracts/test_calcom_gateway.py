"""The Cal.com gateway against the sandbox: the port's promises, on real HTTP."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain import ports
from domain.ports import BookingStatus, NotFound, OutcomeUnknown, RateLimited, Refused, SetupError
from gateways.calcom import API_VERSION, CalcomGateway
from gateways.calcom_answers import NO_EVENT_TYPE
from tests.contracts.calcom_server import (
    KEY,
    Sandbox,
    client_fixture,  # noqa: F401
    control,
    plant,
    sandbox_fixture,  # noqa: F401
    spec,
    start_at,
)

Client = httpx.AsyncClient
T0 = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.fixture(name="gateway")
async def gateway_fixture(sandbox: Sandbox) -> AsyncIterator[CalcomGateway]:
    made = CalcomGateway(api_key=KEY, base_url=sandbox.url, timeout_seconds=5)
    yield made
    await made.aclose()


def iso(at: datetime) -> str:
    return at.isoformat()


async def all_pages(gateway: CalcomGateway, *, updated_after: datetime | None, take: int) -> list[str]:
    seen: list[str] = []
    for skip in range(0, 100, take):
        page = await gateway.list_bookings(updated_after=updated_after, skip=skip, take=take)
        seen += [b.uid for b in page.bookings]
        if not page.has_more:
            return seen
    raise AssertionError("the pages do not end")


def test_it_is_the_port() -> None:
    gateway: ports.CalendarGateway = CalcomGateway(api_key=KEY)
    for name, method in inspect.getmembers(ports.CalendarGateway, inspect.iscoroutinefunction):
        assert inspect.iscoroutinefunction(getattr(gateway, name))
        assert set(inspect.signature(method).parameters) - {"self"} <= set(
            inspect.signature(getattr(gateway, name)).parameters
        )


class TestGet:
    async def test_all_fields(self, client: Client, gateway: CalcomGateway) -> None:
        made = (await plant(client, spec("u1", start="2027-03-01T09:30:00+01:00", created_at=iso(T0))))[0]
        booking = await gateway.get_booking("u1")
        assert booking.model_dump() == {
            "uid": "u1",
            "status": BookingStatus.ACCEPTED,
            "start_at": datetime(2027, 3, 1, 8, 30, tzinfo=UTC),
            "end_at": datetime(2027, 3, 1, 9, 30, tzinfo=UTC),
            "event_type_id": 7,
            "organizer_ids": (5,),
            "attendee_name": "Jane Example",
            "attendee_email": "jane@example.com",
            "attendee_absent": False,
            "host_absent": False,
            "created_at": T0,
            "updated_at": None,
            "rescheduled_from_uid": None,
            "rescheduled_to_uid": None,
        }
        assert made["uid"] == "u1"
        assert booking.start_at.tzinfo is UTC

    @pytest.mark.parametrize("status", list(BookingStatus))
    async def test_each_status(self, client: Client, gateway: CalcomGateway, status: BookingStatus) -> None:
        await plant(client, spec("u1", status=status.value))
        assert (await gateway.get_booking("u1")).status is status

    async def test_absence(self, client: Client, gateway: CalcomGateway) -> None:
        absent = {"name": "J", "email": "j@example.com", "absent": True}
        await plant(client, spec("u1", attendee=absent), spec("u2", absent_host=True))
        first, second = await gateway.get_booking("u1"), await gateway.get_booking("u2")
        assert (first.attendee_absent, first.host_absent) == (True, False)
        assert (second.attendee_absent, second.host_absent) == (False, True)

    async def test_unknown_uid(self, client: Client, gateway: CalcomGateway) -> None:
        with pytest.raises(NotFound) as caught:
            await gateway.get_booking("nope")
        assert caught.value.code == "not_found"

    async def test_a_rescheduled_booking_is_followed_only_when_asked(
        self, client: Client, gateway: CalcomGateway
    ) -> None:
        await plant(client, spec("u1"))
        uid = "u1"
        for hours in (60, 70, 80):
            answer = await client.post(f"/v2/bookings/{uid}/reschedule", json={"start": start_at(hours)})
            uid = answer.json()["data"]["uid"]
        first = await gateway.get_booking("u1")
        assert first.uid == "u1"
        assert first.status is BookingStatus.CANCELLED
        assert first.rescheduled_to_uid is not None
        last = await gateway.get_booking("u1", follow_rescheduled=True)
        assert (last.uid, last.status) == (uid, BookingStatus.ACCEPTED)
        assert last.rescheduled_from_uid not in (None, "u1")

    async def test_an_organizer_without_account_is_no_organizer(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1", organizer_id=4711))
        assert (await gateway.get_booking("u1")).organizer_ids == ()

    @pytest.mark.parametrize("uid", ["", "a/b", "..", ".", "a?b=c", "u1/cancel", "ü", "a b", "x" * 200])
    async def test_a_uid_that_is_none_is_never_sent(self, client: Client, gateway: CalcomGateway, uid: str) -> None:
        for call in (
            gateway.get_booking(uid),
            gateway.cancel_booking(uid, reason="x"),
            gateway.booking_in_team(uid, 3),
        ):
            with pytest.raises(SetupError) as caught:
                await call
            assert caught.value.code == "bad_uid"
        assert (await client.get("/_sandbox/log")).json() == {"requests": []}

    async def test_key_and_version_are_sent(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1"))
        await gateway.get_booking("u1")
        assert (await client.get("/_sandbox/log")).json()["requests"][0]["api_version"] == API_VERSION


class TestList:
    async def test_changed_and_never_changed_bookings_oldest_first(
        self, client: Client, gateway: CalcomGateway
    ) -> None:
        def at(hours: int) -> str:
            return iso(T0 + timedelta(hours=hours))

        await plant(
            client,
            spec("old", created_at=at(-9)),
            spec("old-changed-before", created_at=at(-9), updated_at=at(-1)),
            spec("old-changed-after", created_at=at(-9), updated_at=at(4)),
            spec("new", created_at=at(2)),
            spec("new-changed", created_at=at(1), updated_at=at(3)),
            spec("now", created_at=at(0)),
        )
        page = await gateway.list_bookings(updated_after=T0)
        assert [b.uid for b in page.bookings] == ["now", "new", "new-changed", "old-changed-after"]
        assert page.has_more is False
        everything = await gateway.list_bookings()
        assert len(everything.bookings) == 6

    @pytest.mark.parametrize("take", [1, 2, 3, 250])
    async def test_no_booking_is_missed_over_pages(self, client: Client, gateway: CalcomGateway, take: int) -> None:
        specs = []
        for n in range(7):
            changed = {"updated_at": iso(T0 + timedelta(hours=n + 1))} if n % 2 else {}
            specs.append(spec(f"u{n}", created_at=iso(T0 + timedelta(hours=n)), **changed))
        await plant(client, *specs)
        for updated_after in (T0, None):
            seen = await all_pages(gateway, updated_after=updated_after, take=take)
            assert sorted(seen) == [f"u{n}" for n in range(7)]

    async def test_another_zone_and_fractions(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1", created_at=iso(T0), updated_at=iso(T0 + timedelta(milliseconds=5))))
        there = (T0 + timedelta(milliseconds=5, microseconds=700)).astimezone(tz=None)
        assert [b.uid for b in (await gateway.list_bookings(updated_after=there)).bookings] == ["u1"]
        later = T0 + timedelta(milliseconds=6)
        assert (await gateway.list_bookings(updated_after=later)).bookings == ()

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            ({"take": 0}, "bad_page"),
            ({"take": 251}, "bad_page"),
            ({"skip": -1}, "bad_page"),
            ({"updated_after": datetime(2026, 1, 1)}, "bad_time"),  # noqa: DTZ001
        ],
    )
    async def test_impossible_arguments(self, gateway: CalcomGateway, arguments: dict[str, Any], code: str) -> None:
        with pytest.raises(SetupError) as caught:
            await gateway.list_bookings(**arguments)
        assert caught.value.code == code


class TestTeam:
    async def test_membership(self, client: Client, gateway: CalcomGateway) -> None:
        await control(client, "catalogue", {"teams": [{"id": 4, "name": "Other", "slug": "other"}]})
        other = {"id": 40, "slug": "o", "title": "O", "team_id": 4}
        await control(client, "catalogue", {"event_types": [other]})
        await plant(client, spec("ours", event_type_id=9), spec("free"))
        assert await gateway.booking_in_team("ours", 3) is True
        assert await gateway.booking_in_team("ours", 4) is False
        assert await gateway.booking_in_team("free", 3) is False
        assert await gateway.booking_in_team("nope", 3) is False

    async def test_a_team_without_event_types_has_no_bookings(self, client: Client, gateway: CalcomGateway) -> None:
        await control(client, "catalogue", {"teams": [{"id": 4, "name": "Empty", "slug": "empty"}]})
        await plant(client, spec("u1"))
        filtered = await client.get("/v2/bookings", params={"bookingUid": "u1", "teamId": 4})
        assert len(filtered.json()["data"]) == 1
        assert await gateway.booking_in_team("u1", 4) is False

    async def test_a_team_out_of_sight_is_a_matter_for_a_person(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1"))
        with pytest.raises(SetupError) as caught:
            await gateway.booking_in_team("u1", 4711)
        assert caught.value.code == "forbidden"

    async def test_the_team_is_checked_once_in_a_while(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1", event_type_id=9))
        for _ in range(3):
            assert await gateway.booking_in_team("u1", 3)
        paths = [r["path"] for r in (await client.get("/_sandbox/log")).json()["requests"]]
        assert paths.count("/v2/teams/3/event-types") == 1


class TestCancel:
    async def test_twice_is_success(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1"))
        for _ in range(2):
            await gateway.cancel_booking("u1", reason="Rolled back")
        data = (await client.get("/v2/bookings/u1")).json()["data"]
        assert (data["status"], data["cancellationReason"]) == ("cancelled", "Rolled back")

    async def test_without_a_reason_one_is_sent(self, client: Client, gateway: CalcomGateway) -> None:
        await plant(client, spec("u1"))
        await gateway.cancel_booking("u1", reason="")
        assert (await client.get("/v2/bookings/u1")).json()["data"]["status"] == "cancelled"

    async def test_unknown(self, client: Client, gateway: CalcomGateway) -> None:
        with pytest.raises(NotFound):
            await gateway.cancel_booking("nope", reason="x")

    @pytest.mark.parametrize("kind", ["lose_answer", "error_after", "bad_json"])
    async def test_a_lost_answer_is_unknown_and_repeating_succeeds(
        self, client: Client, gateway: CalcomGateway, kind: str
    ) -> None:
        await plant(client, spec("u1"))
        await control(client, "faults", {"kind": kind, "path_regex": "/cancel$"})
        with pytest.raises(OutcomeUnknown):
            await gateway.cancel_booking("u1", reason="x")
        assert (await client.get("/v2/bookings/u1")).json()["data"]["status"] == "cancelled"
        await gateway.cancel_booking("u1", reason="x")


class TestFaults:
    @pytest.mark.parametrize(
        ("kind", "code"),
        [("lose_answer", "connection_lost"), ("reset", "connection_lost"), ("error", "server_error"),
         ("error_after", "server_error"), ("bad_json", "bad_json")],
    )  # fmt: skip
    async def test_unknown_then_well(self, client: Client, gateway: CalcomGateway, kind: str, code: str) -> None:
        await plant(client, spec("u1"))
        await gateway.get_booking("u1")
        await control(client, "faults", {"kind": kind})
        with pytest.raises(OutcomeUnknown) as caught:
            await gateway.get_booking("u1")
        assert caught.value.code == code
        assert (await gateway.get_booking("u1")).uid == "u1"

    async def test_slow_beyond_the_deadline(self, client: Client, sandbox: Sandbox) -> None:
        await plant(client, spec("u1"))
        await control(client, "faults", {"kind": "slow", "delay_seconds": 0.5})
        impatient = CalcomGateway(api_key=KEY, base_url=sandbox.url, timeout_seconds=0.1)
        with pytest.raises(OutcomeUnknown) as caught:
            await impatient.get_booking("u1")
        assert caught.value.code == "timeout"
        await impatient.aclose()

    async def test_rate_limited_with_the_hint(self, client: Client, gateway: CalcomGateway) -> None:
        await control(client, "faults", {"kind": "rate_limit"})
        with pytest.raises(RateLimited) as caught:
            await gateway.get_booking("u1")
        assert caught.value.retry_after_seconds == 60

    async def test_a_wrong_key(self, client: Client, sandbox: Sandbox) -> None:
        stranger = CalcomGateway(api_key="not_a_key", base_url=sandbox.url)
        with pytest.raises(SetupError) as caught:
            await stranger.list_bookings()
        assert caught.value.code == "unauthorized"
        assert "not_a_key" not in str(caught.value)
        await stranger.aclose()


def test_constants_that_others_rely_on() -> None:
    assert NO_EVENT_TYPE == 0
    assert not issubclass(Refused, SetupError)
