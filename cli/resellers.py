"""What changes resellers: adding, importing, links, pausing. Each order is recorded with who and why."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli import output, people, session
from settings import Settings

if TYPE_CHECKING:
    from domain.catalog_model import CatalogReseller
    from domain.reseller_table import Entry, Known
    from starter.onboarding import Onboarding
    from store import Store
    from store.reseller_rows import LinkRow

AT_ONCE: Final = 20
"""Onboardings that are begun at the same time."""

WHY: Final = "added by the command line"


def add(cells: Mapping[str, str], *, onboard: bool, by: str) -> None:
    """Exit code 2 with all that is wrong with the options."""
    from domain.reseller_cells import CellProblem, reseller_of
    from domain.reseller_table import Entry

    def read(known: Known) -> list[Entry]:
        stored = known.resellers.get(cells["id"])
        try:
            reseller, like = reseller_of(cells, stored)
        except CellProblem as error:
            lines = [f"{_option(one.column)}: {one.problem}. {one.hint}." for one in error.problems]
            raise session.CommandFailed("\n".join([*lines, "Nothing was changed."]), session.WRONG) from None
        problem = _unknown(reseller, like, known)
        if problem is not None:
            raise session.CommandFailed(f"{problem}\nNothing was changed.", session.WRONG)
        return [Entry(0, reseller, like)]

    _save(read, onboard=onboard, by=by)


def import_file(file: Path, *, onboard: bool, by: str) -> None:
    """Every error of the file with its line and column and exit code 2, or what changed."""
    from domain.reseller_table import MAX_BYTES, TableErrors, parse_resellers

    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        session.fail(f"{file} cannot be read: {error.strerror or error}.", session.WRONG)
    if len(raw) > MAX_BYTES:
        session.fail(f"{file} is larger than {MAX_BYTES} bytes: that is no list of resellers.", session.WRONG)

    def read(known: Known) -> list[Entry]:
        try:
            return parse_resellers(raw, known)
        except TableErrors as error:
            lines = [f"{file}:{problem}" if problem.line else f"{file}: {problem}" for problem in error.errors]
            count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
            raise session.CommandFailed("\n".join([*lines, f"{count}. Nothing was changed."]), session.WRONG) from None

    _save(read, onboard=onboard, by=by)


def link(reseller_id: str, *, by: str, why: str, as_json: bool) -> None:
    """Prints both addresses. Exit code 1 where there is none to give, with the reason."""
    order = people.order(by, why)

    async def work(given: Settings) -> tuple[LinkRow, str]:
        async with _open(given) as (store, onboarding):
            await _known(store, reseller_id)
            made = await onboarding.link(reseller_id, order)
            return made, f"{given.onboarding_address}/onboarding/{made.token}"

    made, lasting = session.run(work)
    if as_json:
        output.print_json({"url": made.url, "expires_at": made.expires_at, "lasting_url": lasting})
        return
    sys.stdout.write(
        f"{made.url}\n  opens once, until {output.when(made.expires_at)}\n"
        f"{lasting}\n  always leads to a fresh one, until he can be paid: this is the one to send\n"
        "Both are secrets: who opens one acts for the reseller.\n"
    )


def retry(reseller_id: str, *, by: str, why: str) -> None:
    order = people.order(by, why)
    _ordered(reseller_id, lambda onboarding: onboarding.retry(reseller_id, order))


def stop(reseller_id: str, *, by: str, why: str) -> None:
    order = people.order(by, why)
    _ordered(reseller_id, lambda onboarding: onboarding.stop(reseller_id, order))


def pause(reseller_id: str, *, paused: bool, by: str, why: str) -> None:
    """Works without Temporal: what waits then looks again by itself."""
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_store(given) as store:
            await _known(store, reseller_id)
            async with store.begin() as tx:
                changed = await tx.resellers.pause(reseller_id, paused)
                if changed:
                    action = "paused" if paused else "resumed"
                    await tx.log.write(order.who, action, f"reseller:{reseller_id}", order.why)
            word = "paused" if paused else "not paused"
            if not changed:
                return f"reseller {reseller_id} is {word} already"
            return f"reseller {reseller_id} is {word}{await _tell(given, [reseller_id])}"

    sys.stdout.write(f"{session.run(work)}\n")


# --- shared ---


def _ordered(reseller_id: str, order: Callable[[Onboarding], Awaitable[str]]) -> None:
    async def work(given: Settings) -> str:
        async with _open(given) as (store, onboarding):
            await _known(store, reseller_id)
            return await order(onboarding)

    sys.stdout.write(f"{session.run(work)}\n")


def _save(read: Callable[[Known], list[Entry]], *, onboard: bool, by: str) -> None:
    """Read with what is stored, write in one transaction, say what changed."""
    who = people.login(by)

    async def work(given: Settings) -> None:
        async with session.open_store(given) as store:
            entries, changes, without = await _saved(store, read, who)
            for reseller_id, told in changes.items():
                _say(f"reseller {reseller_id}: {', '.join(told)}")
            same = len(entries) - len(changes)
            if same:
                _say(f"{same} unchanged: the database already says so")
            for reseller_id in without:
                _say(
                    f"reseller {reseller_id} has no agreement: bookings of his customers park. Put one into the "
                    "catalogue, or name another reseller with agreement-like"
                )
            unheard = await _tell(given, list(changes))
            if unheard:
                _say(unheard.removeprefix("; "))
            if onboard:
                await _onboard(given, store, [entry.reseller.id for entry in entries], who)

    session.run(work)


async def _saved(
    store: Store, read: Callable[[Known], list[Entry]], who: str
) -> tuple[list[Entry], dict[str, list[str]], list[str]]:
    from domain.reseller_table import Known
    from store.rows import CatalogRefused

    try:
        async with store.begin() as tx:
            await tx.catalog.lock("catalog")
            rows = {row.id: row.master_data() for row in await tx.resellers.all()}
            known = Known(rows, await tx.resellers.with_agreement(list(rows)))
            entries = read(known)
            like = {one.reseller.id: one.agreement_like for one in entries if one.agreement_like is not None}
            resellers = [entry.reseller for entry in entries]
            changes = await tx.resellers.save(resellers, agreement_like=like, saved_by=who)
            agreed = await tx.resellers.with_agreement([one.id for one in resellers])
    except CatalogRefused as error:
        lines = "\n".join(error.errors)
        raise session.CommandFailed(f"{lines}\nNothing was changed.", session.WRONG) from None
    return entries, changes, [one.id for one in resellers if one.id not in agreed]


async def _onboard(given: Settings, store: Store, reseller_ids: Sequence[str], who: str) -> None:
    """Begins to take on those who cannot be paid yet; one that runs goes on."""
    async with store.begin() as tx:
        ready = {row.id for row in await tx.resellers.all() if row.transfers_active and row.payouts_enabled}
    wanted = [one for one in reseller_ids if one not in ready]
    gate = asyncio.Semaphore(AT_ONCE)
    async with _open(given) as (_, onboarding):

        async def begin(reseller_id: str) -> None:
            async with gate:
                await onboarding.start(reseller_id, people.order(who, WHY))

        await asyncio.gather(*(begin(one) for one in wanted))
    _say(
        f"{len(wanted)} are being taken on, {len(reseller_ids) - len(wanted)} can be paid already: "
        "see `billing reseller list`"
    )


async def _tell(given: Settings, reseller_ids: Sequence[str]) -> str:
    """Tell what waits for them; says so where it could not be told. Not needed: what waits looks again by itself."""
    from temporalio.service import RPCError

    from starter.temporal import TemporalUnavailable

    async with session.open_store(given) as store, store.begin() as tx:
        waiting = await tx.resellers.waiting(reseller_ids)
    if not waiting:
        return ""
    try:
        async with _open(given) as (_, onboarding):
            for reseller_id in waiting:
                await onboarding.tell_changed(reseller_id)
    except (RPCError, TemporalUnavailable):
        return "; Temporal does not answer: what waits for it looks again by itself within a day"
    return ""


@asynccontextmanager
async def _open(given: Settings) -> AsyncIterator[tuple[Store, Onboarding]]:
    """Raises TemporalUnavailable before anything was done."""
    from starter.onboarding import Onboarding
    from starter.temporal import connect

    client = await connect(given)
    async with session.open_store(given) as store:
        yield store, Onboarding(store=store, client=client, settings=given)


async def _known(store: Store, reseller_id: str) -> None:
    from store.rows import UnknownRow

    try:
        async with store.begin() as tx:
            await tx.resellers.get(reseller_id)
    except UnknownRow:
        raise session.CommandFailed(
            f"There is no reseller {reseller_id!r}. `billing reseller list` names all.", session.WRONG
        ) from None


def _unknown(reseller: CatalogReseller, like: str | None, known: Known) -> str | None:
    """What a single reseller names that does not exist."""
    if reseller.parent_id is not None and reseller.parent_id not in known.resellers:
        return f"--parent: reseller {reseller.parent_id!r} does not exist."
    if like is not None and like not in known.agreed:
        return f"--agreement-like: reseller {like!r} has no agreement."
    owners = {one.stripe_account_id: one.id for one in known.resellers.values() if one.stripe_account_id}
    owner = owners.get(reseller.stripe_account_id or "")
    if owner not in (None, reseller.id):
        return f"--stripe-account: the account belongs to reseller {owner!r}."
    return None


def _option(column: str) -> str:
    renamed = {"id": "RESELLER", "parent_id": "--parent", "stripe_account_id": "--stripe-account"}
    return renamed.get(column, f"--{column.replace('_', '-')}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
