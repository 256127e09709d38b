"""The payment port against the stand-in of Stripe: each method, each refusal, and answers that are lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.ports import (
    ConnectedAccount,
    NotFound,
    OutcomeUnknown,
    Payment,
    PaymentGateway,
    PaymentStatus,
    RateLimited,
    RefundStatus,
    Refused,
    SetupError,
)
from gateways.stripe import StripeGateway
from tests.contracts.stripe_gateway_support import contract

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = contract()
DAY_SECONDS = 86_400
_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


@dataclass
class Sandbox:
    """The running stand-in and its control API."""

    address: str
    http: httpx.Client

    def control(self, path: str, **body: Any) -> Any:
        answer = self.http.post(f"{self.address}/_sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, kind: str, path_regex: str, **more: Any) -> None:
        self.control("faults", kind=kind, path_regex=path_regex, **more)

    def clear_faults(self) -> None:
        self.http.delete(f"{self.address}/_sandbox/faults")

    def log(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get(f"{self.address}/_sandbox/log").json()
        return found

    def effects(self, route: str) -> int:
        """How many requests of a route were executed, replays not counted."""
        executed: dict[str, int] = self.http.get(f"{self.address}/_sandbox/stats").json()["executed"]
        return executed.get(route, 0)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    place = tmp_path_factory.mktemp("stripe sandbox")
    port_file = place / "port"
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0", "--port-file", str(port_file)]
    command += ["--data-dir", str(place / "data"), "--sepa-after-seconds", "-1", "--available-after-seconds", "7200"]
    log = (place / "log").open("w")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, "the sandbox does not start"
            time.sleep(0.02)
        with httpx.Client(timeout=10, trust_env=False) as http:
            yield Sandbox(f"http://127.0.0.1:{port_file.read_text().strip()}", http)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        log.close()


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[PaymentGateway]:
    sandbox.clear_faults()
    made = StripeGateway(secret_key="sk_test_example0000000000", base_url=sandbox.address, timeout_seconds=5)
    yield made
    await made.aclose()
    sandbox.clear_faults()


async def customer_with(gateway: PaymentGateway, payment_method: str = "pm_card_visa") -> tuple[str, str]:
    """Stripe's ids of a new customer and his payment method."""
    name = unique("cus")
    customer = await gateway.create_customer(customer_id=name, idempotency_key=f"customer:{name}")
    attached = await gateway.attach_payment_method(
        stripe_customer_id=customer, payment_method=payment_method, idempotency_key=f"attach:{name}"
    )
    return customer, attached


async def pay(
    gateway: PaymentGateway, customer: tuple[str, str], uid: str, *, amount_minor: int = 4900, attempt: int = 1
) -> Payment:
    return await gateway.charge(
        amount_minor=amount_minor,
        currency="EUR",
        stripe_customer_id=customer[0],
        payment_method_id=customer[1],
        chain_uid=uid,
        description=f"Booking {uid}",
        idempotency_key=f"charge:{uid}:{attempt}",
    )


async def paid(gateway: PaymentGateway, payment_method: str = "pm_card_visa") -> tuple[str, Payment]:
    uid = unique("uid")
    return uid, await pay(gateway, await customer_with(gateway, payment_method), uid)


async def reseller(sandbox: Sandbox, gateway: PaymentGateway, *, state: str | None = "active") -> str:
    name = unique("r")
    account = await gateway.create_account(reseller_id=name, country="DE", idempotency_key=f"account:{name}")
    if state is not None:
        sandbox.control(f"accounts/{account.account_id}", state=state)
    return account.account_id


async def send(
    gateway: PaymentGateway, uid: str, account_id: str, charge_id: str | None, *, amount_minor: int = 1225
) -> Any:
    return await gateway.transfer(
        amount_minor=amount_minor,
        currency="EUR",
        destination_account_id=account_id,
        transfer_group=uid,
        source_charge_id=charge_id,
        metadata={"chain_uid": uid},
        idempotency_key=f"transfer:{uid}:{account_id}",
    )


def now(sandbox: Sandbox) -> datetime:
    health = sandbox.http.get(f"{sandbox.address}/_sandbox/health").json()
    return datetime.fromtimestamp(health["now"], tz=UTC)


