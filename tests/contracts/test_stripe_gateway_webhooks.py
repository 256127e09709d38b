"""Stripe's webhooks: genuine, forged, stale, of the future, and bodies made to hurt."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from gateways.stripe_webhooks import BadWebhook, NotUnderstood, VerifiedEvent, webhook_event

SECRET = "whsec_example"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STAMP = int(NOW.timestamp())


def event(**changed: Any) -> dict[str, Any]:
    base = {
        "id": "evt_1",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": STAMP - 5,
        "livemode": False,
        "type": "payment_intent.succeeded",
        "data": {
            "object": {
                "id": "pi_1",
                "object": "payment_intent",
                "latest_charge": "ch_1",
                "customer": {"id": "cus_1", "name": "Erika Mustermann"},
                "transfer_group": "uid-1",
                "receipt_email": "erika@example.com",
                "metadata": {"chain_uid": "uid-1", "billing_key": "charge:uid-1:1", "name": "Erika"},
            }
        },
    }
    return {**base, **changed}


def raw_of(body: object) -> bytes:
    return json.dumps(body).encode()


def signed(raw: bytes, *, at: int = STAMP, secret: str = SECRET) -> str:
    """The header as Stripe's own library makes it; for bytes that are no text by hand."""
    try:
        header: str = stripe.WebhookSignature.generate_signature_header(raw.decode(), secret, at)
        return header
    except UnicodeDecodeError:
        return f"t={at},v1=" + hmac.new(secret.encode(), b"%d." % at + raw, hashlib.sha256).hexdigest()


def read(raw: bytes, header: str, *, secret: str = SECRET, now: datetime = NOW) -> VerifiedEvent:
    return webhook_event(raw, header, secret, now=now)


def test_a_genuine_event_is_reduced_to_ids() -> None:
    raw = raw_of(event(account="acct_1"))
    assert asdict(read(raw, signed(raw))) == {
        "id": "evt_1",
        "type": "payment_intent.succeeded",
        "account": "acct_1",
        "object_id": "pi_1",
        "object_type": "payment_intent",
        "created_at": NOW - timedelta(seconds=5),
        "livemode": False,
        "related": {
            "payment_intent": "pi_1",
            "charge": "ch_1",
            "customer": "cus_1",
            "transfer_group": "uid-1",
            "chain_uid": "uid-1",
            "billing_key": "charge:uid-1:1",
        },
    }


@pytest.mark.parametrize(
    ("thing", "object_id", "related"),
    [
        ({"id": "re_1", "object": "refund", "charge": "ch_1", "payment_intent": "pi_1", "metadata": None}, "re_1",
         {"refund": "re_1", "charge": "ch_1", "payment_intent": "pi_1"}),
        ({"id": "dp_1", "object": "dispute", "charge": {"id": "ch_1"}, "payment_intent": "pi_1"}, "dp_1",
         {"dispute": "dp_1", "charge": "ch_1", "payment_intent": "pi_1"}),
        ({"id": "tr_1", "object": "transfer", "destination": "acct_1", "metadata": {"period": "2026-10"}}, "tr_1",
         {"transfer": "tr_1", "destination": "acct_1", "period": "2026-10"}),
        ({"object": "balance", "available": []}, None, {}),
        ({"id": ["x"], "object": "payout", "metadata": "x", "transfer_group": 7, "destination": {"id": 1}}, None, {}),
        ({"id": "po_1", "object": "payout", "metadata": {"chain_uid": "Erika Mustermann"}}, "po_1",
         {"payout": "po_1"}),
    ],
)  # fmt: skip
def test_related_ids(thing: dict[str, Any], object_id: str | None, related: dict[str, str]) -> None:
    raw = raw_of(event(data={"object": thing}))
    found = read(raw, signed(raw))
    assert (found.object_id, found.related) == (object_id, related)


