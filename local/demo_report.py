"""What became of the demo's bookings: figures read from the database, what is wrong with them, and the tables."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from domain import ledger
from domain.ledger import EntryKind
from domain.money import format_amount
from gateways.stripe import StripeGateway
from local.demo_plan import Kind, Plan
from local.demo_script import Told, arrived
from local.demo_settlement import Settled
from local.demo_settlement_report import problems as settlement_problems
from local.demo_settlement_report import reasons, shortened
from local.demo_settlement_report import table as settlement_table
from local.demo_world import World
from settings import Settings
from store import Store
from store.audit import Finding, audit
from store.rows import AccountBalance, AccountLine, ChainRow, InboxRow, InboxStatus

CURRENCY = "EUR"
_BERLIN = ZoneInfo("Europe/Berlin")
_ALL = 1_000_000


@dataclass
class Earnings:
    """One reseller's account in minor units, by what moved it. `open_minor` is what he is owed still."""

    accrued_minor: int = 0
    reversed_minor: int = 0
    transferred_minor: int = 0
    """For single bookings, less what was taken back."""
    vat_minor: int = 0
    """On what statements credit him."""
    adjusted_minor: int = 0
    """Manual adjustments, in his favour."""
    settled_minor: int = 0
    """By the month's settlement."""

    @property
    def open_minor(self) -> int:
        """May be below zero: a reseller owes what was rolled back after he was paid."""
        earned_minor = self.accrued_minor - self.reversed_minor + self.vat_minor + self.adjusted_minor
        return earned_minor - self.transferred_minor - self.settled_minor


@dataclass
class Result:
    """Everything that the tables show. `problems` is empty when all is as it must be."""

    plan: Plan
    rows: dict[str, ChainRow]
    told: Told
    earnings: dict[str, Earnings]
    settled: Settled
    balances: list[AccountBalance]
    findings: list[Finding]
    inbox: dict[InboxStatus, int]
    """Events by status."""
    stuck: list[InboxRow]
    """Events that reached no chain, those that nobody understands apart."""
    problems: list[str] = field(default_factory=list)


async def collect(world: World, plan: Plan, told: Told, settled: Settled) -> Result:
    """Reads the figures once everything has happened, runs the audit against Stripe, and judges."""
    async with world.store.begin() as tx:
        rows = {row.chain_uid: row for row in await tx.chains.list(limit=_ALL)}
        resellers = [reseller.id for reseller in await tx.catalog.resellers()]
        lines = {one: await tx.ledger.account(ledger.reseller(one), limit=_ALL) for one in resellers}
        result = Result(
            plan=plan,
            rows=rows,
            told=told,
            earnings={one: earnings(lines[one]) for one in resellers},
            settled=settled,
            balances=await tx.ledger.trial_balance(),
            findings=[],
            inbox=await tx.inbox.counts(),
            stuck=[
                row for row in await tx.inbox.stuck(overdue_seconds=0) if row.status is not InboxStatus.NOT_UNDERSTOOD
            ],
        )
    result.findings = await audited(world.store, world.settings)
    result.problems = list(_problems(result))
    return result


async def audited(store: Store, settings: Settings) -> list[Finding]:
    """All invariants, against Stripe; recent effects count as well, because nothing is under way any more.

    Stripe lists movements by whole seconds, the present one apart: the last ones must be a second old.
    """
    await asyncio.sleep(1.1)
    payments = StripeGateway(
        secret_key=settings.stripe_secret_key.get_secret_value(),
        base_url=settings.stripe_base_url,
        timeout_seconds=settings.http_timeout_seconds,
    )
    try:
        return await audit(store, payments, grace_seconds=0)
    finally:
        await payments.aclose()