# --- charges ---------------------------------------------------------------------------------------------------------


async def test_a_charge_brings_its_fee_in_one_call(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    customer = await customer_with(gateway)
    before = len(sandbox.log())
    payment = await pay(gateway, customer, "uid-one-call")
    assert len(sandbox.log()) == before + 1
    assert payment.status is PaymentStatus.SUCCEEDED
    assert (payment.amount_minor, payment.amount_received_minor, payment.currency) == (4900, 4900, "EUR")
    assert payment.charge_id is not None
    assert payment.balance_transaction_id is not None
    assert payment.fee_minor is not None
    assert 0 < payment.fee_minor < 400
    assert payment.metadata == {"chain_uid": "uid-one-call", "billing_key": "charge:uid-one-call:1"}
    assert await gateway.get_payment(payment.payment_intent_id) == payment


@pytest.mark.parametrize(
    ("payment_method", "code", "soft"),
    [
        ("pm_card_chargeDeclined", "generic_decline", False),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds", True),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", False),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", True),
    ],
)
async def test_a_decline_is_refused(gateway: PaymentGateway, payment_method: str, code: str, soft: bool) -> None:
    customer = await customer_with(gateway, payment_method)
    with pytest.raises(Refused) as caught:
        await pay(gateway, customer, unique("uid"))
    assert (caught.value.code, caught.value.soft, caught.value.needs_customer) == (code, soft, False)
    assert caught.value.object_id is not None
    payment = await gateway.get_payment(caught.value.object_id)
    assert (payment.status, payment.failure_code) == (PaymentStatus.REQUIRES_CUSTOMER, code)
    cancelled = await gateway.cancel_payment(payment.payment_intent_id, idempotency_key=unique("cancel"))
    assert cancelled.status is PaymentStatus.CANCELED
    again = await gateway.cancel_payment(payment.payment_intent_id, idempotency_key=unique("cancel"))
    assert again.status is PaymentStatus.CANCELED


async def test_a_repeated_decline_is_the_same_decline(gateway: PaymentGateway) -> None:
    customer, uid = await customer_with(gateway, "pm_card_chargeDeclinedInsufficientFunds"), unique("uid")
    found = set()
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await pay(gateway, customer, uid)
        found.add(caught.value.object_id)
    assert len(found) == 1


async def test_authentication_required_names_the_payment_to_confirm(gateway: PaymentGateway) -> None:
    customer = await customer_with(gateway, "pm_card_authenticationRequired")
    with pytest.raises(Refused) as caught:
        await pay(gateway, customer, unique("uid"))
    assert (caught.value.code, caught.value.needs_customer) == ("authentication_required", True)
    assert (await gateway.get_payment(caught.value.object_id or "")).status is PaymentStatus.REQUIRES_CUSTOMER


@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_sepa_debit_answers_late(sandbox: Sandbox, gateway: PaymentGateway, succeeds: bool) -> None:
    uid, payment = await paid(gateway, "pm_sepaDebit_success")
    assert payment.status is PaymentStatus.PROCESSING
    assert payment.amount_received_minor == 0
    with pytest.raises(Refused, match="still_processing"):
        await gateway.cancel_payment(payment.payment_intent_id, idempotency_key=f"cancel:{uid}")
    with pytest.raises(Refused, match="still_processing"):
        await gateway.refund(
            payment_intent_id=payment.payment_intent_id,
            amount_minor=1,
            chain_uid=uid,
            idempotency_key=f"refund:{uid}:1",
        )
    sandbox.control(f"payment_intents/{payment.payment_intent_id}/settle", succeeds=succeeds)
    later = await gateway.get_payment(payment.payment_intent_id)
    if succeeds:
        assert (later.status, later.amount_received_minor, later.fee_minor) == (PaymentStatus.SUCCEEDED, 4900, 35)
    else:
        assert (later.status, later.fee_minor) == (PaymentStatus.REQUIRES_CUSTOMER, None)
        assert later.failure_code is not None


async def test_a_paid_payment_is_not_cancelled(gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway)
    with pytest.raises(Refused, match="already_succeeded"):
        await gateway.cancel_payment(payment.payment_intent_id, idempotency_key=f"cancel:{uid}")


