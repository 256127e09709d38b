"""Idempotency keys exactly as Stripe's v1 API treats them.

The first answer of a call that began to execute is kept under (account, key), 500s included, and is given again to the
same call. Another path or other parameters are an error, a call still running is a conflict, and a call that failed
validation leaves nothing. Kept answers are forgotten a day later by the stand-in's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.stripe.context import Clock
from sandbox.stripe.errors import ApiError, malformed
from sandbox.stripe.store import Store

MAXIMUM_KEY_CHARACTERS = 255


@dataclass(frozen=True)
class Kept:
    """A stored answer, and the id of the request that it first answered."""

    status: int
    body: bytes
    request_id: str


class IdempotencyKeys:
    """The stored answers, and the keys of calls that are running now (in memory: a killed process runs nothing)."""

    def __init__(self, store: Store, clock: Clock, lifetime_seconds: int) -> None:
        self._store = store
        self._clock = clock
        self._lifetime_seconds = lifetime_seconds
        self._running: set[tuple[str, str]] = set()

    def claim(self, account: str, key: str) -> None:
        """Marks the key as running. Raises the 409 ``idempotency_key_in_use`` if it already is."""
        if len(key) > MAXIMUM_KEY_CHARACTERS:
            raise malformed(f"Idempotency key is too long: at most {MAXIMUM_KEY_CHARACTERS} characters are allowed.")
        if (account, key) in self._running:
            raise ApiError(
                409,
                "invalid_request_error",
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
                f"submitted twice, and the other request is still going through): {key}. Please try again later.",
                code="idempotency_key_in_use",
                executed=False,
            )
        self._running.add((account, key))

    def release(self, account: str, key: str) -> None:
        """The call is over."""
        self._running.discard((account, key))

    def kept(self, account: str, key: str, method: str, path: str, params: str) -> Kept | None:
        """The answer to give again. Raises ``idempotency_error`` if the key was used for another call."""
        row = self._store.connection.execute(
            "SELECT method, path, params, status, body, request_id, created FROM idempotency WHERE account=? AND key=?",
            (account, key),
        ).fetchone()
        if row is None:
            return None
        if row[6] + self._lifetime_seconds <= self._clock.now():
            self._store.connection.execute("DELETE FROM idempotency WHERE account=? AND key=?", (account, key))
            return None
        if (row[0], row[1]) != (method, path):
            raise _misused(
                "Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{path}' vs '{row[1]}'). Try using a key other than '{key}' if you meant to execute a different "
                "request."
            )
        if row[2] != params:
            raise _misused(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try "
                f"using a key other than '{key}' if you meant to execute a different request."
            )
        return Kept(status=row[3], body=row[4], request_id=row[5])

    def keep(
        self, account: str, key: str, method: str, path: str, params: str, *, status: int, body: bytes, request_id: str
    ) -> None:
        """Stores the answer; part of the same transaction as the effect that it reports."""
        self._store.connection.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (account, key, method, path, params, status, body, request_id, self._clock.now()),
        )


def _misused(message: str) -> ApiError:
    return ApiError(400, "idempotency_error", message, executed=False)
