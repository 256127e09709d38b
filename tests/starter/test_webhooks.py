"""The app at its edges: what is refused, what is kept, and what happens while the database or Temporal is away."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starter import webhooks
from starter.webhooks import Deps, create_app
from store.rows import InboxStatus
from tests.starter.bodies import (
    EMAIL,
    NAME,
    calcom_body,
    calcom_headers,
    payment_intent,
    stripe_body,
    stripe_headers,
)
from tests.starter.world import World, world_on

CREATED = calcom_body("BOOKING_CREATED", "uid-1")


async def test_accepted_is_committed_before_the_answer(world: World) -> None:
    answer = await world.http.post("/webhooks/calcom", content=CREATED, headers=calcom_headers(CREATED))
    assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
    rows = await world.rows()
    assert [(row.type, row.object_id, row.raw) for row in rows] == [("BOOKING_CREATED", "uid-1", CREATED)]
    assert world.temporal.starts == []


def forged() -> dict[str, tuple[str, bytes, dict[str, str], int]]:
    other = hmac.new(b"another secret", CREATED, hashlib.sha256).hexdigest()
    signed = calcom_headers(CREATED)["X-Cal-Signature-256"]
    not_utf8 = b'{"triggerEvent": "BOOKING_CREATED\xff"}'
    large = calcom_body("BOOKING_CREATED", "uid-1", notes="x" * 20_000)
    return {
        "unsigned": ("calcom", CREATED, {}, 400),
        "empty signature": ("calcom", CREATED, {"X-Cal-Signature-256": ""}, 400),
        "no secret at Cal.com": ("calcom", CREATED, {"X-Cal-Signature-256": "no-secret-provided"}, 400),
        "forged": ("calcom", CREATED, {"X-Cal-Signature-256": other}, 400),
        "signature of another body": ("calcom", CREATED + b" ", {"X-Cal-Signature-256": signed}, 400),
        "truncated": ("calcom", CREATED[:-10], {"X-Cal-Signature-256": signed}, 400),
        "announced longer": ("calcom", CREATED, {**calcom_headers(CREATED), "Content-Length": "9000"}, 400),
        "not UTF-8": ("calcom", not_utf8, calcom_headers(not_utf8), 400),
        "oversized": ("calcom", large, calcom_headers(large), 413),
        "oversized, announced small": ("calcom", large, {**calcom_headers(large), "Content-Length": "10"}, 413),
        "oversized by announcement": ("calcom", CREATED, {"Content-Length": "99999999"}, 413),
        "header of non-ASCII": ("calcom", CREATED, {"X-Cal-Signature-256": "\xe4" * 64}, 400),
        "Stripe unsigned": ("stripe", CREATED, {}, 400),
        "Stripe malformed": ("stripe", CREATED, {"Stripe-Signature": "t=,v1="}, 400),
        "Stripe forged": ("stripe", CREATED, {"Stripe-Signature": f"t=1795372200,v1={other}"}, 400),
        "Stripe signed by Cal.com": ("stripe", CREATED, calcom_headers(CREATED), 400),
    }


@pytest.mark.parametrize("case", list(forged()))
async def test_what_is_not_genuine_is_refused_and_not_stored(world: World, case: str) -> None:
    source, raw, headers, status = forged()[case]
    with structlog.testing.capture_logs() as lines:
        answer = await world.http.post(
            f"/webhooks/{source}", content=raw, headers=[(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
        )
    assert answer.status_code == status
    assert answer.json()["status"] == "refused"
    assert 0 < len(answer.json()["reason"]) < 80
    assert await world.counts() == {}
    assert [line["event"] for line in lines] == ["webhook_refused"]
    assert not any(word in repr(lines) + answer.text for word in (NAME, EMAIL, "uid-1"))


@pytest.mark.parametrize("shift_seconds", [-400, 120])
async def test_stale_and_future_events_of_stripe_are_refused(world: World, shift_seconds: int) -> None:
    raw = stripe_body("evt_1", "payment_intent.succeeded", payment_intent("pi_1"))
    headers = stripe_headers(raw, world.clock() + timedelta(seconds=shift_seconds))
    assert (await world.http.post("/webhooks/stripe", content=raw, headers=headers)).status_code == 400
    assert await world.counts() == {}


async def test_reading_stops_at_the_limit(world: World) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10_000_000:
            sent += 1_000
            yield b"x" * 1_000

    app_reads = httpx.ASGITransport(app=create_app(world.deps))
    async with httpx.AsyncClient(transport=app_reads, base_url="http://webhooks.example.com") as http:
        answer = await http.post("/webhooks/calcom", content=endless())
    assert answer.status_code == 413
    assert sent <= 30_000


async def test_a_body_that_drips_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "BODY_TIMEOUT_SECONDS", 0.05)

    async def dripping() -> AsyncIterator[bytes]:
        yield CREATED[:10]
        await asyncio.sleep(30)

    answer = await world.http.post("/webhooks/calcom", content=dripping(), headers=calcom_headers(CREATED))
    assert answer.status_code == 408
    assert await world.counts() == {}


async def test_not_understood_is_kept_and_listed(world: World) -> None:
    template = json.dumps({"text": f"{NAME} booked"}).encode()
    with structlog.testing.capture_logs() as lines:
        assert await world.calcom(template) == "not_understood"
        assert await world.calcom(template) == "duplicate"
    rows = await world.rows()
    assert [(row.status, row.raw) for row in rows] == [(InboxStatus.NOT_UNDERSTOOD, template)]
    assert NAME not in repr(lines)


async def test_unknown_type_is_stored_and_counted(world: World) -> None:
    assert await world.calcom(calcom_body("OOO_CREATED", None)) == "ignored"
    figures = (await world.http.get("/metrics")).text
    assert 'billing_webhooks_received_total{outcome="ignored",source="calcom",type="other"} 1.0' in figures
    assert 'billing_inbox_rows{status="ignored"} 1.0' in figures


async def test_metrics_count_by_source_type_and_outcome(world: World) -> None:
    await world.calcom(CREATED)
    await world.calcom(CREATED)
    await world.http.post("/webhooks/stripe", content=b"{}")
    figures = (await world.http.get("/metrics")).text
    assert 'billing_webhooks_received_total{outcome="accepted",source="calcom",type="BOOKING_CREATED"} 1.0' in figures
    assert 'billing_webhooks_received_total{outcome="duplicate",source="calcom",type="BOOKING_CREATED"} 1.0' in figures
    assert 'billing_webhooks_received_total{outcome="refused",source="stripe",type="other"} 1.0' in figures
    assert 'billing_events_handled_total{result="delivered",source="calcom"} 1.0' in figures
    assert 'billing_inbox_rows{status="received"} 0.0' in figures


async def test_no_log_line_of_a_delivery_holds_personal_data(world: World) -> None:
    with structlog.testing.capture_logs() as lines:
        await world.calcom(CREATED)
    assert [line["event"] for line in lines] == ["webhook_received", "event_delivered"]
    assert not any(word in repr(lines) for word in (NAME, EMAIL))


async def test_fifty_at_once_make_one_row_and_one_chain(world: World) -> None:
    async def send() -> str:
        answer = await world.http.post("/webhooks/calcom", content=CREATED, headers=calcom_headers(CREATED))
        return str(answer.json()["status"])

    answers = await asyncio.gather(*(send() for _ in range(50)))
    await asyncio.gather(*(world.deps.relay.run_once() for _ in range(5)))
    assert sorted(answers) == ["accepted"] + ["duplicate"] * 49
    assert await world.counts() == {InboxStatus.DELIVERED: 1}
    assert world.temporal.starts == ["booking-uid-1"]


async def test_database_down_is_503_without_a_trace_of_the_body() -> None:
    async with world_on("postgresql://nobody:secret@127.0.0.1:1/nothing") as world:
        with structlog.testing.capture_logs() as lines:
            answer = await world.http.post("/webhooks/calcom", content=CREATED, headers=calcom_headers(CREATED))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert not any(word in repr(lines) + answer.text for word in (NAME, EMAIL, "secret@"))
        assert (await world.http.get("/healthz")).status_code == 200
        ready = await world.http.get("/readyz")
        assert ready.status_code == 503
        assert "PostgreSQL" in ready.json()["checks"]["database"]
        figures = await world.http.get("/metrics")
        assert figures.status_code == 200
        assert "billing_inbox_readable 0.0" in figures.text


async def test_the_lifespan_delivers_at_once(world: World) -> None:
    deps = Deps(world.deps.settings, world.store, world.deps.client, world.deps.relay, world.deps.metrics)
    app = create_app(deps)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://webhooks.example.com")
        )
        await http.post("/webhooks/calcom", content=CREATED, headers=calcom_headers(CREATED))
        for _ in range(90):  # less than the relay's interval of one second: only the nudge can be that fast
            if world.temporal.starts:
                break
            await asyncio.sleep(0.01)
    assert world.temporal.starts == ["booking-uid-1"]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
KEYS = ("triggerEvent", "payload", "uid", "rescheduleUid", "createdAt", "object", "id", "type", "data", "created")
SHAPED = st.dictionaries(st.sampled_from(KEYS), JSON | st.dictionaries(st.sampled_from(KEYS), JSON), max_size=8)
BODIES = st.binary(max_size=200) | (JSON | SHAPED).map(lambda value: json.dumps(value).encode())


@given(raw=BODIES, signed=st.booleans(), source=st.sampled_from(["calcom", "stripe"]))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_no_body_makes_a_500(world: World, raw: bytes, signed: bool, source: str) -> None:
    signatures = calcom_headers(raw) if source == "calcom" else stripe_headers(raw, world.clock())
    answer = await world.http.post(f"/webhooks/{source}", content=raw, headers=signatures if signed else {})
    assert answer.status_code in ((200, 400) if signed else (400,))


@given(
    signature=st.binary(max_size=100).filter(lambda value: b"\n" not in value and b"\r" not in value),
    length=st.text("0123456789-+ex ", max_size=25),
    source=st.sampled_from(["calcom", "stripe"]),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_no_header_makes_a_500(world: World, signature: bytes, length: str, source: str) -> None:
    name = b"X-Cal-Signature-256" if source == "calcom" else b"Stripe-Signature"
    headers = [(name, signature), (b"Content-Length", length.encode())]
    answer = await world.http.post(f"/webhooks/{source}", content=CREATED, headers=headers)
    assert answer.status_code in (400, 413)
