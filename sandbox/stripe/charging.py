"""What happens when a PaymentIntent is confirmed: success, decline, authentication, or a debit that answers late."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import balance, catalog, shapes
from sandbox.stripe.context import Context
from sandbox.stripe.customers import resolve_method
from sandbox.stripe.errors import ApiError, JsonObject, invalid, money
from sandbox.stripe.rendering import render, with_intent

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
SEPA_MAXIMUM_MINOR = 1_000_000
_AUTHENTICATION_MESSAGE = "Your card was declined. This transaction requires authentication."


def unexpected_state(ctx: Context, intent: JsonObject, message: str) -> ApiError:
    """400 ``payment_intent_unexpected_state`` with the PaymentIntent in it."""
    return with_intent(ctx, invalid(message, code="payment_intent_unexpected_state"), intent)


def confirm(ctx: Context, intent: JsonObject, params: dict[str, Any]) -> JsonObject:
    """Confirms; raises a 402 whose effects stay (failed charge, ``requires_payment_method``) when the payment fails."""
    status = intent["status"]
    if status not in CONFIRMABLE:
        detail = (
            "it has already succeeded after being previously confirmed"
            if status == "succeeded"
            else (f"it has a status of {status}")
        )
        raise unexpected_state(ctx, intent, f"You cannot confirm this PaymentIntent because {detail}.")
    given = params.get("payment_method") or intent["payment_method"]
    if given is None:
        raise unexpected_state(
            ctx,
            intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method or ConfirmationToken.",
        )
    method = resolve_method(ctx, given)
    _require_usable(ctx, intent, method)
    behaviour = catalog.find(method["_token"]) or catalog.TestMethod()
    intent.update(payment_method=method["id"], last_payment_error=None, next_action=None)
    if intent.get("setup_future_usage") is None and params.get("setup_future_usage"):
        intent["setup_future_usage"] = params["setup_future_usage"]
    off_session = params.get("off_session") not in (None, "false")
    asks = behaviour.authentication == "always" or (
        behaviour.authentication == "unsaved" and not method["_saved"] and not off_session
    )
    if not asks:
        return complete(ctx, intent, method)
    if off_session or params.get("error_on_requires_action"):
        failure = catalog.Decline("authentication_required", "authentication_required", _AUTHENTICATION_MESSAGE)
        raise _fail(ctx, intent, method, failure)
    return _ask_for_authentication(ctx, intent, params.get("return_url"))


def _require_usable(ctx: Context, intent: JsonObject, method: JsonObject) -> None:
    owner = method["customer"]
    if owner is not None and intent["customer"] is None:
        raise invalid(
            f"The provided PaymentMethod cannot be attached. The payment method supplied ({method['id']}) belongs to "
            f"the Customer {owner}. Please include the Customer in the `customer` parameter on the PaymentIntent.",
            param="payment_method",
        )
    if owner is not None and owner != intent["customer"]:
        raise invalid(
            f"The customer for this PaymentIntent ({intent['customer']}) does not match the customer of the "
            f"PaymentMethod {method['id']}.",
            param="payment_method",
        )
    if method["type"] not in intent["payment_method_types"]:
        raise invalid(
            f"The PaymentMethod provided ({method['type']}) is not allowed for this PaymentIntent. Please attach a "
            f"PaymentMethod of one of the following types: {', '.join(intent['payment_method_types'])}.",
            param="payment_method",
            code="payment_intent_invalid_parameter",
        )
    if method["type"] == "sepa_debit":
        if intent["currency"] != "eur":
            raise invalid("The currency provided is invalid for payment method type sepa_debit.", param="currency")
        if intent["amount"] > SEPA_MAXIMUM_MINOR:
            highest = money(SEPA_MAXIMUM_MINOR, "eur")
            raise invalid(f"Amount must be no more than {highest}", param="amount", code="amount_too_large")


def _ask_for_authentication(ctx: Context, intent: JsonObject, return_url: str | None) -> JsonObject:
    intent["status"] = "requires_action"
    if return_url is not None:
        url = f"{ctx.base_url}/_sandbox/authenticate/{intent['id']}"
        intent["next_action"] = {
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": return_url, "url": url},
        }
    else:
        intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    ctx.store.save(intent)
    ctx.emit("payment_intent.requires_action", intent)
    return intent


def complete(ctx: Context, intent: JsonObject, method: JsonObject) -> JsonObject:
    """The charge itself, after any authentication."""
    behaviour = catalog.find(method["_token"]) or catalog.TestMethod()
    if behaviour.decline is not None:
        raise _fail(ctx, intent, method, behaviour.decline)
    if method["type"] == "sepa_debit":
        return _start_debit(ctx, intent, method, behaviour)
    body = shapes.charge(ctx.now, intent, method, "succeeded")
    _take_money(ctx, body, behaviour)
    ctx.create("charge", body)
    _save_method(ctx, intent, method)
    return _succeed(ctx, intent, body, behaviour)


def _take_money(ctx: Context, charge: JsonObject, behaviour: catalog.TestMethod) -> None:
    """The charge's balance transaction, fee included."""
    kind = "charge" if behaviour.type == "card" else "payment"
    wait = 0 if behaviour.available_at_once else ctx.settings.available_after_seconds
    entry = balance.post(
        ctx,
        kind,
        "charge",
        charge["amount"],
        charge["currency"],
        charge["id"],
        fee=balance.fee_minor(charge["amount"], behaviour.type),
        available_on=ctx.now + wait,
        description=charge["description"],
    )
    charge["balance_transaction"] = entry["id"]
    charge["outcome"] = shapes.outcome("authorized", "approved_by_network", None, "Payment complete.")


