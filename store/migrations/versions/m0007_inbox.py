"""Inbox and cursors of the sweeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text(), nullable=False, comment="Which sweep"),
        sa.Column(
            "at", sa.DateTime(timezone=True), nullable=False, comment="Everything before this moment was looked at"
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was moved",
        ),
        sa.CheckConstraint("BTRIM(name) <> '' AND char_length(name) <= 120", name=op.f("ck_cursors_name_filled")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
        comment="How far each sweep has looked",
    )
    op.create_table(
        "inbox",
        sa.Column(
            "event_id", sa.Text(), nullable=False, comment="Unique id of the event; a second delivery has the same"
        ),
        sa.Column(
            "source",
            sa.Text(),
            nullable=False,
            comment="Who sent it: calcom, stripe, or sweep for one that no webhook told of",
        ),
        sa.Column("type", sa.Text(), nullable=False, comment="The sender's name for the kind of event"),
        sa.Column(
            "object_id",
            sa.Text(),
            nullable=True,
            comment="What it is about: booking uid or Stripe id; null where it could not be read",
        ),
        sa.Column(
            "raw",
            sa.LargeBinary(),
            nullable=True,
            comment="PERSONAL DATA. The body as it came, verified; null once forgotten",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="What became of it"),
        sa.Column(
            "attempts",
            sa.BigInteger(),
            server_default=sa.text("0"),
            autoincrement=False,
            nullable=False,
            comment="Deliveries that failed",
        ),
        sa.Column("last_error", sa.Text(), nullable=True, comment="Why the last delivery failed, or why it is held"),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was committed",
        ),
        sa.Column(
            "next_attempt_at", sa.DateTime(timezone=True), nullable=True, comment="When it is due; null unless received"
        ),
        sa.Column(
            "leased_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="A relay works on it until then; later another may take it",
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it left the state received"),
        sa.CheckConstraint(
            "(status = 'received') = (next_attempt_at IS NOT NULL)", name=op.f("ck_inbox_received_is_due")
        ),
        sa.CheckConstraint("status <> 'held' OR last_error IS NOT NULL", name=op.f("ck_inbox_held_has_reason")),
        sa.CheckConstraint(
            "BTRIM(event_id) <> '' AND char_length(event_id) <= 200", name=op.f("ck_inbox_event_id_filled")
        ),
        sa.CheckConstraint("BTRIM(source) <> '' AND char_length(source) <= 40", name=op.f("ck_inbox_source_filled")),
        sa.CheckConstraint("BTRIM(type) <> '' AND char_length(type) <= 200", name=op.f("ck_inbox_type_filled")),
        sa.CheckConstraint(
            "BTRIM(object_id) <> '' AND char_length(object_id) <= 255", name=op.f("ck_inbox_object_id_filled")
        ),
        sa.CheckConstraint(
            "status IN ('received', 'delivered', 'ignored', 'not_understood', 'held')",
            name=op.f("ck_inbox_status_known"),
        ),
        sa.CheckConstraint("attempts BETWEEN 0 AND 1000000", name=op.f("ck_inbox_attempts_range")),
        sa.CheckConstraint(
            "BTRIM(last_error) <> '' AND char_length(last_error) <= 2000", name=op.f("ck_inbox_last_error_filled")
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_inbox")),
        comment="Events from outside, stored before they are answered. Holds personal data in raw",
    )
    op.create_index(
        "ix_inbox_due", "inbox", ["next_attempt_at"], unique=False, postgresql_where=sa.text("status = 'received'")
    )
    op.create_index(op.f("ix_inbox_object_id"), "inbox", ["object_id"], unique=False)
    op.create_index("ix_inbox_status", "inbox", ["status", "received_at"], unique=False)


def downgrade() -> None:
    op.drop_table("inbox")
    op.drop_table("cursors")
