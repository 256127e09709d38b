"""The Cal.com sandbox's API: shapes, refusals and filters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.contracts.calcom_server import (
    client_fixture,  # noqa: F401
    control,
    plant,
    sandbox_fixture,  # noqa: F401
    spec,
    start_at,
    subscribe,
)

Client = httpx.AsyncClient

REQUIRED = {
    "absentHost", "attendees", "bookingFieldsResponses", "createdAt", "description", "duration", "end", "eventType",
    "eventTypeId", "hosts", "id", "location", "start", "status", "title", "uid", "updatedAt",
}  # fmt: skip
"""The documented required fields of BookingOutput_2024_08_13."""


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["status"] == "error"
    assert set(body) == {"status", "timestamp", "path", "error"}
    assert body["path"] == answer.request.url.raw_path.decode()
    datetime.fromisoformat(body["timestamp"])
    return answer.status_code, body["error"]["code"], body["error"]["message"]


async def create(client: Client, **more: Any) -> httpx.Response:
    attendee = {"name": "Jane Example", "email": "jane@example.com", "timeZone": "Europe/Berlin"}
    return await client.post("/v2/bookings", json={"start": start_at(), "eventTypeId": 7, "attendee": attendee, **more})


async def uids(client: Client, **query: Any) -> list[str]:
    answer = await client.get("/v2/bookings", params=query)
    assert answer.status_code == 200, answer.text
    return [b["uid"] for b in answer.json()["data"]]


class TestBookings:
    async def test_create_and_read(self, client: Client) -> None:
        made = await create(client, metadata={"reseller_code": "R-17"})
        assert made.status_code == 201
        booking = made.json()["data"]
        assert set(booking) >= REQUIRED
        assert booking["status"] == "accepted"
        assert booking["duration"] == 60
        assert booking["updatedAt"] is None
        assert booking["metadata"] == {"reseller_code": "R-17"}
        assert booking["hosts"][0]["id"] == 5
        assert "rescheduledToUid" not in booking
        read = await client.get(f"/v2/bookings/{booking['uid']}")
        assert read.json() == {"status": "success", "data": booking}

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"start": start_at(-3)}, 400, "Attempting to book a meeting in the past."),
            ({"start": "tomorrow"}, 400, "start must be a valid ISO 8601 date string"),
            ({"eventTypeId": 999}, 404, "Event type with id 999 not found."),
            ({"eventTypeId": None}, 400, "Either eventTypeId or"),
            ({"attendee": {"name": "X"}}, 400, "attendee.email"),
            ({"eventTypeId": None, "eventTypeSlug": "no", "username": "pro"}, 404, "belonging to user pro not found"),
        ],
    )
    async def test_create_refuses(self, client: Client, change: dict[str, Any], status: int, words: str) -> None:
        got = error_of(await create(client, **change))
        assert got[0] == status
        assert words in got[2]

    async def test_a_taken_slot_is_refused_and_one_by_slug_is_found(self, client: Client) -> None:
        assert (await create(client)).status_code == 201
        assert "already has booking" in error_of(await create(client))[2]
        by_slug = {"eventTypeId": None, "eventTypeSlug": "team-30min", "teamSlug": "example-team"}
        made = await create(client, start=start_at(50), **by_slug)
        assert made.json()["data"]["eventTypeId"] == 9

    async def test_cancel_twice(self, client: Client) -> None:
        await plant(client, spec("u1"))
        first = await client.post("/v2/bookings/u1/cancel", json={"cancellationReason": "Will travel"})
        assert first.status_code == 200
        data = first.json()["data"]
        assert (data["status"], data["cancellationReason"]) == ("cancelled", "Will travel")
        assert data["cancelledByEmail"] == "pro@example.com"
        assert data["updatedAt"] is not None
        second = await client.post("/v2/bookings/u1/cancel", json={"cancellationReason": "again"})
        assert error_of(second) == (400, "BadRequestException", "This booking has already been cancelled.")

    async def test_cancel_as_host_needs_a_reason_and_as_booker_does_not(self, client: Client) -> None:
        await plant(client, spec("u1"))
        assert "reason is required" in error_of(await client.post("/v2/bookings/u1/cancel"))[2]
        del client.headers["authorization"]
        answer = await client.post("/v2/bookings/u1/cancel")
        assert answer.json()["data"]["cancelledByEmail"] == "jane@example.com"

    async def test_confirm_and_decline(self, client: Client) -> None:
        await plant(client, spec("yes", event_type_id=8), spec("no", event_type_id=8), spec("done"))
        assert (await client.get("/v2/bookings/yes")).json()["data"]["status"] == "pending"
        assert (await client.post("/v2/bookings/yes/confirm")).json()["data"]["status"] == "accepted"
        declined = await client.post("/v2/bookings/no/decline", json={"reason": "busy"})
        assert declined.json()["data"]["status"] == "rejected"
        for path in ("yes/confirm", "no/decline", "done/confirm", "done/decline"):
            assert error_of(await client.post(f"/v2/bookings/{path}"))[:2] == (400, "BadRequestException")

    async def test_reschedule_makes_a_new_booking_and_cancels_the_old(self, client: Client) -> None:
        await plant(client, spec("old"))
        body = {"start": start_at(72), "reschedulingReason": "Clash"}
        answer = await client.post("/v2/bookings/old/reschedule", json=body)
        assert answer.status_code == 201
        new = answer.json()["data"]
        assert new["uid"] != "old"
        assert new["start"] == start_at(72)
        assert (new["status"], new["rescheduledFromUid"], new["reschedulingReason"]) == ("accepted", "old", "Clash")
        old = (await client.get("/v2/bookings/old")).json()["data"]
        assert (old["status"], old["rescheduledToUid"]) == ("cancelled", new["uid"])
        assert "cancellationReason" not in old
        again = await client.post("/v2/bookings/old/reschedule", json=body)
        assert new["uid"] in error_of(again)[2]
        await client.post(f"/v2/bookings/{new['uid']}/cancel", json={"cancellationReason": "x"})
        gone = await client.post(f"/v2/bookings/{new['uid']}/reschedule", json={"start": start_at(90)})
        assert "because it has been cancelled. Please" in error_of(gone)[2]

    async def test_mark_absent_only_after_the_start(self, client: Client) -> None:
        await plant(client, spec("past", start=start_at(-2)), spec("future", start=start_at(2)))
        body = {"host": True, "attendees": [{"email": "jane@example.com", "absent": True}]}
        answer = await client.post("/v2/bookings/past/mark-absent", json=body)
        assert answer.json()["data"]["absentHost"] is True
        assert answer.json()["data"]["attendees"][0]["absent"] is True
        assert error_of(await client.post("/v2/bookings/future/mark-absent", json=body))[0] == 400
        stranger = {"attendees": [{"email": "x@example.com", "absent": True}]}
        assert error_of(await client.post("/v2/bookings/past/mark-absent", json=stranger))[0] == 400

    async def test_unknown_booking_route_and_method(self, client: Client) -> None:
        words = "Booking with uid=nope was not found in the database"
        assert error_of(await client.get("/v2/bookings/nope?a=1")) == (404, "NotFoundException", words)
        assert error_of(await client.get("/v2/nothing"))[2] == "Cannot GET /v2/nothing"
        assert error_of(await client.delete("/v2/bookings"))[2] == "Cannot DELETE /v2/bookings"

    async def test_a_deleted_event_type_and_organizer_read_as_at_calcom(self, client: Client) -> None:
        booking = (await plant(client, spec("u1", organizer_id=77)))[0]
        assert booking["hosts"][0]["id"] == "unknown"


class TestKeysAndVersions:
    async def test_reading_and_cancelling_by_uid_needs_no_key_but_lists_do(self, client: Client) -> None:
        await plant(client, spec("u1"))
        del client.headers["authorization"]
        assert (await client.get("/v2/bookings/u1")).status_code == 200
        for method, path in (("GET", "bookings"), ("POST", "bookings/u1/confirm"), ("GET", "webhooks"), ("GET", "me")):
            assert error_of(await client.request(method, f"/v2/{path}"))[:2] == (401, "UnauthorizedException")

    async def test_a_wrong_key_is_refused_everywhere(self, client: Client) -> None:
        await plant(client, spec("u1"))
        client.headers["authorization"] = "Bearer sk_test_1"
        assert error_of(await client.get("/v2/bookings/u1"))[0] == 401

    @pytest.mark.parametrize("version", [None, "2020-01-01"])
    async def test_without_the_version_an_older_shape_answers(self, client: Client, version: str | None) -> None:
        await plant(client, spec("u1"))
        del client.headers["cal-api-version"]
        headers = {"cal-api-version": version} if version else {}
        one = (await client.get("/v2/bookings/u1", headers=headers)).json()["data"]
        assert one["status"] == "ACCEPTED"
        assert "startTime" in one
        assert "start" not in one
        many = (await client.get("/v2/bookings", headers=headers)).json()
        assert [b["uid"] for b in many["data"]["bookings"]] == ["u1"]
        assert "pagination" not in many
        assert error_of(await client.post("/v2/bookings/u1/cancel", headers=headers))[0] == 400


class TestList:
    async def test_pages(self, client: Client) -> None:
        await plant(client, *(spec(f"u{i}", start=start_at(48, slot=i)) for i in range(5)))
        answer = (await client.get("/v2/bookings", params={"take": 2, "skip": 2})).json()
        assert [b["uid"] for b in answer["data"]] == ["u2", "u3"]
        assert answer["pagination"] == {
            "returnedItems": 2,
            "totalItems": 5,
            "itemsPerPage": 2,
            "remainingItems": 1,
            "currentPage": 2,
            "totalPages": 3,
            "hasNextPage": True,
            "hasPreviousPage": True,
        }
        last = (await client.get("/v2/bookings", params={"take": 2, "skip": 4})).json()["pagination"]
        assert (last["hasNextPage"], last["remainingItems"], last["returnedItems"]) == (False, 0, 1)

    async def test_filters(self, client: Client) -> None:
        await plant(
            client,
            spec("past", start=start_at(-48), updated_at="2026-01-02T00:00:00Z", created_at="2026-01-01T00:00:00Z"),
            spec("team", event_type_id=9, created_at="2026-01-05T00:00:00Z"),
            spec("asked", event_type_id=8, start=start_at(60)),
            spec("gone", status="cancelled", updated_at="2026-01-03T00:00:00Z"),
        )
        assert await uids(client, bookingUid="team") == ["team"]
        assert await uids(client, teamId=3) == ["team"]
        assert await uids(client, teamIds="3,4", bookingUid="past") == []
        assert await uids(client, eventTypeId=8) == ["asked"]
        assert set(await uids(client, eventTypeIds="8,9")) == {"team", "asked"}
        assert await uids(client, status="cancelled") == ["gone"]
        assert set(await uids(client, status="past,cancelled")) == {"past", "gone"}
        assert await uids(client, status="unconfirmed") == ["asked"]
        assert await uids(client, beforeEnd=start_at(0)) == ["past"]
        assert await uids(client, attendeeEmail="nobody@example.com") == []
        assert len(await uids(client, attendeeName="Jane Example")) == 4

    async def test_a_null_updated_at_escapes_its_filter_and_sorts_last(self, client: Client) -> None:
        await plant(
            client,
            spec("null"),
            spec("late", updated_at="2026-01-03T00:00:00Z"),
            spec("early", updated_at="2026-01-02T00:00:00Z"),
        )
        assert await uids(client, sortUpdatedAt="asc") == ["early", "late", "null"]
        assert await uids(client, sortUpdatedAt="desc") == ["null", "late", "early"]
        assert await uids(client, afterUpdatedAt="2026-01-02T00:00:00Z", sortUpdatedAt="asc") == ["early", "late"]
        assert await uids(client, afterUpdatedAt="2026-01-02T00:00:00.001Z") == ["late"]

    async def test_a_team_without_event_types_does_not_filter(self, client: Client) -> None:
        await plant(client, spec("u1"))
        assert await uids(client, teamId=44) == ["u1"]

    @pytest.mark.parametrize(
        "query",
        [{"take": 251}, {"take": 0}, {"take": "x"}, {"skip": -1}, {"status": "accepted"}, {"sortStart": "up"},
         {"afterUpdatedAt": "yesterday"}, {"teamId": "x"}],
    )  # fmt: skip
    async def test_bad_queries(self, client: Client, query: dict[str, Any]) -> None:
        assert error_of(await client.get("/v2/bookings", params=query))[:2] == (400, "BadRequestException")


class TestCatalogueAndWebhooks:
    async def test_catalogue(self, client: Client) -> None:
        body = {
            "organizers": [{"id": 6, "name": "Dr Example", "email": "dr@example.com", "username": "dr"}],
            "teams": [{"id": 4, "name": "Practice", "slug": "practice"}],
            "event_types": [{"id": 20, "slug": "checkup", "title": "Checkup", "organizer_id": 6, "team_id": 4}],
        }
        await control(client, "catalogue", body)
        assert [t["id"] for t in (await client.get("/v2/teams")).json()["data"]] == [3, 4]
        assert 20 in [e["id"] for e in (await client.get("/v2/event-types")).json()["data"]]
        assert (await client.get("/v2/event-types/20")).json()["data"]["lengthInMinutes"] == 60
        assert [e["id"] for e in (await client.get("/v2/teams/4/event-types")).json()["data"]] == [20]
        assert (await client.get("/v2/me")).json()["data"]["id"] == 5
        booking = (await plant(client, spec(event_type_id=20)))[0]
        assert booking["hosts"][0]["username"] == "dr"
        assert error_of(await client.get("/v2/teams/99/event-types"))[0] == 403
        assert error_of(await client.get("/v2/event-types/99"))[0] == 404

    @pytest.mark.parametrize("prefix", ["/v2", "/v2/event-types/7"])
    async def test_webhooks(self, client: Client, prefix: str) -> None:
        body = {"active": True, "subscriberUrl": "http://127.0.0.1:9/h", "triggers": ["BOOKING_CREATED"], "secret": "s"}
        made = await client.post(f"{prefix}/webhooks", json=body)
        assert made.status_code == 201
        webhook = made.json()["data"]
        assert webhook.items() >= body.items()
        path = f"{prefix}/webhooks/{webhook['id']}"
        assert error_of(await client.post(f"{prefix}/webhooks", json=body))[0] == 409
        patched = await client.patch(path, json={"active": False, "triggers": ["BOOKING_CANCELLED"]})
        assert (patched.json()["data"]["active"], patched.json()["data"]["secret"]) == (False, "s")
        assert (await client.get(path)).json()["data"]["triggers"] == ["BOOKING_CANCELLED"]
        assert len((await client.get(f"{prefix}/webhooks")).json()["data"]) == 1
        assert (await client.delete(path)).status_code == 200
        assert error_of(await client.get(path))[0] == 404
        unknown = await client.post(f"{prefix}/webhooks", json={**body, "triggers": ["NOPE"]})
        assert "each value in triggers" in error_of(unknown)[2]

    async def test_all_webhooks_of_an_event_type_are_deleted_at_once(self, client: Client) -> None:
        await subscribe(client, "http://127.0.0.1:9/mine", "BOOKING_CREATED")
        for n in (1, 2):
            body = {"active": True, "subscriberUrl": f"http://127.0.0.1:9/{n}", "triggers": ["BOOKING_PAID"]}
            await client.post("/v2/event-types/7/webhooks", json=body)
        assert (await client.delete("/v2/event-types/7/webhooks")).json()["data"] == "2 webhooks deleted"
        assert len((await client.get("/v2/webhooks")).json()["data"]) == 1
