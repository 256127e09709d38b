"""Customers and their payment methods."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import catalog, shapes
from sandbox.stripe.context import Context, Route
from sandbox.stripe.errors import JsonObject, invalid, malformed, missing_object
from sandbox.stripe.forms import (
    EXPAND,
    METADATA,
    PAGE,
    RANGE,
    Rule,
    array,
    choice,
    integer,
    merge_metadata,
    nested,
    text,
)
from sandbox.stripe.rendering import page, render

ADDRESS = nested({name: text(clearable=True) for name in shapes.empty_address()}, clearable=True)
BILLING_DETAILS = nested(
    {
        "address": ADDRESS,
        "email": text(clearable=True),
        "name": text(clearable=True),
        "phone": text(clearable=True),
        "tax_id": text(),
    }
)
_PLAIN = ("description", "email", "name", "phone", "preferred_locales", "tax_exempt")
_CUSTOMER: dict[str, Rule] = {
    "address": ADDRESS,
    "description": text(clearable=True),
    "email": text(clearable=True),
    "expand": EXPAND,
    "invoice_settings": nested({"default_payment_method": text(clearable=True)}),
    "metadata": METADATA,
    "name": text(clearable=True),
    "phone": text(clearable=True),
    "preferred_locales": array(),
    "tax_exempt": choice("none", "exempt", "reverse", clearable=True),
}
_CREATE_METHOD: dict[str, Rule] = {
    "type": choice("card", "sepa_debit", required=True),
    "billing_details": BILLING_DETAILS,
    "card": nested(
        {
            "number": text(),
            "exp_month": integer(minimum=1),
            "exp_year": integer(minimum=0),
            "cvc": text(),
            "token": text(),
        }
    ),
    "sepa_debit": nested({"iban": text(required=True)}),
    "metadata": METADATA,
    "expand": EXPAND,
}


def live_customer(ctx: Context, customer_id: str, *, param: str = "customer", in_path: bool = False) -> JsonObject:
    """A customer that was not deleted."""
    found = ctx.fetch("customer", customer_id, param=param, in_path=in_path)
    if found.get("deleted"):
        raise missing_object("customer", customer_id, param=param, in_path=in_path)
    return found


def resolve_method(ctx: Context, given: str, *, param: str = "payment_method", in_path: bool = False) -> JsonObject:
    """The payment method of an id. A test token (``pm_card_visa``) makes a new one each time, as at Stripe."""
    found = ctx.store.find(given, "payment_method", ctx.account)
    if found is not None:
        return found
    method = catalog.find(given)
    if method is None:
        raise missing_object("PaymentMethod", given, param=param, in_path=in_path)
    return ctx.create("payment_method", shapes.payment_method(ctx.now, given, method))


def attach_to(ctx: Context, method: JsonObject, customer_id: str) -> JsonObject:
    """Puts the payment method on the customer; a second time on the same customer changes nothing."""
    if method["customer"] == customer_id:
        return method
    if method["customer"] is not None:
        raise invalid("The payment method you provided has already been attached to a customer.")
    method["customer"] = customer_id
    ctx.store.save(method)
    ctx.emit("payment_method.attached", method)
    return method


def _apply(ctx: Context, body: JsonObject, params: dict[str, Any]) -> None:
    for name in _PLAIN:
        if name in params:
            body[name] = params[name]
    if "address" in params:
        body["address"] = {**shapes.empty_address(), **params["address"]} if params["address"] else None
    default = params.get("invoice_settings", {})
    if "default_payment_method" in default:
        wanted = default["default_payment_method"]
        if wanted is not None:
            method = ctx.fetch(
                "payment_method", wanted, param="invoice_settings[default_payment_method]", in_path=False
            )
            if method["customer"] != body["id"]:
                raise invalid(
                    "The customer does not have a payment method with the ID " + wanted + ". The payment method must "
                    "be attached to the customer.",
                    param="invoice_settings[default_payment_method]",
                    code="resource_missing",
                )
        body["invoice_settings"]["default_payment_method"] = wanted
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))


def _create(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = shapes.customer(ctx.now)
    wanted = params.get("payment_method")
    settings = params.pop("invoice_settings", None)
    _apply(ctx, body, params)
    ctx.create("customer", body)
    if wanted is not None:
        method = attach_to(ctx, resolve_method(ctx, wanted), body["id"])
        if settings and settings.get("default_payment_method") == wanted:
            settings = {"default_payment_method": method["id"]}
    if settings:
        _apply(ctx, body, {"invoice_settings": settings})
        ctx.store.save(body)
    ctx.emit("customer.created", body)
    return render(ctx, body, params.get("expand"))


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = live_customer(ctx, ids[0], param="id", in_path=True)
    _apply(ctx, body, params)
    ctx.store.save(body)
    ctx.emit("customer.updated", body)
    return render(ctx, body, params.get("expand"))


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("customer", ids[0]), params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    where = "json_extract(body, '$.deleted') IS NULL"
    return page(ctx, "customer", "/v1/customers", params, {"email": params.get("email")}, where=where)


def _delete(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = live_customer(ctx, ids[0], param="id", in_path=True)
    for method in ctx.store.select("payment_method", ctx.account, {"customer": body["id"]}):
        method["customer"] = None
        ctx.store.save(method)
    ctx.emit("customer.deleted", body)
    body["deleted"] = True
    ctx.store.save(body)
    return render(ctx, body)


def _create_method(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    kind = params["type"]
    details = params.get(kind)
    if details is None:
        raise malformed(f"Missing required param: {kind}.", param=kind, code="parameter_missing")
    if kind == "sepa_debit":
        if not (params.get("billing_details") or {}).get("name"):
            message = "Missing required param: billing_details[name]."
            raise malformed(message, param="billing_details[name]", code="parameter_missing")
        token = catalog.token_of_iban(details["iban"])
        if token is None:
            message = "The IBAN you have provided is invalid."
            raise malformed(message, param="sepa_debit[iban]", code="invalid_bank_account_iban")
    else:
        token = _card_token(details)
    method = catalog.find(token)
    if method is None:
        raise missing_object("token", token, param="card[token]", in_path=False)
    body = shapes.payment_method(ctx.now, token, method, params.get("billing_details"))
    if kind == "sepa_debit":
        body["sepa_debit"]["last4"] = details["iban"].replace(" ", "")[-4:]
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    return render(ctx, ctx.create("payment_method", body), params.get("expand"))


def _card_token(card: JsonObject) -> str:
    if "token" in card:
        return "pm_card_" + str(card["token"]).removeprefix("tok_")
    token = catalog.token_of_card_number(card.get("number", ""))
    if token is None:
        raise malformed("Your card number is incorrect.", param="card[number]", code="incorrect_number")
    return token


def _retrieve_method(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, resolve_method(ctx, ids[-1], in_path=True), params.get("expand"))


def _update_method(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("payment_method", ids[0], param="payment_method")
    if "billing_details" in params:
        current = body["billing_details"]
        body["billing_details"] = shapes.billing_details({**current, **params["billing_details"]})
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    ctx.store.save(body)
    ctx.emit("payment_method.updated", body)
    return render(ctx, body, params.get("expand"))


def _attach(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    customer = live_customer(ctx, params["customer"])
    method = resolve_method(ctx, ids[0], in_path=True)
    method["_saved"] = True
    attach_to(ctx, method, customer["id"])
    return render(ctx, method, params.get("expand"))


def _detach(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    method = ctx.fetch("payment_method", ids[0], param="payment_method")
    owner = method["customer"]
    if owner is None:
        raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
    method["customer"] = None
    ctx.store.save(method)
    customer = ctx.store.find(owner, "customer", ctx.account)
    if customer is not None and customer["invoice_settings"]["default_payment_method"] == method["id"]:
        customer["invoice_settings"]["default_payment_method"] = None
        ctx.store.save(customer)
    ctx.emit("payment_method.detached", method, {"customer": owner})
    return render(ctx, method, params.get("expand"))


def _list_methods(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    owner = ids[0] if ids else params.get("customer")
    if owner is None:
        raise malformed("Missing required param: customer.", param="customer", code="parameter_missing")
    live_customer(ctx, owner, param="customer", in_path=bool(ids))
    url = f"/v1/customers/{owner}/payment_methods" if ids else "/v1/payment_methods"
    return page(ctx, "payment_method", url, params, {"customer": owner, "type": params.get("type")})


_METHOD_PAGE = {**PAGE, "type": text(), "allow_redisplay": text()}
ROUTES: list[Route] = [
    ("POST", "/v1/customers", {**_CUSTOMER, "payment_method": text()}, _create),
    ("GET", "/v1/customers", {**PAGE, "created": RANGE, "email": text()}, _list),
    ("GET", "/v1/customers/*", {"expand": EXPAND}, _retrieve),
    ("POST", "/v1/customers/*", _CUSTOMER, _update),
    ("DELETE", "/v1/customers/*", {}, _delete),
    ("GET", "/v1/customers/*/payment_methods", _METHOD_PAGE, _list_methods),
    ("GET", "/v1/customers/*/payment_methods/*", {"expand": EXPAND}, _retrieve_method),
    ("POST", "/v1/payment_methods", _CREATE_METHOD, _create_method),
    ("GET", "/v1/payment_methods", {**_METHOD_PAGE, "customer": text()}, _list_methods),
    ("GET", "/v1/payment_methods/*", {"expand": EXPAND}, _retrieve_method),
    (
        "POST",
        "/v1/payment_methods/*",
        {"billing_details": BILLING_DETAILS, "metadata": METADATA, "expand": EXPAND},
        _update_method,
    ),
    ("POST", "/v1/payment_methods/*/attach", {"customer": text(required=True), "expand": EXPAND}, _attach),
    ("POST", "/v1/payment_methods/*/detach", {"expand": EXPAND}, _detach),
]
