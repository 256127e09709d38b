"""Stripe's test payment methods and what each of them does (docs.stripe.com/testing, …/payments/sepa-debit)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

_DECLINED = "Your card was declined."


@dataclass(frozen=True)
class Decline:
    """How an issuer refuses: Stripe's error code, the finer decline code, and the sentence for the customer."""

    code: str
    decline_code: str
    message: str


@dataclass(frozen=True)
class TestMethod:
    """One test payment method. ``authentication``: ``unsaved`` asks only while the customer is there (SCA set-up)."""

    __test__ = False

    type: Literal["card", "sepa_debit"] = "card"
    brand: str = "visa"
    last4: str = "4242"
    country: str = "US"
    funding: str = "credit"
    decline: Decline | None = None
    authentication: Literal["never", "always", "unsaved"] = "never"
    dispute_reason: str | None = None
    dispute_status: Literal["needs_response", "warning_needs_response"] = "needs_response"
    refund: Literal["succeeded", "pending", "fails_later"] = "succeeded"
    available_at_once: bool = False
    sepa_failure: tuple[str, str] | None = None
    delayed: bool = False


def _decline(code: str, decline_code: str, message: str) -> Decline:
    return Decline(code, decline_code, message)


_GENERIC = _decline("card_declined", "generic_decline", _DECLINED)
_FUNDS = _decline("card_declined", "insufficient_funds", "Your card has insufficient funds.")

_CARDS: dict[str, TestMethod] = {
    "visa": TestMethod(),
    "visa_debit": TestMethod(last4="5556", funding="debit"),
    "mastercard": TestMethod(brand="mastercard", last4="4444"),
    "mastercard_debit": TestMethod(brand="mastercard", last4="3222", funding="debit"),
    "amex": TestMethod(brand="amex", last4="0005"),
    "de": TestMethod(last4="0016", country="DE"),
    "at": TestMethod(last4="0008", country="AT"),
    "nl": TestMethod(last4="0010", country="NL"),
    "bypassPending": TestMethod(last4="0077", available_at_once=True),
    "chargeDeclined": TestMethod(last4="0002", decline=_GENERIC),
    "chargeCustomerFail": TestMethod(last4="0341", decline=_GENERIC),
    "chargeDeclinedInsufficientFunds": TestMethod(last4="9995", decline=_FUNDS),
    "chargeDeclinedLostCard": TestMethod(last4="9987", decline=_decline("card_declined", "lost_card", _DECLINED)),
    "chargeDeclinedStolenCard": TestMethod(last4="9979", decline=_decline("card_declined", "stolen_card", _DECLINED)),
    "chargeDeclinedFraudulent": TestMethod(last4="0019", decline=_decline("card_declined", "fraudulent", _DECLINED)),
    "chargeDeclinedExpiredCard": TestMethod(
        last4="0069", decline=_decline("expired_card", "expired_card", "Your card has expired.")
    ),
    "chargeDeclinedIncorrectCvc": TestMethod(
        last4="0127", decline=_decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
    ),
    "chargeDeclinedProcessingError": TestMethod(
        last4="0119",
        decline=_decline(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
    ),
    "chargeDeclinedVelocityLimitExceeded": TestMethod(
        last4="6975", decline=_decline("card_declined", "card_velocity_exceeded", _DECLINED)
    ),
    "authenticationRequired": TestMethod(last4="3184", authentication="always"),
    "authenticationRequiredOnSetup": TestMethod(last4="3155", authentication="unsaved"),
    "authenticationRequiredChargeDeclinedInsufficientFunds": TestMethod(
        last4="3178", authentication="always", decline=_FUNDS
    ),
    "createDispute": TestMethod(last4="0259", dispute_reason="fraudulent"),
    "createDisputeProductNotReceived": TestMethod(last4="2685", dispute_reason="product_not_received"),
    "createDisputeInquiry": TestMethod(
        last4="1976", dispute_reason="fraudulent", dispute_status="warning_needs_response"
    ),
    "pendingRefund": TestMethod(last4="7726", refund="pending"),
    "refundFail": TestMethod(last4="5126", refund="fails_later"),
}
_CARD_ALIASES = {"threeDSecure2Required": "authenticationRequired", "threeDSecureRequired": "authenticationRequired"}
_CARD_NUMBERS = {
    "4242424242424242": "visa",
    "5555555555554444": "mastercard",
    "4000000000000077": "bypassPending",
    "4000000000000002": "chargeDeclined",
    "4000000000000341": "chargeCustomerFail",
    "4000000000009995": "chargeDeclinedInsufficientFunds",
    "4000002760003184": "authenticationRequired",
    "4000002500003155": "authenticationRequiredOnSetup",
    "4000000000000259": "createDispute",
    "4000000000007726": "pendingRefund",
    "4000000000005126": "refundFail",
}

_SEPA = TestMethod(type="sepa_debit", brand="", last4="3000", country="DE")
_SEPA_METHODS: dict[str, TestMethod] = {
    "success": _SEPA,
    "successDelayed": replace(_SEPA, last4="3003", delayed=True),
    "failed": replace(_SEPA, last4="3001", sepa_failure=("generic_decline", "The bank returned the debit.")),
    "failedDelayed": replace(
        _SEPA, last4="3004", sepa_failure=("generic_decline", "The bank returned the debit."), delayed=True
    ),
    "insufficientFunds": replace(
        _SEPA, last4="3005", sepa_failure=("insufficient_funds", "The customer's account has insufficient funds.")
    ),
    "disputed": replace(_SEPA, last4="3002", dispute_reason="debit_not_authorized"),
}
_IBANS = {
    "DE89370400440532013000": "success",
    "DE08370400440532013003": "successDelayed",
    "DE62370400440532013001": "failed",
    "DE78370400440532013004": "failedDelayed",
    "DE65370400440000000005": "insufficientFunds",
    "DE35370400440532013002": "disputed",
}
_SEPA_TOKEN = re.compile(
    r"pm_(?:sepaDebit_)?(success|successDelayed|failed|failedDelayed|insufficientFunds|disputed)"
    r"(?:_[a-z]{2})?"
)


def find(token: str) -> TestMethod | None:
    """The test method behind ``pm_card_visa``, ``pm_card_visa_chargeDeclined``, ``pm_success_de``, …; None: not one."""
    if token.startswith("pm_card_"):
        name = token.removeprefix("pm_card_")
        name = _CARD_ALIASES.get(name, name)
        return _CARDS.get(name) or _CARDS.get(name.removeprefix("visa_"))
    match = _SEPA_TOKEN.fullmatch(token)
    return _SEPA_METHODS[match.group(1)] if match else None


def token_of_iban(iban: str) -> str | None:
    """The test token that behaves as this IBAN does; an unlisted German-looking IBAN succeeds."""
    bare = iban.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{10,30}", bare):
        return None
    return f"pm_sepaDebit_{_IBANS.get(bare, 'success')}"


def token_of_card_number(number: str) -> str | None:
    """The test token of a test card number; None where Stripe would call the number incorrect in test mode."""
    name = _CARD_NUMBERS.get(number.replace(" ", ""))
    return f"pm_card_{name}" if name else None
