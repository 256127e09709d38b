"""The state of the stand-in: one SQLite file, written through on every request.

An object is one row: its public JSON (related objects as ids), a few columns that lists filter by, and private fields
(names that start with ``_``) that never leave the process. WAL with ``synchronous=NORMAL`` survives kill -9 of the
process; only a power cut could lose the last commits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.stripe.errors import JsonObject

# Columns taken from the object's own fields of the same name, where that is a string.
LINKS = (
    "customer",
    "payment_intent",
    "charge",
    "transfer_group",
    "destination",
    "source",
    "transfer",
    "source_transaction",
)
_EXTRA = ("type", "status", "currency", "email")
_COLUMNS = (*LINKS, *_EXTRA)
_BOUNDS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

_INDEXES = "\n".join(
    f"CREATE INDEX IF NOT EXISTS objects_by_{name} ON objects ({name}, kind, seq) WHERE {name} IS NOT NULL;"
    for name in LINKS
)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    created INTEGER NOT NULL,
    {", ".join(f"{name} TEXT" for name in _COLUMNS)},
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (account, kind, seq);
{_INDEXES}
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS idempotency (
    account TEXT NOT NULL,
    key TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    params TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    request_id TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (account, key)
);
CREATE TABLE IF NOT EXISTS balances (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    available INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    PRIMARY KEY (account, currency)
);
CREATE TABLE IF NOT EXISTS pending_funds (
    transaction_id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    net INTEGER NOT NULL,
    available_on INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS pending_funds_due ON pending_funds (available_on);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    due_at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    object_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due_at);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt_at REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting'
);
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event_id);
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
"""
_TABLES = ("objects", "meta", "idempotency", "balances", "pending_funds", "jobs", "deliveries", "faults")


def dumps(body: Any) -> str:
    """Compact JSON, not escaped to ASCII."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


class Store:
    """One connection, used by one thread. Every request runs inside :meth:`transaction`."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "temp_store=MEMORY", "cache_size=-16000"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Ends the connection; nothing is lost without it."""
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, committed when the block ends."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undoes the block's writes if it raises, and lets the surrounding transaction go on."""
        self.connection.execute("SAVEPOINT work")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK TO work")
            self.connection.execute("RELEASE work")
            raise
        self.connection.execute("RELEASE work")

    def insert(self, kind: str, account: str, body: JsonObject) -> None:
        """Adds an object; ``body`` must have ``id``. The order of inserts is the order of lists."""
        values = [_text(body.get(name)) for name in _COLUMNS]
        marks = ", ".join("?" * (5 + len(_COLUMNS)))
        self.connection.execute(
            f"INSERT INTO objects (id, kind, account, created, {', '.join(_COLUMNS)}, body) VALUES ({marks})",
            [body["id"], kind, account, body.get("created", 0), *values, dumps(body)],
        )

    def save(self, body: JsonObject) -> None:
        """Writes an object that :meth:`insert` added before."""
        values = [_text(body.get(name)) for name in _COLUMNS]
        sets = ", ".join(f"{name}=?" for name in _COLUMNS)
        changed = self.connection.execute(
            f"UPDATE objects SET {sets}, body=? WHERE id=?", [*values, dumps(body), body["id"]]
        ).rowcount
        if changed != 1:
            raise KeyError(body["id"])

    def remove(self, object_id: str) -> None:
        """Deletes an object's row."""
        self.connection.execute("DELETE FROM objects WHERE id=?", (object_id,))

    def find(self, object_id: str, kind: str | None = None, account: str | None = None) -> JsonObject | None:
        """The object, or None if there is none of that kind in that account (None: any)."""
        row = self.connection.execute("SELECT kind, account, body FROM objects WHERE id=?", (object_id,)).fetchone()
        if row is None or (kind is not None and row[0] != kind) or (account is not None and row[1] != account):
            return None
        body: JsonObject = json.loads(row[2])
        return body

    def place(self, object_id: str) -> tuple[int, str, str] | None:
        """(position, kind, account) of an object, as lists order them."""
        row = self.connection.execute("SELECT seq, kind, account FROM objects WHERE id=?", (object_id,)).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def select(
        self,
        kind: str,
        account: str,
        equal: Mapping[str, Any] | None = None,
        *,
        created: Mapping[str, int] | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        where: str = "",
        arguments: tuple[Any, ...] = (),
    ) -> list[JsonObject]:
        """Objects newest first. ``before`` / ``after`` are positions; with ``after`` the nearest ones are taken."""
        clauses, values = ["account=?", "kind=?"], [account, kind]
        for name, value in (equal or {}).items():
            if value is not None:
                clauses.append(f"{name}=?")
                values.append(value)
        for bound, moment in (created or {}).items():
            clauses.append(f"created {_BOUNDS[bound]} ?")
            values.append(str(moment))
        if before is not None:
            clauses.append("seq < ?")
            values.append(str(before))
        if after is not None:
            clauses.append("seq > ?")
            values.append(str(after))
        if where:
            clauses.append(f"({where})")
            values.extend(arguments)
        order = "ASC" if after is not None else "DESC"
        sql = f"SELECT body FROM objects WHERE {' AND '.join(clauses)} ORDER BY seq {order}"
        if limit is not None:
            sql += f" LIMIT {limit}"
        found = [json.loads(row[0]) for row in self.connection.execute(sql, values)]
        return found[::-1] if after is not None else found

    def meta(self, name: str, default: str) -> str:
        """A stored setting."""
        row = self.connection.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return default if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Stores a setting."""
        self.connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def counts(self) -> dict[str, dict[str, int]]:
        """kind -> status (or ``all``) -> number of objects."""
        found: dict[str, dict[str, int]] = {}
        rows = self.connection.execute("SELECT kind, status, count(*) FROM objects GROUP BY kind, status")
        for kind, status, number in rows:
            of_kind = found.setdefault(kind, {"all": 0})
            of_kind["all"] += number
            if status is not None:
                of_kind[status] = number
        return found

    def clear(self) -> None:
        """Forgets everything."""
        for table in _TABLES:
            self.connection.execute(f"DELETE FROM {table}")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