def earnings(lines: Iterable[AccountLine]) -> Earnings:
    """A reseller's account by what moved it."""
    found = Earnings()
    for line in lines:
        signed_minor = line.amount_minor if line.is_debit else -line.amount_minor
        if line.kind == EntryKind.ACCRUED:
            found.accrued_minor -= signed_minor
        elif line.kind == EntryKind.COMMISSION_REVERSED:
            found.reversed_minor += signed_minor
        elif line.kind == EntryKind.COMMISSION_VAT:
            found.vat_minor -= signed_minor
        elif line.kind in (EntryKind.ADJUSTED, EntryKind.WRITTEN_OFF):
            found.adjusted_minor -= signed_minor
        elif line.chain_uid is not None:
            found.transferred_minor += signed_minor
        else:
            found.settled_minor += signed_minor
    return found


def sums(balances: Sequence[AccountBalance]) -> tuple[int, int]:
    """Debit and credit of all accounts together."""
    return sum(row.debit_minor for row in balances), sum(row.credit_minor for row in balances)


def _problems(result: Result) -> Iterable[str]:
    for planned in result.plan.all:
        row = result.rows.get(planned.uid)
        if row is None or not arrived(row, planned):
            stands = f"{row.stage} {row.outcome or row.reason or ''}".strip() if row else "no chain"
            yield f"{planned.uid}: {stands} instead of {planned.kind.ends}"
        elif row.outcome is None and row.deadline_at is None:
            yield f"{planned.uid}: waits without a deadline"
    debit_minor, credit_minor = sums(result.balances)
    if debit_minor != credit_minor:
        yield f"trial balance: debit {debit_minor} is not credit {credit_minor}"
    yield from settlement_problems(result.settled, result.plan.period)
    told = result.told
    if any(not 400 <= status < 500 for status in told.refused_webhooks):
        yield f"forged webhooks were answered {dict(told.refused_webhooks)} instead of 4xx"
    if not 200 <= told.not_understood_status < 300:
        yield f"a genuine webhook that nobody understands was answered {told.not_understood_status} instead of 2xx"
    if result.inbox[InboxStatus.NOT_UNDERSTOOD] != 1:
        yield f"{result.inbox[InboxStatus.NOT_UNDERSTOOD]} events are listed as not understood instead of 1"
    for event in result.stuck:
        yield f"event {event.type} of {event.object_id} reached no chain: {event.status}, {event.last_error}"
    wanted = len(result.plan.uids("lost_answer"))
    if (told.lost_answers, told.charges_after_lost_answers) != (wanted, wanted):
        charges = told.charges_after_lost_answers
        yield f"{told.lost_answers} answers were lost and {charges} charges made, instead of {wanted} each"
    for finding in result.findings:
        yield f"audit {finding.invariant} {finding.where}: {finding.what}"


# --- tables -----------------------------------------------------------------------------------------------------------


def show(result: Result, console: Console) -> None:
    """All tables, one under the other."""
    for table in (_outcomes(result), _parked(result), _earned(result), _trial_balance(result)):
        console.print(table)
        console.print()
    console.print(settlement_table(result.settled, result.plan.period))
    for line in reasons(result.settled):
        console.print(line, markup=False)
    if result.settled.page is not None:
        console.print("\nOne of them, as its reseller reads it:\n", style="bold")
        for line in shortened(result.settled.page):
            console.print(line, markup=False, soft_wrap=True)
    console.print()
    told, inbox = result.told, result.inbox
    statuses = ", ".join(f"{count} × {status}" for status, count in sorted(told.refused_webhooks.items()))
    console.print(
        f"Forged, unsigned or oversized webhooks refused: {statuses}; nothing of them is stored.", markup=False
    )
    console.print(
        f"Inbox: {inbox[InboxStatus.DELIVERED]} events delivered, {inbox[InboxStatus.IGNORED]} of no interest, "
        f"{inbox[InboxStatus.NOT_UNDERSTOOD]} not understood (listed by `billing chains --stuck`).",
        markup=False,
    )
    console.print(
        f"Answers lost by Stripe after the charge: {told.lost_answers}; charges it made for them: "
        f"{told.charges_after_lost_answers}.",
        markup=False,
    )
    if result.findings:
        console.print(f"Audit: {len(result.findings)} findings", style="bold red")
    else:
        console.print("Audit: the invariants I1 to I8 hold, compared with Stripe both ways.", style="bold green")
    for problem in result.problems:
        console.print(f"✗ {problem}", markup=False, style="red")


