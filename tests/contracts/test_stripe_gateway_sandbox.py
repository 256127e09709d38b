"""The payment port against the stand-in of Stripe: each method and each refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from domain.ports import (
    ConnectedAccount,
    NotFound,
    PaymentGateway,
    PaymentStatus,
    PayoutStatus,
    RefundStatus,
    Refused,
    SetupError,
)
from tests.contracts.stripe_sandbox_support import (
    Sandbox,
    connected,
    customer_with,
    now,
    paid,
    pay,
    reseller,
    running_sandbox,
    send,
    unique,
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("stripe sandbox")) as running:
        yield running


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[PaymentGateway]:
    async with connected(sandbox) as made:
        yield made


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
    assert link.url.startswith("http")
    assert timedelta(0) < link.expires_at - now(sandbox) < timedelta(hours=1)
    sandbox.http.get(link.url)
    spent = sandbox.http.get(link.url)
    assert (spent.status_code, spent.headers["location"]) == (303, "https://example.com/again")
    sandbox.control(f"accounts/{account_id}", state="active")
    assert await gateway.get_account(account_id) == ConnectedAccount(
        account_id=account_id,
        transfers_active=True,
        payouts_enabled=True,
        disabled_reason=None,
        default_currency="EUR",
    )
    sandbox.control(f"accounts/{account_id}", state="rejected")
    rejected = await gateway.get_account(account_id)
    assert (rejected.transfers_active, rejected.disabled_reason) == (False, "rejected.other")
    sandbox.control(f"accounts/{account_id}", state="deauthorized")
    with pytest.raises(NotFound):
        await gateway.get_account(account_id)


@pytest.mark.parametrize(("country", "currency"), [("DE", "EUR"), ("AT", "EUR"), ("CH", "CHF"), ("JP", "JPY")])
async def test_an_account_has_the_currency_of_its_country(gateway: PaymentGateway, country: str, currency: str) -> None:
    key = unique("account")
    made = await gateway.create_account(reseller_id="r-1", country=country, idempotency_key=key)
    assert (made.default_currency, bool(made.requirements)) == (currency, True)


async def test_an_account_is_found_by_its_key(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    key, since = unique("account"), now(sandbox)
    assert await gateway.find_account(idempotency_key=key, created_after=since) is None
    made = await gateway.create_account(reseller_id="r-1", country="DE", idempotency_key=key)
    await gateway.create_account(reseller_id="r-2", country="DE", idempotency_key=unique("account"))
    assert await gateway.find_account(idempotency_key=key, created_after=since) == made
    later = since + timedelta(days=1)
    assert await gateway.find_account(idempotency_key=key, created_after=later) is None


async def test_a_payout_that_was_paid_can_fail(sandbox: Sandbox, gateway: PaymentGateway) -> None:
    account_id = await reseller(sandbox, gateway)
    sandbox.control("balance", amount_minor=5_000, currency="eur", account=account_id)
    form = {"amount": "1225", "currency": "eur"}
    headers = {"Authorization": "Bearer sk_test_x", "Stripe-Account": account_id}
    made = sandbox.http.post(f"{sandbox.address}/v1/payouts", data=form, headers=headers).json()
    pending = await gateway.get_payout(account_id, made["id"])
    assert (pending.status, pending.amount_minor, pending.currency) == (PayoutStatus.PENDING, 1_225, "EUR")
    sandbox.control(f"payouts/{made['id']}", status="paid")
    assert (await gateway.get_payout(account_id, made["id"])).status is PayoutStatus.PAID
    sandbox.control(f"payouts/{made['id']}", status="failed", failure_code="no_account")
    failed = await gateway.get_payout(account_id, made["id"])
    assert (failed.status, failed.failure_code) == (PayoutStatus.FAILED, "no_account")
    with pytest.raises(NotFound):
        await gateway.get_payout(account_id, "po_unknown")
    sandbox.control(f"accounts/{account_id}", state="deauthorized")
    with pytest.raises(NotFound):
        await gateway.get_payout(account_id, made["id"])


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
