"""The payment port when answers are lost, late or refused for their number: one effect, and it can be found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.ports import OutcomeUnknown, Payment, PaymentGateway, PaymentStatus, RateLimited, SetupError
from gateways.stripe import StripeGateway
from tests.contracts.stripe_gateway_support import contract
from tests.contracts.stripe_sandbox_support import (
    Sandbox,
    connected,
    customer_with,
    now,
    pay,
    reseller,
    running_sandbox,
    send,
    unique,
)

CONTRACT = contract()
DAY_SECONDS = 86_400


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("stripe sandbox")) as running:
        yield running


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[PaymentGateway]:
    async with connected(sandbox) as made:
        yield made


@dataclass
class Stage:
    """What the writes of the matrix below work on."""

    uid: str
    customer: tuple[str, str]
    payment: Payment
    account_id: str
    transfer_id: str


async def stage_of(sandbox: Sandbox, gateway: PaymentGateway) -> Stage:
    uid, customer = unique("uid"), await customer_with(gateway)
    payment = await pay(gateway, customer, uid)
    account_id = await reseller(sandbox, gateway)
    sent = await send(gateway, uid, account_id, payment.charge_id)
    return Stage(uid, customer, payment, account_id, sent.transfer_id)


Write = Callable[[PaymentGateway, Stage], Awaitable[Any]]
Find = Callable[[PaymentGateway, Stage, datetime], Awaitable[Any]]


MATRIX: list[tuple[str, str, str, Write, Find | None]] = [
    ("charge", "POST /v1/payment_intents", r"^/v1/payment_intents$",
     lambda g, s: pay(g, s.customer, s.uid, attempt=2),
     lambda g, s, since: g.find_payment(
         stripe_customer_id=s.customer[0], idempotency_key=f"charge:{s.uid}:2", created_after=since)),
    ("refund", "POST /v1/refunds", r"^/v1/refunds$",
     lambda g, s: g.refund(payment_intent_id=s.payment.payment_intent_id, amount_minor=700, chain_uid=s.uid,
                           idempotency_key=f"refund:{s.uid}:1"),
     lambda g, s, since: g.find_refund(
         payment_intent_id=s.payment.payment_intent_id, idempotency_key=f"refund:{s.uid}:1")),
    ("transfer", "POST /v1/transfers", r"^/v1/transfers$",
     lambda g, s: g.transfer(amount_minor=100, currency="EUR", destination_account_id=s.account_id,
                             transfer_group=s.uid, source_charge_id=s.payment.charge_id, metadata={},
                             idempotency_key=f"transfer:{s.uid}:second"),
     lambda g, s, since: g.find_transfer(transfer_group=s.uid, idempotency_key=f"transfer:{s.uid}:second")),
    ("reversal", "POST /v1/transfers/*/reversals", r"^/v1/transfers/[^/]+/reversals$",
     lambda g, s: g.reverse_transfer(transfer_id=s.transfer_id, amount_minor=50,
                                     idempotency_key=f"reversal:transfer:{s.uid}:1"),
     lambda g, s, since: g.find_reversal(
         transfer_id=s.transfer_id, idempotency_key=f"reversal:transfer:{s.uid}:1")),
    ("customer", "POST /v1/customers", r"^/v1/customers$",
     lambda g, s: g.create_customer(customer_id=f"cus-{s.uid}", idempotency_key=f"customer:{s.uid}"), None),
    ("account", "POST /v1/accounts", r"^/v1/accounts$",
     lambda g, s: g.create_account(reseller_id=f"r-{s.uid}", country="DE", idempotency_key=f"account:{s.uid}"),
     lambda g, s, since: g.find_account(idempotency_key=f"account:{s.uid}", created_after=since)),
]  # fmt: skip
IDS = [row[0] for row in MATRIX]


@pytest.mark.parametrize("kind", ["lose_answer", "error_after"])
@pytest.mark.parametrize(("_name", "route", "path_regex", "write", "find"), MATRIX, ids=IDS)
async def test_an_effect_whose_answer_was_lost_happens_once_and_is_found(
    sandbox: Sandbox,
    gateway: PaymentGateway,
    _name: str,
    route: str,
    path_regex: str,
    write: Write,
    find: Find | None,
    kind: str,
) -> None:
    stage = await stage_of(sandbox, gateway)
    since, before = now(sandbox), sandbox.effects(route)
    if find is not None:
        assert await find(gateway, stage, since) is None
    sandbox.fault(kind, path_regex)
    with pytest.raises(OutcomeUnknown):
        await write(gateway, stage)
    assert sandbox.effects(route) == before + 1
    found = await find(gateway, stage, since) if find is not None else None
    assert find is None or found is not None
    if kind == "lose_answer":
        again = await write(gateway, stage)
        assert found is None or again == found
    else:
        with pytest.raises(OutcomeUnknown):  # Stripe keeps a 500 under the key and repeats it
            await write(gateway, stage)
    assert sandbox.effects(route) == before + 1
    sandbox.control("clock", advance_seconds=DAY_SECONDS + 3600)
    if find is not None:
        later = await find(gateway, stage, since)
        assert later is not None, "found also when Stripe has forgotten the key"
        assert later == found


@pytest.mark.parametrize("kind", ["reset", "error_before"])
@pytest.mark.parametrize(("_name", "route", "path_regex", "write", "find"), MATRIX, ids=IDS)
async def test_a_request_that_had_no_effect_is_repeated(
    sandbox: Sandbox,
    gateway: PaymentGateway,
    _name: str,
    route: str,
    path_regex: str,
    write: Write,
    find: Find | None,
    kind: str,
) -> None:
    stage = await stage_of(sandbox, gateway)
    since, before = now(sandbox), sandbox.effects(route)
    sandbox.fault(kind, path_regex)
    with pytest.raises(OutcomeUnknown):
        await write(gateway, stage)
    assert find is None or await find(gateway, stage, since) is None
    assert sandbox.effects(route) == before
    assert await write(gateway, stage)
    assert sandbox.effects(route) == before + 1


async def test_the_same_key_with_other_parameters_is_our_mistake(gateway: PaymentGateway) -> None:
    customer, uid = await customer_with(gateway), unique("uid")
    await pay(gateway, customer, uid)
    with pytest.raises(SetupError, match="idempotency_error"):
        await pay(gateway, customer, uid, amount_minor=5000)


async def test_the_same_key_at_the_same_time_has_one_effect(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    customer, uid = await customer_with(gateway), unique("uid")
    before = sandbox.effects("POST /v1/payment_intents")
    sandbox.fault("slow", r"^/v1/payment_intents$", delay_seconds=0.2)
    outcomes = await asyncio.gather(*(pay(gateway, customer, uid) for _ in range(10)), return_exceptions=True)
    done = [outcome for outcome in outcomes if isinstance(outcome, Payment)]
    unknown = [outcome for outcome in outcomes if isinstance(outcome, OutcomeUnknown)]
    assert len(done) + len(unknown) == 10
    assert len({payment.payment_intent_id for payment in done}) == 1
    assert {error.code for error in unknown} == {"idempotency_key_in_use"}
    assert (await pay(gateway, customer, uid)) == done[0]
    assert sandbox.effects("POST /v1/payment_intents") == before + 1


async def test_a_slow_answer_is_unknown_and_the_effect_is_found(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    customer, uid = await customer_with(gateway), unique("uid")
    since = now(sandbox)
    hasty = StripeGateway(secret_key="sk_test_example0000000000", base_url=sandbox.address, timeout_seconds=0.3)
    sandbox.fault("slow", r"^/v1/payment_intents$", delay_seconds=1, after=True)
    with pytest.raises(OutcomeUnknown, match="timeout"):
        await pay(hasty, customer, uid)
    await hasty.aclose()
    found = await gateway.find_payment(
        stripe_customer_id=customer[0], idempotency_key=f"charge:{uid}:1", created_after=since
    )
    assert found is not None
    assert found.status is PaymentStatus.SUCCEEDED


async def test_a_rate_limit_is_not_done_and_hints(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    customer, uid = await customer_with(gateway), unique("uid")
    sandbox.fault("rate_limit", r"^/v1/payment_intents$", retry_after_seconds=3)
    with pytest.raises(RateLimited) as caught:
        await pay(gateway, customer, uid)
    assert (caught.value.code, caught.value.retry_after_seconds) == ("rate_limit", 3.0)
    assert (await pay(gateway, customer, uid)).status is PaymentStatus.SUCCEEDED


async def test_a_wrong_secret_key_is_a_set_up_error(sandbox: Sandbox) -> None:
    stranger = StripeGateway(secret_key="pk_live_wrong0000", base_url=sandbox.address)
    with pytest.raises(SetupError) as caught:
        await stranger.available_balance_minor("EUR")
    assert caught.value.code == "authentication_error"
    assert "pk_live" not in str(caught.value)
    await stranger.aclose()


async def test_no_sandbox_no_outcome() -> None:
    gateway = StripeGateway(secret_key="sk_test_example0000000000", base_url="http://127.0.0.1:1")
    with pytest.raises(OutcomeUnknown, match="not_connected"):
        await gateway.available_balance_minor("EUR")
    await gateway.aclose()


@pytest.mark.skipif(CONTRACT is None, reason="Stripe's published interface is not here")
async def test_every_exchange_passes_the_published_interface(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    assert CONTRACT is not None
    stage = await stage_of(sandbox, gateway)
    for _, _, _, write, find in MATRIX:
        await write(gateway, stage)
        if find is not None:
            await find(gateway, stage, now(sandbox) - timedelta(hours=1))
    await gateway.available_balance_minor("EUR")
    exchanges = [entry for entry in sandbox.log() if entry["path"].startswith("/v1/")]
    assert len(exchanges) > 20
    wrong = []
    for entry in exchanges:
        if entry["method"] == "POST":
            wrong += CONTRACT.request_errors(entry["method"], entry["path"], entry["body"])
        if entry["status"] is not None and entry["response"] is not None:
            wrong += CONTRACT.response_errors(entry["method"], entry["path"], entry["status"], entry["response"])
    assert wrong == []
