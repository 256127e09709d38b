"""What the gateway reads from Stripe's answers, and which answers it does not believe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.ports import BalanceTransaction, OutcomeUnknown, PaymentGateway, PaymentStatus, PayoutStatus, RefundStatus
from tests.contracts.stripe_gateway_support import (
    FakeStripe,
    account,
    answer,
    charge,
    intent,
    movement,
    page,
    payout,
    refund,
    transfer,
)

SINCE = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


async def _movements(gateway: PaymentGateway) -> list[BalanceTransaction]:
    found = gateway.list_balance_transactions(created_after=SINCE, created_before=SINCE + timedelta(days=1))
    return [item async for item in found]


async def test_a_payment_in_full() -> None:
    payment = await FakeStripe(answer(intent())).gateway().get_payment("pi_1")
    assert payment.model_dump() == {
        "payment_intent_id": "pi_1",
        "status": PaymentStatus.SUCCEEDED,
        "amount_minor": 4900,
        "amount_received_minor": 4900,
        "currency": "EUR",
        "charge_id": "ch_1",
        "amount_refunded_minor": 0,
        "disputed": False,
        "fee_minor": 99,
        "balance_transaction_id": "txn_1",
        "failure_code": None,
        "failure_soft": False,
        "metadata": {"chain_uid": "uid-1", "billing_key": "charge:uid-1:1"},
    }


@pytest.mark.parametrize(
    ("stripes", "ours"),
    [
        ("succeeded", "succeeded"),
        ("processing", "processing"),
        ("requires_capture", "processing"),
        ("requires_action", "requires_customer"),
        ("requires_confirmation", "requires_customer"),
        ("requires_payment_method", "requires_customer"),
        ("canceled", "canceled"),
    ],
)
async def test_each_status_of_a_payment(stripes: str, ours: str) -> None:
    assert (await FakeStripe(answer(intent(status=stripes))).gateway().get_payment("pi_1")).status == ours


@pytest.mark.parametrize(
    ("latest_charge", "fee_minor", "movement_id"),
    [
        (None, None, None),
        (charge(balance_transaction=None), None, None),
        (charge(balance_transaction="txn_2"), None, "txn_2"),
        (charge(balance_transaction=movement(currency="usd")), None, "txn_1"),
        (charge(), 99, "txn_1"),
    ],
)
async def test_the_fee_is_known_or_none(latest_charge: object, fee_minor: int | None, movement_id: str | None) -> None:
    payment = await FakeStripe(answer(intent(latest_charge=latest_charge))).gateway().get_payment("pi_1")
    assert (payment.fee_minor, payment.balance_transaction_id) == (fee_minor, movement_id)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"last_payment_error": {"code": "card_declined", "decline_code": "insufficient_funds"}}, "insufficient_funds"),
        ({"last_payment_error": {"code": "expired_card"}}, "expired_card"),
        ({"latest_charge": charge(status="failed", failure_code="bank_account_closed")}, "bank_account_closed"),
        ({"latest_charge": charge(failure_code="old")}, None),
    ],
)
async def test_why_the_last_try_failed(changed: dict[str, Any], code: str | None) -> None:
    assert (await FakeStripe(answer(intent(**changed))).gateway().get_payment("pi_1")).failure_code == code


@pytest.mark.parametrize(
    ("stripes", "ours"),
    [
        ("succeeded", RefundStatus.SUCCEEDED),
        ("pending", RefundStatus.PENDING),
        ("requires_action", RefundStatus.PENDING),
        (None, RefundStatus.PENDING),
        ("failed", RefundStatus.FAILED),
        ("canceled", RefundStatus.CANCELED),
    ],
)
async def test_each_status_of_a_refund(stripes: str | None, ours: RefundStatus) -> None:
    assert (await FakeStripe(answer(refund(status=stripes))).gateway().get_refund("re_1")).status is ours


@pytest.mark.parametrize(
    "broken",
    [
        intent(amount="4900"),
        intent(amount=-1),
        intent(amount=49.0),
        intent(amount_received=True),
        intent(currency=None),
        intent(latest_charge="ch_1"),
        intent(latest_charge=charge(amount_refunded=None)),
        intent(id=""),
        intent(metadata=[]) | {"metadata": ["x"]},
    ],
)
async def test_an_answer_of_the_wrong_shape_is_no_figure(broken: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown, match="bad_answer"):
        await FakeStripe(answer(broken)).gateway().get_payment("pi_1")


@pytest.mark.parametrize(
    ("changed", "active"),
    [
        ({}, True),
        ({"capabilities": {"transfers": "pending"}}, False),
        ({"capabilities": {}}, False),
        ({"capabilities": None}, False),
    ],
)
async def test_an_account_is_ready_only_when_stripe_says_so(changed: dict[str, Any], active: bool) -> None:
    stripe = FakeStripe(answer(account(**changed, requirements={"disabled_reason": "rejected.fraud"})))
    found = await stripe.gateway().get_account("acct_1")
    assert (found.transfers_active, found.disabled_reason) == (active, "rejected.fraud")


@pytest.mark.parametrize(
    ("changed", "currency", "due"),
    [
        ({}, "EUR", ()),
        ({"default_currency": "jpy"}, "JPY", ()),
        ({"default_currency": None}, None, ()),
        ({"requirements": {"currently_due": ["external_account", "tos_acceptance.date"]}}, "EUR",
         ("external_account", "tos_acceptance.date")),
        ({"requirements": {"currently_due": None}}, "EUR", ()),
        ({"requirements": None}, "EUR", ()),
    ],
)  # fmt: skip
async def test_an_account_says_its_currency_and_what_is_asked(
    changed: dict[str, Any], currency: str | None, due: tuple[str, ...]
) -> None:
    found = await FakeStripe(answer(account(**changed))).gateway().get_account("acct_1")
    assert (found.default_currency, found.requirements) == (currency, due)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("pending", PayoutStatus.PENDING),
        ("in_transit", PayoutStatus.IN_TRANSIT),
        ("paid", PayoutStatus.PAID),
        ("failed", PayoutStatus.FAILED),
        ("canceled", PayoutStatus.CANCELED),
        ("new_at_stripe", PayoutStatus.PENDING),
    ],
)
async def test_a_payout_is_read_in_its_account(said: str, status: PayoutStatus) -> None:
    stripe = FakeStripe(answer(payout(status=said, failure_code="no_account", currency="jpy")))
    found = await stripe.gateway().get_payout("acct_1", "po_1")
    assert stripe.requests[0].headers["stripe-account"] == "acct_1"
    assert (found.status, found.amount_minor, found.currency) == (status, 1225, "JPY")
    assert (found.failure_code, found.arrives_on.isoformat()) == ("no_account", "2026-01-01")


@pytest.mark.parametrize("field", ["amount", "arrival_date", "created", "currency", "id"])
async def test_a_payout_that_cannot_be_read_is_unknown(field: str) -> None:
    with pytest.raises(OutcomeUnknown, match=field):
        await FakeStripe(answer(payout(**{field: None}))).gateway().get_payout("acct_1", "po_1")


async def test_the_balance_counts_one_currency_and_may_be_negative() -> None:
    funds = [{"amount": -700, "currency": "eur"}, {"amount": 100, "currency": "eur"}, {"amount": 9, "currency": "usd"}]
    gateway = FakeStripe(answer({"available": funds})).gateway()
    assert await gateway.available_balance_minor("EUR") == -600


async def test_balance_transactions_over_all_pages() -> None:
    stripe = FakeStripe(
        answer(page(movement(id="txn_3"), movement(id="txn_2", amount=-1225, fee=0, type="transfer"), has_more=True)),
        answer(page(movement(id="txn_1"))),
    )
    found = await _movements(stripe.gateway())
    assert [(item.balance_transaction_id, item.amount_minor, item.is_credit) for item in found] == [
        ("txn_3", 4900, True),
        ("txn_2", 1225, False),
        ("txn_1", 4900, True),
    ]
    assert stripe.requests[1].url.params["starting_after"] == "txn_2"
    assert found[0].created_at == datetime.fromtimestamp(1_790_000_000, tz=UTC)


@pytest.mark.parametrize("broken", [{"data": None}, {"data": [1]}, {"data": [{"object": "x"}], "has_more": True}])
async def test_a_list_of_the_wrong_shape_is_no_list(broken: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown, match="bad_answer"):
        await _movements(FakeStripe(answer(broken)).gateway())


async def test_lookups_go_on_to_the_page_that_holds_the_key() -> None:
    other = {"billing_key": "transfer:uid-1:r-2"}
    stripe = FakeStripe(
        answer(page(transfer(id="tr_9", metadata=other), transfer(id="tr_8", metadata=None), has_more=True)),
        answer(page(transfer(id="tr_7"), transfer(id="tr_6", metadata=other), has_more=True)),
    )
    found = await stripe.gateway().find_transfer(transfer_group="uid-1", idempotency_key="transfer:uid-1:r-1")
    assert found is not None
    assert found.transfer_id == "tr_7"


async def test_a_lookup_that_finds_nothing() -> None:
    other = {"billing_key": "another"}
    stripe = FakeStripe(
        answer(page(intent(metadata=other))), answer(page(refund(metadata=other))), answer(page()), answer(page())
    )
    gateway = stripe.gateway()
    key = "charge:uid-1:1"
    assert await gateway.find_payment(stripe_customer_id="cus_1", idempotency_key=key, created_after=SINCE) is None
    assert await gateway.find_refund(payment_intent_id="pi_1", idempotency_key=key) is None
    assert await gateway.find_transfer(transfer_group="uid-1", idempotency_key=key) is None
    assert await gateway.find_reversal(transfer_id="tr_1", idempotency_key=key) is None


async def test_of_two_payments_with_one_key_the_paid_one_counts() -> None:
    stripe = FakeStripe(
        answer(
            page(intent(id="pi_2", status="canceled"), intent(id="pi_3", status="requires_payment_method"), intent())
        )
    )
    found = await stripe.gateway().find_payment(
        stripe_customer_id="cus_1", idempotency_key="charge:uid-1:1", created_after=SINCE
    )
    assert found is not None
    assert found.payment_intent_id == "pi_1"
