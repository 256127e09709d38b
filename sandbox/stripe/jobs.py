"""What happens later by itself: a bank's answer to a debit, a planned dispute, a refund that turns, a payout."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from sandbox.stripe import charging, disputes, refunds, transfers
from sandbox.stripe.context import Context
from sandbox.stripe.errors import ApiError, JsonObject

_Action = Callable[[Context, JsonObject], JsonObject]


def _pay_out(ctx: Context, body: JsonObject) -> JsonObject:
    return transfers.change_payout(ctx, body, "paid")


_ACTIONS: dict[str, _Action] = {
    "debit": charging.settle_debit,
    "dispute": disputes.open_as_planned,
    "refund": refunds.answer_as_planned,
    "payout": _pay_out,
}


def run_due(ctx: Context) -> int:
    """Runs every job that is due, in order, each in its own transaction; how many there were."""
    number = 0
    while True:
        row = ctx.store.connection.execute(
            "SELECT id, kind, object_id FROM jobs WHERE due_at <= ? ORDER BY due_at, id LIMIT 1", (ctx.clock.now(),)
        ).fetchone()
        if row is None:
            return number
        with ctx.store.transaction():
            _run(ctx, row[1], row[2])
            ctx.store.connection.execute("DELETE FROM jobs WHERE id=?", (row[0],))
        number += 1


def _run(ctx: Context, kind: str, object_id: str) -> None:
    place = ctx.store.place(object_id)
    body = ctx.store.find(object_id)
    if place is None or body is None:
        return
    inside = ctx.fresh(place[2])
    try:
        with ctx.store.savepoint():
            _ACTIONS[kind](inside, body)
    except ApiError:
        # The object has moved on in the meantime (refunded, disputed, failed): the plan is void.
        return
    except Exception:  # noqa: BLE001 - one job that fails must not stop all later ones
        traceback.print_exc(file=sys.stderr)


def seconds_until_next(ctx: Context) -> float | None:
    """How long until a job is due; None if none waits."""
    row = ctx.store.connection.execute("SELECT min(due_at) FROM jobs").fetchone()
    return None if row[0] is None else max(0.0, float(row[0] - ctx.clock.now()))
