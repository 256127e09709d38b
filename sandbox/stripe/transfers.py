"""Transfers to connected accounts, their reversals, and payouts from a balance to a bank."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import balance
from sandbox.stripe import shapes_connect as shapes
from sandbox.stripe.context import Context, Route, new_id
from sandbox.stripe.errors import JsonObject, invalid, malformed, missing_object, money
from sandbox.stripe.forms import (
    EXPAND,
    METADATA,
    PAGE,
    RANGE,
    choice,
    currency,
    integer,
    merge_metadata,
    text,
)
from sandbox.stripe.rendering import page, render
from sandbox.stripe.shapes import destination_payment

_NO_FUNDS = (
    "You have insufficient available funds in your Stripe account. Try adding funds directly to your available balance "
    "by creating Charges using the 4000000000000077 test card. See: https://stripe.com/docs/testing#available-balance"
)


def _destination(ctx: Context, account_id: str) -> JsonObject:
    body = ctx.store.find(account_id, "account")
    if body is None or not body["_access"]:
        raise missing_object("destination", account_id, param="destination", in_path=False)
    if body["capabilities"].get("transfers") != "active":
        raise invalid(
            "Your destination account needs to have at least one of the following capabilities enabled: transfers, "
            "crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
        )
    return body


def _source(ctx: Context, params: dict[str, Any]) -> JsonObject:
    """The succeeded charge that pays for the transfer; all transfers of one charge together may not exceed it."""
    charge = ctx.fetch("charge", params["source_transaction"], param="source_transaction", in_path=False)
    if charge["status"] != "succeeded":
        raise invalid(
            f"Charge {charge['id']} cannot be used as a source_transaction because it is {charge['status']}.",
            param="source_transaction",
        )
    if charge["currency"] != params["currency"]:
        raise invalid(
            f"The currency of source_transaction's balance transaction ({charge['currency']}) must be the same as the "
            f"transfer currency ({params['currency']})",
            param="currency",
        )
    rows = ctx.store.connection.execute(
        "SELECT coalesce(sum(json_extract(body, '$.amount') - json_extract(body, '$.amount_reversed')), 0) "
        "FROM objects WHERE kind='transfer' AND account=? AND source_transaction=?",
        (ctx.account, charge["id"]),
    )
    left = charge["amount"] - int(rows.fetchone()[0])
    if params["amount"] > left:
        code = charge["currency"]
        raise invalid(
            f"Transfers using this transaction as a source must not exceed the source amount of "
            f"{money(charge['amount'], code)}. (There is {money(left, code)} left.)",
            param="amount",
        )
    return charge


def _create(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    if "amount" not in params:
        raise malformed("Missing required param: amount.", param="amount", code="parameter_missing")
    account = _destination(ctx, params["destination"])
    body = shapes.transfer(ctx.now, params["amount"], params["currency"], account["id"])
    body["description"] = params.get("description")
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    body["transfer_group"] = params.get("transfer_group")
    available_on = ctx.now
    if "source_transaction" in params:
        charge = _source(ctx, params)
        entry = ctx.store.find(charge["balance_transaction"])
        available_on = max(ctx.now, entry["available_on"]) if entry else ctx.now
        group = charge["transfer_group"] or f"group_{charge['payment_intent'] or charge['id']}"
        if body["transfer_group"] not in (None, group) and charge["transfer_group"] is not None:
            raise invalid(
                "The transfer_group of the transfer must be the same as that of its source_transaction.",
                param="transfer_group",
            )
        if charge["transfer_group"] is None:
            charge["transfer_group"] = body["transfer_group"] or group
            ctx.store.save(charge)
        body.update(source_transaction=charge["id"], transfer_group=charge["transfer_group"])
    elif balance.available_minor(ctx, params["currency"]) < params["amount"]:
        raise invalid(_NO_FUNDS, code="balance_insufficient")
    _move(ctx, body, available_on)
    ctx.emit("transfer.created", body)
    return render(ctx, body, params.get("expand"))


def _move(ctx: Context, body: JsonObject, available_on: int) -> None:
    amount, code = body["amount"], body["currency"]
    out = balance.post(ctx, "transfer", "transfer", -amount, code, body["id"], available_on=available_on)
    inside = ctx.within(body["destination"])
    payment = destination_payment(ctx.now, amount, code, body["id"])
    came = balance.post(inside, "payment", "charge", amount, code, payment["id"], available_on=available_on)
    payment["balance_transaction"] = came["id"]
    inside.create("charge", payment)
    inside.emit("payment.created", payment)
    body.update(balance_transaction=out["id"], destination_payment=payment["id"])
    ctx.create("transfer", body)


def _reverse(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    transfer = ctx.fetch("transfer", ids[0])
    left = transfer["amount"] - transfer["amount_reversed"]
    amount = params.get("amount", left)
    code = transfer["currency"]
    if left == 0:
        raise invalid(f"Transfer {transfer['id']} has already been reversed.", code="transfer_already_reversed")
    if amount > left:
        raise invalid(
            f"Reversal amount ({money(amount, code)}) is greater than unreversed amount on transfer "
            f"({money(left, code)}).",
            param="amount",
        )
    inside = ctx.within(transfer["destination"])
    payment = inside.fetch("charge", transfer["destination_payment"])
    arrival = ctx.store.find(payment["balance_transaction"])
    available_on = max(ctx.now, arrival["available_on"]) if arrival else ctx.now
    if available_on <= ctx.now and balance.available_minor(inside, code) < amount:
        raise invalid(
            "Insufficient available funds in the connected account's Stripe balance to reverse this transfer.",
            code="balance_insufficient",
        )
    body = shapes.reversal(ctx.now, transfer, amount)
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    refund_id = new_id("pyr")
    back = balance.post(
        ctx, "transfer_refund", "transfer_reversal", amount, code, body["id"], available_on=available_on
    )
    gone = balance.post(inside, "payment_refund", "refund", -amount, code, refund_id, available_on=available_on)
    payment["amount_refunded"] += amount
    payment["refunded"] = payment["amount_refunded"] == payment["amount"]
    ctx.store.save(payment)
    inside.create("refund", _destination_refund(inside, payment, refund_id, amount, gone["id"], body["id"]))
    body.update(balance_transaction=back["id"], destination_payment_refund=refund_id)
    ctx.create("transfer_reversal", body)
    transfer["amount_reversed"] += amount
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    ctx.store.save(transfer)
    ctx.emit("transfer.reversed", render(ctx, transfer))
    return render(ctx, body, params.get("expand"))


def _destination_refund(
    inside: Context, payment: JsonObject, refund_id: str, amount: int, entry_id: str, reversal_id: str
) -> JsonObject:
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": entry_id,
        "charge": payment["id"],
        "created": inside.now,
        "currency": payment["currency"],
        "metadata": {},
        "payment_intent": None,
        "reason": None,
        "receipt_number": None,
        "source_transfer_reversal": reversal_id,
        "status": "succeeded",
        "transfer_reversal": None,
    }


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("transfer", ids[0]), params.get("expand"))


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("transfer", ids[0])
    if "description" in params:
        body["description"] = params["description"]
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    ctx.store.save(body)
    ctx.emit("transfer.updated", body)
    return render(ctx, body, params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    equal = {name: params.get(name) for name in ("destination", "transfer_group")}
    return page(ctx, "transfer", "/v1/transfers", params, equal)


def _list_reversals(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    ctx.fetch("transfer", ids[0])
    return page(ctx, "transfer_reversal", f"/v1/transfers/{ids[0]}/reversals", params, {"transfer": ids[0]})


def _retrieve_reversal(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("transfer_reversal", ids[1])
    if body["transfer"] != ids[0]:
        raise missing_object("transfer_reversal", ids[1], param="id", in_path=True)
    return render(ctx, body, params.get("expand"))


def _bank_of(ctx: Context, params: dict[str, Any]) -> str:
    if ctx.account == ctx.platform:
        return "ba_" + ctx.platform.removeprefix("acct_")
    account = ctx.store.find(ctx.account, "account")
    banks = account["external_accounts"]["data"] if account else []
    wanted = params.get("destination")
    for bank in banks:
        if wanted in (None, bank["id"]):
            return str(bank["id"])
    message = "Sorry, you don't have any external accounts in that currency (eur)."
    raise invalid(message, code="payouts_not_allowed" if not banks else None)


def _create_payout(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    bank = _bank_of(ctx, params)
    amount, code = params["amount"], params["currency"]
    if balance.available_minor(ctx, code) < amount:
        raise invalid(_NO_FUNDS, code="balance_insufficient")
    arrival = ctx.now + ctx.settings.payout_after_seconds
    body = shapes.payout(ctx.now, amount, code, bank, arrival)
    for name in ("description", "statement_descriptor"):
        body[name] = params.get(name)
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    entry = balance.post(ctx, "payout", "payout", -amount, code, body["id"], description="STRIPE PAYOUT")
    body["balance_transaction"] = entry["id"]
    ctx.create("payout", body)
    ctx.emit("payout.created", body)
    ctx.later(ctx.settings.payout_after_seconds, "payout", body["id"])
    return render(ctx, body, params.get("expand"))


def change_payout(ctx: Context, body: JsonObject, status: str, code: str = "account_closed") -> JsonObject:
    """The bank's word on a payout. A paid one can still fail, days later; what failed or was cancelled comes back."""
    if body["status"] in (status, "failed", "canceled") or (body["status"] == "paid" and status != "failed"):
        return body
    previous = {"status": body["status"]}
    body["status"] = status
    if status in ("failed", "canceled"):
        kind = "payout_failure" if status == "failed" else "payout_cancel"
        entry = balance.post(ctx, kind, "payout_reversal", body["amount"], body["currency"], body["id"])
        body["failure_balance_transaction"] = entry["id"]
    if status == "failed":
        body.update(failure_code=code, failure_message="The bank refused the payout: " + code.replace("_", " ") + ".")
    ctx.store.save(body)
    named = {"paid": "payout.paid", "failed": "payout.failed", "canceled": "payout.canceled"}
    ctx.emit(named.get(status, "payout.updated"), body, previous)
    return body


