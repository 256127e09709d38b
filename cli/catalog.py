"""`billing catalog apply`: a file into the database, and its parties to Stripe."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli import people, session
from settings import Settings

if TYPE_CHECKING:
    from domain.catalog import Catalog

MAX_BYTES = 4 * 1_048_576
"""More than the catalogue's own limit of characters can take up: a wrong file is not read into memory first."""


def apply(file: Path, *, provision: bool, by: str) -> None:
    """Every error of the file with its line and field and exit code 2, or what changed."""
    raw, catalog = _parsed(file)

    async def work(given: Settings) -> bool:
        from store.rows import CatalogRefused

        async with session.open_store(given) as store:
            try:
                async with store.begin() as tx:
                    changes = await tx.catalog.apply(
                        catalog, source_sha=hashlib.sha256(raw).hexdigest(), applied_by=people.login(by)
                    )
            except CatalogRefused as error:
                lines = "\n".join(f"{file}: {reason}" for reason in error.errors)
                raise session.CommandFailed(f"{lines}\nNothing was changed.", session.WRONG) from None
            for change in changes or [f"nothing to do: the database already says what {file} says"]:
                sys.stdout.write(f"{change}\n")
            if not provision:
                return True
            from starter.provision import Provisioning

            return await Provisioning(given, store, say=_say).run()

    if not session.run(work):
        raise session.exit_with(session.BROKEN)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parsed(file: Path) -> tuple[bytes, Catalog]:
    from domain.catalog import CatalogErrors, parse_catalog

    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            session.fail(f"{file} is larger than {MAX_BYTES} bytes: that is no catalogue.", session.WRONG)
        return raw, parse_catalog(raw.decode("utf-8-sig"))
    except OSError as error:
        session.fail(f"{file} cannot be read: {error.strerror or error}.", session.WRONG)
    except UnicodeDecodeError as error:
        session.fail(f"{file}: byte {error.start} is no UTF-8: save the file as UTF-8.", session.WRONG)
    except CatalogErrors as error:
        lines = [
            f"{file}:{problem.line}: {_field(problem.field)}{problem.problem}. {problem.hint}."
            for problem in error.errors
        ]
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        session.fail("\n".join([*lines, f"{count}. Nothing was changed."]), session.WRONG)


def _field(path: str) -> str:
    return f"{path}: " if path else ""
