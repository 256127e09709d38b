"""Stripe's JSON objects as the records of the port. Pure: dictionaries in, records out.

Anything that is not as expected raises `BadAnswer`; the gateway makes an unknown outcome of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from domain.ports import (
    AccountLink,
    BalanceTransaction,
    ConnectedAccount,
    Payment,
    PaymentStatus,
    Payout,
    PayoutStatus,
    Refund,
    RefundStatus,
    Transfer,
    TransferReversal,
)
from gateways.stripe_errors import SOFT_DECLINES

Json = Mapping[str, Any]


class BadAnswer(Exception):
    """A field of an answer is missing or of the wrong kind. Names the field, never its value."""


_PAYMENT_STATUS: Final[Mapping[str, PaymentStatus]] = {
    "succeeded": PaymentStatus.SUCCEEDED,
    "processing": PaymentStatus.PROCESSING,
    "requires_capture": PaymentStatus.PROCESSING,
    "requires_action": PaymentStatus.REQUIRES_CUSTOMER,
    "requires_confirmation": PaymentStatus.REQUIRES_CUSTOMER,
    "requires_payment_method": PaymentStatus.REQUIRES_CUSTOMER,
    "canceled": PaymentStatus.CANCELED,
}

_REFUND_STATUS: Final[Mapping[str | None, RefundStatus]] = {
    None: RefundStatus.PENDING,
    "pending": RefundStatus.PENDING,
    "requires_action": RefundStatus.PENDING,
    "succeeded": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.CANCELED,
}


def text(data: Json, field: str) -> str:
    value = data.get(field)
    if not isinstance(value, str) or not value:
        raise BadAnswer(field)
    return value


def number(data: Json, field: str) -> int:
    value = data.get(field)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadAnswer(field)
    return value


def _amount(data: Json, field: str) -> int:
    value = number(data, field)
    if value < 0:
        raise BadAnswer(field)
    return value


def _currency(data: Json) -> str:
    return text(data, "currency").upper()


def _moment(data: Json, field: str) -> datetime:
    try:
        return datetime.fromtimestamp(number(data, field), tz=UTC)
    except (OverflowError, OSError, ValueError):
        raise BadAnswer(field) from None


def _metadata(data: Json) -> dict[str, str]:
    value = data.get("metadata") or {}
    if not isinstance(value, Mapping):
        raise BadAnswer("metadata")
    return {str(key): str(item) for key, item in value.items()}


def reference(data: Json, field: str) -> str | None:
    """The id in a field that holds an id, an expanded object or nothing."""
    value = data.get(field)
    if isinstance(value, Mapping):
        value = value.get("id")
    if value is not None and not isinstance(value, str):
        raise BadAnswer(field)
    return value


def _required_reference(data: Json, field: str) -> str:
    value = reference(data, field)
    if value is None:
        raise BadAnswer(field)
    return value


def _failure_code(intent: Json, charge: Json | None) -> str | None:
    """The issuer's own word where there is one, else Stripe's."""
    error = intent.get("last_payment_error")
    if isinstance(error, Mapping):
        found = error.get("decline_code") or error.get("code")
        if isinstance(found, str):
            return found
    if charge is not None and charge.get("status") == "failed":
        found = charge.get("failure_code")
        return found if isinstance(found, str) else None
    return None


def payment(intent: Json) -> Payment:
    """A PaymentIntent whose `latest_charge.balance_transaction` was expanded.

    The fee stays None where the balance transaction is in another currency than the payment: it is then no figure of
    this payment's currency.
    """
    status = _PAYMENT_STATUS.get(text(intent, "status"))
    if status is None:
        raise BadAnswer("status")
    currency = _currency(intent)
    charge = intent.get("latest_charge")
    if charge is not None and not isinstance(charge, Mapping):
        raise BadAnswer("latest_charge")
    movement = charge.get("balance_transaction") if charge is not None else None
    fee_minor = None
    if isinstance(movement, Mapping) and _currency(movement) == currency:
        fee_minor = _amount(movement, "fee")
    failure = _failure_code(intent, charge)
    return Payment(
        payment_intent_id=text(intent, "id"),
        status=status,
        amount_minor=_amount(intent, "amount"),
        amount_received_minor=_amount(intent, "amount_received"),
        currency=currency,
        charge_id=text(charge, "id") if charge is not None else None,
        amount_refunded_minor=_amount(charge, "amount_refunded") if charge is not None else 0,
        disputed=charge is not None and charge.get("disputed") is True,
        fee_minor=fee_minor,
        balance_transaction_id=reference(charge, "balance_transaction") if charge is not None else None,
        failure_code=failure,
        failure_soft=failure in SOFT_DECLINES,
        metadata=_metadata(intent),
    )


def refund(data: Json, *, payment_intent_id: str | None = None) -> Refund:
    """`payment_intent_id` stands in where the refund names none (a charge made without a PaymentIntent)."""
    try:
        status = _REFUND_STATUS[data.get("status")]
    except (KeyError, TypeError):
        raise BadAnswer("status") from None
    return Refund(
        refund_id=text(data, "id"),
        status=status,
        amount_minor=_amount(data, "amount"),
        currency=_currency(data),
        payment_intent_id=reference(data, "payment_intent") or payment_intent_id or "",
        charge_id=reference(data, "charge"),
        metadata=_metadata(data),
    )


def transfer(data: Json) -> Transfer:
    group = data.get("transfer_group")
    return Transfer(
        transfer_id=text(data, "id"),
        amount_minor=_amount(data, "amount"),
        amount_reversed_minor=_amount(data, "amount_reversed"),
        currency=_currency(data),
        destination_account_id=_required_reference(data, "destination"),
        transfer_group=group if isinstance(group, str) else None,
        metadata=_metadata(data),
    )


def transfer_reversal(data: Json) -> TransferReversal:
    return TransferReversal(
        reversal_id=text(data, "id"),
        transfer_id=_required_reference(data, "transfer"),
        amount_minor=_amount(data, "amount"),
        currency=_currency(data),
        metadata=_metadata(data),
    )


def account(data: Json) -> ConnectedAccount:
    """Absent capabilities or requirements count as not active: money goes only where Stripe says that it may."""
    capabilities = data.get("capabilities")
    requirements = data.get("requirements")
    asked = requirements if isinstance(requirements, Mapping) else {}
    disabled, due, currency = asked.get("disabled_reason"), asked.get("currently_due"), data.get("default_currency")
    return ConnectedAccount(
        account_id=text(data, "id"),
        transfers_active=isinstance(capabilities, Mapping) and capabilities.get("transfers") == "active",
        payouts_enabled=data.get("payouts_enabled") is True,
        disabled_reason=disabled if isinstance(disabled, str) else None,
        default_currency=currency.upper() if isinstance(currency, str) else None,
        requirements=tuple(name for name in due if isinstance(name, str)) if isinstance(due, list) else (),
    )


def account_link(data: Json) -> AccountLink:
    return AccountLink(url=text(data, "url"), expires_at=_moment(data, "expires_at"))


def payout(data: Json) -> Payout:
    """A status that is new at Stripe reads as pending: nothing is known to have arrived."""
    status, code = data.get("status"), data.get("failure_code")
    return Payout(
        payout_id=text(data, "id"),
        status=PayoutStatus(status) if status in set(PayoutStatus) else PayoutStatus.PENDING,
        amount_minor=_amount(data, "amount"),
        currency=_currency(data),
        failure_code=code if isinstance(code, str) else None,
        arrives_on=_moment(data, "arrival_date").date(),
        created_at=_moment(data, "created"),
    )


def balance_transaction(data: Json) -> BalanceTransaction:
    amount_minor = number(data, "amount")
    return BalanceTransaction(
        balance_transaction_id=text(data, "id"),
        type=text(data, "type"),
        source_id=reference(data, "source"),
        amount_minor=abs(amount_minor),
        is_credit=amount_minor >= 0,
        fee_minor=number(data, "fee"),
        currency=_currency(data),
        created_at=_moment(data, "created"),
    )


def available_minor(balance: Json, currency: str) -> int:
    """Sum of the available funds in one currency; negative where refunds and disputes ate more than came in."""
    funds = balance.get("available")
    if not isinstance(funds, list):
        raise BadAnswer("available")
    return sum(number(fund, "amount") for fund in funds if _currency(fund) == currency.upper())
