"""Chains, their aliases and bookings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chains",
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="First uid of the booking, before any rescheduling"),
        sa.Column("workflow_id", sa.Text(), nullable=False, comment="Temporal workflow id"),
        sa.Column("stage", sa.Text(), nullable=False, comment="Where it stands now"),
        sa.Column("outcome", sa.Text(), nullable=True, comment="How it ended; set exactly when the stage is closed"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why it waits for a person; always set while parked"),
        sa.Column("detail", sa.Text(), nullable=True, comment="The reason in words, ids only, no personal data"),
        sa.Column(
            "deadline_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Until when the stage should have moved on; later it is listed as stuck",
        ),
        sa.Column("waits_for", sa.Text(), nullable=True, comment="What it waits for, in words, no personal data"),
        sa.Column("customer_id", sa.Text(), nullable=True, comment="Who pays; null until quoted"),
        sa.Column(
            "reseller_id", sa.Text(), nullable=True, comment="Who brought the customer; null: nobody, or not quoted"
        ),
        sa.Column("currency", sa.Text(), nullable=True, comment="ISO 4217 code of gross_minor; null until quoted"),
        sa.Column(
            "gross_minor",
            sa.BigInteger(),
            nullable=True,
            comment="Price with VAT of the newest quote; null until quoted",
        ),
        sa.Column(
            "period",
            sa.Text(),
            nullable=True,
            comment="Month YYYY-MM (Europe/Berlin) of the appointment; null until quoted",
        ),
        sa.Column(
            "quote_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=True,
            comment="Version of the quote in force; null until quoted",
        ),
        sa.Column(
            "opened_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the first event of it was stored",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its stage was last written",
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True, comment="When it ended"),
        sa.CheckConstraint("(stage = 'closed') = (closed_at IS NOT NULL)", name=op.f("ck_chains_closed_has_time")),
        sa.CheckConstraint("(stage = 'closed') = (outcome IS NOT NULL)", name=op.f("ck_chains_closed_has_outcome")),
        sa.CheckConstraint("stage <> 'parked' OR reason IS NOT NULL", name=op.f("ck_chains_parked_has_reason")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_chains_customer_id")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_chains_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_chains_chain_uid_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(workflow_id) <> '' AND char_length(workflow_id) <= 200", name=op.f("ck_chains_workflow_id_filled")
        ),
        sa.CheckConstraint(
            (
                "stage IN ('intake', 'awaiting_confirmation', 'awaiting_charge', 'charging', 'hold', "
                "'payout', 'parked', 'undoing', 'closed')"
            ),
            name=op.f("ck_chains_stage_known"),
        ),
        sa.CheckConstraint(
            (
                "outcome IN ('paid', 'matured', 'cancelled', 'cancelled_with_fee', 'refunded', "
                "'declined', 'rolled_back', 'unbillable')"
            ),
            name=op.f("ck_chains_outcome_known"),
        ),
        sa.CheckConstraint(
            (
                "reason IN ('unmapped_customer', 'no_price', 'no_agreement', 'no_payment_method', "
                "'currency_mismatch', 'authentication_required', 'setup_error', 'outcome_unknown', "
                "'disputed', 'reseller_not_ready', 'transfer_refused', "
                "'refund_refused', 'reversal_refused', 'booking_not_found', "
                "'internal')"
            ),
            name=op.f("ck_chains_reason_known"),
        ),
        sa.CheckConstraint("BTRIM(detail) <> '' AND char_length(detail) <= 2000", name=op.f("ck_chains_detail_filled")),
        sa.CheckConstraint(
            "BTRIM(waits_for) <> '' AND char_length(waits_for) <= 2000", name=op.f("ck_chains_waits_for_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(customer_id) <> '' AND char_length(customer_id) <= 120", name=op.f("ck_chains_customer_id_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120", name=op.f("ck_chains_reseller_id_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_chains_currency_iso")),
        sa.CheckConstraint("gross_minor BETWEEN 0 AND 99999999999", name=op.f("ck_chains_gross_minor_range")),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_chains_period_month")),
        sa.CheckConstraint("quote_version BETWEEN 1 AND 10000", name=op.f("ck_chains_quote_version_range")),
        sa.PrimaryKeyConstraint("chain_uid", name=op.f("pk_chains")),
        sa.UniqueConstraint("workflow_id", name=op.f("uq_chains_workflow_id")),
        comment="One row for each chain: everything that happens to one booking",
    )
    op.create_index(op.f("ix_chains_customer_id"), "chains", ["customer_id"], unique=False)
    op.create_index(op.f("ix_chains_customer_id_period"), "chains", ["customer_id", "period"], unique=False)
    op.create_index(
        "ix_chains_open", "chains", ["updated_at"], unique=False, postgresql_where=sa.text("stage <> 'closed'")
    )
    op.create_index(op.f("ix_chains_reseller_id"), "chains", ["reseller_id"], unique=False)
    op.create_table(
        "bookings",
        sa.Column("uid", sa.Text(), nullable=False, comment="Cal.com uid"),
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain it belongs to"),
        sa.Column("status", sa.Text(), nullable=False, comment="Cal.com's status when it was last read"),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False, comment="Begin of the appointment"),
        sa.Column("end_at", sa.DateTime(timezone=True), nullable=False, comment="End of the appointment"),
        sa.Column("event_type_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Cal.com event type"),
        sa.Column(
            "organizer_ids",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=False,
            comment="Cal.com user ids of the hosts, organizer first",
        ),
        sa.Column(
            "team_ids",
            postgresql.ARRAY(sa.BigInteger()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Those of the mapped Cal.com teams that it belongs to, when that was asked",
        ),
        sa.Column("attendee_name", sa.Text(), nullable=True, comment="PERSONAL DATA. Who booked"),
        sa.Column("attendee_email", sa.Text(), nullable=True, comment="PERSONAL DATA. Address of who booked"),
        sa.Column(
            "attendee_absent",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="All attendees were marked absent (no-show)",
        ),
        sa.Column(
            "host_absent",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="The host was marked absent",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="When it was booked, by Cal.com"),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Cal.com's last change; null where Cal.com gives none",
        ),
        sa.Column("rescheduled_from_uid", sa.Text(), nullable=True, comment="The booking it replaced"),
        sa.Column("rescheduled_to_uid", sa.Text(), nullable=True, comment="The booking that replaced it"),
        sa.Column(
            "read_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When we last read it from Cal.com",
        ),
        sa.CheckConstraint("end_at >= start_at", name=op.f("ck_bookings_ends_after_start")),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_bookings_chain_uid")),
        sa.CheckConstraint("BTRIM(uid) <> '' AND char_length(uid) <= 120", name=op.f("ck_bookings_uid_filled")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_bookings_chain_uid_filled")
        ),
        sa.CheckConstraint(
            "status IN ('accepted', 'pending', 'cancelled', 'rejected')", name=op.f("ck_bookings_status_known")
        ),
        sa.CheckConstraint(
            "event_type_id BETWEEN 0 AND 9007199254740992", name=op.f("ck_bookings_event_type_id_range")
        ),
        sa.CheckConstraint(
            "BTRIM(attendee_name) <> '' AND char_length(attendee_name) <= 500",
            name=op.f("ck_bookings_attendee_name_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(attendee_email) <> '' AND char_length(attendee_email) <= 500",
            name=op.f("ck_bookings_attendee_email_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(rescheduled_from_uid) <> '' AND char_length(rescheduled_from_uid) <= 120",
            name=op.f("ck_bookings_rescheduled_from_uid_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(rescheduled_to_uid) <> '' AND char_length(rescheduled_to_uid) <= 120",
            name=op.f("ck_bookings_rescheduled_to_uid_filled"),
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_bookings")),
        comment="Bookings as last read from Cal.com's API. Holds personal data in attendee_name and attendee_email",
    )
    op.create_index(op.f("ix_bookings_chain_uid"), "bookings", ["chain_uid"], unique=False)
    op.create_table(
        "chain_aliases",
        sa.Column(
            "booking_uid",
            sa.Text(),
            nullable=False,
            comment="A Cal.com uid: the chain's first one or one it was rescheduled to",
        ),
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain it belongs to"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it became known",
        ),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_chain_aliases_chain_uid")),
        sa.CheckConstraint(
            "BTRIM(booking_uid) <> '' AND char_length(booking_uid) <= 120",
            name=op.f("ck_chain_aliases_booking_uid_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_chain_aliases_chain_uid_filled")
        ),
        sa.PrimaryKeyConstraint("booking_uid", name=op.f("pk_chain_aliases")),
        comment="Which chain a Cal.com uid belongs to. A uid never changes its chain",
    )
    op.create_index(op.f("ix_chain_aliases_chain_uid"), "chain_aliases", ["chain_uid"], unique=False)


def downgrade() -> None:
    op.drop_table("chain_aliases")
    op.drop_table("bookings")
    op.drop_table("chains")
