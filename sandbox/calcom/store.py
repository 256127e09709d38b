"""The sandbox's state in one SQLite file. Every change is committed before it is answered."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox.calcom.model import Attendee, Booking, EventType, Organizer, Team, Webhook

_SCHEMA = """
CREATE TABLE IF NOT EXISTS organizers (id INTEGER PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS teams (id INTEGER PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS event_types (id INTEGER PRIMARY KEY, team_id INTEGER, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bookings (
  id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, status TEXT NOT NULL, event_type_id INTEGER, organizer_id INTEGER,
  start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER,
  start_due INTEGER NOT NULL, end_due INTEGER NOT NULL, doc TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS bookings_updated ON bookings (updated_ms);
CREATE INDEX IF NOT EXISTS bookings_created ON bookings (created_ms);
CREATE INDEX IF NOT EXISTS bookings_start_due ON bookings (start_ms) WHERE start_due = 1;
CREATE INDEX IF NOT EXISTS bookings_end_due ON bookings (end_ms) WHERE end_due = 1;
CREATE TABLE IF NOT EXISTS deliveries (
  id INTEGER PRIMARY KEY AUTOINCREMENT, trigger_event TEXT NOT NULL, uid TEXT, url TEXT NOT NULL, body TEXT NOT NULL,
  signature TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, status_code INTEGER, at_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


class Store:
    """All reads and writes. Methods without `commit` in their text commit by themselves."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(data_dir / "calcom.sqlite3")
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        with self._db:
            self._db.executescript(_SCHEMA)
            # Cal.com does not try again: what was on its way when the process died is lost.
            self._db.execute("UPDATE deliveries SET state = 'lost' WHERE state = 'pending'")
        if not self.organizers():
            self.seed()

    def close(self) -> None:
        self._db.close()

    def seed(self) -> None:
        """One organizer, one team and three event types, so that a fresh sandbox can take a booking."""
        self.put_organizer(Organizer(5, "Pro Example", "pro@example.com", "pro"))
        self.put_team(Team(3, "Example Team", "example-team"))
        self.put_event_type(EventType(7, "60min", "60min", 60, 5))
        self.put_event_type(EventType(8, "opt-in", "Opt in", 60, 5, requires_confirmation=True))
        self.put_event_type(EventType(9, "team-30min", "Team 30min", 30, 5, team_id=3))

    def reset(self) -> None:
        """Forgets everything but the webhooks given on the command line, then seeds again."""
        with self._db:
            for table in ("organizers", "teams", "event_types", "bookings", "deliveries", "counters"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("DELETE FROM webhooks WHERE id NOT LIKE 'cli-%'")
        self.seed()

    def next_id(self, name: str, first: int = 1) -> int:
        """The next number of a counter; counters never go back, also not over restarts."""
        with self._db:
            row = self._db.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
                (name, first),
            ).fetchone()
        return int(row[0])

    # --- catalogue --------------------------------------------------------------------------------------------------

    def organizers(self) -> list[Organizer]:
        return [Organizer(**json.loads(r["doc"])) for r in self._db.execute("SELECT doc FROM organizers ORDER BY id")]

    def organizer(self, organizer_id: int) -> Organizer | None:
        row = self._db.execute("SELECT doc FROM organizers WHERE id = ?", (organizer_id,)).fetchone()
        return Organizer(**json.loads(row["doc"])) if row else None

    def put_organizer(self, organizer: Organizer) -> None:
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO organizers VALUES (?, ?)", (organizer.id, json.dumps(asdict(organizer)))
            )

    def teams(self) -> list[Team]:
        return [Team(**json.loads(r["doc"])) for r in self._db.execute("SELECT doc FROM teams ORDER BY id")]

    def put_team(self, team: Team) -> None:
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO teams VALUES (?, ?)", (team.id, json.dumps(asdict(team))))

    def event_types(self) -> list[EventType]:
        return [EventType(**json.loads(r["doc"])) for r in self._db.execute("SELECT doc FROM event_types ORDER BY id")]

    def event_type(self, event_type_id: int | None) -> EventType | None:
        row = self._db.execute("SELECT doc FROM event_types WHERE id = ?", (event_type_id,)).fetchone()
        return EventType(**json.loads(row["doc"])) if row else None

    def put_event_type(self, event_type: EventType) -> None:
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO event_types VALUES (?, ?, ?)",
                (event_type.id, event_type.team_id, json.dumps(asdict(event_type))),
            )

    # --- bookings ---------------------------------------------------------------------------------------------------

    def booking(self, uid: str) -> Booking | None:
        row = self._db.execute("SELECT doc FROM bookings WHERE uid = ?", (uid,)).fetchone()
        return _booking(row) if row else None

    def put_bookings(self, bookings: Iterable[Booking], *, now_ms: int) -> None:
        """Inserts or replaces, all in one commit. Meeting times that lie ahead become due for their webhooks."""
        rows = [
            (
                b.id, b.uid, b.status, b.event_type_id, b.organizer_id,
                b.start_ms, b.end_ms, b.created_ms, b.updated_ms,
                int(b.start_ms > now_ms), int(b.end_ms > now_ms), json.dumps(asdict(b)),
            )
            for b in bookings
        ]  # fmt: skip
        with self._db:
            self._db.executemany(
                "INSERT INTO bookings VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (uid) DO UPDATE SET "
                "status = excluded.status, start_ms = excluded.start_ms, end_ms = excluded.end_ms, "
                "created_ms = excluded.created_ms, updated_ms = excluded.updated_ms, doc = excluded.doc",
                rows,
            )

    def overlapping(self, organizer_id: int, start_ms: int, end_ms: int, *, except_uid: str | None) -> bool:
        row = self._db.execute(
            "SELECT 1 FROM bookings WHERE organizer_id = ? AND status IN ('accepted', 'pending') "
            "AND start_ms < ? AND end_ms > ? AND uid IS NOT ? LIMIT 1",
            (organizer_id, end_ms, start_ms, except_uid),
        ).fetchone()
        return row is not None

    def list_bookings(
        self, where: str, arguments: Sequence[Any], *, order: str, take: int, skip: int
    ) -> tuple[list[Booking], int]:
        """A page and the number of all matches. `where` and `order` are built by the caller from fixed words."""
        total = self._db.execute(f"SELECT count(*) FROM bookings b WHERE {where}", tuple(arguments)).fetchone()[0]
        rows = self._db.execute(
            f"SELECT doc FROM bookings b WHERE {where} ORDER BY {order}, id LIMIT ? OFFSET ?", (*arguments, take, skip)
        )
        return [_booking(r) for r in rows], int(total)

    def take_due(self, edge: str, until_ms: int) -> list[Booking]:
        """Accepted bookings whose `edge` (start or end) has passed since they were made; each is returned once."""
        with self._db:
            rows = self._db.execute(
                f"UPDATE bookings SET {edge}_due = 0 WHERE {edge}_due = 1 AND {edge}_ms <= ? RETURNING doc", (until_ms,)
            ).fetchall()
        return [b for b in map(_booking, rows) if b.status == "accepted"]

    # --- webhooks and deliveries ------------------------------------------------------------------------------------

    def webhooks(self) -> list[Webhook]:
        return [Webhook(**json.loads(r["doc"])) for r in self._db.execute("SELECT doc FROM webhooks ORDER BY rowid")]

    def put_webhook(self, webhook: Webhook) -> None:
        with self._db:
            self._db.execute(
                "INSERT INTO webhooks VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc",
                (webhook.id, json.dumps(asdict(webhook))),
            )

    def delete_webhook(self, webhook_id: str) -> None:
        with self._db:
            self._db.execute("DELETE FROM webhooks WHERE id = ?", (webhook_id,))

    def add_delivery(
        self,
        *,
        trigger: str,
        uid: str | None,
        url: str,
        body: str,
        signature: str,
        version: str,
        state: str,
        at_ms: int,
    ) -> int:
        with self._db:
            cursor = self._db.execute(
                "INSERT INTO deliveries (trigger_event, uid, url, body, signature, version, state, at_ms) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (trigger, uid, url, body, signature, version, state, at_ms),
            )
        return int(cursor.lastrowid or 0)

    def set_delivery(self, delivery_id: int, state: str, status_code: int | None = None) -> None:
        with self._db:
            self._db.execute(
                "UPDATE deliveries SET state = ?, status_code = ? WHERE id = ?", (state, status_code, delivery_id)
            )

    def deliveries(self, state: str | None = None) -> list[dict[str, Any]]:
        """All deliveries, oldest first, as plain dictionaries."""
        rows = self._db.execute("SELECT * FROM deliveries WHERE ?1 IS NULL OR state = ?1 ORDER BY id", (state,))
        return [dict(r) for r in rows]

    def delivery(self, delivery_id: int) -> dict[str, Any]:
        return dict(self._db.execute("SELECT * FROM deliveries WHERE id = ?", (delivery_id,)).fetchone())


def _booking(row: sqlite3.Row) -> Booking:
    doc = json.loads(row["doc"])
    doc["attendees"] = [Attendee(**a) for a in doc["attendees"]]
    return Booking(**doc)
