"""What every command shares: settings, connections, and errors as one line that says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

from cli import local_state
from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from starter.operator import Operator
    from store import Store

T = TypeVar("T")

BROKEN = 1
"""Exit code: something outside is broken, or findings were made."""
WRONG = 2
"""Exit code: the command, its arguments or the settings are wrong."""

_DATABASE_ERRORS = frozenset({"OperationalError", "InterfaceError"})


class CommandFailed(Exception):
    """A command cannot do what was asked. `str()` is for the person; `code` becomes the exit code."""

    def __init__(self, message: str, code: int = BROKEN) -> None:
        super().__init__(message)
        self.code = code


def fail(message: str, code: int) -> NoReturn:
    """Ends the command with a message on stderr."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def exit_with(code: int) -> typer.Exit:
    """To raise where everything was said already."""
    return typer.Exit(code)


def settings() -> Settings:
    """Settings from the environment, `.env` or a running `billing up`; ends with exit code 2 where they don't do."""
    adopted = local_state.adopt()
    try:
        return load()
    except SettingsError as error:
        hint = "" if adopted else "\nNo `billing up` runs in this folder, whose settings would be used."
        fail(f"{error}{hint}", WRONG)


def run(work: Callable[[Settings], Awaitable[T]]) -> T:
    """Runs a command's work with the settings. What is not reachable becomes one line and exit code 1."""
    with_settings = settings()

    async def go() -> T:
        return await work(with_settings)

    try:
        return asyncio.run(go())
    except CommandFailed as error:
        fail(str(error), error.code)
    except Exception as error:
        message = explain(error, with_settings)
        if message is None:
            raise
        fail(message, BROKEN)


def explain(error: Exception, given: Settings) -> str | None:
    """One line for an error that a person can do something about; None: it is a bug, show all of it."""
    from starter.operator import OrderRefused
    from starter.temporal import SearchAttributesMissing, TemporalUnavailable

    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, OrderRefused | SearchAttributesMissing | TemporalUnavailable):
        return str(error)
    if "RPCError" in kinds:
        return (
            f"Temporal at {given.temporal_address} did not do it: {_first_line(error)}. "
            "Run `billing health` to see what is broken."
        )
    if "UndefinedTable" in {type(cause).__name__ for cause in _causes(error)}:
        return "The database has no tables yet, or old ones. Run `billing migrate`."
    if kinds & _DATABASE_ERRORS:
        return (
            f"PostgreSQL does not answer at {place_of(given)}: {_first_line(error)}. "
            "Is it running, and is DATABASE_URL right?"
        )
    return None


def place_of(given: Settings) -> str:
    """Host, port and name of the database, without account and password."""
    return given.database_url.rsplit("@", 1)[-1].split("?", 1)[0]


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    next_one: BaseException | None = error
    while next_one is not None and next_one not in found:
        found.append(next_one)
        original = getattr(next_one, "orig", None)
        next_one = original if isinstance(original, BaseException) else next_one.__cause__
    return found


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].removesuffix(".")[:300] if lines else type(error).__name__


@asynccontextmanager
async def open_store(given: Settings) -> AsyncIterator[Store]:
    """A store with few connections: a command does one thing after the other."""
    from store import Store

    store = Store(given.sqlalchemy_url, pool_size=4, pool_timeout_seconds=10)
    try:
        yield store
    finally:
        await store.dispose()


@asynccontextmanager
async def open_operator(given: Settings) -> AsyncIterator[Operator]:
    """What orders are given through. Raises TemporalUnavailable before anything was done."""
    from starter.operator import Operator
    from starter.temporal import connect

    client = await connect(given)
    async with open_store(given) as store:
        yield Operator(store=store, client=client, settings=given)
