"""`billing settle` and what people decide about the month's end: approve, carry over, adjust, write off."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cli import output, people, session
from cli import settlement_tables as tables
from domain.effects import AdjustmentDirection, SettlementStatus
from domain.money import MINOR_DIGITS
from settings import Settings

if TYPE_CHECKING:
    from temporalio.client import Client

    from starter.operator import Operator
    from store import Tx
    from store.rows import SettlementRow

_AMOUNT: Final = re.compile(r"^(\d{1,9})(?:[.,](\d{1,4}))?\Z")
PROGRESS_SECONDS: Final = 5.0
"""Between two words on how far a closing is."""
_UNDER_WAY: Final = "The closing is still under way: run the same command again to see its result.\n"


def settle(
    month: str, *, by: str, wait_seconds: int, early: bool, supplement: bool, dry_run: bool, as_json: bool
) -> None:
    """Starts the month's closing, waits for it and shows what became of each reseller; `dry_run` only shows it.

    Exit code 1 where one waits or is parked, or the time is over; the closing itself goes on either way.
    """
    checked_month(month, early=early or dry_run)
    if dry_run:
        _preview(month, supplement=supplement, as_json=as_json)
        return
    who = people.login(by)

    async def work(given: Settings) -> tuple[list[SettlementRow], bool]:
        from starter.operator import Operator
        from starter.temporal import connect

        client = await connect(given)
        async with session.open_store(given) as store:
            operator = Operator(store=store, client=client, settings=given)
            workflow_id = await operator.settle(month, who, supplement=supplement, early=early)
            ended = await _ended(client, workflow_id, wait_seconds)
            async with store.begin() as tx:
                rows = await tx.settlements.of(month, await tx.settlements.latest_sequence(month) if supplement else 1)
            return rows, ended

    rows, ended = session.run(work)
    if as_json:
        output.print_json(rows)
    else:
        tables.show(f"Settlement {month}", rows)
        if not rows and ended:
            sys.stdout.write(f"Nothing matured until the end of {month} that stood on no statement yet.\n")
        if not ended:
            sys.stdout.write(_UNDER_WAY)
    if any(row.status in (SettlementStatus.PARKED, SettlementStatus.WAITING) for row in rows):
        raise session.exit_with(session.BROKEN)
    if wait_seconds and not ended:
        raise session.exit_with(session.BROKEN)


async def _ended(client: Client, workflow_id: str, wait_seconds: int) -> bool:
    """Waits for a closing and says on stderr how far it is; False where the time was over before."""
    from temporalio.client import WorkflowFailureError

    if not wait_seconds:
        return False
    saying = asyncio.create_task(_say_progress(client, workflow_id))
    try:
        async with asyncio.timeout(wait_seconds):
            await client.get_workflow_handle(workflow_id).result()
    except TimeoutError:
        return False
    except WorkflowFailureError:
        raise session.CommandFailed(
            f"{workflow_id} was ended before it was done. Nothing is lost: run the same command again."
        ) from None
    finally:
        saying.cancel()
    return True


async def _say_progress(client: Client, workflow_id: str) -> None:
    from temporalio.service import RPCError

    from workflows.settlement import SettlementWorkflow

    handle = client.get_workflow_handle_for(SettlementWorkflow.run, workflow_id)
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        try:
            state = await handle.query(SettlementWorkflow.state, rpc_timeout=timedelta(seconds=PROGRESS_SECONDS))
        except RPCError:
            continue
        paused = f", paused by {state.paused.who}: {state.paused.why}" if state.paused else ""
        sys.stderr.write(
            f"{state.paid} paid, {state.carried} carried over, {state.parked} parked, {state.waiting} waiting, "
            f"{state.open} open, of {state.total} statements{paused}\n"
        )
        sys.stderr.flush()


def _preview(month: str, *, supplement: bool, as_json: bool) -> None:
    """The statements that the month's closing would freeze now. Writes nothing, and needs no Temporal."""

    async def work(given: Settings) -> tuple[list[SettlementRow], bool]:
        from starter.settlement_orders import preview

        async with session.open_store(given) as store:
            async with store.begin() as tx:
                is_closed = await tx.settlements.latest_sequence(month) > 0
            return await preview(store, given, month, supplement=supplement), is_closed

    rows, is_closed = session.run(work)
    if as_json:
        output.print_json(rows)
        return
    if is_closed and not supplement:
        sys.stdout.write(f"{month} is closed: these are its statements. --supplement shows what came later.\n")
    else:
        sys.stdout.write("Dry run: nothing is written, nobody is paid.\n")
    tables.show(f"Settlement {month}", rows)
    if not rows:
        sys.stdout.write("There is nothing to settle.\n")


def pause(month: str, *, by: str, why: str, supplement: bool) -> None:
    """Starts no further transfer of a closing that runs."""
    _closing_order(month, by, why, supplement, lambda operator: operator.pause_settlement)


def resume(month: str, *, by: str, why: str, supplement: bool) -> None:
    """Lets a paused closing go on."""
    _closing_order(month, by, why, supplement, lambda operator: operator.resume_settlement)


def _closing_order(
    month: str, by: str, why: str, supplement: bool, choose: Callable[[Operator], Callable[..., Awaitable[str]]]
) -> None:
    known_month(month)
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_operator(given) as operator:
            sequence = 1
            if supplement:
                async with session.open_store(given) as store, store.begin() as tx:
                    sequence = await tx.settlements.latest_sequence(month)
            return await choose(operator)(month, order, sequence)

    sys.stdout.write(f"{session.run(work)}\n")


# --- one statement ---


def approve(reseller_id: str, *, month: str, currency: str, supplement: int, by: str, why: str) -> None:
    """Lets a payment go, as the second person: refused for everybody who asked for it."""
    _statement_order("approve_settlement", "approve", reseller_id, month, currency, supplement, by, why)


