"""The commands of the month's end, their arguments and help. What a command does is imported when it is called."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.arguments import AsJson, By, Why

app = typer.Typer()
approve_app = typer.Typer(help="Agree, as the second person, to what somebody else asked for.", no_args_is_help=True)
reject_app = typer.Typer(help="Decline, as the second person, what somebody else asked for.", no_args_is_help=True)
app.add_typer(approve_app, name="approve")
app.add_typer(reject_app, name="reject")

Reseller = Annotated[str, typer.Argument(help="The reseller's id.", metavar="RESELLER")]
Adjustment = Annotated[str, typer.Argument(help="Its id, such as A-1f3a9c20.", metavar="ID")]
Month = Annotated[str, typer.Option("--month", help="YYYY-MM, Europe/Berlin.", metavar="YYYY-MM")]
Currency = Annotated[str, typer.Option("--currency", help="Of the account, such as EUR.")]
AnyCurrency = Annotated[str, typer.Option("--currency", help="Needed only where there is more than one.")]
Supplement = Annotated[
    int,
    typer.Option("--supplement", min=1, max=10_000, help="Number at the end of the statement's id; 1: the closing."),
]


@app.command()
def settle(
    month: Month,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be settled; write nothing.")] = False,
    supplement: Annotated[
        bool, typer.Option("--supplement", help="Close a settled month again, for what came later only.")
    ] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Start no further transfer of the run under way.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Let a paused run go on.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who orders it. Default: your login.")] = "",
    why: Annotated[str, typer.Option("--why", help="Why it is paused or resumed.")] = "",
    wait_seconds: Annotated[
        int, typer.Option("--wait", min=0, max=86_400, help="Seconds to wait for the result.")
    ] = 300,
    early: Annotated[bool, typer.Option("--early", help="Also the running month, never a future one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Settle a month's matured commissions now. Running it again pays nothing twice."""
    from cli import session, settlements

    if dry_run + pause + resume > 1:
        session.fail("Choose one of --dry-run, --pause and --resume.", session.WRONG)
    if pause:
        settlements.pause(month, by=by, why=why, supplement=supplement)
    elif resume:
        settlements.resume(month, by=by, why=why, supplement=supplement)
    else:
        settlements.settle(
            month,
            by=by,
            wait_seconds=wait_seconds,
            early=early,
            supplement=supplement,
            dry_run=dry_run,
            as_json=as_json,
        )


@app.command()
def statement(
    reseller: Reseller,
    month: Annotated[
        str, typer.Argument(help="YYYY-MM; without it all his statements are listed.", metavar="MONTH")
    ] = "",
    currency: AnyCurrency = "",
    supplement: Supplement = 1,
    form: Annotated[str, typer.Option("--format", help="text, csv (for Excel) or json.")] = "text",
    as_json: AsJson = False,
) -> None:
    """A reseller's statement of a month. Without a month: his account."""
    from cli import statements as command

    if month:
        command.statement(reseller, month, currency=currency, supplement=supplement, form="json" if as_json else form)
    else:
        command.statements(reseller, as_json=as_json or form == "json")


@approve_app.command("settlement")
def approve_settlement(
    reseller: Reseller, month: Month, by: By, why: Why, currency: AnyCurrency = "", supplement: Supplement = 1
) -> None:
    """Let a large or adjusted payment go. Refused for everybody who asked for it."""
    from cli import settlements

    settlements.approve(reseller, month=month, currency=currency, supplement=supplement, by=by, why=why)


@approve_app.command("adjustment")
def approve_adjustment(adjustment: Adjustment, by: By, why: Why) -> None:
    """Book a correction or write-off that somebody else asked for."""
    from cli import settlements

    settlements.decide(adjustment, by=by, why=why, approved=True)


@reject_app.command("adjustment")
def reject_adjustment(adjustment: Adjustment, by: By, why: Why) -> None:
    """Drop a correction or write-off that somebody else asked for."""
    from cli import settlements

    settlements.decide(adjustment, by=by, why=why, approved=False)


@app.command()
def adjust(
    reseller: Reseller,
    amount: Annotated[str, typer.Option("--amount", help="Without a sign, such as 12.50.")],
    by: By,
    why: Why,
    currency: Currency = "EUR",
    credit: Annotated[bool, typer.Option("--credit", help="He is owed more.")] = False,
    debit: Annotated[bool, typer.Option("--debit", help="He is owed less.")] = False,
    adjustment: Annotated[
        str, typer.Option("--id", help="Id of your own: the same again is the same request. Default: a new one.")
    ] = "",
) -> None:
    """Ask for a manual amount on a reseller's account. Nothing moves until another person approves it."""
    from cli import settlements

    settlements.adjust(
        reseller,
        amount=amount,
        currency=currency,
        credit=credit,
        debit=debit,
        by=by,
        why=why,
        adjustment_id=adjustment,
    )


@app.command("write-off")
def write_off(reseller: Reseller, by: By, why: Why, currency: Currency = "EUR") -> None:
    """Ask to give up an open balance. Another person approves it."""
    from cli import settlements

    settlements.write_off(reseller, currency=currency, by=by, why=why)


@app.command("carry-over")
def carry_over(
    reseller: Reseller, month: Month, by: By, why: Why, currency: AnyCurrency = "", supplement: Supplement = 1
) -> None:
    """Leave a waiting amount for the next statement."""
    from cli import settlements

    settlements.carry_over(reseller, month=month, currency=currency, supplement=supplement, by=by, why=why)
