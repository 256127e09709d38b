"""The sandbox's webhooks: the recorded shapes, the signature, one try only, and faults on the way."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contracts.calcom_server import (
    CONTRACTS,
    HEADERS,
    Received,
    Receiver,
    Sandbox,
    client_fixture,  # noqa: F401
    control,
    eventually,
    plant,
    receiver_fixture,  # noqa: F401
    sandbox_fixture,  # noqa: F401
    spec,
    start_at,
    subscribe,
)

Client = httpx.AsyncClient

ALL = (
    "BOOKING_CREATED",
    "BOOKING_CANCELLED",
    "BOOKING_REQUESTED",
    "BOOKING_REJECTED",
    "BOOKING_RESCHEDULED",
    "BOOKING_PAID",
    "BOOKING_NO_SHOW_UPDATED",
    "MEETING_STARTED",
    "MEETING_ENDED",
)
NEVER_EQUAL = {
    "id", "bookingId", "rescheduleId", "paymentId", "requestId", "externalId", "createdAt", "oneTimePassword", "uid",
    "rescheduleUid", "iCalUID", "videoCallUrl", "reseller_code", "url", "startTime", "endTime", "rescheduleStartTime",
    "rescheduleEndTime", "utcOffset",
}  # fmt: skip
"""Numbers, secrets and times that a recorded body cannot share with a new one."""


def contract(trigger: str) -> dict[str, Any]:
    if not CONTRACTS.exists():
        pytest.skip("the recorded webhooks are not beside this repository")
    body: dict[str, Any] = json.loads((CONTRACTS / f"{trigger}.json").read_text())["body"]
    return body


def skeleton(value: Any, key: str = "") -> Any:
    """The value with everything that may differ replaced by its type; keys, their order and all else stay."""
    if isinstance(value, dict):
        return [(k, skeleton(v, k)) for k, v in value.items()]
    if isinstance(value, list):
        return [skeleton(v, key) for v in value]
    return type(value).__name__ if key in NEVER_EQUAL else value


async def flush(client: Client) -> None:
    await control(client, "webhooks/flush")


JOHN = {"name": "John Doe", "email": "john.doe@example.com"}


async def provoke(client: Client, trigger: str) -> None:
    """Makes Cal.com send this trigger by what it stands for."""
    asks = trigger in ("BOOKING_REQUESTED", "BOOKING_REJECTED")
    if trigger == "BOOKING_REQUESTED":
        sixty = {"id": 30, "slug": "60min", "title": "60min", "requires_confirmation": True}
        await control(client, "catalogue", {"event_types": [sixty]})
    event_type_id = {"BOOKING_REQUESTED": 30, "BOOKING_REJECTED": 8}.get(trigger, 7)
    own = {"reseller_code": "R-17"} if trigger != "BOOKING_CANCELLED" else {}
    quiet = trigger not in ("BOOKING_CREATED", "BOOKING_REQUESTED")
    await plant(client, spec("u1", attendee=JOHN, event_type_id=event_type_id, metadata=own, webhook=not quiet))
    assert not asks or (await client.get("/v2/bookings/u1")).json()["data"]["status"] == "pending"
    answer: Any = True
    if trigger == "BOOKING_CANCELLED":
        del client.headers["authorization"]
        answer = await client.post("/v2/bookings/u1/cancel", json={"cancellationReason": "Will travel"})
    elif trigger == "BOOKING_REJECTED":
        answer = await client.post("/v2/bookings/u1/decline", json={"reason": "Host has to take another call"})
    elif trigger == "BOOKING_RESCHEDULED":
        body = {"start": start_at(72), "reschedulingReason": "Clash"}
        answer = await client.post("/v2/bookings/u1/reschedule", json=body)
    elif trigger == "BOOKING_PAID":
        await control(client, "paid", {"uid": "u1", "amount_minor": 5000})
    elif trigger.startswith("MEETING"):
        await control(client, "meeting-ended", {"uids": ["u1"], "trigger": trigger})
    assert answer is True or answer.is_success
    await flush(client)


class TestShapes:
    @pytest.mark.parametrize("trigger", [t for t in ALL if t != "BOOKING_NO_SHOW_UPDATED"])
    async def test_as_recorded(self, client: Client, receiver: Receiver, trigger: str) -> None:
        recorded = contract(trigger)
        await subscribe(client, receiver.url, *ALL)
        await provoke(client, trigger)
        assert [r.json["triggerEvent"] for r in receiver.received] == [trigger]
        got = receiver.received[0].json
        expected = json.loads(json.dumps(recorded))
        if trigger in ("BOOKING_REQUESTED", "BOOKING_REJECTED"):
            expected["payload"]["eventTypeId"] = got["payload"]["eventTypeId"]
        assert skeleton(got) == skeleton(expected)

    async def test_headers_and_signature_of_the_raw_bytes(self, client: Client, receiver: Receiver) -> None:
        await subscribe(client, receiver.url, "BOOKING_CREATED")
        await plant(client, spec("u1", attendee={"name": "Jörg Müller", "email": "jm@example.com"}))
        await flush(client)
        got = receiver.received[0]
        assert got.headers["content-type"] == "application/json"
        assert got.headers["x-cal-webhook-version"] == "2021-10-20"
        expected = hmac.new(b"test-secret", got.raw, hashlib.sha256).hexdigest()
        assert got.headers["x-cal-signature-256"] == expected
        assert "Jörg".encode() in got.raw

    async def test_without_a_secret(self, client: Client, receiver: Receiver) -> None:
        await subscribe(client, receiver.url, "BOOKING_CREATED", secret=None)
        await plant(client, spec("u1"))
        await flush(client)
        assert receiver.received[0].headers["x-cal-signature-256"] == "no-secret-provided"

    async def test_a_payload_template_replaces_the_body(self, client: Client, receiver: Receiver) -> None:
        template = '{"what":"{{triggerEvent}}","who":"{{organizer.name}}","none":"{{a.b}}"}'
        await subscribe(client, receiver.url, "BOOKING_CREATED", payloadTemplate=template)
        await plant(client, spec("u1"))
        await flush(client)
        assert receiver.received[0].json == {"what": "BOOKING_CREATED", "who": "Pro Example", "none": ""}

    async def test_confirmation_by_hand_loses_the_metadata_but_the_api_keeps_it(
        self, client: Client, receiver: Receiver
    ) -> None:
        await subscribe(client, receiver.url, *ALL)
        await plant(client, spec("u1", event_type_id=8, metadata={"reseller_code": "R-17"}))
        await client.post("/v2/bookings/u1/confirm")
        await flush(client)
        asked, created = (r.json for r in sorted(receiver.received, key=lambda r: r.json["triggerEvent"], reverse=True))
        assert (asked["triggerEvent"], created["triggerEvent"]) == ("BOOKING_REQUESTED", "BOOKING_CREATED")
        assert asked["payload"]["metadata"]["reseller_code"] == "R-17"
        assert "reseller_code" not in created["payload"]["metadata"]
        assert (await client.get("/v2/bookings/u1")).json()["data"]["metadata"] == {"reseller_code": "R-17"}

    async def test_rescheduling_what_needs_confirmation_is_requested_again(
        self, client: Client, receiver: Receiver
    ) -> None:
        await subscribe(client, receiver.url, *ALL)
        await plant(client, spec("u1", event_type_id=8, status="accepted", webhook=False))
        new = (await client.post("/v2/bookings/u1/reschedule", json={"start": start_at(72)})).json()["data"]
        await flush(client)
        assert new["status"] == "pending"
        body = receiver.received[0].json
        assert (body["triggerEvent"], body["payload"]["rescheduleUid"]) == ("BOOKING_REQUESTED", "u1")

    async def test_absence_of_attendees_is_told_and_of_the_host_is_not(
        self, client: Client, receiver: Receiver
    ) -> None:
        await subscribe(client, receiver.url, *ALL)
        await plant(client, spec("u1", start=start_at(-2), webhook=False))
        await client.post("/v2/bookings/u1/mark-absent", json={"host": True})
        await flush(client)
        assert receiver.received == []
        absent = {"attendees": [{"email": "jane@example.com", "absent": True}]}
        await client.post("/v2/bookings/u1/mark-absent", json=absent)
        await flush(client)
        payload = receiver.received[0].json["payload"]
        assert payload["bookingUid"] == "u1"
        assert payload["attendees"] == [{"email": "jane@example.com", "noShow": True}]


class TestDelivery:
    async def test_only_wanted_triggers_active_hooks_and_event_types(self, client: Client, receiver: Receiver) -> None:
        await subscribe(client, receiver.url + "/1", "BOOKING_CANCELLED")
        await subscribe(client, receiver.url + "/2", "BOOKING_CREATED", active=False)
        body = {"active": True, "subscriberUrl": receiver.url + "/3", "triggers": ["BOOKING_CREATED"]}
        await client.post("/v2/event-types/9/webhooks", json=body)
        await plant(client, spec("u1"))
        await flush(client)
        assert receiver.received == []
        await plant(client, spec("u2", event_type_id=9))
        await flush(client)
        assert [r.uid for r in receiver.received] == ["u2"]

    @pytest.mark.parametrize("reachable", [True, False])
    async def test_one_try_only(self, client: Client, receiver: Receiver, reachable: bool) -> None:
        receiver.status = 500
        await subscribe(client, receiver.url if reachable else "http://127.0.0.1:9/x", "BOOKING_CREATED")
        await plant(client, spec("u1"))
        await flush(client)
        deliveries = (await client.get("/_sandbox/webhooks")).json()["deliveries"]
        expected = ("failed", 500) if reachable else ("failed", None)
        assert [(d["state"], d["status_code"]) for d in deliveries] == [expected]
        assert len(receiver.received) == int(reachable)

    async def test_drop_and_the_booking_is_still_there(self, client: Client, receiver: Receiver) -> None:
        await subscribe(client, receiver.url, *ALL)
        await control(client, "webhook-faults", {"kind": "drop", "trigger": "BOOKING_CREATED"})
        await plant(client, spec("u1"), spec("u2"))
        await flush(client)
        assert [r.uid for r in receiver.received] == ["u2"]
        assert (await client.get("/v2/bookings/u1")).status_code == 200
        dropped = (await client.get("/_sandbox/webhooks", params={"state": "dropped"})).json()["deliveries"]
        assert [d["uid"] for d in dropped] == ["u1"]

    async def test_duplicate(self, client: Client, receiver: Receiver) -> None:
        await subscribe(client, receiver.url, *ALL)
        await control(client, "webhook-faults", {"kind": "duplicate", "uid": "u2", "copies": 50})
        await plant(client, spec("u1"), spec("u2"))
        await flush(client)
        assert sorted(r.uid for r in receiver.received) == ["u1"] + ["u2"] * 50
        assert len({r.raw for r in receiver.received if r.uid == "u2"}) == 1

    @pytest.mark.parametrize(("order", "expected"), [("reverse", ["c", "b", "a"]), ("forward", ["a", "b", "c"])])
    async def test_hold_and_release(self, client: Client, receiver: Receiver, order: str, expected: list[str]) -> None:
        await subscribe(client, receiver.url, *ALL)
        await control(client, "webhook-faults", {"kind": "hold", "times": -1})
        await plant(client, *(spec(uid) for uid in "abc"))
        await flush(client)
        assert receiver.received == []
        assert await control(client, "webhooks/release", {"order": order}) == {"sent": 3}
        assert [r.uid for r in receiver.received] == expected
        assert await control(client, "webhooks/release", {"order": order}) == {"sent": 0}

    async def test_early_is_sent_before_the_change_can_be_seen(self, client: Client, receiver: Receiver) -> None:
        seen: list[str] = []

        async def look(received: Received) -> None:
            answer = await client.get(f"/v2/bookings/{received.uid}")
            seen.append(answer.json()["data"]["status"])

        await plant(client, spec("u1", webhook=False), spec("u2", start=start_at(60), webhook=False))
        receiver.on_receive = look
        await subscribe(client, receiver.url, "BOOKING_CANCELLED")
        await control(client, "webhook-faults", {"kind": "early", "trigger": "BOOKING_CANCELLED"})
        for uid in ("u1", "u2"):
            answer = await client.post(f"/v2/bookings/{uid}/cancel", json={"cancellationReason": "x"})
            assert answer.json()["data"]["status"] == "cancelled"
        await flush(client)
        assert seen == ["accepted", "cancelled"]

    async def test_raw_bodies_with_any_signature(self, client: Client, receiver: Receiver) -> None:
        raw = {"url": receiver.url, "body": "{not json"}
        await control(client, "webhooks/raw", {**raw, "secret": "s"})
        await control(client, "webhooks/raw", {**raw, "signature": "forged"})
        await control(client, "webhooks/raw", raw)
        signed = hmac.new(b"s", b"{not json", hashlib.sha256).hexdigest()
        assert [r.headers["x-cal-signature-256"] for r in receiver.received] == [signed, "forged", "no-secret-provided"]

    async def test_announce_sends_again_without_a_change(self, client: Client, receiver: Receiver) -> None:
        await plant(client, spec("u1", webhook=False))
        await subscribe(client, receiver.url, *ALL)
        await control(client, "announce", {"uids": ["u1"], "trigger": "BOOKING_CREATED"})
        await flush(client)
        assert [r.uid for r in receiver.received] == ["u1"]
        assert (await client.post("/_sandbox/announce", json={"uids": ["x"], "trigger": "NO"})).status_code == 400


async def test_meetings_that_begin_and_end_are_told_once(client: Client, receiver: Receiver) -> None:
    await subscribe(client, receiver.url, "MEETING_STARTED", "MEETING_ENDED")
    now = datetime.now(UTC)
    soon, later = ((now + timedelta(seconds=s)).isoformat() for s in (0.3, 0.6))
    await plant(
        client,
        spec("live", start=soon, end=later),
        spec("gone", start=soon, end=later, status="cancelled"),
        spec("past", start=start_at(-3)),
    )
    await eventually(lambda: len(receiver.received) == 2)
    await flush(client)
    assert {(r.json["triggerEvent"], r.uid) for r in receiver.received} == {
        ("MEETING_STARTED", "live"),
        ("MEETING_ENDED", "live"),
    }


async def test_the_hook_of_the_command_line_and_held_webhooks_outlive_a_kill(
    tmp_path: Path, receiver: Receiver
) -> None:
    server = Sandbox(tmp_path, "--webhook-url", receiver.url, "--webhook-secret", "s3")
    server.start()
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False, verify=False) as opened:
        await control(opened, "reset")
        await control(opened, "webhook-faults", {"kind": "hold", "trigger": "BOOKING_CREATED"})
        await plant(opened, spec("u1"))
    server.end(kill=True)
    server.start()
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, trust_env=False, verify=False) as opened:
        assert await control(opened, "webhooks/release") == {"sent": 1}
    assert server.end() == 0
    got = receiver.received[0]
    assert got.headers["x-cal-signature-256"] == hmac.new(b"s3", got.raw, hashlib.sha256).hexdigest()