def _succeed(ctx: Context, intent: JsonObject, charge: JsonObject, behaviour: catalog.TestMethod) -> JsonObject:
    intent.update(
        amount_received=charge["amount"],
        latest_charge=charge["id"],
        next_action=None,
        processing=None,
        status="succeeded",
    )
    ctx.store.save(intent)
    ctx.emit("charge.succeeded", charge)
    ctx.emit("payment_intent.succeeded", intent)
    if behaviour.dispute_reason is not None:
        ctx.later(0, "dispute", charge["id"])
    return intent


def _save_method(ctx: Context, intent: JsonObject, method: JsonObject) -> None:
    if intent["setup_future_usage"] and intent["customer"] and method["customer"] is None:
        method.update(customer=intent["customer"], _saved=True)
        ctx.store.save(method)
        ctx.emit("payment_method.attached", method)


def _fail(ctx: Context, intent: JsonObject, method: JsonObject, failure: catalog.Decline) -> ApiError:
    """Records the failed charge and gives the 402 to raise."""
    charge = shapes.charge(ctx.now, intent, method, "failed")
    charge.update(failure_code=failure.code, failure_message=failure.message)
    charge["outcome"] = shapes.outcome("issuer_declined", "declined_by_network", failure.decline_code, failure.message)
    ctx.create("charge", charge)
    error = ApiError(
        402,
        "card_error",
        failure.message,
        code=failure.code,
        keeps_effects=True,
        charge=charge["id"],
        decline_code=failure.decline_code,
        payment_method=render(ctx, method),
    )
    _record_failure(ctx, intent, charge, dict(error.body["error"]))
    return with_intent(ctx, error, intent)


def _record_failure(ctx: Context, intent: JsonObject, charge: JsonObject, problem: JsonObject) -> None:
    intent.update(
        last_payment_error=problem,
        latest_charge=charge["id"],
        next_action=None,
        payment_method=None,
        processing=None,
        status="requires_payment_method",
    )
    ctx.store.save(intent)
    ctx.emit("charge.failed", charge)
    ctx.emit("payment_intent.payment_failed", intent)


def _start_debit(ctx: Context, intent: JsonObject, method: JsonObject, behaviour: catalog.TestMethod) -> JsonObject:
    charge = ctx.create("charge", shapes.charge(ctx.now, intent, method, "pending"))
    _save_method(ctx, intent, method)
    intent.update(latest_charge=charge["id"], next_action=None, status="processing")
    ctx.store.save(intent)
    ctx.emit("charge.pending", charge)
    ctx.emit("payment_intent.processing", intent)
    wait = ctx.settings.sepa_after_seconds
    if wait is not None:
        extra = ctx.settings.sepa_delayed_after_seconds if behaviour.delayed else 0
        ctx.later(wait + extra, "debit", intent["id"])
    return intent


def settle_debit(ctx: Context, intent: JsonObject, succeeds: bool | None = None, code: str | None = None) -> JsonObject:
    """The bank's answer to a debit in ``processing``. ``succeeds`` None: as the test method says. Else no-op."""
    if intent["status"] != "processing":
        return intent
    charge = ctx.fetch("charge", intent["latest_charge"])
    method = ctx.fetch("payment_method", charge["payment_method"])
    behaviour = catalog.find(method["_token"]) or catalog.TestMethod(type="sepa_debit")
    if succeeds is None:
        succeeds = behaviour.sepa_failure is None
    if succeeds:
        _take_money(ctx, charge, behaviour)
        charge["status"] = "succeeded"
        ctx.store.save(charge)
        return _succeed(ctx, intent, charge, behaviour)
    failure_code, message = behaviour.sepa_failure or ("generic_decline", "The bank returned the debit.")
    failure_code = code or failure_code
    charge.update(
        amount_captured=0,
        captured=False,
        failure_code=failure_code,
        failure_message=message,
        paid=False,
        status="failed",
    )
    charge["outcome"] = shapes.outcome("issuer_declined", "declined_by_network", failure_code, message)
    ctx.store.save(charge)
    problem: JsonObject = {
        "charge": charge["id"],
        "code": "payment_intent_payment_attempt_failed",
        "decline_code": failure_code,
        "doc_url": "https://stripe.com/docs/error-codes/payment-intent-payment-attempt-failed",
        "message": message,
        "payment_method": render(ctx, method),
        "type": "invalid_request_error",
    }
    _record_failure(ctx, intent, charge, problem)
    return intent


def authenticate(ctx: Context, intent: JsonObject, succeeds: bool) -> JsonObject:
    """The customer's answer to 3-D Secure; a failed one, or a decline after it, leaves ``requires_payment_method``."""
    if intent["status"] != "requires_action":
        raise unexpected_state(ctx, intent, f"There is nothing to authenticate: the status is {intent['status']}.")
    method = ctx.fetch("payment_method", intent["payment_method"])
    if succeeds:
        try:
            return complete(ctx, intent, method)
        except ApiError as error:
            if not error.keeps_effects:
                raise
            return intent
    message = (
        "We are unable to authenticate your payment method. Please choose a different payment method and try again."
    )
    intent.update(
        last_payment_error={
            "code": "payment_intent_authentication_failure",
            "doc_url": "https://stripe.com/docs/error-codes/payment-intent-authentication-failure",
            "message": message,
            "payment_method": render(ctx, method),
            "type": "invalid_request_error",
        },
        next_action=None,
        payment_method=None,
        status="requires_payment_method",
    )
    ctx.store.save(intent)
    ctx.emit("payment_intent.payment_failed", intent)
    return intent
