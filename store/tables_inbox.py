"""Tables of what came in from outside: webhooks, and how far the sweeps have looked."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Table, text

from store.rows import InboxStatus
from store.schema import TEXT_LIMIT, metadata, moment_column, number_column, text_column, word_column

inbox = Table(
    "inbox",
    metadata,
    text_column("event_id", "Unique id of the event; a second delivery has the same", limit=200, primary_key=True),
    text_column("source", "Who sent it: calcom, stripe, or sweep for one that no webhook told of", limit=40),
    text_column("type", "The sender's name for the kind of event", limit=200),
    text_column(
        "object_id",
        "What it is about: booking uid or Stripe id; null where it could not be read",
        limit=255,
        nullable=True,
        index=True,
    ),
    Column(
        "raw", LargeBinary, nullable=True, comment="PERSONAL DATA. The body as it came, verified; null once forgotten"
    ),
    word_column("status", InboxStatus, "What became of it"),
    number_column("attempts", "Deliveries that failed", low=0, high=1_000_000, default=0),
    text_column("last_error", "Why the last delivery failed, or why it is held", limit=TEXT_LIMIT, nullable=True),
    moment_column("received_at", "When it was committed", now=True),
    moment_column("next_attempt_at", "When it is due; null unless received", nullable=True),
    moment_column("leased_until", "A relay works on it until then; later another may take it", nullable=True),
    moment_column("finished_at", "When it left the state received", nullable=True),
    CheckConstraint("(status = 'received') = (next_attempt_at IS NOT NULL)", name="received_is_due"),
    CheckConstraint("status <> 'held' OR last_error IS NOT NULL", name="held_has_reason"),
    Index("ix_inbox_due", "next_attempt_at", postgresql_where=text("status = 'received'")),
    Index("ix_inbox_status", "status", "received_at"),
    comment="Events from outside, stored before they are answered. Holds personal data in raw",
)

cursors = Table(
    "cursors",
    metadata,
    text_column("name", "Which sweep", primary_key=True),
    moment_column("at", "Everything before this moment was looked at"),
    moment_column("updated_at", "When it was moved", now=True),
    comment="How far each sweep has looked",
)