def carry_over(reseller_id: str, *, month: str, currency: str, supplement: int, by: str, why: str) -> None:
    """Leaves an amount that waits for the reseller's next statement."""
    _statement_order("carry_over", "carry over", reseller_id, month, currency, supplement, by, why)


def _statement_order(
    method: str, words: str, reseller_id: str, month: str, currency: str, supplement: int, by: str, why: str
) -> None:
    known_month(month)
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_store(given) as store, store.begin() as tx:
            row = await one_statement(tx, reseller_id, month, currency, supplement)
        if row.status in (SettlementStatus.PAID, SettlementStatus.CARRIED_OVER) or row.payable_minor == 0:
            standing = row.status.value.replace("_", " ")
            raise session.CommandFailed(f"{row.statement_id} is {standing}: there is nothing to {words}.")
        async with session.open_operator(given) as operator:
            told: str = await getattr(operator, method)(month, reseller_id, row.currency, order, supplement)
            return told

    sys.stdout.write(f"{session.run(work)}\n")


async def one_statement(tx: Tx, reseller_id: str, month: str, currency: str, sequence: int) -> SettlementRow:
    """The statement that a person means; `currency` empty: the only one. Raises CommandFailed with what there is."""
    rows = await tx.settlements.of_reseller(reseller_id)
    fitting = [
        row
        for row in rows
        if row.period == month and row.sequence == sequence and row.currency == (currency or row.currency)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise session.CommandFailed(f"{reseller_id} has statements in several currencies: add --currency.")
    if rows:
        known = ", ".join(row.statement_id for row in rows[-5:])
        raise session.CommandFailed(f"{reseller_id} has no such statement for {month}. The last ones: {known}.")
    if reseller_id not in {reseller.id for reseller in await tx.catalog.resellers()}:
        raise session.CommandFailed(f"No reseller has the id {reseller_id}.")
    raise session.CommandFailed(f"{reseller_id} has no statement yet.")


# --- adjustments ---


def adjust(
    reseller_id: str, *, amount: str, currency: str, credit: bool, debit: bool, by: str, why: str, adjustment_id: str
) -> None:
    """Asks for a manual amount on a reseller's account. Nothing moves until another person approves it."""
    if credit == debit:
        session.fail("Say either --credit (he is owed more) or --debit (he is owed less).", session.WRONG)
    amount_minor = minor_units(amount, currency)
    order = people.order(by, why)
    direction = AdjustmentDirection.CREDIT if credit else AdjustmentDirection.DEBIT

    async def work(given: Settings) -> tuple[str, str]:
        async with session.open_operator(given) as operator:
            return await operator.adjust(
                reseller_id, currency, amount_minor, direction, order, adjustment_id=adjustment_id or None
            )

    _say_requested(session.run(work))


def write_off(reseller_id: str, *, currency: str, by: str, why: str) -> None:
    """Asks to give up what an account holds open, whoever owes it. Another person decides."""
    _known_currency(currency)
    order = people.order(by, why)

    async def work(given: Settings) -> tuple[str, str]:
        async with session.open_operator(given) as operator:
            return await operator.write_off(reseller_id, currency, order)

    _say_requested(session.run(work))


def decide(adjustment_id: str, *, by: str, why: str, approved: bool) -> None:
    """Approves or rejects an adjustment: refused for the person who asked for it."""
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_operator(given) as operator:
            return await operator.decide_adjustment(adjustment_id, order, approved=approved)

    sys.stdout.write(f"{session.run(work)}\n")


def _say_requested(asked: tuple[str, str]) -> None:
    adjustment_id, told = asked
    sys.stdout.write(
        f"{told}\n→ another person decides: billing approve adjustment {adjustment_id} --by YOU --why REASON, "
        "or billing reject adjustment …\n"
    )


def minor_units(amount: str, currency: str) -> int:
    """`12.50` or `12,50` in minor units; ends with exit code 2 for anything that could be misread."""
    _known_currency(currency)
    digits = MINOR_DIGITS[currency]
    unit: int = 10**digits
    match = _AMOUNT.match(amount.strip())
    if match is None or len(match[2] or "") not in (0, digits):
        example = "12.50" if digits else "1250"
        session.fail(
            f"--amount {amount}: write it without a sign and thousands separators, with {digits} decimals in "
            f"{currency}, such as {example}.",
            session.WRONG,
        )
    found = int(match[1]) * unit + int(match[2] or 0)
    if found == 0:
        session.fail("--amount 0 changes nothing.", session.WRONG)
    return found


def _known_currency(currency: str) -> None:
    if currency not in MINOR_DIGITS:
        session.fail(f"--currency {currency}: one of {', '.join(sorted(MINOR_DIGITS))}.", session.WRONG)


# --- shared ---


def known_month(month: str) -> None:
    """Ends with exit code 2 where it is no month."""
    from pydantic import TypeAdapter, ValidationError

    from domain.model import Period

    try:
        TypeAdapter(Period).validate_python(month)
    except ValidationError:
        session.fail(f"{month}: a month is written YYYY-MM, such as 2026-01.", session.WRONG)


def checked_month(month: str, *, early: bool) -> None:
    """Ends with exit code 2 where nobody closes it: no month, one that has not begun, a running one without `early`."""
    from domain.pricing import period_of

    known_month(month)
    running = period_of(datetime.now(UTC))
    if month > running:
        session.fail(f"--month {month} has not begun yet: there is nothing to close.", session.WRONG)
    if month == running and not early:
        session.fail(
            f"--month {month} is not over yet: what matures after its closing would wait for the next month. "
            "Add --early if that is meant.",
            session.WRONG,
        )
