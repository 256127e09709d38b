"""Connected accounts: creation by controller properties, capabilities, onboarding links, bank accounts."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import shapes_connect as shapes
from sandbox.stripe.context import Context, Route, new_id
from sandbox.stripe.errors import JsonObject, invalid, malformed, missing_object, no_account_access
from sandbox.stripe.forms import (
    EXPAND,
    METADATA,
    PAGE,
    RANGE,
    Rule,
    choice,
    currency,
    flag,
    integer,
    merge_metadata,
    nested,
    text,
)
from sandbox.stripe.rendering import page, render

CAPABILITIES = ("card_payments", "sepa_debit_payments", "transfers")
LINK_LIFETIME_SECONDS = 300
_CURRENCIES = {"CH": "chf", "GB": "gbp", "JP": "jpy", "LI": "chf", "US": "usd"}
"""Currency of a country's bank accounts, where it is not the euro."""
_REQUEST = nested({name: nested({"requested": flag()}) for name in CAPABILITIES})
_PROFILE = ("mcc", "name", "product_description", "support_email", "support_phone", "support_url", "url")
_TYPES = {"none": "none", "express": "express", "full": "standard"}

_SHARED: dict[str, Rule] = {
    "business_profile": nested({name: text(clearable=True) for name in _PROFILE}),
    "business_type": choice("company", "government_entity", "individual", "non_profit"),
    "capabilities": _REQUEST,
    "default_currency": currency(),
    "email": text(),
    "expand": EXPAND,
    "external_account": text(),
    "metadata": METADATA,
    "settings": nested(
        {
            "payouts": nested(
                {
                    "debit_negative_balances": flag(),
                    "schedule": nested(
                        {
                            "delay_days": integer(minimum=0),
                            "interval": choice("manual", "daily", "weekly", "monthly"),
                            "monthly_anchor": integer(minimum=1),
                            "weekly_anchor": text(),
                        }
                    ),
                    "statement_descriptor": text(),
                }
            )
        }
    ),
    "tos_acceptance": nested(
        {"date": integer(), "ip": text(), "user_agent": text(), "service_agreement": choice("full", "recipient")}
    ),
}
_CONTROLLER = nested(
    {
        "fees": nested({"payer": choice("account", "application")}),
        "losses": nested({"payments": choice("application", "stripe")}),
        "requirement_collection": choice("application", "stripe"),
        "stripe_dashboard": nested({"type": choice("express", "full", "none")}),
    }
)


def accessible(ctx: Context, account_id: str) -> JsonObject:
    """A connected account that still lets the platform in; 403 otherwise."""
    found = ctx.store.find(account_id, "account")
    if found is None or not found["_access"]:
        raise no_account_access(account_id)
    return found


def _controller(params: dict[str, Any]) -> tuple[JsonObject, str]:
    given = params.get("controller")
    kind = params.get("type")
    if given is not None and kind is not None:
        raise malformed("You may only specify one of these parameters: controller, type.", param="type")
    if given is None:
        presets = {
            "express": ("application", "application", "stripe", "express"),
            "custom": ("application", "application", "application", "none"),
            "standard": ("account", "stripe", "stripe", "full"),
        }
        payer, losses, collection, dashboard = presets[kind or "standard"]
        kind = kind or "standard"
    else:
        payer = given.get("fees", {}).get("payer", "account")
        losses = given.get("losses", {}).get("payments", "stripe")
        collection = given.get("requirement_collection", "stripe")
        dashboard = given.get("stripe_dashboard", {}).get("type", "full")
        if collection == "application" and (losses != "application" or dashboard != "none"):
            raise malformed(
                "When `controller[requirement_collection]` is `application`, `controller[losses][payments]` must be "
                "`application` and `controller[stripe_dashboard][type]` must be `none`.",
                param="controller[requirement_collection]",
            )
        kind = "none"
    controller = {
        "fees": {"payer": payer},
        "is_controller": True,
        "losses": {"payments": losses},
        "requirement_collection": collection,
        "stripe_dashboard": {"type": dashboard},
        "type": "application",
    }
    return controller, kind


