"""Refunds: whole or in pieces, at once or late, and the ones that fail days after they succeeded."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import balance, catalog, shapes
from sandbox.stripe.context import Context, Route
from sandbox.stripe.errors import JsonObject, invalid, malformed, money
from sandbox.stripe.forms import EXPAND, METADATA, PAGE, RANGE, choice, integer, merge_metadata, text
from sandbox.stripe.rendering import page, render

OPEN_DISPUTES = ("needs_response", "under_review", "lost")


def _charge_to_refund(ctx: Context, params: dict[str, Any]) -> JsonObject:
    if "charge" in params:
        return ctx.fetch("charge", params["charge"], param="charge", in_path=False)
    if "payment_intent" not in params:
        message = "One of the following params should be provided for this request: payment_intent or charge."
        raise malformed(message, code="parameter_missing")
    intent = ctx.fetch("payment_intent", params["payment_intent"], param="payment_intent", in_path=False)
    if intent["status"] not in ("succeeded", "processing") or intent["latest_charge"] is None:
        raise invalid(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
            param="payment_intent",
            code="payment_intent_unexpected_state",
        )
    return ctx.fetch("charge", intent["latest_charge"])


def _refusal(ctx: Context, charge: JsonObject, amount: int | None) -> None:
    if charge["status"] != "succeeded":
        raise invalid(f"Charge {charge['id']} cannot be refunded because it is {charge['status']}.", param="charge")
    if charge["refunded"]:
        message = f"Charge {charge['id']} has already been refunded."
        raise invalid(message, code="charge_already_refunded")
    if charge["disputed"]:
        found = ctx.store.select("dispute", ctx.account, {"charge": charge["id"]})
        if any(dispute["status"] in OPEN_DISPUTES for dispute in found):
            message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
            raise invalid(message, code="charge_disputed")
    left = charge["amount"] - charge["amount_refunded"]
    if amount is not None and amount > left:
        code = charge["currency"]
        raise invalid(
            f"Refund amount ({money(amount, code)}) is greater than unrefunded amount on charge ({money(left, code)})",
            param="amount",
        )


def _create(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    charge = _charge_to_refund(ctx, params)
    amount = params.get("amount")
    _refusal(ctx, charge, amount)
    if amount is None:
        amount = charge["amount"] - charge["amount_refunded"]
    body = shapes.refund(ctx.now, charge, amount, params.get("reason"))
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    source = ctx.store.find(charge["balance_transaction"]) if charge["balance_transaction"] else None
    kind = "refund" if charge["id"].startswith("ch_") else "payment_refund"
    entry = balance.post(
        ctx,
        kind,
        "refund",
        -amount,
        charge["currency"],
        body["id"],
        available_on=max(ctx.now, source["available_on"]) if source else None,
        description="REFUND FOR CHARGE",
    )
    body["balance_transaction"] = entry["id"]
    behaviour = catalog.find(charge.get("_token", "")) or catalog.TestMethod()
    if behaviour.refund == "pending":
        body.update(status="pending", pending_reason="processing")
    ctx.create("refund", body)
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    ctx.store.save(charge)
    ctx.emit("refund.created", body)
    ctx.emit("charge.refunded", charge)
    if behaviour.refund != "succeeded":
        ctx.later(ctx.settings.refund_change_after_seconds, "refund", body["id"])
    return render(ctx, body, params.get("expand"))


def change_status(ctx: Context, body: JsonObject, status: str, reason: str = "lost_or_stolen_card") -> JsonObject:
    """The bank's later word: ``succeeded`` (of a pending one) or ``failed`` (money back to us, charge unrefunded)."""
    if body["status"] in (status, "failed", "canceled"):
        return body
    previous = {"status": body["status"]}
    body["status"] = status
    body.pop("pending_reason", None)
    if status in ("failed", "canceled"):
        charge = ctx.fetch("charge", body["charge"])
        entry = balance.post(
            ctx,
            "refund_failure",
            "refund_failure",
            body["amount"],
            body["currency"],
            body["id"],
            description="REFUND FAILURE",
        )
        body["failure_balance_transaction"] = entry["id"]
        if status == "failed":
            body["failure_reason"] = reason
        charge["amount_refunded"] -= body["amount"]
        charge["refunded"] = False
        ctx.store.save(charge)
    ctx.store.save(body)
    ctx.emit("refund.updated", body, previous)
    ctx.emit("charge.refund.updated", body, previous)
    if status == "failed":
        ctx.emit("refund.failed", body)
    return body


def answer_as_planned(ctx: Context, body: JsonObject) -> JsonObject:
    """What the charge's test method says happens to its refunds later."""
    charge = ctx.fetch("charge", body["charge"])
    behaviour = catalog.find(charge.get("_token", "")) or catalog.TestMethod()
    return change_status(ctx, body, "failed" if behaviour.refund == "fails_later" else "succeeded")


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("refund", ids[0]), params.get("expand"))


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("refund", ids[0])
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    ctx.store.save(body)
    ctx.emit("refund.updated", body)
    return render(ctx, body, params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    equal = {name: params.get(name) for name in ("charge", "payment_intent")}
    return page(ctx, "refund", "/v1/refunds", params, equal)


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/refunds",
        {
            "amount": integer(minimum=1),
            "charge": text(),
            "payment_intent": text(),
            "reason": choice("duplicate", "fraudulent", "requested_by_customer"),
            "metadata": METADATA,
            "expand": EXPAND,
        },
        _create,
    ),
    ("GET", "/v1/refunds", {**PAGE, "created": RANGE, "charge": text(), "payment_intent": text()}, _list),
    ("GET", "/v1/refunds/*", {"expand": EXPAND}, _retrieve),
    ("POST", "/v1/refunds/*", {"metadata": METADATA, "expand": EXPAND}, _update),
]
