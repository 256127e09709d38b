"""Orders of people about chains: try again, roll back. Each is recorded with who and why."""

from __future__ import annotations

import sys

from cli import people, session
from settings import Settings


def retry(uid: str, *, by: str, why: str, settlement: str, currency: str, supplement: int) -> None:
    """Exit code 1 where the chain, or with `settlement` the month of the reseller `uid`, is not parked."""
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_operator(given) as operator:
            if settlement:
                return await operator.retry_settlement(settlement, uid, currency, order, supplement)
            return await operator.retry(uid, order)

    sys.stdout.write(f"{session.run(work)}\n")


def roll_back(uid: str, *, by: str, why: str) -> None:
    """Answers when the order is taken; `billing show` tells how far the undoing is."""
    order = people.order(by, why)

    async def work(given: Settings) -> str:
        async with session.open_operator(given) as operator:
            return await operator.roll_back(uid, order)

    sys.stdout.write(f"{session.run(work)}\n`billing show {uid}` tells how far it is.\n")