def _apply(ctx: Context, body: JsonObject, params: dict[str, Any]) -> None:
    for name in ("business_type", "default_currency", "email"):
        if name in params:
            body[name] = params[name]
    body["business_profile"].update(params.get("business_profile", {}))
    body["tos_acceptance"].update(params.get("tos_acceptance", {}))
    payouts = params.get("settings", {}).get("payouts", {})
    schedule = payouts.pop("schedule", {})
    body["settings"]["payouts"].update(payouts)
    body["settings"]["payouts"]["schedule"].update(schedule)
    for name, wanted in params.get("capabilities", {}).items():
        _request_capability(body, name, wanted.get("requested", False))
    if "external_account" in params:
        if not params["external_account"].startswith("btok_"):
            raise missing_object("token", params["external_account"], param="external_account", in_path=False)
        add_bank_account(body, "6789")
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))


def _request_capability(body: JsonObject, name: str, requested: bool) -> None:
    capabilities = body["capabilities"]
    if not requested:
        capabilities.pop(name, None)
    elif name not in capabilities:
        capabilities[name] = "pending" if body["details_submitted"] else "inactive"


def add_bank_account(body: JsonObject, last4: str) -> None:
    """Gives the account a bank account to pay out to, as its only one."""
    bank = shapes.bank_account(body["id"], body["country"], body["default_currency"], last4)
    body["external_accounts"]["data"] = [bank]


def set_state(ctx: Context, body: JsonObject, state: str, capability: str | None = None) -> JsonObject:
    """What the account's owner or Stripe's reviewers do: see ``STATES``. Emits ``account.updated`` and its kin."""
    inside = ctx.within(body["id"])
    if state == "deauthorized":
        body["_access"] = False
        ctx.store.save(body)
        application = {"id": new_id("ca"), "object": "application", "name": "Platform"}
        inside.emit("account.application.deauthorized", application)
        return body
    statuses = {"submitted": "pending", "active": "active", "restricted": "inactive", "rejected": "inactive"}
    chosen = [capability] if capability else list(body["capabilities"])
    for name in chosen:
        if name not in body["capabilities"]:
            raise invalid(f"The capability {name} was not requested for {body['id']}.", param="capability")
        body["capabilities"][name] = statuses[state]
    if state in ("submitted", "active"):
        body.update(details_submitted=True, requirements=shapes.requirements())
        if not body["external_accounts"]["data"]:
            add_bank_account(body, "3000")
    elif capability is None:
        reason = "rejected.other" if state == "rejected" else "requirements.past_due"
        body["requirements"] = shapes.requirements(["individual.verification.document"], reason)
    body["charges_enabled"] = body["capabilities"].get("card_payments") == "active"
    if capability is None:
        body["payouts_enabled"] = state == "active"
    ctx.store.save(body)
    for name in chosen:
        inside.emit("capability.updated", _capability(body, name))
    inside.emit("account.updated", body)
    return body


STATES = ("submitted", "active", "restricted", "rejected", "deauthorized")


