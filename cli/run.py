"""Commands that start processes: the local system, the demo, worker, webhook app, migration."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from cli import session
from settings import Settings


def up(state_dir: Path) -> None:
    """Everything on this machine until Ctrl-C."""
    from local.up import up as start

    raise typer.Exit(start(state_dir))


def demo(*, state_dir: Path, keep: bool, bookings: int) -> None:
    """The demo; its own exit code says whether everything came out as it must."""
    from local.demo import demo as start

    raise typer.Exit(start(state_dir=state_dir, keep=keep, bookings=bookings))


def worker() -> None:
    """A worker with the settings that any command would use."""
    session.settings()
    import worker as process

    raise typer.Exit(process.main())


def webhooks() -> None:
    """The webhook app; SIGINT and SIGTERM end it after the requests under way."""
    given = session.settings()
    from starter.loops import run
    from starter.webhooks import serve

    try:
        run(serve(given))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except OSError as error:
        session.fail(f"The webhook app cannot listen on {given.webhook_host}:{given.webhook_port}: {error}", 1)


def migrate() -> None:
    """Schema, search attributes and schedules; a second run changes nothing. The database comes first, and alone."""

    async def work(given: Settings) -> None:
        from starter.schedules import ensure_schedules
        from starter.temporal import connect, register_search_attributes
        from store import migrate as migrate_schema
        from workflows.visibility import SEARCH_ATTRIBUTES

        revisions = await migrate_schema(given.sqlalchemy_url)
        _say("schema", [f"applied {revision}" for revision in revisions])
        client = await connect(given)
        added = await register_search_attributes(client, given.temporal_namespace, SEARCH_ATTRIBUTES)
        _say("search attributes", [f"added {name}" for name in added])
        created = await ensure_schedules(client, given)
        _say("schedules", [f"created {name}" for name in created])

    session.run(work)


def _say(what: str, changes: list[str]) -> None:
    sys.stdout.write(f"{what}: {', '.join(changes) or 'up to date'}\n")
    sys.stdout.flush()
