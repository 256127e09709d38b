"""What the gateway sends (held against Stripe's published interface) and what it reads from the answers."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
import stripe as stripe_library

from domain.ports import OutcomeUnknown, PaymentGateway, SetupError
from gateways.stripe import StripeGateway
from gateways.stripe_calls import API_VERSION
from tests.contracts.stripe_gateway_support import (
    SECRET_KEY,
    FakeStripe,
    account,
    answer,
    contract,
    form,
    intent,
    movement,
    page,
    payout,
    refund,
    reversal,
    transfer,
)

CONTRACT = contract()
SINCE = datetime(2026, 11, 1, 12, 0, 0, 500_000, tzinfo=UTC)
Call = Callable[[PaymentGateway], Awaitable[object]]


def _charge(gateway: PaymentGateway, **changed: Any) -> Awaitable[object]:
    arguments: dict[str, Any] = {
        "amount_minor": 4900,
        "currency": "EUR",
        "stripe_customer_id": "cus_1",
        "payment_method_id": "pm_1",
        "chain_uid": "uid-1",
        "description": "Booking uid-1",
        "idempotency_key": "charge:uid-1:1",
    }
    return gateway.charge(**{**arguments, **changed})


def _transfer(gateway: PaymentGateway, source_charge_id: str | None = "ch_1", **metadata: str) -> Awaitable[object]:
    return gateway.transfer(
        amount_minor=1225,
        currency="EUR",
        destination_account_id="acct_1",
        transfer_group="uid-1",
        source_charge_id=source_charge_id,
        metadata={"chain_uid": "uid-1", **metadata},
        idempotency_key="transfer:uid-1:r-1",
    )


async def _movements(gateway: PaymentGateway) -> object:
    found = gateway.list_balance_transactions(created_after=SINCE, created_before=SINCE.replace(day=2))
    return [item async for item in found]


WRITES: list[tuple[str, Call, object, str, str, dict[str, str], str]] = [
    ("create_customer", lambda g: g.create_customer(customer_id="cus-0012", idempotency_key="customer:cus-0012"),
     {"id": "cus_1"}, "/v1/customers", "customer:cus-0012",
     {"metadata[customer_id]": "cus-0012", "metadata[billing_key]": "customer:cus-0012"}, "cus_1"),
    ("attach", lambda g: g.attach_payment_method(
        stripe_customer_id="cus_1", payment_method="pm_card_visa", idempotency_key="attach:cus-0012"),
     {"id": "pm_1", "customer": "cus_1"}, "/v1/payment_methods/pm_card_visa/attach", "attach:cus-0012",
     {"customer": "cus_1"}, "pm_1"),
    ("charge", _charge, intent(), "/v1/payment_intents", "charge:uid-1:1",
     {"amount": "4900", "currency": "eur", "customer": "cus_1", "payment_method": "pm_1", "confirm": "true",
      "off_session": "true", "automatic_payment_methods[enabled]": "true",
      "automatic_payment_methods[allow_redirects]": "never", "description": "Booking uid-1",
      "transfer_group": "uid-1", "metadata[chain_uid]": "uid-1", "metadata[billing_key]": "charge:uid-1:1",
      "expand[0]": "latest_charge.balance_transaction"}, "pi_1"),
    ("cancel", lambda g: g.cancel_payment("pi_1", idempotency_key="cancel:uid-1"), intent(status="canceled"),
     "/v1/payment_intents/pi_1/cancel", "cancel:uid-1", {"expand[0]": "latest_charge.balance_transaction"}, "pi_1"),
    ("refund", lambda g: g.refund(
        payment_intent_id="pi_1", amount_minor=1000, chain_uid="uid-1", idempotency_key="refund:uid-1:1"),
     refund(), "/v1/refunds", "refund:uid-1:1",
     {"payment_intent": "pi_1", "amount": "1000", "metadata[chain_uid]": "uid-1",
      "metadata[billing_key]": "refund:uid-1:1"}, "re_1"),
    ("create_account", lambda g: g.create_account(reseller_id="r-1", country="de", idempotency_key="account:r-1"),
     account(), "/v1/accounts", "account:r-1",
     {"country": "DE", "controller[fees][payer]": "application", "controller[losses][payments]": "application",
      "controller[requirement_collection]": "application", "controller[stripe_dashboard][type]": "none",
      "capabilities[transfers][requested]": "true", "metadata[reseller_id]": "r-1",
      "metadata[billing_key]": "account:r-1"}, "acct_1"),
    ("account_link", lambda g: g.create_account_link(
        account_id="acct_1", refresh_url="https://example.com/again", return_url="https://example.com/done",
        idempotency_key="link:r-1:1"),
     {"url": "https://connect.example.com/s/1", "expires_at": 1_790_000_000}, "/v1/account_links", "link:r-1:1",
     {"account": "acct_1", "refresh_url": "https://example.com/again", "return_url": "https://example.com/done",
      "type": "account_onboarding"}, "https://connect.example.com/s/1"),
    ("transfer", _transfer, transfer(), "/v1/transfers", "transfer:uid-1:r-1",
     {"amount": "1225", "currency": "eur", "destination": "acct_1", "transfer_group": "uid-1",
      "source_transaction": "ch_1", "metadata[chain_uid]": "uid-1", "metadata[billing_key]": "transfer:uid-1:r-1"},
     "tr_1"),
    ("transfer from the balance", lambda g: _transfer(g, None), transfer(), "/v1/transfers", "transfer:uid-1:r-1",
     {"amount": "1225", "currency": "eur", "destination": "acct_1", "transfer_group": "uid-1",
      "metadata[chain_uid]": "uid-1", "metadata[billing_key]": "transfer:uid-1:r-1"}, "tr_1"),
    ("reverse", lambda g: g.reverse_transfer(
        transfer_id="tr_1", amount_minor=225, idempotency_key="reversal:transfer:uid-1:r-1:1"),
     reversal(), "/v1/transfers/tr_1/reversals", "reversal:transfer:uid-1:r-1:1",
     {"amount": "225", "metadata[billing_key]": "reversal:transfer:uid-1:r-1:1"}, "trr_1"),
]  # fmt: skip

READS: list[tuple[str, Call, object, str, dict[str, str]]] = [
    ("get_payment", lambda g: g.get_payment("pi_1"), intent(), "/v1/payment_intents/pi_1",
     {"expand[0]": "latest_charge.balance_transaction"}),
    ("find_payment", lambda g: g.find_payment(
        stripe_customer_id="cus_1", idempotency_key="charge:uid-1:1", created_after=SINCE), page(intent()),
     "/v1/payment_intents",
     {"customer": "cus_1", "created[gte]": str(int(SINCE.timestamp()) - 300), "limit": "100",
      "expand[0]": "data.latest_charge.balance_transaction"}),
    ("get_refund", lambda g: g.get_refund("re_1"), refund(), "/v1/refunds/re_1", {}),
    ("find_refund", lambda g: g.find_refund(payment_intent_id="pi_1", idempotency_key="refund:uid-1:1"),
     page(refund()), "/v1/refunds", {"payment_intent": "pi_1", "limit": "100"}),
    ("find_account", lambda g: g.find_account(idempotency_key="account:r-1", created_after=SINCE),
     page(account(metadata={"billing_key": "account:r-1"})), "/v1/accounts",
     {"created[gte]": str(int(SINCE.timestamp()) - 300), "limit": "100"}),
    ("get_payout", lambda g: g.get_payout("acct_1", "po_1"), payout(), "/v1/payouts/po_1", {}),
    ("get_account", lambda g: g.get_account("acct_1"), account(), "/v1/accounts/acct_1", {}),
    ("get_transfer", lambda g: g.get_transfer("tr_1"), transfer(), "/v1/transfers/tr_1", {}),
    ("find_transfer", lambda g: g.find_transfer(transfer_group="uid-1", idempotency_key="transfer:uid-1:r-1"),
     page(transfer()), "/v1/transfers", {"transfer_group": "uid-1", "limit": "100"}),
    ("find_reversal", lambda g: g.find_reversal(
        transfer_id="tr_1", idempotency_key="reversal:transfer:uid-1:r-1:1"), page(reversal()),
     "/v1/transfers/tr_1/reversals", {"limit": "100"}),
    ("balance", lambda g: g.available_balance_minor("EUR"),
     {"available": [{"amount": 5, "currency": "eur"}]}, "/v1/balance", {}),
    ("balance transactions", _movements, page(movement()), "/v1/balance_transactions",
     {"created[gte]": str(int(SINCE.timestamp())), "created[lt]": str(int(SINCE.replace(day=2).timestamp())),
      "limit": "100"}),
]  # fmt: skip


def _held_against_the_contract(request: httpx.Request) -> None:
    if CONTRACT is None:
        return
    path = request.url.path
    if request.method == "POST":
        assert CONTRACT.request_errors("POST", path, form(request)) == []
        return
    _, operation = CONTRACT.operation_for("GET", path)
    known = {item["name"] for item in operation["parameters"] if item["in"] == "query"}
    sent = {name.split("[", 1)[0] for name, _ in parse_qsl(form(request))}
    assert sent <= known, "a query parameter that Stripe does not document"


@pytest.mark.parametrize(("call", "said", "path", "key", "body", "result"), [row[1:] for row in WRITES],
                         ids=[row[0] for row in WRITES])  # fmt: skip
async def test_writes(call: Call, said: object, path: str, key: str, body: dict[str, str], result: str) -> None:
    stripe = FakeStripe(answer(said))
    returned = await call(stripe.gateway())
    (request,) = stripe.requests
    assert (request.method, request.url.path) == ("POST", path)
    assert dict(parse_qsl(form(request), keep_blank_values=True)) == body
    assert request.headers["Idempotency-Key"] == key
    _common_headers(request)
    _held_against_the_contract(request)
    first = returned if isinstance(returned, str) else next(iter(returned.model_dump().values()))  # type: ignore[attr-defined]
    assert first == result


@pytest.mark.parametrize(("call", "said", "path", "query"), [row[1:] for row in READS], ids=[row[0] for row in READS])
async def test_reads(call: Call, said: object, path: str, query: dict[str, str]) -> None:
    stripe = FakeStripe(answer(said))
    assert await call(stripe.gateway())
    (request,) = stripe.requests
    assert (request.method, request.url.path) == ("GET", path)
    assert dict(parse_qsl(form(request))) == query
    assert "Idempotency-Key" not in request.headers
    _common_headers(request)
    _held_against_the_contract(request)


def _common_headers(request: httpx.Request) -> None:
    assert request.headers["Authorization"] == f"Bearer {SECRET_KEY}"
    assert request.headers["Stripe-Version"] == API_VERSION
    assert "telemetry_id" not in request.headers["X-Stripe-Client-User-Agent"]
    assert "X-Stripe-Client-Telemetry" not in request.headers


def test_the_pinned_version_is_the_one_of_the_installed_library() -> None:
    assert stripe_library.api_version == API_VERSION, "read the changelog, then raise the pin"


async def test_a_repeated_call_sends_the_same_bytes() -> None:
    stripe = FakeStripe(answer(intent()), answer(intent()))
    gateway = stripe.gateway()
    await _charge(gateway)
    await _charge(gateway)
    first, second = stripe.requests
    assert first.content == second.content
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


async def test_nothing_is_retried_here() -> None:
    stripe = FakeStripe(httpx.ReadError("gone"), answer(intent()))
    with pytest.raises(OutcomeUnknown):
        await _charge(stripe.gateway())
    assert len(stripe.requests) == 1


async def test_a_notice_of_stripe_breaks_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stripe = FakeStripe(answer(intent(), headers={"Stripe-Notice": "please upgrade"}))
        await _charge(stripe.gateway())


async def test_metadata_that_stripe_would_refuse_never_leaves() -> None:
    stripe = FakeStripe()
    with pytest.raises(SetupError, match="bad_metadata"):
        await _transfer(stripe.gateway(), note="x" * 501)
    with pytest.raises(SetupError, match="bad_metadata"):
        await _transfer(stripe.gateway(), **{"k" * 41: "x"})
    assert stripe.requests == []


async def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(SetupError, match="bad_time"):
        await (
            FakeStripe()
            .gateway()
            .find_payment(stripe_customer_id="cus_1", idempotency_key="k", created_after=SINCE.replace(tzinfo=None))
        )


# --- the connection --------------------------------------------------------------------------------------------------


async def test_calls_share_kept_alive_connections() -> None:
    connections = 0
    body = answer(account()).content

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            try:
                await writer.drain()
            except ConnectionError:
                break
        writer.close()

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    gateway = StripeGateway(secret_key=SECRET_KEY, base_url=address)
    for _ in range(5):
        assert (await gateway.get_account("acct_1")).account_id == "acct_1"
    assert connections == 1
    await gateway.aclose()
    server.close()
