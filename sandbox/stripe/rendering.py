"""From stored objects to answers: private fields out, time-dependent fields in, ``expand`` followed, lists paged."""

from __future__ import annotations

from typing import Any

from sandbox.stripe.context import Context, public
from sandbox.stripe.errors import ApiError, JsonObject, malformed, missing_object

_EXPANDABLE = frozenset(
    {
        "account",
        "balance_transaction",
        "charge",
        "customer",
        "default_payment_method",
        "destination",
        "destination_payment",
        "destination_payment_refund",
        "failure_balance_transaction",
        "latest_charge",
        "payment_intent",
        "payment_method",
        "refunds",
        "source",
        "source_transaction",
        "source_transfer",
        "transfer",
    }
)
# Deleted objects keep their row; these fields of theirs are all that Stripe still shows.
_DELETED_FIELDS = ("id", "object", "deleted")
MAX_EXPAND_DEPTH = 4
MAX_PAGE = 100
DEFAULT_PAGE = 10


def render(ctx: Context, body: JsonObject, expand: list[str] | None = None) -> JsonObject:
    """The object as Stripe would show it now."""
    if body.get("deleted"):
        return {name: body[name] for name in _DELETED_FIELDS}
    shown = public(body)
    kind = shown.get("object")
    if kind == "balance_transaction" and shown["status"] == "pending" and shown["available_on"] <= ctx.now:
        shown["status"] = "available"
    elif kind == "event":
        shown["pending_webhooks"] = pending_deliveries(ctx, shown["id"])
    elif kind == "transfer" and shown["amount_reversed"]:
        found = ctx.store.select("transfer_reversal", ctx.account, {"transfer": shown["id"]}, limit=DEFAULT_PAGE)
        shown["reversals"] = {**shown["reversals"], "data": [public(reversal) for reversal in found]}
    elif kind == "dispute":
        stored = (ctx.store.find(identity) for identity in shown["balance_transactions"])
        shown["balance_transactions"] = [render(ctx, item) for item in stored if item is not None]
    for path in expand or ():
        _expand(ctx, shown, path.split("."), path)
    return shown


def pending_deliveries(ctx: Context, event_id: str) -> int:
    """How many endpoints have not taken the event yet."""
    sql = "SELECT count(DISTINCT endpoint_id) FROM deliveries WHERE event_id=? AND state != 'delivered'"
    return int(ctx.store.connection.execute(sql, (event_id,)).fetchone()[0])


def _expand(ctx: Context, body: JsonObject, parts: list[str], path: str) -> None:
    if len(parts) > MAX_EXPAND_DEPTH + 1:
        raise malformed(f"You cannot expand more than {MAX_EXPAND_DEPTH} levels of a property. Property: {path}")
    name, rest = parts[0], parts[1:]
    value = body.get(name)
    if name == "data" and isinstance(value, list):
        if not rest:
            raise malformed(f"This property cannot be expanded ({path}).", param="expand")
        for item in value:
            _expand(ctx, item, rest, path)
        return
    if name not in _EXPANDABLE or (name not in body and name != "refunds"):
        raise malformed(f"This property cannot be expanded ({path}).", param="expand")
    if name == "refunds" and body.get("object") == "charge":
        body[name] = _refunds(ctx, body["id"])
    elif isinstance(value, str):
        found = ctx.store.find(value)
        if found is None:
            return
        body[name] = render(ctx, found)
    if rest and isinstance(body[name], dict):
        _expand(ctx, body[name], rest, path)


def _refunds(ctx: Context, charge_id: str) -> JsonObject:
    found = ctx.store.select("refund", ctx.account, {"charge": charge_id}, limit=DEFAULT_PAGE + 1)
    shown = [render(ctx, refund) for refund in found[:DEFAULT_PAGE]]
    has_more = len(found) > DEFAULT_PAGE
    return {"object": "list", "data": shown, "has_more": has_more, "url": f"/v1/charges/{charge_id}/refunds"}


def page(
    ctx: Context,
    kind: str,
    url: str,
    params: dict[str, Any],
    equal: dict[str, Any] | None = None,
    *,
    where: str = "",
    arguments: tuple[Any, ...] = (),
) -> JsonObject:
    """One page of a list, newest first, by Stripe's cursors (``starting_after``, ``ending_before``, ``limit``)."""
    limit = params.get("limit", DEFAULT_PAGE)
    if limit > MAX_PAGE:
        raise malformed(f"Invalid integer: {limit} is greater than {MAX_PAGE}", param="limit")
    if "starting_after" in params and "ending_before" in params:
        raise malformed("You may only specify one of these parameters: starting_after, ending_before.")
    before = _position(ctx, kind, params.get("starting_after"), "starting_after")
    after = _position(ctx, kind, params.get("ending_before"), "ending_before")
    found = ctx.store.select(
        kind,
        ctx.account,
        equal,
        created=params.get("created"),
        before=before,
        after=after,
        limit=limit + 1,
        where=where,
        arguments=arguments,
    )
    has_more = len(found) > limit
    if has_more:
        found = found[1:] if after is not None else found[:limit]
    shown: JsonObject = {
        "object": "list",
        "data": [render(ctx, body) for body in found],
        "has_more": has_more,
        "url": url,
    }
    for path in params.get("expand") or ():
        _expand(ctx, shown, path.split("."), path)
    return shown


def _position(ctx: Context, kind: str, cursor: str | None, param: str) -> int | None:
    if cursor is None:
        return None
    place = ctx.store.place(cursor)
    if place is None or place[1] != kind or place[2] != ctx.account:
        raise missing_object(kind, cursor, param=param, in_path=False)
    return place[0]


def with_intent(ctx: Context, error: ApiError, intent: JsonObject) -> ApiError:
    """The error with the PaymentIntent that it is about, as Stripe adds it."""
    error.body["error"]["payment_intent"] = render(ctx, intent)
    return error