GENUINE = raw_of(event())


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "the signature is missing"),
        ("no-secret-provided", "malformed"),
        ("t=,v1=", "malformed"),
        (f"t={STAMP}", "malformed"),
        (f"t={STAMP},v1=zz", "malformed"),
        (f"t={STAMP},v0={'0' * 64}", "malformed"),
        (f"t=x,v1={'0' * 64}", "malformed"),
        (f"t={'9' * 5000},v1={'0' * 64}", "too long"),
        (f"t={'9' * 40},v1={'0' * 64}", "malformed"),
        (f"t=-1,v1={'0' * 64}", "malformed"),
        (f"t=١٢٣,v1={'0' * 64}", "malformed"),
        (f"t={STAMP},t={STAMP},v1={'0' * 64}", "malformed"),
        (f"t={STAMP},v1={'0' * 64}", "does not match"),
        (f"t={STAMP},v1={'ü' * 64}", "malformed"),
        (f"t={STAMP},{'v1=' + '0' * 64 + ','}" * 200, "too long"),
        (signed(GENUINE, secret="whsec_other"), "does not match"),
        (signed(GENUINE + b" "), "does not match"),
        (signed(GENUINE, at=STAMP - 301), "too old"),
        (signed(GENUINE, at=STAMP + 61), "future"),
        (signed(GENUINE, at=999_999_999_999), "future"),
    ],
)
def test_what_is_not_genuine(header: str, reason: str) -> None:
    with pytest.raises(BadWebhook) as caught:
        read(GENUINE, header)
    assert reason in caught.value.reason
    assert len(caught.value.reason) < 60


@pytest.mark.parametrize("age_seconds", [-60, 0, 300])
def test_within_the_tolerances(age_seconds: int) -> None:
    assert read(GENUINE, signed(GENUINE, at=STAMP - age_seconds)).id == "evt_1"


def test_one_of_two_signatures_is_enough_while_a_secret_is_changed() -> None:
    header = signed(GENUINE)
    stamp, signature = header.split(",")
    assert read(GENUINE, f"{stamp},v1={'0' * 64},{signature},v0=x").id == "evt_1"


@pytest.mark.parametrize("secret", ["", "  ", "no-secret-provided"])
def test_without_a_secret_nothing_is_genuine(secret: str) -> None:
    with pytest.raises(BadWebhook, match="no webhook secret"):
        read(GENUINE, signed(GENUINE, secret=secret), secret=secret)


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe", b'{"id": "evt_1"', b"NaN", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"hello"]
)
def test_signed_bytes_that_are_no_json(raw: bytes) -> None:
    with pytest.raises(BadWebhook, match="the body is"):
        read(raw, signed(raw))


@pytest.mark.parametrize(
    "body",
    [
        [],
        None,
        "evt_1",
        7,
        {},
        {"object": "v2.core.event", "id": "evt_1"},
        event(id=None),
        event(id="evt 1\x00"),
        event(id="evt_1\n"),
        event(type=7),
        event(type="Erika Mustermann"),
        event(data=None),
        event(data=[]),
        event(data={"object": "pi_1"}),
        event(data={"object": {"id": "pi_1"}}),
        event(created="now"),
        event(created=True),
        event(created=10**30),
        event(created=-1),
    ],
)
def test_genuine_json_that_is_no_event(body: object) -> None:
    raw = raw_of(body)
    with pytest.raises(NotUnderstood) as caught:
        read(raw, signed(raw))
    assert "Erika" not in caught.value.reason


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["event", "evt_1", "pi_1", "payment_intent"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "object", "type", "data", "created", "metadata", "account"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_signed_json_crashes(body: object) -> None:
    raw = raw_of(body)
    try:
        found = read(raw, signed(raw))
    except NotUnderstood:
        return
    assert found.id


FIELDS = dict.fromkeys(("id", "metadata", "latest_charge", "transfer_group", "charge", "customer"), JSON)


@given(st.fixed_dictionaries({"object": st.just("payment_intent")}, optional=FIELDS))
def test_no_object_of_an_event_crashes(thing: object) -> None:
    raw = raw_of(event(data={"object": thing}))
    found = read(raw, signed(raw))
    assert all(value.isprintable() and " " not in value for value in found.related.values())


@given(st.binary(max_size=200), st.text(max_size=200))
def test_no_unsigned_request_crashes(raw: bytes, header: str) -> None:
    with pytest.raises(BadWebhook):
        read(raw, header)
