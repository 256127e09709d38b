"""`billing demo`: a month of bookings through the whole system, from signed webhooks to the resellers' money."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local.demo_plan import Plan
from local.demo_report import Result, collect, show
from local.demo_script import SETTINGS, Script, all_arrived
from local.demo_settlement import ADJUSTED, MonthEnd
from local.demo_settlement import SETTINGS as SETTLEMENT_SETTINGS
from local.demo_world import DemoFailed, World
from local.environment import Environment, Wishes
from local.postgres import EmbeddedPostgres
from local.setup import CATALOGUE, set_up
from local.temporal import LocalTemporal
from local.up import FAILED, explained, is_new, show_addresses, wait_until_told, written_env
from store.rows import InboxStatus

WISHES = Wishes(settings={**SETTINGS, **SETTLEMENT_SETTINGS}, isolated=True)
INBOX_TIMEOUT_SECONDS = 60
_BAR_SECONDS = 0.2


def demo(
    state_dir: Path = Path(".billing"),
    *,
    keep: bool = False,
    bookings: int = 220,
    wishes: Wishes = WISHES,
    console: Console | None = None,
) -> int:
    """Runs the demo and returns its exit code: 0 when every chain came out as it must and the audit is green.

    Its data are in `state_dir/demo`, thrown away when the next demo begins. Both companies are always stand-ins,
    whatever keys the environment holds; DATABASE_URL is used, if its database is empty. `keep` leaves everything
    running until Ctrl-C. Fewer `bookings` than there are kinds of trouble are not possible: each comes once.
    """
    console = console or Console(highlight=False)
    begun = time.monotonic()
    with explained(console) as codes:
        try:
            with _alone(state_dir) as home, Environment(home, wishes, say=console.print) as environment:
                codes.append(_run(environment, state_dir, keep, bookings, console, begun))
        except DemoFailed as problem:
            console.print(str(problem), markup=False, style="red")
            logs = Path(state_dir) / "demo" / "logs"
            if os.access(logs, os.R_OK):
                console.print(f"The logs of all processes are in {logs}.", markup=False)
            codes.append(FAILED)
    return max(codes, default=0)


def _run(environment: Environment, state_dir: Path, keep: bool, bookings: int, console: Console, begun: float) -> int:
    """Start, play, report, and stay where wanted."""
    console.print("Starting PostgreSQL, Temporal, the stand-ins for Stripe and Cal.com, webhook app and worker …")
    start_everything(environment)
    with written_env(environment, state_dir):
        console.print(f"Everything runs after {time.monotonic() - begun:.1f} s:")
        show_addresses(environment, console)
        result = asyncio.run(play(environment, bookings, console))
        console.print()
        show(result, console)
        console.print(f"\nDone after {time.monotonic() - begun:.0f} s.")
        example = result.plan.uids("rolled_back_paid")[0]
        if keep:
            console.print(
                f"Everything keeps running. Temporal Web UI: {environment.ui_url}\n"
                f"In another terminal: `billing show {example}`, `billing chains --stuck`, `billing ledger`, "
                f"`billing statement {ADJUSTED} {result.plan.period}`. Ctrl-C ends it.",
                markup=False,
            )
            return max(wait_until_told(environment, console), FAILED if result.problems else 0)
    console.print(
        f"Everything is ended now. `make demo KEEP=1` leaves it running: then look at the Temporal Web UI "
        f"({environment.ui_url}) and at `billing show {example}`.",
        markup=False,
    )
    return FAILED if result.problems else 0


def start_everything(environment: Environment) -> None:
    """All processes, set up with the demo's catalogue. The worker comes first: it takes a while to come up."""
    environment.start()
    environment.start_worker()
    asyncio.run(_prepare(environment))
    environment.start_webhooks()


async def _prepare(environment: Environment) -> None:
    settings = environment.settings()
    if not await is_new(settings):
        raise DemoFailed(
            "The database that DATABASE_URL names holds a catalogue already. The demo needs an empty one, "
            "or none: without DATABASE_URL it starts its own."
        )
    await set_up(settings, CATALOGUE, provision=True, by="demo")


async def play(environment: Environment, bookings: int, console: Console) -> Result:
    """The scenes, the month's settlement and the figures. Raises DemoFailed where something does not happen."""
    plan = Plan(bookings, datetime.now(UTC))
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    async with await World.open(environment, bookings) as world:
        with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
            bar = progress.add_task("chains at their destination", total=len(plan.all))
            script = Script(world, plan, progress.console.print)
            following = asyncio.create_task(_follow(world, plan, progress, bar))
            try:
                told = await script.play()
                progress.update(bar, completed=len(plan.all), description=f"settling {plan.period}")
                settled = await MonthEnd(world, plan.period, progress.console.print).play()
                await _inbox_is_empty(world)
                progress.update(bar, description="auditing")
                result = await collect(world, plan, told, settled)
                progress.update(bar, description="done")
            finally:
                following.cancel()
    return result


async def _follow(world: World, plan: Plan, progress: Progress, bar: int) -> None:
    """Moves the bar, and says when the first chain has ended."""
    begun = time.monotonic()
    first = None
    while True:
        rows = world.watch.rows
        if first is None:
            first = next((row for row in rows.values() if row.outcome is not None), None)
            if first is not None:
                seconds = time.monotonic() - begun
                progress.console.print(
                    f"First chain ended after {seconds:.1f} s: {first.workflow_id}, {first.outcome}", markup=False
                )
        progress.update(bar, completed=sum(all_arrived(rows, plan)))  # type: ignore[arg-type]
        await asyncio.sleep(_BAR_SECONDS)


async def _inbox_is_empty(world: World) -> None:
    """Waits until every event has found its chain. One that does not is told by the figures."""
    deadline = time.monotonic() + INBOX_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        async with world.store.begin() as tx:
            counts = await tx.inbox.counts()
        if counts[InboxStatus.RECEIVED] == 0:
            return
        await asyncio.sleep(_BAR_SECONDS)


# --- the demo's folder ------------------------------------------------------------------------------------------------


@contextmanager
def _alone(state_dir: Path) -> Iterator[Path]:
    """The demo's own folder, empty; raises DemoFailed while another demo uses it, or where it cannot be emptied."""
    home = Path(state_dir).absolute() / "demo"
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(home.parent / "demo.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError as problem:
        raise DemoFailed(f"{home.parent} belongs to another user: {problem}. Choose a folder by --state-dir.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(f"Another demo runs in {home.parent}: end it with Ctrl-C first.") from None
        _empty(home)
        yield home
    finally:
        os.close(descriptor)


def _empty(home: Path) -> None:
    """Ends what an earlier demo left running there, and throws its data away."""
    if not home.exists():
        return
    try:
        EmbeddedPostgres(home).remove()
        LocalTemporal(home, search_attributes={}).stop()
        shutil.rmtree(home)
    except PermissionError as problem:
        raise DemoFailed(
            f"The last demo's data belong to another user: {problem}. Remove {home} as that user."
        ) from None
