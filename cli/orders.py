"""Orders of people: try again, roll back, settle a month. Each is recorded with who and why."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli import output, people, session
from domain.money import format_amount
from settings import Settings

if TYPE_CHECKING:
    from store.rows import SettlementRow


def retry(uid: str, *, by: str, why: str, settlement: str, currency: str) -> None:
    """Exit code 1 where the chain, or with `settlement` the month of the reseller `uid`, is not parked."""
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_operator(given) as operator:
            if settlement:
                return await operator.retry_settlement(settlement, uid, currency, order)
            return await operator.retry(uid, order)

    sys.stdout.write(f"{session.run(work)}\n")


def roll_back(uid: str, *, by: str, why: str) -> None:
    """Answers when the order is taken; `billing show` tells how far the undoing is."""
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_operator(given) as operator:
            return await operator.roll_back(uid, order)

    sys.stdout.write(f"{session.run(work)}\n`billing show {uid}` tells how far it is.\n")


def settle(month: str, *, by: str, wait_seconds: int, early: bool, as_json: bool) -> None:
    """Starts the month's closing, waits for it and shows what became of each reseller.

    Exit code 1 where one is parked or the time is over; the closing itself goes on either way.
    """
    _checked(month, early)

    async def work(given: Settings) -> tuple[list[SettlementRow], bool]:
        from starter.operator import Operator
        from starter.temporal import connect

        client = await connect(given)
        async with session.open_store(given) as store:
            operator = Operator(store=store, client=client, settings=given)
            workflow_id = await operator.settle(month, people.login(by))
            ended = True
            try:
                async with asyncio.timeout(wait_seconds or None):
                    if wait_seconds:
                        await client.get_workflow_handle(workflow_id).result()
            except TimeoutError:
                ended = False
            async with store.begin() as tx:
                return await tx.settlements.of(month), ended and bool(wait_seconds)

    rows, ended = session.run(work)
    if as_json:
        output.print_json(rows)
    else:
        _print(month, rows)
        if not ended:
            sys.stdout.write("The closing is still under way: run the same command again to see its result.\n")
    if any(row.status.value == "parked" for row in rows) or (wait_seconds and not ended):
        raise session.exit_with(session.BROKEN)


def _checked(month: str, early: bool) -> None:
    from pydantic import TypeAdapter, ValidationError

    from domain.model import Period
    from domain.pricing import period_of

    try:
        TypeAdapter(Period).validate_python(month)
    except ValidationError:
        session.fail(f"--month {month}: a month is written YYYY-MM, such as 2026-01.", session.WRONG)
    if month >= period_of(datetime.now(UTC)) and not early:
        session.fail(
            f"--month {month} is not over yet: what matures after its closing would wait for the next month. "
            "Add --early if that is meant.",
            session.WRONG,
        )


def _print(month: str, rows: list[SettlementRow]) -> None:
    console = output.console()
    if not rows:
        console.print(f"Nothing matured until the end of {month}: nothing to pay.")
        return
    console.print(
        output.table(
            f"Settlement {month}",
            ("reseller", "amount", "commissions", "status", "transfer", "why"),
            (
                (
                    row.reseller_id,
                    format_amount(row.amount_minor, row.currency),
                    str(row.line_count),
                    row.status.value,
                    row.transfer_key or "",
                    ": ".join(part for part in (row.reason.value if row.reason else "", row.detail or "") if part),
                )
                for row in rows
            ),
            right=("amount", "commissions"),
        )
    )
    for row in rows:
        if row.status.value == "parked":
            console.print(
                f"→ when it is put right: billing retry {row.reseller_id} --settlement {month} "
                f"--currency {row.currency} --by YOU --why REASON"
            )