def _create(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    controller, kind = _controller(params)
    country = params.get("country", "DE").upper()
    in_currency = params.get("default_currency", _CURRENCIES.get(country, "eur"))
    body = shapes.account(ctx.now, country, in_currency, controller)
    body["type"] = kind
    _apply(ctx, body, params)
    ctx.create("account", body)
    return render(ctx, body, params.get("expand"))


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, accessible(ctx, ids[0]), params.get("expand"))


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = accessible(ctx, ids[0])
    _apply(ctx, body, params)
    ctx.store.save(body)
    ctx.within(body["id"]).emit("account.updated", body)
    return render(ctx, body, params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return page(ctx, "account", "/v1/accounts", params, where="json_extract(body, '$._access')")


def _delete(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = accessible(ctx, ids[0])
    row = ctx.store.connection.execute(
        "SELECT count(*) FROM balances WHERE account=? AND (available != 0 OR pending != 0)", (body["id"],)
    ).fetchone()
    if row[0]:
        raise invalid("An account with a balance cannot be deleted.")
    body.update(deleted=True, _access=False)
    ctx.store.save(body)
    return render(ctx, body)


def _capability(body: JsonObject, name: str) -> JsonObject:
    status = body["capabilities"].get(name, "unrequested")
    requirements = shapes.requirements()
    if status == "inactive":
        # Stripe has other words for the same reason at an account and at a capability.
        rejected = body["requirements"]["disabled_reason"] == "rejected.other"
        reason = "rejected.other" if rejected else "requirements.fields_needed"
        requirements = shapes.requirements(body["requirements"]["currently_due"], reason)
    return {
        "id": name,
        "object": "capability",
        "account": body["id"],
        "future_requirements": shapes.requirements(),
        "requested": status != "unrequested",
        "requested_at": None if status == "unrequested" else body["created"],
        "requirements": requirements,
        "status": status,
    }


def _list_capabilities(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = accessible(ctx, ids[0])
    return {
        "object": "list",
        "data": [_capability(body, name) for name in body["capabilities"]],
        "has_more": False,
        "url": f"/v1/accounts/{ids[0]}/capabilities",
    }


def _known_capability(name: str) -> str:
    if name not in CAPABILITIES:
        raise missing_object("capability", name, param="capability", in_path=True)
    return name


def _retrieve_capability(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return _capability(accessible(ctx, ids[0]), _known_capability(ids[1]))


def _update_capability(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = accessible(ctx, ids[0])
    name = _known_capability(ids[1])
    if "requested" in params:
        _request_capability(body, name, params["requested"])
        ctx.store.save(body)
        ctx.within(body["id"]).emit("capability.updated", _capability(body, name))
    return _capability(body, name)


def _create_link(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = accessible(ctx, params["account"])
    for name in ("refresh_url", "return_url"):
        if name not in params:
            raise malformed(f"Missing required param: {name}.", param=name, code="parameter_missing")
    token = new_id("link", 20)
    link = {
        "id": token,
        "account": body["id"],
        "created": ctx.now,
        **{k: params[k] for k in ("refresh_url", "return_url")},
    }
    ctx.create("account_link", link)
    return {
        "object": "account_link",
        "created": ctx.now,
        "expires_at": ctx.now + LINK_LIFETIME_SECONDS,
        "url": f"{ctx.base_url}/_sandbox/onboarding/{token}",
    }


_CREATE_ONLY: dict[str, Rule] = {
    "controller": _CONTROLLER,
    "country": text(),
    "type": choice("custom", "express", "standard"),
}
ROUTES: list[Route] = [
    ("POST", "/v1/accounts", {**_SHARED, **_CREATE_ONLY}, _create),
    ("GET", "/v1/accounts", {**PAGE, "created": RANGE}, _list),
    ("GET", "/v1/accounts/*", {"expand": EXPAND}, _retrieve),
    ("POST", "/v1/accounts/*", _SHARED, _update),
    ("DELETE", "/v1/accounts/*", {}, _delete),
    ("GET", "/v1/accounts/*/capabilities", {"expand": EXPAND}, _list_capabilities),
    ("GET", "/v1/accounts/*/capabilities/*", {"expand": EXPAND}, _retrieve_capability),
    ("POST", "/v1/accounts/*/capabilities/*", {"requested": flag(), "expand": EXPAND}, _update_capability),
    (
        "POST",
        "/v1/account_links",
        {
            "account": text(required=True),
            "collection_options": nested(
                {"fields": choice("currently_due", "eventually_due"), "future_requirements": choice("include", "omit")}
            ),
            "expand": EXPAND,
            "refresh_url": text(),
            "return_url": text(),
            "type": choice("account_onboarding", "account_update", required=True),
        },
        _create_link,
    ),
]