def _table(title: str, columns: Sequence[str], right: Sequence[str] = ()) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def _outcomes(result: Result) -> Table:
    title = f"What became of {len(result.plan.all)} bookings"
    table = _table(title, ("booking", "number", "chain", "example", ""), right=("number",))
    for kind in result.plan.kinds:
        group = result.plan.of_kind[kind.name]
        found = [result.rows[planned.uid] for planned in group if planned.uid in result.rows]
        words = ", ".join(_counted(Counter(_standing(row) for row in found), kind))
        good = len(found) == len(group) and all(
            arrived(row, planned) for row, planned in zip(found, group, strict=True)
        )
        table.add_row(kind.story, str(len(group)), words, group[0].uid, "[green]✓[/]" if good else "[red]✗[/]")
    return table


def _standing(row: ChainRow) -> str:
    if row.outcome is not None:
        return row.outcome.value
    return f"{row.stage.value}: {row.reason.value}" if row.reason is not None else row.stage.value


def _counted(found: Counter[str], kind: Kind) -> Iterable[str]:
    if set(found) == {str(kind.ends)}:
        yield str(kind.ends)
        return
    for words, count in found.most_common():
        yield f"{count} × {words}"


def _parked(result: Result) -> Table:
    waiting = [row for row in result.rows.values() if row.reason is not None]
    table = _table("Waiting for a person", ("chain", "reason", "detail", "looks again"))
    for row in sorted(waiting, key=lambda one: one.chain_uid):
        deadline = row.deadline_at.astimezone(_BERLIN).strftime("%d.%m.%Y %H:%M") if row.deadline_at else "never"
        table.add_row(row.chain_uid, row.reason.value if row.reason else "", row.detail or "", deadline)
    return table


def _earned(result: Result) -> Table:
    columns = ("accrued", "reversed", "VAT", "adjusted", "paid", "open")
    title = f"Accounts of the resellers; settled: {result.plan.period}"
    table = _table(title, ("reseller", *columns), right=columns)
    total: dict[str, int] = defaultdict(int)
    for reseller_id, earned in result.earnings.items():
        amounts = [
            earned.accrued_minor,
            earned.reversed_minor,
            earned.vat_minor,
            earned.adjusted_minor,
            earned.transferred_minor + earned.settled_minor,
            earned.open_minor,
        ]
        for column, amount in zip(columns, amounts, strict=True):
            total[column] += amount
        table.add_row(reseller_id, *(format_amount(amount, CURRENCY) for amount in amounts))
    table.add_row("together", *(format_amount(total[column], CURRENCY) for column in columns), style="bold")
    return table


def _trial_balance(result: Result) -> Table:
    """Customers' and resellers' accounts as one line each: there are many."""
    grouped: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in result.balances:
        head, mark, _ = row.account.partition(":")
        both = grouped[f"{head}:*" if mark else head]
        both[0] += row.debit_minor
        both[1] += row.credit_minor
    table = _table("Trial balance", ("account", "debit", "credit", "balance"), right=("debit", "credit", "balance"))
    for account, (debit_minor, credit_minor) in sorted(grouped.items()):
        side = "D" if debit_minor >= credit_minor else "C"
        rest = f"{format_amount(abs(debit_minor - credit_minor), CURRENCY)} {side}"
        table.add_row(account, format_amount(debit_minor, CURRENCY), format_amount(credit_minor, CURRENCY), rest)
    debit_minor, credit_minor = sums(result.balances)
    verdict = "balanced" if debit_minor == credit_minor else "NOT BALANCED"
    table.add_row(
        "together", format_amount(debit_minor, CURRENCY), format_amount(credit_minor, CURRENCY), verdict, style="bold"
    )
    return table
