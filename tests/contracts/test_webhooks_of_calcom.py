"""Cal.com's webhooks: the published shapes, forgeries, and bodies that a payload template made."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.calcom_webhooks import BadWebhook, CalcomEvent, NotUnderstood, parse_calcom, verify_calcom

SECRET = "test-secret"
SHAPES = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "calcom_webhooks"
UID = "bFJeNb2uX8ANpT3JL5EfXw"


def sign(raw: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


def raw_of(body: object) -> bytes:
    return json.dumps(body).encode()


def parse(**body: Any) -> CalcomEvent:
    return parse_calcom(raw_of(body))


@pytest.mark.skipif(not SHAPES.exists(), reason="the recorded shapes are not here")
@pytest.mark.parametrize(
    ("trigger", "reschedule_uid", "has_time"),
    [
        ("BOOKING_CREATED", None, True),
        ("BOOKING_REQUESTED", None, True),
        ("BOOKING_REJECTED", None, True),
        ("BOOKING_CANCELLED", None, True),
        ("BOOKING_PAID", None, True),
        ("BOOKING_RESCHEDULED", "bFJeNb2uX8ANpT3JL5EfXw", True),
        ("MEETING_STARTED", None, False),
        ("MEETING_ENDED", None, False),
    ],
)
def test_the_published_shapes(trigger: str, reschedule_uid: str | None, has_time: bool) -> None:
    recorded = json.loads((SHAPES / f"{trigger}.json").read_text())
    raw = recorded["raw_body"].encode()
    verify_calcom(raw, recorded["headers"]["X-Cal-Signature-256"], recorded["secret"])
    found = parse_calcom(raw)
    expected_uid = recorded["body"].get("payload", recorded["body"])["uid"]
    assert (found.trigger, found.uid, found.reschedule_uid) == (trigger, expected_uid, reschedule_uid)
    assert (found.created_at is not None) is has_time


RAW = raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": UID}})


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing"),
        ("   ", "missing"),
        ("no-secret-provided", "has no secret"),
        ("0" * 64, "does not match"),
        ("ü" * 64, "malformed"),
        (sign(RAW)[:-1], "malformed"),
        (sign(RAW) + "0", "malformed"),
        ("sha256=" + sign(RAW), "malformed"),
        (sign(RAW + b" "), "does not match"),
        (sign(RAW, "other"), "does not match"),
    ],
)
def test_what_is_not_genuine(header: str, reason: str) -> None:
    with pytest.raises(BadWebhook, match=reason):
        verify_calcom(RAW, header, SECRET)


@pytest.mark.parametrize("secret", ["", " ", "no-secret-provided"])
def test_without_a_secret_nothing_is_genuine(secret: str) -> None:
    with pytest.raises(BadWebhook, match="no webhook secret"):
        verify_calcom(RAW, sign(RAW, secret), secret)


def test_genuine_in_either_case_of_hex() -> None:
    verify_calcom(RAW, sign(RAW), SECRET)
    verify_calcom(RAW, f" {sign(RAW).upper()} ", SECRET)


def test_bytes_that_are_no_text_are_bad_even_if_signed() -> None:
    with pytest.raises(BadWebhook, match="not UTF-8"):
        parse_calcom(b'{"triggerEvent": "\xff"}')


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Erika Mustermann booked",
        b"title=Erika&uid=x",
        b'{"title": "a "quoted" one"}',
        b"[" * 100_000,
        b"[]",
        b"null",
        b"7",
        b"NaN",
        raw_of({}),
        raw_of({"triggerEvent": 7}),
        raw_of({"triggerEvent": "Erika Mustermann"}),
        raw_of({"triggerEvent": "BOOKING_CREATED\n"}),
        raw_of({"triggerEvent": "BOOKING_CREATED"}),
        raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {}}),
        raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": 7}}),
        raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": "../../x"}}),
        raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": "uid\n"}}),
        raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": "u\x00"}}),
        raw_of({"triggerEvent": "BOOKING_CREATED", "payload": {"uid": "x" * 121}}),
        raw_of({"triggerEvent": "MEETING_ENDED", "id": 1}),
    ],
)
def test_what_is_genuine_but_not_understood(raw: bytes) -> None:
    with pytest.raises(NotUnderstood) as caught:
        parse_calcom(raw)
    assert "Erika" not in caught.value.reason
    assert len(caught.value.reason) < 60


def test_triggers_that_are_not_about_a_booking_need_none() -> None:
    assert parse(triggerEvent="PING", createdAt="2026-11-22T10:00:00Z", payload={}) == CalcomEvent(
        "PING", None, None, datetime(2026, 11, 22, 10, tzinfo=UTC), None
    )


@pytest.mark.parametrize(
    "payload", [{"bookingUid": "u-1"}, {"uid": 7, "bookingUid": "u-1"}, {"booking": {"uid": "u-1"}}]
)
def test_other_places_of_the_uid(payload: dict[str, Any]) -> None:
    assert parse(triggerEvent="BOOKING_NO_SHOW_UPDATED", payload=payload).uid == "u-1"


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("2026-11-22T10:00:00.120Z", datetime(2026, 11, 22, 10, 0, 0, 120_000, tzinfo=UTC)),
        ("2026-11-22T11:00:00+01:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (7, None),
        (None, None),
    ],
)
def test_the_time_is_a_time_or_none(created_at: object, expected: datetime | None) -> None:
    assert parse(triggerEvent="BOOKING_CREATED", createdAt=created_at, payload={"uid": "u"}).created_at == expected


@pytest.mark.parametrize(
    ("payload", "team_id"),
    [
        ({"teamId": 3}, 3),
        ({"team": {"id": 4, "name": "Example"}}, 4),
        ({"teamId": None, "team": {"id": 5}}, 5),
        ({"teamId": True}, None),
        ({"teamId": "3"}, None),
        ({"teamId": -3}, None),
        ({"teamId": 10**30}, None),
        ({"team": ["x"]}, None),
        ({}, None),
    ],
)
def test_the_team(payload: dict[str, Any], team_id: int | None) -> None:
    assert parse(triggerEvent="BOOKING_CREATED", payload={"uid": "u", **payload}).team_id == team_id


def test_the_flat_shape_names_what_it_replaces_and_takes_no_time_from_the_booking() -> None:
    found = parse(triggerEvent="MEETING_ENDED", uid="u-2", fromReschedule="u-1", createdAt="2026-11-22T10:00:00Z")
    assert found == CalcomEvent("MEETING_ENDED", "u-2", "u-1", None, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["BOOKING_CREATED", "u-1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["triggerEvent", "payload", "uid", "createdAt", "team", "teamId", "booking", "rescheduleUid"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["payload", "uid", "createdAt", "booking", "team"]), JSON))
def test_no_signed_json_crashes(body: dict[str, Any]) -> None:
    try:
        found = parse(triggerEvent="BOOKING_CREATED", **body)
    except NotUnderstood:
        return
    assert found.uid


@given(st.binary(max_size=200))
def test_no_bytes_crash(raw: bytes) -> None:
    with pytest.raises((NotUnderstood, BadWebhook)):
        parse_calcom(raw)


@given(st.text(max_size=100))
def test_no_header_crashes(header: str) -> None:
    with pytest.raises(BadWebhook):
        verify_calcom(RAW, header, SECRET)