async def test_unknown_customers_and_payments_are_not_found(gateway: PaymentGateway) -> None:
    with pytest.raises(NotFound):
        await gateway.get_payment("pi_doesnotexist")
    with pytest.raises(NotFound):
        await pay(gateway, ("cus_doesnotexist", "pm_card_visa"), unique("uid"))
    with pytest.raises(NotFound):
        await gateway.attach_payment_method(
            stripe_customer_id="cus_doesnotexist", payment_method="pm_card_visa", idempotency_key=unique("attach")
        )


# --- refunds ---------------------------------------------------------------------------------------------------------


async def test_refunds_in_pieces_up_to_the_whole(gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway)

    async def refund(amount_minor: int, sequence: int) -> Any:
        return await gateway.refund(
            payment_intent_id=payment.payment_intent_id,
            amount_minor=amount_minor,
            chain_uid=uid,
            idempotency_key=f"refund:{uid}:{sequence}",
        )

    first = await refund(1900, 1)
    assert (first.status, first.amount_minor, first.charge_id) == (RefundStatus.SUCCEEDED, 1900, payment.charge_id)
    assert first.payment_intent_id == payment.payment_intent_id
    assert await gateway.get_refund(first.refund_id) == first
    with pytest.raises(Refused, match="charge_already_refunded"):
        await refund(3001, 2)
    assert (await refund(3000, 3)).amount_minor == 3000
    assert (await gateway.get_payment(payment.payment_intent_id)).amount_refunded_minor == 4900
    with pytest.raises(Refused, match="charge_already_refunded"):
        await refund(1, 4)
    found = await gateway.find_refund(payment_intent_id=payment.payment_intent_id, idempotency_key=f"refund:{uid}:1")
    assert found == first


async def test_a_disputed_charge_is_not_refunded(gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway, "pm_card_createDispute")
    assert (await gateway.get_payment(payment.payment_intent_id)).disputed
    with pytest.raises(Refused, match="charge_disputed"):
        await gateway.refund(
            payment_intent_id=payment.payment_intent_id,
            amount_minor=100,
            chain_uid=uid,
            idempotency_key=f"refund:{uid}:1",
        )


async def test_a_refund_can_fail_later(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway)
    refund = await gateway.refund(
        payment_intent_id=payment.payment_intent_id, amount_minor=500, chain_uid=uid, idempotency_key=f"refund:{uid}:1"
    )
    sandbox.control(f"refunds/{refund.refund_id}", status="failed")
    assert (await gateway.get_refund(refund.refund_id)).status is RefundStatus.FAILED


# --- connected accounts and transfers --------------------------------------------------------------------------------


