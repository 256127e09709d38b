"""Who gives an order, where the command does not say."""

from __future__ import annotations

import getpass
import os

from cli import session
from domain.orders import RESERVED, person
from workflows.models import OperatorOrder


def login(given: str = "") -> str:
    """The name that was given, else this machine's login, as it is recorded. Never empty.

    Ends with exit code 2 for a name under which the system itself is recorded.
    """
    name = person(given) or person(_of_this_machine())
    if name in RESERVED:
        session.fail(f"--by: {name} is how the system itself is recorded: give your own login.", session.WRONG)
    return name


def _of_this_machine() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def order(by: str, why: str) -> OperatorOrder:
    """The order to record; ends with exit code 2 where who or why is empty or too long."""
    from pydantic import ValidationError

    try:
        return OperatorOrder(who=by, why=why)
    except ValidationError as error:
        option = {"who": "--by", "why": "--why"}
        lines = [f"{option[str(problem['loc'][0])]}: {problem['msg']}" for problem in error.errors()]
        session.fail("\n".join(lines), session.WRONG)
