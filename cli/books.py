"""`billing ledger` and `billing audit`: the books, and whether they hold."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from cli import output, session, timeline
from domain.money import format_amount
from domain.ports import OutsideError
from settings import Settings

if TYPE_CHECKING:
    from store.audit import Finding
    from store.rows import AccountBalance, AccountLine


def ledger(account: str, *, limit: int, as_json: bool) -> None:
    """The trial balance, or one account's postings, newest first; exit code 1 for an account without any."""
    if account:
        _account(account, limit=limit, as_json=as_json)
        return

    async def work(given: Settings) -> list[AccountBalance]:
        async with session.open_store(given) as store, store.begin() as tx:
            return await tx.ledger.trial_balance()

    rows = session.run(work)
    if as_json:
        output.print_json(rows)
        return
    console = output.console()
    console.print(timeline.balances("Trial balance", rows))
    for currency in sorted({row.currency for row in rows}):
        debit = sum(row.debit_minor for row in rows if row.currency == currency)
        credit = sum(row.credit_minor for row in rows if row.currency == currency)
        verdict = "balanced" if debit == credit else "NOT BALANCED: run `billing audit`"
        console.print(f"Sum: {format_amount(debit, currency)} = {format_amount(credit, currency)}: {verdict}")
    if any(row.debit_minor for row in rows) and _sums_differ(rows):
        raise session.exit_with(session.BROKEN)


def _sums_differ(rows: list[AccountBalance]) -> bool:
    sums: dict[str, list[int]] = {}
    for row in rows:
        both = sums.setdefault(row.currency, [0, 0])
        both[0] += row.debit_minor
        both[1] += row.credit_minor
    return any(debit != credit for debit, credit in sums.values())


def _account(account: str, *, limit: int, as_json: bool) -> None:
    async def work(given: Settings) -> list[AccountLine]:
        async with session.open_store(given) as store, store.begin() as tx:
            lines = await tx.ledger.account(account, limit=limit)
            if lines:
                return lines
            known = sorted({row.account for row in await tx.ledger.trial_balance()})
        close = difflib.get_close_matches(account, known, n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(close)}?" if close else " `billing ledger` lists the accounts."
        raise session.CommandFailed(f"Nothing was ever posted on {account}.{hint}")

    lines = session.run(work)
    if as_json:
        output.print_json(lines)
        return
    console = output.console()
    console.print(
        output.table(
            f"Account {account}, newest first",
            ("when", "entry", "debit", "credit", "counter account", "chain"),
            (
                (
                    output.when(line.effective_at),
                    line.entry_key,
                    format_amount(line.amount_minor, line.currency) if line.is_debit else "",
                    "" if line.is_debit else format_amount(line.amount_minor, line.currency),
                    line.counter_account,
                    line.chain_uid or "",
                )
                for line in lines
            ),
            right=("debit", "credit"),
        )
    )
    if len(lines) == limit:
        console.print(f"The newest {limit} are shown; --limit shows more.")


def audit(*, offline: bool, grace_seconds: float, as_json: bool) -> None:
    """The invariants I1 to I8; exit code 1 on any finding. What is younger than the grace is not judged yet."""

    async def work(given: Settings) -> list[Finding]:
        from gateways.stripe import StripeGateway
        from store.audit import audit as check

        async with session.open_store(given) as store:
            if offline:
                return await check(store, None, grace_seconds=grace_seconds)
            payments = StripeGateway(
                secret_key=given.stripe_secret_key.get_secret_value(),
                base_url=given.stripe_base_url,
                timeout_seconds=given.http_timeout_seconds,
            )
            try:
                return await check(store, payments, grace_seconds=grace_seconds)
            except OutsideError as error:
                raise session.CommandFailed(
                    f"Stripe could not be asked: {error}. `billing audit --offline` compares with our own records."
                ) from None
            finally:
                await payments.aclose()

    findings = session.run(work)
    if as_json:
        output.print_json(findings)
    else:
        _print_findings(findings, offline=offline)
    if findings:
        raise session.exit_with(session.BROKEN)


def _print_findings(findings: list[Finding], *, offline: bool) -> None:
    console = output.console()
    against = "our own records" if offline else "Stripe"
    if not findings:
        console.print(f"I1 to I8 hold; I1 was compared with {against}.")
        return
    for one in findings:
        console.print(f"{one.invariant} {one.where}: {one.what}", style="bold", soft_wrap=True)
        console.print(f"   expected {one.expected}, found {one.found}", soft_wrap=True)
        console.print(f"   → {one.what_to_do}", soft_wrap=True)
    count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
    console.print(f"{count}; I1 was compared with {against}.")
