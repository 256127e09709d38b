"""The commands of `billing`, their arguments and help. What a command does is imported when it is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import month_end, reseller_commands
from cli.arguments import AsJson, By, Why

app = typer.Typer(
    help="Cal.com bookings to Stripe charges, resellers' commissions and payouts. Begin with `billing demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)
catalog_app = typer.Typer(help="Customers, resellers, prices and agreements.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
app.add_typer(reseller_commands.app, name="reseller")

Uid = Annotated[str, typer.Argument(help="Any uid that the booking ever had.", metavar="UID")]
StateDir = Annotated[Path, typer.Option("--state-dir", help="Where a local run keeps its data.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Rows at most.")]


@app.command()
def up(state_dir: StateDir = Path(".billing")) -> None:
    """Start everything on this machine, until Ctrl-C."""
    from cli import run

    run.up(state_dir)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    bookings: Annotated[int, typer.Option("--bookings", min=1, max=10_000, help="How many bookings.")] = 220,
    state_dir: StateDir = Path(".billing"),
) -> None:
    """A month of bookings through everything, good and bad."""
    from cli import run

    run.demo(state_dir=state_dir, keep=keep, bookings=bookings)


@app.command()
def worker() -> None:
    """Run a worker until it is told to stop."""
    from cli import run

    run.worker()


@app.command()
def webhooks() -> None:
    """Run the webhook app and its relay."""
    from cli import run

    run.webhooks()


@app.command()
def migrate() -> None:
    """Update schema, search attributes and schedules."""
    from cli import run

    run.migrate()


@catalog_app.command("apply")
def catalog_apply(
    file: Annotated[Path, typer.Argument(help="The catalogue, YAML.", metavar="FILE")],
    provision: Annotated[
        bool, typer.Option("--provision", help="Also set customers and resellers up at Stripe.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Who applies it. Default: your login.")] = "",
) -> None:
    """Load a catalogue. What changed becomes a new version; a file with errors changes nothing."""
    from cli import catalog

    catalog.apply(file, provision=provision, by=by)


@app.command()
def chains(
    stuck: Annotated[
        bool, typer.Option("--stuck", help="Only what waits for a person, with the events that do.")
    ] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List the chains, last changed first."""
    from cli import chains as command

    command.show_list(stuck=stuck, limit=limit, as_json=as_json)


@app.command()
def show(uid: Uid, as_json: AsJson = False) -> None:
    """The timeline of one chain: steps, money, ledger entries."""
    from cli import chains as command

    command.show_one(uid, as_json=as_json)


@app.command()
def retry(
    uid: Uid,
    by: By,
    why: Why,
    settlement: Annotated[
        str, typer.Option("--settlement", metavar="YYYY-MM", help="A reseller's month instead: UID is the reseller.")
    ] = "",
    currency: Annotated[str, typer.Option("--currency", help="Of that settlement.")] = "EUR",
    supplement: month_end.Supplement = 1,
) -> None:
    """Let a parked chain or settlement try its step again."""
    from cli import orders

    orders.retry(uid, by=by, why=why, settlement=settlement, currency=currency, supplement=supplement)


@app.command()
def rollback(uid: Uid, by: By, why: Why) -> None:
    """Undo everything of a chain, even after it ended."""
    from cli import orders

    orders.roll_back(uid, by=by, why=why)


app.add_typer(month_end.app)


@app.command()
def audit(
    offline: Annotated[bool, typer.Option("--offline", help="Don't ask Stripe; compare with our own records.")] = False,
    grace_seconds: Annotated[
        float, typer.Option("--grace", min=0, max=86_400, help="Seconds: what is younger may be under way still.")
    ] = 60,
    as_json: AsJson = False,
) -> None:
    """Check the invariants I1 to I8. Exit code 1 when one does not hold."""
    from cli import books

    books.audit(offline=offline, grace_seconds=grace_seconds, as_json=as_json)


@app.command()
def ledger(
    account: Annotated[str, typer.Argument(help="Such as stripe or reseller:r-nord; none: the trial balance.")] = "",
    limit: Limit = 200,
    as_json: AsJson = False,
) -> None:
    """The trial balance, or the postings of one account."""
    from cli import books

    books.ledger(account, limit=limit, as_json=as_json)


@app.command()
def health(as_json: AsJson = False) -> None:
    """What is broken, and what to do about it. Exit code 1 when something is."""
    from cli import health as command

    command.health(as_json=as_json)


def main() -> None:
    """Runs the command line. Never returns.

    Leaves without the interpreter's clean-up: Temporal's library may crash in it, which would turn a success into
    exit code 134.
    """
    try:
        app()
        code: int | str | None = 0
    except SystemExit as left:
        code = left.code
    except BrokenPipeError:
        os._exit(141)
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os._exit(141)
    os._exit(code or 0)


if __name__ == "__main__":
    main()
