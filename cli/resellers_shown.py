"""What is shown of resellers: a table of all, and everything of one."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from cli import output, session
from domain.money import format_amount
from domain.pricing import BERLIN
from domain.tax_status import in_force
from settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from domain.tax_status import TaxStatus
    from store import Tx
    from store.reseller_rows import OnboardingRow, ResellerRow
    from store.rows import OpenBalance

LOG_LINES = 20


def show_list(*, as_json: bool) -> None:
    """JSON holds names and addresses as well."""

    async def work(given: Settings) -> tuple[list[ResellerRow], dict[str, OnboardingRow]]:
        async with session.open_store(given) as store, store.begin() as tx:
            return await tx.resellers.all(), {row.reseller_id: row for row in await tx.resellers.onboardings()}

    rows, onboardings = session.run(work)
    if as_json:
        output.print_json([{**row.model_dump(mode="json"), "onboarding": onboardings.get(row.id)} for row in rows])
        return
    console = output.console()
    if not rows:
        console.print("There is no reseller yet: billing reseller add, or billing reseller import FILE.")
        return
    console.print(
        output.table(
            "Resellers",
            ("reseller", "above", "country", "payout", "account", "can be paid", "onboarding"),
            (
                (
                    row.id,
                    row.parent_id or "",
                    row.country,
                    row.payout_mode.value + (", PAUSED" if row.paused else ""),
                    row.stripe_account_id or "none",
                    _account_in_words(row),
                    _onboarding_in_words(onboardings.get(row.id)),
                )
                for row in rows
            ),
        )
    )


def show_one(reseller_id: str, *, as_json: bool) -> None:
    """Exit code 2 for an unknown reseller."""

    async def work(given: Settings) -> dict[str, Any]:
        from store.rows import UnknownRow

        try:
            async with session.open_store(given) as store, store.begin() as tx:
                return await _all_of(tx, reseller_id)
        except UnknownRow:
            raise session.CommandFailed(
                f"There is no reseller {reseller_id!r}. `billing reseller list` names all.", session.WRONG
            ) from None

    found = session.run(work)
    if as_json:
        output.print_json(found)
    else:
        _print(found)


async def _all_of(tx: Tx, reseller_id: str) -> dict[str, Any]:
    return {
        "reseller": await tx.resellers.get(reseller_id),
        "tax_statuses": await tx.resellers.tax_statuses(reseller_id),
        "onboarding": await tx.resellers.onboarding(reseller_id),
        "balances": await tx.settlements.account_balance(reseller_id),
        "payouts": await tx.resellers.payouts(reseller_id),
        "log": (await tx.log.of(f"reseller:{reseller_id}"))[-LOG_LINES:],
    }


def _print(found: dict[str, Any]) -> None:
    console = output.console()
    row: ResellerRow = found["reseller"]
    console.print(output.table(f"Reseller {row.id}", ("", " "), _facts(row)))
    _print_tax_statuses(console, found["tax_statuses"])
    onboarding: OnboardingRow | None = found["onboarding"]
    if onboarding is not None:
        console.print(output.table("Onboarding", ("", " "), _onboarding_facts(onboarding)))
    _print_balances(console, found["balances"])
    if found["payouts"]:
        console.print(
            output.table(
                "Payouts to his bank",
                ("made", "amount", "status", "arrives", "failure", "payout"),
                (
                    (
                        output.when(one.created_at),
                        format_amount(one.amount_minor, one.currency),
                        one.status.value,
                        one.arrives_on.strftime("%d.%m.%Y"),
                        one.failure_code or "",
                        one.payout_id,
                    )
                    for one in found["payouts"]
                ),
                right=("amount",),
            )
        )
    if found["log"]:
        console.print(
            output.table(
                "What was done",
                ("when", "who", "what", "why", "details"),
                (
                    (output.when(one.at), one.actor, one.action, one.reason, _detail(one.details))
                    for one in found["log"]
                ),
            )
        )
    if not (row.transfers_active and row.payouts_enabled):
        console.print(f"→ he cannot be paid: billing reseller link {row.id} --by YOU --why REASON", soft_wrap=True)
    if row.paused:
        console.print(f"→ he is paused: billing reseller resume {row.id} --by YOU --why REASON", soft_wrap=True)


def _facts(row: ResellerRow) -> list[tuple[str, str]]:
    address = row.address
    lines = [] if address is None else [address.line1, address.line2, f"{address.postal_code} {address.city}"]
    status = _status_in_words(row.small_business)
    since = f" since {_day(row.tax_status_from)}" if row.tax_status_from else ", not shown since when"
    proof = f", proof: {row.tax_status_proof}" if row.tax_status_proof else ", no proof"
    minimum = ", ".join(format_amount(amount, currency) for currency, amount in sorted(row.minimum_payouts.items()))
    return [
        ("name", row.name),
        ("e-mail", row.email),
        ("address", ", ".join([line for line in lines if line] + [row.country])),
        ("tax status", f"{status}{since}{proof}"),
        ("VAT id", row.vat_id or "none"),
        ("above him", row.parent_id or "nobody"),
        ("payout", row.payout_mode.value + (", PAUSED" if row.paused else "")),
        ("minimum payout", minimum or "any amount"),
        ("account", " in ".join(part for part in (row.stripe_account_id or "none", row.account_currency) if part)),
        ("can be paid", _account_in_words(row)),
        ("read at Stripe", output.when(row.account_checked_at) or "never"),
    ]


def _print_tax_statuses(console: Console, statuses: list[TaxStatus]) -> None:
    """By the day from which each counts, a star at the one of today."""
    today = datetime.now(BERLIN).date()
    now = in_force(statuses, today)
    console.print(
        output.table(
            "Tax statuses (a month's credit note takes the one of its last day; *: today's)",
            ("counts from", "status", "country", "VAT id", "shown from", "proof", "recorded", "by"),
            (
                (
                    ("* " if one is now else "") + (_day(one.valid_from) or "always"),
                    _status_in_words(one.small_business),
                    one.country,
                    one.vat_id or "none",
                    _day(one.tax_status_from),
                    one.proof or "",
                    output.when(one.recorded_at),
                    one.recorded_by,
                )
                for one in sorted(statuses, key=lambda one: (one.valid_from or date.min, one.sequence))
            ),
        )
    )


def _day(day: date | None) -> str:
    return day.strftime("%d.%m.%Y") if day else ""


def _status_in_words(small_business: bool) -> str:
    return "small business (§ 19 UStG)" if small_business else "VAT is shown"


def _onboarding_facts(row: OnboardingRow) -> list[tuple[str, str]]:
    return [
        ("state", _onboarding_in_words(row)),
        ("needs", row.detail or ""),
        ("Stripe asks for", ", ".join(row.requirements)),
        ("reminders", str(row.reminders)),
        ("begun", output.when(row.started_at)),
        ("goes on", output.when(row.waits_until)),
        ("ended", output.when(row.finished_at)),
    ]


def _print_balances(console: Console, balances: list[OpenBalance]) -> None:
    if not balances:
        console.print("He has earned nothing yet.")
        return
    console.print(
        output.table(
            "Open balance",
            ("currency", "he is owed", "he owes", "not on a statement yet", "on statements, unpaid", "carried over"),
            (
                (
                    one.currency,
                    format_amount(one.owed_minor, one.currency),
                    format_amount(one.owing_minor, one.currency),
                    _either(one.unstated_credit_minor, one.unstated_debt_minor, one.currency),
                    format_amount(one.unpaid_minor, one.currency),
                    _either(one.carried_credit_minor, one.carried_debt_minor, one.currency),
                )
                for one in balances
            ),
            right=("he is owed", "he owes", "not on a statement yet", "on statements, unpaid", "carried over"),
        )
    )


def _either(credit_minor: int, debt_minor: int, currency: str) -> str:
    """One figure with its direction: both are never more than nothing."""
    if debt_minor > credit_minor:
        return f"owes {format_amount(debt_minor - credit_minor, currency)}"
    return format_amount(credit_minor - debt_minor, currency)


def _account_in_words(row: ResellerRow) -> str:
    if row.stripe_account_id is None:
        return "no account"
    if row.account_checked_at is None:
        return "not read yet"
    if row.transfers_active and row.payouts_enabled:
        return "yes"
    what = "payouts are not enabled" if row.transfers_active else "no transfers"
    return f"NO: {what}" + (f", {row.disabled_reason}" if row.disabled_reason else "")


def _onboarding_in_words(row: OnboardingRow | None) -> str:
    if row is None:
        return ""
    return row.status.value + (f": {row.reason.value}" if row.reason else "")


def _detail(details: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {' / '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in details.items()
    )
