"""Events, their signed delivery, and what happens when nobody takes them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.contracts.sandbox_stripe_support import WEBHOOK_SECRET, Receiver, Sandbox, running, wait_for

CARD_PAYMENT = {"payment_intent.created", "charge.succeeded", "payment_intent.succeeded"}


@pytest.fixture(scope="module", name="receiver")
def receiver_fixture() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module", name="sandbox")
def sandbox_fixture(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Sandbox]:
    yield from running(
        tmp_path_factory.mktemp("webhooks"),
        *("--webhook-url", receiver.url, "--webhook-secret", WEBHOOK_SECRET, "--webhook-retry-seconds", "0.1"),
    )


@pytest.fixture(autouse=True, name="_fresh")
def fresh_fixture(sandbox: Sandbox, receiver: Receiver) -> Iterator[None]:
    receiver.status = 200
    sandbox.control("reset")
    time.sleep(0.05)  # what was under way when the store was cleared still arrives
    receiver.received.clear()
    yield
    sandbox.check_traffic()


def undelivered(sandbox: Sandbox) -> list[str]:
    return [event.type for event in sandbox.client.v1.events.list({"delivery_success": False, "limit": 100}).data]


def lost(sandbox: Sandbox) -> int:
    deliveries: dict[str, int] = sandbox.http.get("/_sandbox/stats").json()["deliveries"]
    return deliveries.get("failed", 0)


def test_a_payment_sends_signed_events_that_the_library_accepts(sandbox: Sandbox, receiver: Receiver) -> None:
    intent = sandbox.pay(metadata={"booking": "b"})
    wait_for(lambda: len(receiver.received) >= 3, "three events")
    assert set(receiver.types()) == CARD_PAYMENT
    for body, header in receiver.received:
        event = sandbox.client.construct_event(body, header, WEBHOOK_SECRET)
        assert event.api_version == "2026-10-28.endive"
        assert event.request is not None
        assert event.request.id is not None
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(body.decode(), header, "whsec_other")
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.WebhookSignature.verify_header(body.decode() + " ", header, WEBHOOK_SECRET)
    succeeded = next(event for event in receiver.events() if event["type"] == "payment_intent.succeeded")
    assert succeeded["data"]["object"]["id"] == intent.id
    assert succeeded["data"]["object"]["metadata"] == {"booking": "b"}
    assert not any(name.startswith("_") for name in succeeded["data"]["object"])
    wait_for(lambda: undelivered(sandbox) == [], "the deliveries to be noted")
    stored = sandbox.client.v1.events.retrieve(succeeded["id"])
    assert stored.pending_webhooks == 0


def test_what_is_not_taken_is_sent_again_and_listed_until_then(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.status = 500
    sandbox.pay()
    wait_for(lambda: len(receiver.received) >= 6, "second attempts")
    assert set(undelivered(sandbox)) == CARD_PAYMENT
    assert sandbox.client.v1.events.list({"delivery_success": True}).data == []
    receiver.status = 204
    wait_for(lambda: undelivered(sandbox) == [], "the deliveries to succeed")
    ids = [event["id"] for event in receiver.events()]
    assert len(set(ids)) == 3
    number = len(ids)
    sandbox.pay()
    wait_for(lambda: len(receiver.received) >= number + 3, "the next events")
    assert len(receiver.received) == number + 3


def test_undelivered_events_survive_a_kill(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.control("webhooks", paused=True)
    intent = sandbox.pay()
    sandbox.check_traffic()
    assert sandbox.end(kill=True) != 0
    sandbox.start()
    assert receiver.received == []
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == "succeeded"
    sandbox.control("webhooks", paused=False)
    wait_for(lambda: len(receiver.received) >= 3, "the events from before the kill")
    assert set(receiver.types()) == CARD_PAYMENT


def test_a_retry_goes_on_after_a_kill(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.status = 503
    sandbox.pay()
    wait_for(lambda: receiver.received, "a first attempt")
    sandbox.check_traffic()
    sandbox.end(kill=True)
    receiver.received.clear()
    receiver.status = 200
    sandbox.start()
    wait_for(lambda: undelivered(sandbox) == [], "the deliveries")
    assert set(receiver.types()) == CARD_PAYMENT


def test_events_come_backwards_twice_or_never_on_demand(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.control("webhooks", paused=True)
    sandbox.pay()
    sandbox.pay()
    sandbox.control("webhooks", order="reversed", copies=2)
    wait_for(lambda: undelivered(sandbox) == [], "the deliveries")
    created = [event.id for event in sandbox.client.v1.events.list({"limit": 100}).data]
    assert [event["id"] for event in receiver.events()] == [event_id for event_id in created for _ in range(2)]
    receiver.received.clear()
    sandbox.control("webhooks", drop=True)
    sandbox.pay()
    wait_for(lambda: lost(sandbox) == 3, "the events to be lost")
    assert receiver.received == []
    assert set(undelivered(sandbox)) == CARD_PAYMENT


def test_events_of_connected_accounts_name_their_account(sandbox: Sandbox, receiver: Receiver) -> None:
    account = sandbox.reseller()
    events = wait_for(lambda: [e for e in receiver.events() if e["type"] == "account.updated"], "account.updated")
    assert {event["account"] for event in events} == {account.id}
    assert events[0]["data"]["object"]["capabilities"] == {"transfers": "active"}
    sandbox.control(f"accounts/{account.id}", state="deauthorized")
    wait_for(lambda: "account.application.deauthorized" in receiver.types(), "the deauthorization")


def test_an_endpoint_hears_what_it_asked_for(sandbox: Sandbox, receiver: Receiver) -> None:
    other = Receiver()
    endpoints = sandbox.client.v1.webhook_endpoints
    try:
        made = endpoints.create(
            {"url": other.url, "enabled_events": ["charge.succeeded", "charge.refunded", "refund.created"]}
        )
        assert made.secret is not None
        assert made.secret.startswith("whsec_")
        assert getattr(endpoints.retrieve(made.id), "secret", None) is None
        intent = sandbox.pay()
        sandbox.client.v1.refunds.create({"payment_intent": intent.id})
        wait_for(lambda: len(other.received) >= 3, "the wanted events")
        kinds = {event["type"] for event in other.events(made.secret)}
        assert kinds == {"charge.succeeded", "charge.refunded", "refund.created"}
        assert made.id in [endpoint.id for endpoint in endpoints.list().data]
        assert endpoints.update(made.id, {"disabled": True}).status == "disabled"
        assert endpoints.delete(made.id).deleted
        with pytest.raises(stripe.InvalidRequestError):
            endpoints.retrieve(made.id)
        wrong: list[Any] = [
            {"url": "example.com", "enabled_events": ["*"]},
            {"url": other.url, "enabled_events": ["charge.*"]},
            {"url": other.url, "enabled_events": []},
            {"url": other.url},
        ]
        for form in wrong:
            with pytest.raises(stripe.InvalidRequestError):
                endpoints.create(form)
    finally:
        other.close()


def test_the_command_line_endpoint_is_not_doubled_by_a_restart(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.check_traffic()
    assert sandbox.end() == 0
    sandbox.start()
    assert len(sandbox.client.v1.webhook_endpoints.list().data) == 2
    sandbox.pay()
    wait_for(lambda: undelivered(sandbox) == [] and receiver.received, "the deliveries")
    assert len(receiver.received) == 3


def test_another_address_on_the_next_start_gets_what_was_not_delivered(tmp_path: Path) -> None:
    here, there = Receiver(), Receiver()
    arguments = ("--webhook-secret", WEBHOOK_SECRET, "--webhook-retry-seconds", "0.1")
    try:
        here.status = 500
        first = Sandbox(tmp_path, "--webhook-url", here.url, *arguments).start()
        first.pay()
        wait_for(lambda: here.received, "a first attempt")
        first.end(kill=True)
        second = Sandbox(tmp_path, "--webhook-url", there.url, *arguments).start()
        wait_for(lambda: undelivered(second) == [], "the deliveries to the new address")
        assert set(there.types()) == CARD_PAYMENT
        assert second.end() == 0
    finally:
        here.close()
        there.close()


def test_events_are_listed_by_type(sandbox: Sandbox) -> None:
    intent = sandbox.pay()
    sandbox.client.v1.refunds.create({"payment_intent": intent.id})
    events = sandbox.client.v1.events
    assert [event.type for event in events.list({"type": "charge.*"}).data] == ["charge.refunded", "charge.succeeded"]
    chosen = events.list({"types": ["refund.created", "charge.succeeded"]}).data
    assert [event.type for event in chosen] == ["refund.created", "charge.succeeded"]
    snapshot: Any = json.loads(str(chosen[1]))
    assert snapshot["data"]["object"]["amount_refunded"] == 0
