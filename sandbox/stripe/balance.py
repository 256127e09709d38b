"""Balances and balance transactions: the only place that moves money inside the stand-in."""

from __future__ import annotations

from typing import Any

from sandbox.stripe import shapes_connect as shapes
from sandbox.stripe.context import Context, Route
from sandbox.stripe.errors import JsonObject
from sandbox.stripe.forms import EXPAND, PAGE, RANGE, currency, text
from sandbox.stripe.rendering import page, render

CARD_FEE_BPS = 150
CARD_FEE_FIXED_MINOR = 25
SEPA_FEE_MINOR = 35
DISPUTE_FEE_MINOR = 2_000


def fee_minor(amount_minor: int, method_type: str) -> int:
    """Stripe's fee for a charge of a European account: 1.5 % + 25 cents a card, 35 cents a SEPA debit."""
    if method_type == "sepa_debit":
        return SEPA_FEE_MINOR
    return (amount_minor * CARD_FEE_BPS + 5_000) // 10_000 + CARD_FEE_FIXED_MINOR


def post(
    ctx: Context,
    kind: str,
    category: str,
    amount: int,
    code: str,
    source: str,
    *,
    fee: int = 0,
    available_on: int | None = None,
    description: str | None = None,
) -> JsonObject:
    """Books a movement on the context's account. ``amount`` is signed; ``available_on`` None means at once."""
    due = ctx.now if available_on is None else available_on
    body = shapes.balance_transaction(ctx.now, kind, category, amount, fee, code, due, source)
    body["description"] = description
    ctx.create("balance_transaction", body)
    waits = due > ctx.now
    net = body["net"]
    ctx.store.connection.execute(
        "INSERT INTO balances (account, currency, available, pending) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (account, currency) DO UPDATE SET available = available + excluded.available, "
        "pending = pending + excluded.pending",
        (ctx.account, code, 0 if waits else net, net if waits else 0),
    )
    if waits:
        ctx.store.connection.execute(
            "INSERT INTO pending_funds VALUES (?, ?, ?, ?, ?)", (body["id"], ctx.account, code, net, due)
        )
    return body


def ripen(ctx: Context) -> None:
    """Moves what has become available by now from pending to available, in every account."""
    connection = ctx.store.connection
    due = connection.execute(
        "SELECT account, currency, sum(net) FROM pending_funds WHERE available_on <= ? GROUP BY account, currency",
        (ctx.now,),
    ).fetchall()
    if not due:
        return
    for account, code, net in due:
        connection.execute(
            "UPDATE balances SET available = available + ?, pending = pending - ? WHERE account=? AND currency=?",
            (net, net, account, code),
        )
    connection.execute("DELETE FROM pending_funds WHERE available_on <= ?", (ctx.now,))


def available_minor(ctx: Context, code: str) -> int:
    """What the context's account can spend in one currency now; can be negative."""
    ripen(ctx)
    row = ctx.store.connection.execute(
        "SELECT available FROM balances WHERE account=? AND currency=?", (ctx.account, code)
    ).fetchone()
    return int(row[0]) if row else 0


def _retrieve_balance(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    ripen(ctx)
    rows = ctx.store.connection.execute(
        "SELECT currency, available, pending FROM balances WHERE account=? ORDER BY currency", (ctx.account,)
    ).fetchall() or [("eur", 0, 0)]

    def amounts(index: int) -> list[JsonObject]:
        return [{"amount": row[index], "currency": row[0], "source_types": {"card": row[index]}} for row in rows]

    return {"object": "balance", "available": amounts(1), "livemode": False, "pending": amounts(2)}


def _list_transactions(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    equal = {name: params.get(name) for name in ("source", "type", "currency")}
    return page(ctx, "balance_transaction", "/v1/balance_transactions", params, equal)


def _retrieve_transaction(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("balance_transaction", ids[0]), params.get("expand"))


ROUTES: list[Route] = [
    ("GET", "/v1/balance", {"expand": EXPAND}, _retrieve_balance),
    (
        "GET",
        "/v1/balance_transactions",
        {**PAGE, "created": RANGE, "source": text(), "type": text(), "currency": currency()},
        _list_transactions,
    ),
    ("GET", "/v1/balance_transactions/*", {"expand": EXPAND}, _retrieve_transaction),
]
