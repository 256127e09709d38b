"""`billing chains` and `billing show`: where chains stand and what happened to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli import output, session, timeline
from settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from store.rows import ChainRow, InboxRow


def show_list(*, stuck: bool, limit: int, as_json: bool) -> None:
    """Chains, and with `stuck` also the events that wait for a person."""

    async def work(given: Settings) -> tuple[list[ChainRow], list[InboxRow]]:
        async with session.open_store(given) as store, store.begin() as tx:
            chains = await tx.chains.list(stuck_only=stuck, limit=limit)
            return chains, await tx.inbox.stuck(limit=limit) if stuck else []

    chains, events = session.run(work)
    if as_json:
        # The body of an event is personal data: it stays in the database.
        told = [event.model_dump(mode="json", exclude={"raw"}) for event in events]
        output.print_json({"chains": chains, "events": told} if stuck else chains)
        return
    console = output.console()
    if chains or not stuck:
        console.print(_chains_table("Chains that need a person" if stuck else "Chains", chains))
        if len(chains) == limit:
            console.print(f"The newest {limit} are shown; --limit shows more.")
    if events:
        console.print(_events_table(events))
    if stuck and not chains and not events:
        console.print("Nothing is stuck.")
    elif stuck:
        console.print("`billing show UID` says more; then `billing retry UID` or `billing rollback UID`.")


def _chains_table(title: str, rows: list[ChainRow]) -> Table:
    return output.table(
        title,
        ("chain", "stage", "what", "until", "customer", "reseller", "amount", "changed"),
        (
            (
                row.chain_uid,
                row.stage.value,
                timeline.standing(row),
                output.when(row.deadline_at),
                row.customer_id or "",
                row.reseller_id or "",
                timeline.amount(row.gross_minor, row.currency),
                output.when(row.updated_at),
            )
            for row in rows
        ),
        right=("amount",),
    )


def _events_table(rows: list[InboxRow]) -> Table:
    return output.table(
        "Events that need a person",
        ("event", "source", "type", "object", "status", "tries", "why", "received"),
        (
            (
                row.event_id,
                row.source,
                row.type,
                row.object_id or "",
                row.status.value,
                str(row.attempts),
                row.last_error or "",
                output.when(row.received_at),
            )
            for row in rows
        ),
        right=("tries",),
    )


def show_one(uid: str, *, as_json: bool) -> None:
    """Everything that the database knows of one chain; exit code 1 where it knows no such uid."""

    async def work(given: Settings) -> timeline.Story:
        async with session.open_store(given) as store, store.begin() as tx:
            story = await timeline.read(tx, uid)
        if story is None:
            raise session.CommandFailed(
                f"No chain has the uid {uid}. `billing chains` lists them; an event that could not be delivered yet "
                "stands in `billing chains --stuck`."
            )
        return story

    story = session.run(work)
    if as_json:
        output.print_json(story.as_dict())
        return
    console = output.console()
    for part in timeline.render(story):
        console.print(part)
        console.print()
