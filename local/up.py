"""`billing up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from domain.catalog import CatalogErrors
from domain.ports import OutsideError
from local.demo_plan import people
from local.demo_world import Calcom
from local.environment import Environment, Wishes
from local.files import LockTimeout
from local.postgres import PostgresError
from local.setup import CATALOGUE, Done, ProvisioningFailed, set_up
from local.temporal import TemporalError
from local.tree import ChildFailed, TreeBusy
from settings import Settings
from starter.operator import OrderRefused
from starter.temporal import SearchAttributesMissing, TemporalUnavailable
from store import Store, migrate
from store.rows import CatalogRefused

FAILED = 1
WRONG_SETTINGS = 2

_EXPLAINED = (
    CatalogErrors,
    CatalogRefused,
    ChildFailed,
    LockTimeout,
    OrderRefused,
    OutsideError,
    PostgresError,
    ProvisioningFailed,
    SearchAttributesMissing,
    TemporalError,
    TemporalUnavailable,
    TreeBusy,
)
"""Errors whose text is written for the person who started it; a traceback would only hide it."""

_NAMES = {
    "temporal web ui": "Temporal Web UI",
    "webhook app": "Webhook app",
    "temporal": "Temporal",
    "database": "PostgreSQL",
    "stripe sandbox": "Stripe stand-in",
    "cal.com sandbox": "Cal.com stand-in",
}


def up(
    state_dir: Path = Path(".billing"),
    *,
    catalogue: Path | None = None,
    wishes: Wishes | None = None,
    console: Console | None = None,
) -> int:
    """Starts everything that the environment does not name, and returns an exit code after Ctrl-C or a failure.

    `catalogue` is applied at the start; None: the demo's, where the database has no catalogue of its own. State stays
    in `state_dir`, so the next start goes on where this one ended.
    """
    console = console or Console(highlight=False)

    def say(words: str) -> None:
        console.print(words, markup=False)

    with explained(console) as failed, Environment(state_dir, wishes, say=say) as environment:
        environment.start()
        settings = environment.settings()
        done = asyncio.run(_prepare(environment, settings, catalogue, say))
        environment.start_webhooks()
        environment.start_worker()
        with written_env(environment):
            if done.catalogue:
                say(f"Catalogue loaded: {len(done.catalogue)} changes; {len(done.provisioned)} parties set up.")
            show_addresses(environment, console)
            say("Everything runs. Look from another terminal: `billing chains`, `billing health`. Ctrl-C ends it.")
            failed.append(wait_until_told(environment, console))
    return max(failed, default=0)


def wait_until_told(environment: Environment, console: Console) -> int:
    """Blocks until Ctrl-C (0) or until a process died too often to be restarted (1, with the end of its log)."""
    try:
        while True:
            event = environment.tree.wait(timeout_seconds=3600)
            if event is not None:
                console.print(f"{event.name} {event.what.value}: {event.detail}", markup=False, style="red")
                return FAILED
    except KeyboardInterrupt:
        console.print("\nEnding everything …")
        return 0


def show_addresses(environment: Environment, console: Console) -> None:
    """What runs where, the page that people open first at the top."""
    for key, name in _NAMES.items():
        if key in environment.addresses:
            console.print(f"  {name:<18}{environment.addresses[key]}", markup=False)


@contextmanager
def written_env(environment: Environment, also_in: Path | None = None) -> Iterator[None]:
    """The settings as a file for `billing` in other terminals, as long as the system runs.

    `also_in` is another folder where it is looked for; a file of a system that runs from there stays as it is.
    """
    written = [environment.write_env_file()]
    if also_in is not None and not _is_in_use(also_in / "env"):
        written.append(environment.write_env_file(also_in))
    try:
        yield
    finally:
        for path in written:
            path.unlink(missing_ok=True)


def _is_in_use(path: Path) -> bool:
    """Whether the database that a settings file names takes connections."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        place = urlsplit(next(line.partition("=")[2] for line in lines if line.startswith("DATABASE_URL=")))
        with socket.create_connection((place.hostname or "", place.port or 5432), timeout=0.5):
            return True
    except (OSError, StopIteration, ValueError):
        return False


@contextmanager
def explained(console: Console) -> Iterator[list[int]]:
    """Turns what a person can do something about into one message; the yielded list then holds the exit code."""
    failed: list[int] = []
    try:
        yield failed
    except _EXPLAINED as problem:
        console.print(str(problem), markup=False, style="red")
        failed.append(WRONG_SETTINGS if isinstance(problem, CatalogErrors | CatalogRefused) else FAILED)
    except KeyboardInterrupt:
        console.print("\nEnded.")
        failed.append(130)


async def _prepare(
    environment: Environment, settings: Settings, catalogue: Path | None, say: Callable[[str], None]
) -> Done:
    """Schema, catalogue, Stripe and schedules. Test payment methods are never attached with a live key."""
    key = settings.stripe_secret_key.get_secret_value()
    is_live = "_live_" in key
    if is_live:
        say("The Stripe key is a live one: set customers and resellers up yourself, see docs/going-live.md.")
    chosen = catalogue
    if chosen is None and not is_live and await is_new(settings):
        chosen = CATALOGUE
        if "cal.com sandbox" in environment.addresses:
            async with Calcom(settings.calcom_base_url, settings.calcom_api_key.get_secret_value()) as calcom:
                await calcom.control("catalogue", people())
    return await set_up(settings, chosen, provision=not is_live, by="billing up")


async def is_new(settings: Settings) -> bool:
    """Whether nobody has loaded a catalogue yet. Brings the schema up to date."""
    await migrate(settings.sqlalchemy_url)
    async with Store(settings.sqlalchemy_url, pool_size=1) as store, store.begin() as tx:
        return not await tx.catalog.customers()
