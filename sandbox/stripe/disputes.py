"""Disputes: opened by a test card or the control API, answered with evidence, won or lost, with the money they move."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import balance, catalog, shapes
from sandbox.stripe.context import Context, Route
from sandbox.stripe.errors import JsonObject, invalid
from sandbox.stripe.forms import EXPAND, METADATA, PAGE, RANGE, flag, merge_metadata, nested, text
from sandbox.stripe.rendering import page, render

_CLOSED = ("won", "lost", "warning_closed", "prevented")
# From where a status can be reached. Inquiries (warning_*) escalate; nothing leaves a closed one.
_NEXT: dict[str, tuple[str, ...]] = {
    "warning_needs_response": ("warning_under_review", "warning_closed", "needs_response"),
    "warning_under_review": ("warning_closed", "needs_response"),
    "needs_response": ("under_review", "won", "lost"),
    "under_review": ("won", "lost"),
}
STATUSES = tuple(_NEXT) + _CLOSED


def open_dispute(
    ctx: Context,
    charge: JsonObject,
    *,
    amount: int | None = None,
    status: str = "needs_response",
    reason: str = "fraudulent",
) -> JsonObject:
    """A cardholder disputes a charge. Only a chargeback (``needs_response``) withdraws money; an inquiry does not."""
    if charge["status"] != "succeeded":
        raise invalid(f"Charge {charge['id']} did not succeed; there is nothing to dispute.", param="charge")
    left = charge["amount"] - charge["amount_refunded"]
    taken = left if amount is None else amount
    if not 0 < taken <= charge["amount"]:
        raise invalid(f"A dispute of {taken} is not possible on charge {charge['id']}.", param="amount")
    body = shapes.dispute(ctx.now, charge, taken, status, reason)
    ctx.create("dispute", body)
    charge["disputed"] = True
    ctx.store.save(charge)
    withdrawn = not status.startswith("warning")
    if withdrawn:
        _withdraw(ctx, body)
    ctx.emit("charge.dispute.created", body)
    if withdrawn:
        ctx.emit("charge.dispute.funds_withdrawn", body)
    return body


def open_as_planned(ctx: Context, charge: JsonObject) -> JsonObject:
    """The dispute that the charge's test card stands for."""
    behaviour = catalog.find(charge.get("_token", "")) or catalog.TestMethod()
    reason = behaviour.dispute_reason or "fraudulent"
    return open_dispute(ctx, charge, status=behaviour.dispute_status, reason=reason)


def _withdraw(ctx: Context, body: JsonObject) -> None:
    entry = balance.post(
        ctx,
        "adjustment",
        "dispute",
        -body["amount"],
        body["currency"],
        body["id"],
        fee=balance.DISPUTE_FEE_MINOR,
        description=f"Chargeback withdrawal for {body['charge']}",
    )
    body["balance_transactions"].append(entry["id"])
    ctx.store.save(body)


def change_status(ctx: Context, body: JsonObject, status: str) -> JsonObject:
    """Moves a dispute on. Winning gives the amount back (the fee stays taken); an escalated inquiry takes it."""
    if body["status"] == status:
        return body
    if status not in _NEXT.get(body["status"], ()):
        raise invalid(f"A dispute cannot go from {body['status']} to {status}.", param="status")
    previous = {"status": body["status"]}
    body.update(status=status, is_charge_refundable=status.startswith("warning"))
    withdraws = status == "needs_response"
    if withdraws:
        _withdraw(ctx, body)
    elif status == "won":
        entry = balance.post(
            ctx,
            "adjustment",
            "dispute_reversal",
            body["amount"],
            body["currency"],
            body["id"],
            description=f"Chargeback reversal for {body['charge']}",
        )
        body["balance_transactions"].append(entry["id"])
    ctx.store.save(body)
    if status in _CLOSED:
        ctx.emit("charge.dispute.closed", body)
        if status == "won":
            ctx.emit("charge.dispute.funds_reinstated", body)
    else:
        ctx.emit("charge.dispute.updated", body, previous)
        if withdraws:
            ctx.emit("charge.dispute.funds_withdrawn", body)
    return body


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("dispute", ids[0]), params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    equal = {name: params.get(name) for name in ("charge", "payment_intent")}
    return page(ctx, "dispute", "/v1/disputes", params, equal)


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("dispute", ids[0])
    given = params.get("evidence")
    if given and body["status"] in _CLOSED:
        raise invalid("This dispute is already closed", code="dispute_already_closed")
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    if given:
        body["evidence"].update(given)
        body["evidence_details"]["has_evidence"] = True
    ctx.store.save(body)
    if given and params.get("submit", True):
        body["evidence_details"]["submission_count"] += 1
        inquiry = body["status"].startswith("warning")
        body = change_status(ctx, body, "warning_under_review" if inquiry else "under_review")
        verdict = {"winning_evidence": "won", "losing_evidence": "lost"}.get(
            body["evidence"]["uncategorized_text"] or ""
        )
        if verdict is not None and not inquiry:
            body = change_status(ctx, body, verdict)
        elif verdict == "won":
            body = change_status(ctx, body, "warning_closed")
    return render(ctx, body, params.get("expand"))


def _close(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("dispute", ids[0])
    if body["status"] in _CLOSED:
        raise invalid("This dispute is already closed", code="dispute_already_closed")
    closed = "warning_closed" if body["status"].startswith("warning") else "lost"
    return render(ctx, change_status(ctx, body, closed), params.get("expand"))


ROUTES: list[Route] = [
    ("GET", "/v1/disputes", {**PAGE, "created": RANGE, "charge": text(), "payment_intent": text()}, _list),
    ("GET", "/v1/disputes/*", {"expand": EXPAND}, _retrieve),
    (
        "POST",
        "/v1/disputes/*",
        {
            "evidence": nested({name: text(clearable=True) for name in shapes.EVIDENCE_FIELDS}),
            "metadata": METADATA,
            "submit": flag(),
            "expand": EXPAND,
        },
        _update,
    ),
    ("POST", "/v1/disputes/*/close", {"expand": EXPAND}, _close),
]
