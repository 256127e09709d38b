"""PaymentIntents and charges: the routes."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import charging, shapes
from sandbox.stripe.context import Context, Route
from sandbox.stripe.customers import live_customer, resolve_method
from sandbox.stripe.errors import JsonObject, invalid, malformed, money
from sandbox.stripe.forms import (
    ANY,
    EXPAND,
    METADATA,
    PAGE,
    RANGE,
    Rule,
    array,
    choice,
    currency,
    flag,
    integer,
    merge_metadata,
    nested,
    text,
)
from sandbox.stripe.rendering import page, render
from sandbox.stripe.search import search

MINIMUM_MINOR = 50
MAXIMUM_MINOR = 99_999_999
_CANCELABLE = (*charging.CONFIRMABLE, "requires_capture")
_DESCRIPTIVE = ("description", "receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group")

_SHARED: dict[str, Rule] = {
    "description": text(clearable=True),
    "expand": EXPAND,
    "metadata": METADATA,
    "payment_method": text(),
    "payment_method_types": array(choice("card", "sepa_debit")),
    "receipt_email": text(clearable=True),
    "setup_future_usage": choice("off_session", "on_session", clearable=True),
    "statement_descriptor": text(),
    "statement_descriptor_suffix": text(),
    "transfer_group": text(),
}
_CONFIRMING: dict[str, Rule] = {
    "error_on_requires_action": flag(),
    "mandate_data": ANY,
    "off_session": choice("true", "false", "one_off", "recurring"),
    "return_url": text(),
    "use_stripe_sdk": flag(),
}
_CREATE: dict[str, Rule] = {
    **_SHARED,
    **_CONFIRMING,
    "amount": integer(required=True, minimum=1),
    "automatic_payment_methods": nested({"enabled": flag(), "allow_redirects": choice("always", "never")}),
    "capture_method": choice("automatic", "automatic_async"),
    "confirm": flag(),
    "confirmation_method": choice("automatic", "manual"),
    "currency": currency(required=True),
    "customer": text(),
}
_CONFIRM: dict[str, Rule] = {
    **_CONFIRMING,
    "expand": EXPAND,
    "payment_method": text(),
    "payment_method_types": array(choice("card", "sepa_debit")),
    "receipt_email": text(clearable=True),
    "setup_future_usage": choice("off_session", "on_session"),
}
_UPDATE: dict[str, Rule] = {**_SHARED, "amount": integer(minimum=1), "currency": currency(), "customer": text()}


def _check_amount(amount: int, code: str) -> None:
    if amount < MINIMUM_MINOR:
        message = f"Amount must be at least {money(MINIMUM_MINOR, code)} {code}"
        raise malformed(message, param="amount", code="amount_too_small")
    if amount > MAXIMUM_MINOR:
        message = f"Amount must be no more than {money(MAXIMUM_MINOR, code)}"
        raise malformed(message, param="amount", code="amount_too_large")


def _create(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    _check_amount(params["amount"], params["currency"])
    for name in ("off_session", "error_on_requires_action", "mandate_data", "return_url"):
        if name in params and not params.get("confirm"):
            raise malformed(f"You cannot pass `{name}` unless `confirm` is set to true.", param=name)
    if "payment_method_types" in params and "automatic_payment_methods" in params:
        message = "You may only specify one of these parameters: automatic_payment_methods, payment_method_types."
        raise malformed(message, param="automatic_payment_methods")
    body = shapes.payment_intent(ctx.now, params["amount"], params["currency"])
    for name in (*_DESCRIPTIVE, "payment_method_types", "capture_method", "confirmation_method", "setup_future_usage"):
        if name in params:
            body[name] = params[name]
    if "payment_method_types" not in params:
        chosen = params.get("automatic_payment_methods", {})
        allow = chosen.get("allow_redirects", "always")
        body["automatic_payment_methods"] = {"allow_redirects": allow, "enabled": chosen.get("enabled", True)}
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    if "customer" in params:
        body["customer"] = live_customer(ctx, params["customer"])["id"]
    if "payment_method" in params and not params.get("confirm"):
        body.update(payment_method=resolve_method(ctx, params["payment_method"])["id"], status="requires_confirmation")
    ctx.create("payment_intent", body)
    ctx.emit("payment_intent.created", body)
    if params.get("confirm"):
        body = charging.confirm(ctx, body, params)
    return render(ctx, body, params.get("expand"))


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("payment_intent", ids[0], param="intent"), params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return page(ctx, "payment_intent", "/v1/payment_intents", params, {"customer": params.get("customer")})


def _search(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return search(ctx, "payment_intent", "/v1/payment_intents/search", params)


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("payment_intent", ids[0], param="intent")
    frozen = [name for name in ("amount", "currency", "customer", "payment_method") if name in params]
    if frozen and body["status"] not in charging.CONFIRMABLE:
        raise charging.unexpected_state(
            ctx,
            body,
            f"This PaymentIntent's {frozen[0]} could not be updated because it has a status of {body['status']}. You "
            f"may only update the {frozen[0]} of a PaymentIntent with one of the following statuses: "
            f"{', '.join(charging.CONFIRMABLE)}.",
        )
    for name in (*_DESCRIPTIVE, "amount", "currency", "payment_method_types", "setup_future_usage"):
        if name in params:
            body[name] = params[name]
    _check_amount(body["amount"], body["currency"])
    if "customer" in params:
        body["customer"] = live_customer(ctx, params["customer"])["id"]
    if "payment_method" in params:
        body.update(payment_method=resolve_method(ctx, params["payment_method"])["id"], status="requires_confirmation")
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    ctx.store.save(body)
    return render(ctx, body, params.get("expand"))


def _confirm(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("payment_intent", ids[0], param="intent")
    for name in ("payment_method_types", "receipt_email"):
        if name in params:
            body[name] = params[name]
    return render(ctx, charging.confirm(ctx, body, params), params.get("expand"))


def _cancel(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("payment_intent", ids[0], param="intent")
    if body["status"] not in _CANCELABLE:
        raise charging.unexpected_state(
            ctx,
            body,
            f"You cannot cancel this PaymentIntent because it has a status of {body['status']}. Only a PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(_CANCELABLE)}.",
        )
    reason = params.get("cancellation_reason")
    body.update(canceled_at=ctx.now, cancellation_reason=reason, next_action=None, status="canceled")
    ctx.store.save(body)
    ctx.emit("payment_intent.canceled", body)
    return render(ctx, body, params.get("expand"))


def _retrieve_charge(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("charge", ids[0]), params.get("expand"))


def _list_charges(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    equal = {name: params.get(name) for name in ("customer", "payment_intent", "transfer_group")}
    return page(ctx, "charge", "/v1/charges", params, equal)


def _search_charges(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return search(ctx, "charge", "/v1/charges/search", params)


def _update_charge(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("charge", ids[0])
    wanted = params.get("transfer_group")
    if wanted is not None and body["transfer_group"] not in (None, wanted):
        raise invalid("You cannot update the transfer_group of a charge that already has one.", param="transfer_group")
    for name in ("description", "receipt_email", "transfer_group"):
        if name in params:
            body[name] = params[name]
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    ctx.store.save(body)
    ctx.emit("charge.updated", body)
    return render(ctx, body, params.get("expand"))


_FIND: dict[str, Rule] = {"query": text(required=True), "limit": integer(minimum=1), "page": text(), "expand": EXPAND}
_CANCEL_REASONS = choice("duplicate", "fraudulent", "requested_by_customer", "abandoned")
ROUTES: list[Route] = [
    ("POST", "/v1/payment_intents", _CREATE, _create),
    ("GET", "/v1/payment_intents", {**PAGE, "created": RANGE, "customer": text()}, _list),
    ("GET", "/v1/payment_intents/search", _FIND, _search),
    ("GET", "/v1/payment_intents/*", {"expand": EXPAND, "client_secret": text()}, _retrieve),
    ("POST", "/v1/payment_intents/*", _UPDATE, _update),
    ("POST", "/v1/payment_intents/*/confirm", _CONFIRM, _confirm),
    ("POST", "/v1/payment_intents/*/cancel", {"cancellation_reason": _CANCEL_REASONS, "expand": EXPAND}, _cancel),
    (
        "GET",
        "/v1/charges",
        {**PAGE, "created": RANGE, "customer": text(), "payment_intent": text(), "transfer_group": text()},
        _list_charges,
    ),
    ("GET", "/v1/charges/search", _FIND, _search_charges),
    ("GET", "/v1/charges/*", {"expand": EXPAND}, _retrieve_charge),
    (
        "POST",
        "/v1/charges/*",
        {
            "description": text(clearable=True),
            "receipt_email": text(clearable=True),
            "transfer_group": text(),
            "metadata": METADATA,
            "expand": EXPAND,
        },
        _update_charge,
    ),
]