async def test_an_account_becomes_ready(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    account_id = await reseller(sandbox, gateway, state=None)
    new = await gateway.get_account(account_id)
    assert (new.transfers_active, new.payouts_enabled) == (False, False)
    link = await gateway.create_account_link(
        account_id=account_id,
        refresh_url="https://example.com/again",
        return_url="https://example.com/done",
        idempotency_key=unique("link"),
    )
    assert link.startswith("http")
    sandbox.control(f"accounts/{account_id}", state="active")
    assert await gateway.get_account(account_id) == ConnectedAccount(
        account_id=account_id, transfers_active=True, payouts_enabled=True, disabled_reason=None
    )
    sandbox.control(f"accounts/{account_id}", state="rejected")
    rejected = await gateway.get_account(account_id)
    assert (rejected.transfers_active, rejected.disabled_reason) == (False, "rejected.other")
    sandbox.control(f"accounts/{account_id}", state="deauthorized")
    with pytest.raises(NotFound):
        await gateway.get_account(account_id)


async def test_a_transfer_from_a_charge_and_back(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway)
    account_id = await reseller(sandbox, gateway)
    made = await send(gateway, uid, account_id, payment.charge_id)
    assert (made.amount_minor, made.amount_reversed_minor, made.currency) == (1225, 0, "EUR")
    assert (made.destination_account_id, made.transfer_group) == (account_id, uid)
    assert made.metadata == {"chain_uid": uid, "billing_key": f"transfer:{uid}:{account_id}"}
    assert await gateway.get_transfer(made.transfer_id) == made

    async def take_back(amount_minor: int, sequence: int) -> Any:
        key = f"reversal:transfer:{uid}:{account_id}:{sequence}"
        return await gateway.reverse_transfer(
            transfer_id=made.transfer_id, amount_minor=amount_minor, idempotency_key=key
        )

    first = await take_back(225, 1)
    assert (first.amount_minor, first.transfer_id) == (225, made.transfer_id)
    assert (await gateway.get_transfer(made.transfer_id)).amount_reversed_minor == 225
    with pytest.raises(Refused, match="already_reversed"):
        await take_back(1001, 2)
    await take_back(1000, 3)
    with pytest.raises(Refused, match="already_reversed"):
        await take_back(1, 4)
    key = f"reversal:transfer:{uid}:{account_id}:1"
    assert await gateway.find_reversal(transfer_id=made.transfer_id, idempotency_key=key) == first


async def test_a_reversal_needs_money_at_the_destination(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway, "pm_card_bypassPending")
    account_id = await reseller(sandbox, gateway)
    made = await send(gateway, uid, account_id, payment.charge_id)
    sandbox.control("balance", amount_minor=-1225, currency="eur", account=account_id)
    with pytest.raises(Refused) as caught:
        await gateway.reverse_transfer(
            transfer_id=made.transfer_id, amount_minor=1225, idempotency_key=f"reversal:transfer:{uid}:1"
        )
    assert (caught.value.code, caught.value.soft) == ("balance_insufficient", True)


@pytest.mark.parametrize("state", [None, "restricted", "rejected", "deauthorized"])
async def test_an_account_that_is_not_ready_gets_nothing(
    sandbox: Sandbox, gateway: PaymentGateway, state: str | None
) -> None:
    uid, payment = await paid(gateway)
    account_id = await reseller(sandbox, gateway, state=state)
    with pytest.raises(Refused, match="account_not_ready"):
        await send(gateway, uid, account_id, payment.charge_id)
    assert await gateway.find_transfer(transfer_group=uid, idempotency_key=f"transfer:{uid}:{account_id}") is None


async def test_the_balance_bounds_transfers_without_a_charge(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    account_id = await reseller(sandbox, gateway)
    available_minor = await gateway.available_balance_minor("EUR")
    with pytest.raises(Refused) as caught:
        await send(gateway, "2026-10", account_id, None, amount_minor=max(available_minor, 0) + 1)
    assert (caught.value.code, caught.value.soft) == ("balance_insufficient", True)
    sandbox.control("balance", amount_minor=10_000 - available_minor, currency="eur")
    assert await gateway.available_balance_minor("EUR") == 10_000
    assert await gateway.available_balance_minor("USD") == 0
    await send(gateway, "2026-11", account_id, None, amount_minor=4000)
    assert await gateway.available_balance_minor("EUR") == 6000


async def test_more_than_the_charge_is_our_mistake(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    uid, payment = await paid(gateway)
    account_id = await reseller(sandbox, gateway)
    with pytest.raises(SetupError):
        await send(gateway, uid, account_id, payment.charge_id, amount_minor=4901)


async def test_balance_transactions_of_an_interval(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    sandbox.control("clock", advance_seconds=60)
    since = now(sandbox)
    customer = await customer_with(gateway, "pm_card_bypassPending")
    amounts = [1000 + number for number in range(105)]
    for amount_minor in amounts:
        await pay(gateway, customer, unique("uid"), amount_minor=amount_minor)
    found = [
        item
        async for item in gateway.list_balance_transactions(
            created_after=since, created_before=now(sandbox) + timedelta(seconds=60)
        )
    ]
    charges = [item for item in found if item.type == "charge"]
    assert sorted(item.amount_minor for item in charges) == amounts
    assert len({item.balance_transaction_id for item in found}) == len(found) > 100
    assert all(item.is_credit and item.fee_minor > 0 and item.currency == "EUR" for item in charges)
    assert [item async for item in gateway.list_balance_transactions(created_after=since, created_before=since)] == []


# --- lost answers ----------------------------------------------------------------------------------------------------


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
     lambda g, s: g.create_account(reseller_id=f"r-{s.uid}", country="DE", idempotency_key=f"account:{s.uid}"), None),
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
        assert later.metadata["billing_key"]


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
