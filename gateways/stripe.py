"""The Stripe gateway: `domain.ports.PaymentGateway` over the official library.

One method, one call, except where Stripe's refusal is ambiguous: then the object itself is read, because over-refunds
and over-reversals come with a code, with another, or with none.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

import httpx

from domain.ports import (
    AccountLink,
    BalanceTransaction,
    ConnectedAccount,
    OutcomeUnknown,
    OutsideError,
    Payment,
    PaymentStatus,
    Payout,
    Refund,
    Refused,
    SetupError,
    Transfer,
    TransferReversal,
)
from gateways import stripe_objects as objects
from gateways.stripe_calls import StripeCalls, read
from gateways.stripe_errors import InvalidRequest, Operation

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far before the asked time a lookup starts: our clock and Stripe's may differ. The key decides, not the time."""

HARMLESS_DISPUTES = ("won", "prevented", "warning_needs_response", "warning_under_review", "warning_closed")
"""Statuses of a dispute that hold no money of ours, or no longer: an inquiry, or one that was won."""

_EXPAND_PAYMENT: Final = ["latest_charge.balance_transaction"]
_ID: Final = re.compile(r"^[A-Za-z0-9_]{1,255}\Z")


def _checked_id(value: str, what: str) -> str:
    """An id that may stand in a URL. Not echoed in the error: it may be anything."""
    if not _ID.match(value):
        raise SetupError("bad_id", f"{what} is not an id of Stripe")
    return value


def _checked_amount(value: int) -> int:
    """Stripe's library sends what it is given, also 50.5."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise SetupError("bad_amount", "an amount is a positive whole number of minor units")
    return value


def _epoch(at: datetime) -> int:
    """Whole seconds. A time without a zone would silently be read in the machine's."""
    if at.tzinfo is None:
        raise SetupError("bad_time", "a time without a zone")
    return int(at.timestamp())


