"""From bytes to a row of the inbox: ids, statuses and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from starter import intake
from starter.routing import ROUTES, SOURCE_CALCOM, SOURCE_STRIPE, Action, action_for, is_known
from tests.starter.bodies import (
    CALCOM_SECRET,
    STRIPE_SECRET,
    calcom_body,
    calcom_headers,
    meeting_body,
    payment_intent,
    stripe_body,
    stripe_headers,
)

NOW = datetime(2026, 11, 22, 18, 31, tzinfo=UTC)
SHAPES = Path(__file__).parents[2] / ".." / "shared" / "contracts" / "calcom_webhooks"


def take_calcom(raw: bytes) -> intake.Incoming:
    return intake.calcom(raw, calcom_headers(raw)["X-Cal-Signature-256"], CALCOM_SECRET)


def take_stripe(raw: bytes, at: datetime = NOW) -> intake.Incoming:
    return intake.stripe(raw, stripe_headers(raw, at)["Stripe-Signature"], STRIPE_SECRET, now=NOW)


def test_a_byte_equal_redelivery_has_the_same_id() -> None:
    assert take_calcom(calcom_body("BOOKING_CREATED", "uid-1")) == take_calcom(calcom_body("BOOKING_CREATED", "uid-1"))


@pytest.mark.parametrize(
    "other",
    [
        calcom_body("BOOKING_CREATED", "uid-2"),
        calcom_body("BOOKING_CANCELLED", "uid-1"),
        calcom_body("BOOKING_CREATED", "uid-1", price=1),
        calcom_body("BOOKING_CREATED", "uid-1") + b" ",
        meeting_body("MEETING_STARTED", "uid-1"),
    ],
)
def test_another_event_has_another_id(other: bytes) -> None:
    assert take_calcom(other).event_id != take_calcom(calcom_body("BOOKING_CREATED", "uid-1")).event_id


def test_the_two_sources_never_share_an_id() -> None:
    raw = b"[]"
    assert take_calcom(raw).event_id != take_stripe(raw).event_id


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "JSON"),
        (b"null", "object"),
        (b"[1]", "object"),
        (b'{"text": "A new booking for you"}', "trigger"),
        (json.dumps({"triggerEvent": "BOOKING_CREATED", "payload": {}}).encode(), "booking"),
        (calcom_body("BOOKING_CREATED", "uid with spaces"), "booking"),
        (calcom_body("BOOKING_CREATED", "../../etc"), "booking"),
        (calcom_body("BOOKING_CREATED", "u" * 121), "booking"),
        (calcom_body("BOOKING_RESCHEDULED", "uid-2"), "earlier booking"),
    ],
)
def test_genuine_but_not_understood_is_kept(raw: bytes, reason: str) -> None:
    incoming = take_calcom(raw)
    assert incoming.status == intake.NOT_UNDERSTOOD
    assert reason in (incoming.note or "")


@pytest.mark.parametrize("event_type", [name for source, name in ROUTES if source == SOURCE_STRIPE])
@pytest.mark.parametrize("account", [None, "acct_1"])
def test_of_connected_accounts_only_the_account_and_its_payouts_matter(event_type: str, account: str | None) -> None:
    more = {} if account is None else {"account": account}
    incoming = take_stripe(stripe_body("evt_1", event_type, {"id": "x_1", "object": "thing"}, **more))
    action = action_for(SOURCE_STRIPE, event_type)
    of_accounts, ours = (Action.ACCOUNT, Action.PAYOUT), (Action.PAYMENT, Action.TRANSFER)
    wanted = action in (of_accounts if account else ours)
    assert incoming.status == (intake.RECEIVED if wanted else intake.IGNORED)


def test_stripe_ids_are_kept_and_payments_of_connected_accounts_are_ignored() -> None:
    thing = payment_intent("pi_1", "uid-1")
    own = take_stripe(stripe_body("evt_1", "payment_intent.succeeded", thing))
    assert own == intake.Incoming("stripe", "evt_1", "payment_intent.succeeded", "pi_1", intake.RECEIVED)
    foreign = take_stripe(stripe_body("evt_2", "payment_intent.succeeded", thing, account="acct_1"))
    assert foreign.status == intake.IGNORED


@pytest.mark.parametrize("raw", [b"{}", b"[]", b'{"object": "v2.core.event", "id": "evt_3"}'])
def test_stripe_shapes_that_are_no_event(raw: bytes) -> None:
    assert take_stripe(raw).status == intake.NOT_UNDERSTOOD


@pytest.mark.parametrize("shift_seconds", [-301, 61])
def test_stale_and_future_signatures_are_refused(shift_seconds: int) -> None:
    raw = stripe_body("evt_1", "payment_intent.succeeded", payment_intent("pi_1"))
    with pytest.raises(intake.BadWebhook):
        take_stripe(raw, NOW + timedelta(seconds=shift_seconds))


@pytest.mark.parametrize(
    ("source", "event_type", "action"),
    [
        (SOURCE_CALCOM, "BOOKING_CREATED", Action.START_OR_CONFIRM),
        (SOURCE_CALCOM, "BOOKING_REQUESTED", Action.START_IF_UNKNOWN),
        (SOURCE_CALCOM, "BOOKING_REJECTED", Action.REJECT),
        (SOURCE_CALCOM, "BOOKING_CANCELLED", Action.CANCEL),
        (SOURCE_CALCOM, "BOOKING_RESCHEDULED", Action.RESCHEDULE),
        (SOURCE_CALCOM, "BOOKING_NO_SHOW_UPDATED", Action.NO_SHOW),
        (SOURCE_CALCOM, "MEETING_STARTED", Action.START_IF_UNKNOWN),
        (SOURCE_CALCOM, "MEETING_ENDED", Action.START_IF_UNKNOWN),
        (SOURCE_CALCOM, "BOOKING_PAID", Action.IGNORE),
        (SOURCE_CALCOM, "OOO_CREATED", Action.IGNORE),
        (SOURCE_STRIPE, "payment_intent.succeeded", Action.PAYMENT),
        (SOURCE_STRIPE, "payment_intent.payment_failed", Action.PAYMENT),
        (SOURCE_STRIPE, "payment_intent.processing", Action.PAYMENT),
        (SOURCE_STRIPE, "payment_intent.canceled", Action.PAYMENT),
        (SOURCE_STRIPE, "payment_intent.created", Action.IGNORE),
        (SOURCE_STRIPE, "charge.succeeded", Action.IGNORE),
        (SOURCE_STRIPE, "charge.refunded", Action.PAYMENT),
        (SOURCE_STRIPE, "refund.failed", Action.PAYMENT),
        (SOURCE_STRIPE, "charge.dispute.created", Action.PAYMENT),
        (SOURCE_STRIPE, "charge.dispute.closed", Action.PAYMENT),
        (SOURCE_STRIPE, "account.updated", Action.ACCOUNT),
        (SOURCE_STRIPE, "account.application.deauthorized", Action.ACCOUNT),
        (SOURCE_STRIPE, "capability.updated", Action.ACCOUNT),
        (SOURCE_STRIPE, "payout.created", Action.PAYOUT),
        (SOURCE_STRIPE, "payout.updated", Action.PAYOUT),
        (SOURCE_STRIPE, "payout.paid", Action.PAYOUT),
        (SOURCE_STRIPE, "payout.failed", Action.PAYOUT),
        (SOURCE_STRIPE, "payout.canceled", Action.PAYOUT),
        (SOURCE_STRIPE, "payout.reconciliation_completed", Action.IGNORE),
        (SOURCE_STRIPE, "transfer.reversed", Action.TRANSFER),
        (SOURCE_STRIPE, "invented.by_stripe_tomorrow", Action.IGNORE),
        ("sweep", "booking_seen", Action.START_OR_CHANGED),
    ],
)
def test_routing_table(source: str, event_type: str, action: Action) -> None:
    assert action_for(source, event_type) is action


def test_names_are_known_only_with_their_source() -> None:
    assert is_known(SOURCE_CALCOM, "BOOKING_CREATED")
    assert not is_known(SOURCE_STRIPE, "BOOKING_CREATED")
    assert all(source in ("calcom", "stripe", "sweep") for source, _ in ROUTES)


@pytest.mark.skipif(not SHAPES.exists(), reason="the shared webhook shapes are not beside this repository")
def test_the_recorded_shapes_are_understood() -> None:
    paths = sorted(SHAPES.glob("*.json"))
    assert len(paths) >= 8
    for path in paths:
        recorded = json.loads(path.read_text())
        raw = recorded["raw_body"].encode()
        incoming = intake.calcom(raw, recorded["headers"]["X-Cal-Signature-256"], recorded["secret"])
        assert incoming.type == path.stem
        assert incoming.object_id == recorded["body"].get("payload", recorded["body"])["uid"]
        assert incoming.status == (intake.IGNORED if path.stem == "BOOKING_PAID" else intake.RECEIVED)
