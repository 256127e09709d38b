"""Payments in the sandbox: cards, declines, authentication, debits that answer late, searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe

from tests.contracts.sandbox_stripe_support import Sandbox, checked, running, unique, wait_for


@pytest.fixture(scope="module", name="sandbox")
def sandbox_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(tmp_path_factory.mktemp("payments"), "--sepa-after-seconds", "3600")


@pytest.fixture(autouse=True, name="_checked")
def checked_fixture(sandbox: Sandbox) -> Iterator[None]:
    yield from checked(sandbox)


def customer_with(sandbox: Sandbox, token: str) -> tuple[str, str]:
    """(customer, payment method of theirs)."""
    customer = sandbox.client.v1.customers.create({"email": "customer@example.com", "name": "Example"})
    method = sandbox.client.v1.payment_methods.attach(token, {"customer": customer.id})
    return customer.id, method.id


def refused(sandbox: Sandbox, method: str, **more: Any) -> stripe.CardError:
    with pytest.raises(stripe.CardError) as caught:
        sandbox.pay(method, **more)
    return caught.value


def intent_in(error: stripe.CardError) -> stripe.PaymentIntent:
    assert error.error is not None
    assert error.error.payment_intent is not None
    return error.error.payment_intent


@pytest.mark.parametrize(
    ("method", "amount", "fee"),
    [("pm_card_visa", 4900, 99), ("pm_card_visa", 50, 26), ("pm_card_visa", 100, 27), ("pm_card_de", 99_999, 1525)],
)
def test_a_card_payment_books_its_fee(sandbox: Sandbox, method: str, amount: int, fee: int) -> None:
    before = sandbox.available_minor()
    intent = sandbox.pay(method, amount, expand=["latest_charge.balance_transaction"])
    assert intent.status == "succeeded"
    assert intent.amount_received == amount
    assert isinstance(intent.latest_charge, stripe.Charge)
    entry = intent.latest_charge.balance_transaction
    assert isinstance(entry, stripe.BalanceTransaction)
    assert (entry.amount, entry.fee, entry.net, entry.type) == (amount, fee, amount - fee, "charge")
    assert sandbox.available_minor() == before + amount - fee
    found = sandbox.client.v1.balance_transactions.list({"source": intent.latest_charge.id})
    assert [item.id for item in found.data] == [entry.id]


@pytest.mark.parametrize(
    ("token", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
@pytest.mark.parametrize("attached", [False, True])
def test_a_declining_card_declines(sandbox: Sandbox, token: str, code: str, decline_code: str, attached: bool) -> None:
    before = sandbox.available_minor()
    if attached:
        customer, method = customer_with(sandbox, token)
        error = refused(sandbox, method, customer=customer)
    else:
        error = refused(sandbox, token)
    assert error.http_status == 402
    assert error.error is not None
    assert (error.error.type, error.error.code, error.error.decline_code) == ("card_error", code, decline_code)
    intent = sandbox.client.v1.payment_intents.retrieve(intent_in(error).id)
    assert intent.status == "requires_payment_method"
    assert intent.payment_method is None
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.decline_code == decline_code
    charge = sandbox.charge_of(intent)
    assert (charge.status, charge.paid, charge.failure_code) == ("failed", False, code)
    assert charge.id == error.error.charge
    assert sandbox.available_minor() == before


def test_another_card_pays_the_same_intent(sandbox: Sandbox) -> None:
    intent = intent_in(refused(sandbox, "pm_card_chargeDeclined"))
    paid = sandbox.client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa", "off_session": True})
    assert paid.status == "succeeded"
    assert paid.last_payment_error is None
    charges = sandbox.client.v1.charges.list({"payment_intent": intent.id})
    assert [charge.status for charge in charges.data] == ["succeeded", "failed"]


def test_a_saved_card_can_change_its_luck(sandbox: Sandbox) -> None:
    customer, method = customer_with(sandbox, "pm_card_visa")
    sandbox.control(f"payment_methods/{method}", behaves_as="pm_card_chargeDeclinedInsufficientFunds")
    error = refused(sandbox, method, customer=customer)
    assert error.error is not None
    assert error.error.decline_code == "insufficient_funds"
    sandbox.control(f"payment_methods/{method}", behaves_as="pm_card_visa")
    assert sandbox.pay(method, customer=customer).status == "succeeded"


def test_create_confirm_and_cancel_one_after_the_other(sandbox: Sandbox) -> None:
    intents = sandbox.client.v1.payment_intents
    intent = intents.create({"amount": 4900, "currency": "eur"})
    assert intent.status == "requires_payment_method"
    with pytest.raises(stripe.InvalidRequestError) as caught:
        intents.confirm(intent.id)
    assert caught.value.error is not None
    assert caught.value.error.code == "payment_intent_unexpected_state"
    intent = intents.update(intent.id, {"payment_method": "pm_card_visa", "amount": 5000})
    assert intent.status == "requires_confirmation"
    assert intents.confirm(intent.id).amount_received == 5000
    too_late: list[Callable[[str], stripe.PaymentIntent]] = [intents.cancel, intents.confirm]
    for late in too_late:
        with pytest.raises(stripe.InvalidRequestError) as caught:
            late(intent.id)
        assert caught.value.error is not None
        assert caught.value.error.code == "payment_intent_unexpected_state"
        assert caught.value.error.payment_intent is not None
    other = intents.create({"amount": 4900, "currency": "eur"})
    canceled = intents.cancel(other.id, {"cancellation_reason": "requested_by_customer"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "requested_by_customer")


def test_authentication_off_session_then_on_session_on_the_same_intent(sandbox: Sandbox) -> None:
    customer, method = customer_with(sandbox, "pm_card_authenticationRequired")
    error = refused(sandbox, method, customer=customer)
    assert error.error is not None
    assert (error.error.code, error.error.decline_code) == ("authentication_required", "authentication_required")
    intent = intent_in(error)
    assert intent.status == "requires_payment_method"
    asking = sandbox.client.v1.payment_intents.confirm(
        intent.id, {"payment_method": method, "return_url": "https://example.com/back"}
    )
    assert asking.status == "requires_action"
    assert asking.next_action is not None
    assert asking.next_action.redirect_to_url is not None
    assert asking.next_action.redirect_to_url.url is not None
    page = sandbox.http.get(asking.next_action.redirect_to_url.url)
    assert (page.status_code, page.headers["location"]) == (303, "https://example.com/back")
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_authentication_that_fails(sandbox: Sandbox) -> None:
    intent = sandbox.client.v1.payment_intents.create(
        {"amount": 4900, "currency": "eur", "payment_method": "pm_card_authenticationRequired", "confirm": True}
    )
    assert intent.status == "requires_action"
    sandbox.control(f"payment_intents/{intent.id}/authenticate", succeeds=False)
    failed = sandbox.client.v1.payment_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_payment_error is not None
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"


def test_a_card_that_asks_once_pays_off_session_when_saved(sandbox: Sandbox) -> None:
    customer, method = customer_with(sandbox, "pm_card_authenticationRequiredOnSetup")
    assert sandbox.pay(method, customer=customer).status == "succeeded"


@pytest.mark.parametrize("token", ["pm_success_de", "pm_sepaDebit_success", "pm_sepaDebit_success_de"])
def test_a_debit_succeeds_late(sandbox: Sandbox, token: str) -> None:
    before = sandbox.available_minor()
    intent = sandbox.pay(token)
    assert intent.status == "processing"
    charge = sandbox.charge_of(intent)
    assert (charge.status, charge.balance_transaction) == ("pending", None)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.client.v1.refunds.create({"payment_intent": intent.id})
    sandbox.control("clock", advance_seconds=3600)
    paid = sandbox.client.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge.balance_transaction"]})
    assert paid.status == "succeeded"
    assert isinstance(paid.latest_charge, stripe.Charge)
    assert isinstance(paid.latest_charge.balance_transaction, stripe.BalanceTransaction)
    assert paid.latest_charge.balance_transaction.fee == 35
    assert sandbox.available_minor() == before + 4900 - 35


def test_a_debit_fails_late(sandbox: Sandbox) -> None:
    before = sandbox.available_minor()
    intent = sandbox.pay("pm_insufficientFunds_de")
    sandbox.control("clock", advance_seconds=3600)
    failed = sandbox.client.v1.payment_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    assert sandbox.charge_of(failed).failure_code == "insufficient_funds"
    assert sandbox.available_minor() == before


def test_a_delayed_debit_takes_longer(sandbox: Sandbox) -> None:
    intent = sandbox.pay("pm_failedDelayed_de")
    sandbox.control("clock", advance_seconds=3600)
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == "processing"
    sandbox.control("clock", advance_seconds=180)
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == "requires_payment_method"


@pytest.mark.parametrize(("succeeds", "status"), [(True, "succeeded"), (False, "requires_payment_method")])
def test_the_bank_answers_on_order_and_only_once(sandbox: Sandbox, succeeds: bool, status: str) -> None:
    intent = sandbox.pay("pm_success_de")
    sandbox.control(f"payment_intents/{intent.id}/settle", succeeds=succeeds)
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == status
    answer = sandbox.http.post(f"/_sandbox/payment_intents/{intent.id}/settle", json={"succeeds": succeeds})
    assert answer.status_code == 400
    sandbox.control("clock", advance_seconds=3600)
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == status


def test_a_debit_has_its_limits(sandbox: Sandbox) -> None:
    forms: list[dict[str, Any]] = [{"amount": 1_000_001}, {"currency": "usd"}, {"payment_method_types": ["card"]}]
    for form in forms:
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.pay("pm_success_de", **form)
    assert sandbox.pay("pm_success_de", 1_000_000).status == "processing"


def test_payment_methods_are_made_listed_and_detached(sandbox: Sandbox) -> None:
    methods = sandbox.client.v1.payment_methods
    customer = sandbox.client.v1.customers.create({})
    debit = methods.create(
        {
            "type": "sepa_debit",
            "sepa_debit": {"iban": "DE62370400440532013001"},
            "billing_details": {"name": "Example", "email": "customer@example.com"},
        }
    )
    methods.attach(debit.id, {"customer": customer.id})
    card = methods.attach("pm_card_visa", {"customer": customer.id})
    assert card.id != "pm_card_visa"
    assert [m.id for m in methods.list({"customer": customer.id}).data] == [card.id, debit.id]
    assert [m.id for m in methods.list({"customer": customer.id, "type": "sepa_debit"}).data] == [debit.id]
    listed = sandbox.client.v1.customers.payment_methods.list(customer.id)
    assert [m.id for m in listed.data] == [card.id, debit.id]
    intent = sandbox.pay(debit.id, customer=customer.id)
    sandbox.control("clock", advance_seconds=3600)
    assert sandbox.client.v1.payment_intents.retrieve(intent.id).status == "requires_payment_method"
    assert methods.detach(card.id).customer is None
    with pytest.raises(stripe.InvalidRequestError):
        methods.detach(card.id)
    with pytest.raises(stripe.InvalidRequestError):
        methods.create({"type": "sepa_debit", "sepa_debit": {"iban": "nonsense"}, "billing_details": {"name": "E"}})


def test_a_payment_method_belongs_to_one_customer(sandbox: Sandbox) -> None:
    customer, method = customer_with(sandbox, "pm_card_visa")
    stranger = sandbox.client.v1.customers.create({})
    forms: list[dict[str, Any]] = [{}, {"customer": stranger.id}]
    for form in forms:
        with pytest.raises(stripe.InvalidRequestError):
            sandbox.pay(method, **form)
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.client.v1.payment_methods.attach(method, {"customer": stranger.id})
    with pytest.raises(stripe.InvalidRequestError):
        sandbox.client.v1.customers.update(stranger.id, {"invoice_settings": {"default_payment_method": method}})
    default = sandbox.client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method}})
    assert default.invoice_settings is not None
    assert default.invoice_settings.default_payment_method == method


def test_intents_are_listed_by_customer(sandbox: Sandbox) -> None:
    customer, method = customer_with(sandbox, "pm_card_visa")
    made = [sandbox.pay(method, customer=customer) for _ in range(3)]
    sandbox.pay()
    found = sandbox.client.v1.payment_intents.list(
        {"customer": customer, "created": {"gte": made[0].created}, "limit": 10}
    )
    assert [intent.id for intent in found.data] == [intent.id for intent in reversed(made)]


def test_search_finds_by_metadata_once_indexed(sandbox: Sandbox) -> None:
    booking = unique("booking")
    query = f'metadata["booking"]:"{booking}" AND status:"succeeded"'
    search = sandbox.client.v1.payment_intents.search
    intent = sandbox.pay(metadata={"booking": booking})
    assert search({"query": query}).data == []
    sandbox.control("clock", advance_seconds=2)
    assert [found.id for found in search({"query": query}).data] == [intent.id]
    assert search({"query": f'metadata["booking"]:"{booking}" AND status:"canceled"'}).data == []
    assert search({"query": f'metadata["booking"]:"{booking}" AND amount>4900'}).data == []
    assert len(search({"query": f'metadata["booking"]:"{booking}" AND -currency:"usd"'}).data) == 1


def test_search_is_paged(sandbox: Sandbox) -> None:
    booking = unique("booking")
    made = [sandbox.pay(metadata={"booking": booking}).id for _ in range(3)]
    sandbox.control("clock", advance_seconds=2)
    search = sandbox.client.v1.payment_intents.search
    first = search({"query": f"metadata['booking']:'{booking}'", "limit": 2})
    assert [found.id for found in first.data] == [made[2], made[1]]
    assert first.next_page is not None
    second = search({"query": f"metadata['booking']:'{booking}'", "limit": 2, "page": first.next_page})
    assert [found.id for found in second.data] == [made[0]]
    assert not second.has_more


@pytest.mark.parametrize(
    "query", ["", "nonsense", 'colour:"red"', 'amount>"many"', 'status:"a" AND status:"b" OR status:"c"', 'status>"a"']
)
def test_a_search_that_cannot_be_read_is_refused(sandbox: Sandbox, query: str) -> None:
    assert sandbox.http.get("/v1/payment_intents/search", params={"query": query}).status_code == 400


def test_a_disputed_debit_is_disputed_after_it_succeeded(sandbox: Sandbox) -> None:
    intent = sandbox.pay("pm_disputed_de")
    sandbox.control(f"payment_intents/{intent.id}/settle")
    disputes = wait_for(
        lambda: sandbox.client.v1.disputes.list({"payment_intent": intent.id}).data, "the dispute of the debit"
    )
    assert disputes[0].status == "needs_response"