class StripeGateway:
    """`PaymentGateway` with one keep-alive pool. Make one per process and event loop, `aclose` it at the end.

    `base_url` is Stripe's own address where it is None; `timeout_seconds` bounds a whole call, connecting included.
    `transport` replaces the network (tests). Raises ValueError on an empty or impossible key or address.
    """

    def __init__(
        self,
        *,
        secret_key: str,
        base_url: str | None = None,
        timeout_seconds: float = 20,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._calls = StripeCalls(
            secret_key=secret_key, base_url=base_url, timeout_seconds=timeout_seconds, transport=transport
        )

    async def aclose(self) -> None:
        """Cuts off calls under way: their outcome is unknown."""
        await self._calls.aclose()

    # --- customers -------------------------------------------------------------------------------------------------

    async def create_customer(self, *, customer_id: str, idempotency_key: str) -> str:
        params = {"metadata": {"customer_id": customer_id}}
        data = await self._calls.write(Operation.CREATE_CUSTOMER, "/v1/customers", params, idempotency_key)
        return read(Operation.CREATE_CUSTOMER, lambda answer: objects.text(answer, "id"), data)

    async def attach_payment_method(self, *, stripe_customer_id: str, payment_method: str, idempotency_key: str) -> str:
        """A test token (`pm_card_visa`) becomes a new payment method with its own id, which is returned."""
        path = f"/v1/payment_methods/{_checked_id(payment_method, 'payment method')}"
        params = {"customer": _checked_id(stripe_customer_id, "customer")}
        try:
            data = await self._calls.write(Operation.ATTACH, f"{path}/attach", params, idempotency_key, metadata=False)
        except InvalidRequest:
            if not await self._is_attached(path, stripe_customer_id):
                raise
            return payment_method
        return read(Operation.ATTACH, lambda answer: objects.text(answer, "id"), data)

    async def _is_attached(self, path: str, stripe_customer_id: str) -> bool:
        """Whether an attach that was refused had been done before, under a key that Stripe has forgotten."""
        try:
            data = await self._calls.get(path)
        except SetupError:
            return False
        return read(Operation.READ, lambda answer: objects.reference(answer, "customer"), data) == (stripe_customer_id)

    # --- payments --------------------------------------------------------------------------------------------------

    async def charge(
        self,
        *,
        amount_minor: int,
        currency: str,
        stripe_customer_id: str,
        payment_method_id: str,
        chain_uid: str,
        description: str,
        idempotency_key: str,
    ) -> Payment:
        """Also raises Refused where Stripe answers 200 but took no money and waits for the customer."""
        params = {
            "amount": _checked_amount(amount_minor),
            "currency": currency.lower(),
            "customer": stripe_customer_id,
            "payment_method": payment_method_id,
            "confirm": True,
            "off_session": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "description": description,
            "transfer_group": chain_uid,
            "metadata": {"chain_uid": chain_uid},
            "expand": _EXPAND_PAYMENT,
        }
        data = await self._calls.write(Operation.CHARGE, "/v1/payment_intents", params, idempotency_key)
        payment = read(Operation.CHARGE, objects.payment, data)
        if payment.status is PaymentStatus.REQUIRES_CUSTOMER:
            raise Refused(
                payment.failure_code or "authentication_required",
                f"charge, {data.get('status')}, {payment.payment_intent_id}",
                needs_customer=data.get("status") == "requires_action",
                object_id=payment.payment_intent_id,
            )
        return payment

    async def get_payment(self, payment_intent_id: str) -> Payment:
        path = f"/v1/payment_intents/{_checked_id(payment_intent_id, 'payment intent')}"
        payment = read(Operation.READ, objects.payment, await self._calls.get(path, {"expand": _EXPAND_PAYMENT}))
        if payment.disputed and not await self._has_costly_dispute(payment_intent_id):
            return payment.model_copy(update={"disputed": False})
        return payment

    async def _has_costly_dispute(self, payment_intent_id: str) -> bool:
        """The charge says `disputed` for ever; only the disputes themselves say how they ended."""
        async for item in self._calls.pages("/v1/disputes", {"payment_intent": payment_intent_id}):
            if item.get("status") not in HARMLESS_DISPUTES:
                return True
        return False

    async def find_payment(
        self, *, stripe_customer_id: str, idempotency_key: str, created_after: datetime
    ) -> Payment | None:
        """Where several hold the key (they should not), the one that moved money is returned."""
        params = {
            "customer": _checked_id(stripe_customer_id, "customer"),
            "created": {"gte": _epoch(created_after - CLOCK_SKEW)},
            "expand": [f"data.{name}" for name in _EXPAND_PAYMENT],
        }
        found = [
            read(Operation.READ, objects.payment, item)
            async for item in self._calls.with_key("/v1/payment_intents", params, idempotency_key)
        ]
        rank = list(PaymentStatus)
        return min(found, key=lambda payment: rank.index(payment.status), default=None)

    async def cancel_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Also Refused (`still_processing`, soft) for a SEPA debit under way, which Stripe does not call back."""
        path = f"/v1/payment_intents/{_checked_id(payment_intent_id, 'payment intent')}/cancel"
        params = {"expand": _EXPAND_PAYMENT}
        try:
            data = await self._calls.write(Operation.CANCEL, path, params, idempotency_key, metadata=False)
        except InvalidRequest as error:
            if error.code != "payment_intent_unexpected_state":
                raise
        else:
            return read(Operation.CANCEL, objects.payment, data)
        payment = await self.get_payment(payment_intent_id)
        if payment.status is PaymentStatus.CANCELED:
            return payment
        message = f"{Operation.CANCEL}, {payment_intent_id}"
        if payment.status is PaymentStatus.SUCCEEDED:
            raise Refused("already_succeeded", message, object_id=payment_intent_id)
        if payment.status is PaymentStatus.PROCESSING:
            raise Refused("still_processing", message, soft=True, object_id=payment_intent_id)
        raise OutcomeUnknown("changed_meanwhile", message)

    # --- refunds ---------------------------------------------------------------------------------------------------

    async def refund(
        self, *, payment_intent_id: str, amount_minor: int, chain_uid: str, idempotency_key: str
    ) -> Refund:
        """Also Refused: `still_processing` (soft) for a SEPA debit under way, `payment_intent_unexpected_state` where
        nothing was charged, `balance_insufficient` (soft), `charge_not_refundable`."""
        params = {
            "payment_intent": _checked_id(payment_intent_id, "payment intent"),
            "amount": _checked_amount(amount_minor),
            "metadata": {"chain_uid": chain_uid},
        }
        try:
            data = await self._calls.write(Operation.REFUND, "/v1/refunds", params, idempotency_key)
        except InvalidRequest as error:
            raise await self._why_not_refunded(error, payment_intent_id, amount_minor) from None
        return read(Operation.REFUND, lambda answer: objects.refund(answer, payment_intent_id=payment_intent_id), data)

    async def _why_not_refunded(self, error: InvalidRequest, payment_intent_id: str, amount_minor: int) -> OutsideError:
        """What the payment itself says, where Stripe's code does not: an over-refund has one code, another, or none."""
        try:
            payment = await self.get_payment(payment_intent_id)
        except SetupError:
            return error
        if payment.status is PaymentStatus.PROCESSING:
            return Refused("still_processing", error.message, soft=True, object_id=payment_intent_id)
        if payment.status is not PaymentStatus.SUCCEEDED:
            return Refused("payment_intent_unexpected_state", error.message, object_id=payment_intent_id)
        if payment.amount_received_minor - payment.amount_refunded_minor < amount_minor:
            return Refused("charge_already_refunded", error.message)
        if payment.disputed:
            return Refused("charge_disputed", error.message)
        return error

    async def get_refund(self, refund_id: str) -> Refund:
        data = await self._calls.get(f"/v1/refunds/{_checked_id(refund_id, 'refund')}")
        return read(Operation.READ, objects.refund, data)

    async def list_refunds(self, payment_intent_id: str) -> tuple[Refund, ...]:
        params = {"payment_intent": _checked_id(payment_intent_id, "payment intent")}
        found = [read(Operation.READ, objects.refund, item) async for item in self._calls.pages("/v1/refunds", params)]
        return tuple(reversed(found))

    async def find_refund(self, *, payment_intent_id: str, idempotency_key: str) -> Refund | None:
        params = {"payment_intent": _checked_id(payment_intent_id, "payment intent")}
        async for item in self._calls.with_key("/v1/refunds", params, idempotency_key):
            return read(Operation.READ, objects.refund, item)
        return None

    # --- connected accounts ----------------------------------------------------------------------------------------

    async def get_account(self, account_id: str) -> ConnectedAccount:
        """NotFound also where the reseller has cut the connection to the platform."""
        data = await self._calls.get(f"/v1/accounts/{_checked_id(account_id, 'account')}")
        return read(Operation.READ, objects.account, data)

    async def create_account(self, *, reseller_id: str, country: str, idempotency_key: str) -> ConnectedAccount:
        params = {
            "country": country.upper(),
            "controller": {
                "fees": {"payer": "application"},
                "losses": {"payments": "application"},
                "requirement_collection": "application",
                "stripe_dashboard": {"type": "none"},
            },
            "capabilities": {"transfers": {"requested": True}},
            "metadata": {"reseller_id": reseller_id},
        }
        data = await self._calls.write(Operation.ACCOUNT, "/v1/accounts", params, idempotency_key)
        return read(Operation.ACCOUNT, objects.account, data)

    async def find_account(self, *, idempotency_key: str, created_after: datetime) -> ConnectedAccount | None:
        params = {"created": {"gte": _epoch(created_after - CLOCK_SKEW)}}
        async for item in self._calls.with_key("/v1/accounts", params, idempotency_key):
            return read(Operation.READ, objects.account, item)
        return None

    async def create_account_link(
        self, *, account_id: str, refresh_url: str, return_url: str, idempotency_key: str
    ) -> AccountLink:
        """The address works once and for a few minutes: make a new key for each time that it is shown."""
        params = {
            "account": _checked_id(account_id, "account"),
            "refresh_url": refresh_url,
            "return_url": return_url,
            "type": "account_onboarding",
        }
        data = await self._calls.write(
            Operation.ACCOUNT_LINK, "/v1/account_links", params, idempotency_key, metadata=False
        )
        return read(Operation.ACCOUNT_LINK, objects.account_link, data)

    async def get_payout(self, account_id: str, payout_id: str) -> Payout:
        path = f"/v1/payouts/{_checked_id(payout_id, 'payout')}"
        data = await self._calls.get(path, account_id=_checked_id(account_id, "account"))
        return read(Operation.READ, objects.payout, data)

    # --- transfers -------------------------------------------------------------------------------------------------

    async def transfer(
        self,
        *,
        amount_minor: int,
        currency: str,
        destination_account_id: str,
        transfer_group: str,
        source_charge_id: str | None,
        metadata: dict[str, str],
        idempotency_key: str,
    ) -> Transfer:
        params: dict[str, Any] = {
            "amount": _checked_amount(amount_minor),
            "currency": currency.lower(),
            "destination": destination_account_id,
            "transfer_group": transfer_group,
            "metadata": metadata,
        }
        if source_charge_id is not None:
            params["source_transaction"] = source_charge_id
        data = await self._calls.write(Operation.TRANSFER, "/v1/transfers", params, idempotency_key)
        return read(Operation.TRANSFER, objects.transfer, data)

    async def get_transfer(self, transfer_id: str) -> Transfer:
        data = await self._calls.get(f"/v1/transfers/{_checked_id(transfer_id, 'transfer')}")
        return read(Operation.READ, objects.transfer, data)

    async def find_transfer(self, *, transfer_group: str, idempotency_key: str) -> Transfer | None:
        async for item in self._calls.with_key("/v1/transfers", {"transfer_group": transfer_group}, idempotency_key):
            return read(Operation.READ, objects.transfer, item)
        return None

    async def reverse_transfer(self, *, transfer_id: str, amount_minor: int, idempotency_key: str) -> TransferReversal:
        path = f"/v1/transfers/{_checked_id(transfer_id, 'transfer')}/reversals"
        params = {"amount": _checked_amount(amount_minor)}
        try:
            data = await self._calls.write(Operation.REVERSE, path, params, idempotency_key)
        except InvalidRequest as error:
            transfer = await self.get_transfer(transfer_id)
            if transfer.amount_minor - transfer.amount_reversed_minor < amount_minor:
                raise Refused("already_reversed", error.message) from None
            raise
        return read(Operation.REVERSE, objects.transfer_reversal, data)

    async def find_reversal(self, *, transfer_id: str, idempotency_key: str) -> TransferReversal | None:
        path = f"/v1/transfers/{_checked_id(transfer_id, 'transfer')}/reversals"
        async for item in self._calls.with_key(path, {}, idempotency_key):
            return read(Operation.READ, objects.transfer_reversal, item)
        return None

    async def list_reversals(self, transfer_id: str) -> tuple[TransferReversal, ...]:
        path = f"/v1/transfers/{_checked_id(transfer_id, 'transfer')}/reversals"
        found = [read(Operation.READ, objects.transfer_reversal, item) async for item in self._calls.pages(path, {})]
        return tuple(reversed(found))

    # --- balance ---------------------------------------------------------------------------------------------------

    async def available_balance_minor(self, currency: str) -> int:
        data = await self._calls.get("/v1/balance")
        return read(Operation.READ, lambda answer: objects.available_minor(answer, currency), data)

    async def list_balance_transactions(
        self, *, created_after: datetime, created_before: datetime
    ) -> AsyncIterator[BalanceTransaction]:
        """The interval includes its start and excludes its end, in whole seconds, so that days join without a gap."""
        created = {"gte": _epoch(created_after), "lt": _epoch(created_before)}
        async for item in self._calls.pages("/v1/balance_transactions", {"created": created}):
            yield read(Operation.READ, objects.balance_transaction, item)