def _retrieve_payout(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("payout", ids[0]), params.get("expand"))


def _list_payouts(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    equal = {name: params.get(name) for name in ("destination", "status")}
    return page(ctx, "payout", "/v1/payouts", params, equal)


def _cancel_payout(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("payout", ids[0])
    if body["status"] != "pending":
        raise invalid("This payout cannot be canceled because it is no longer pending.")
    return render(ctx, change_payout(ctx, body, "canceled"), params.get("expand"))


_AMOUNT = integer(minimum=1)
ROUTES: list[Route] = [
    (
        "POST",
        "/v1/transfers",
        {
            "amount": _AMOUNT,
            "currency": currency(required=True),
            "description": text(),
            "destination": text(required=True),
            "expand": EXPAND,
            "metadata": METADATA,
            "source_transaction": text(),
            "transfer_group": text(),
        },
        _create,
    ),
    ("GET", "/v1/transfers", {**PAGE, "created": RANGE, "destination": text(), "transfer_group": text()}, _list),
    ("GET", "/v1/transfers/*", {"expand": EXPAND}, _retrieve),
    ("POST", "/v1/transfers/*", {"description": text(), "metadata": METADATA, "expand": EXPAND}, _update),
    (
        "POST",
        "/v1/transfers/*/reversals",
        {"amount": _AMOUNT, "description": text(), "metadata": METADATA, "expand": EXPAND},
        _reverse,
    ),
    ("GET", "/v1/transfers/*/reversals", PAGE, _list_reversals),
    ("GET", "/v1/transfers/*/reversals/*", {"expand": EXPAND}, _retrieve_reversal),
    (
        "POST",
        "/v1/payouts",
        {
            "amount": integer(required=True, minimum=1),
            "currency": currency(required=True),
            "description": text(),
            "destination": text(),
            "expand": EXPAND,
            "metadata": METADATA,
            "method": choice("standard"),
            "statement_descriptor": text(),
        },
        _create_payout,
    ),
    ("GET", "/v1/payouts", {**PAGE, "created": RANGE, "destination": text(), "status": text()}, _list_payouts),
    ("GET", "/v1/payouts/*", {"expand": EXPAND}, _retrieve_payout),
    ("POST", "/v1/payouts/*/cancel", {"expand": EXPAND}, _cancel_payout),
]
