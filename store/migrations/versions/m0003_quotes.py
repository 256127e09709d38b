"""Frozen quotes and the commissions they promise."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quotes",
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain"),
        sa.Column(
            "version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Counted from 1; a rescheduling can make a new one",
        ),
        sa.Column("booking_uid", sa.Text(), nullable=False, comment="The booking that was quoted"),
        sa.Column(
            "is_retained",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Only the share that the cancellation terms keep",
        ),
        sa.Column("customer_id", sa.Text(), nullable=False, comment="Who pays"),
        sa.Column("reseller_id", sa.Text(), nullable=True, comment="Who brought him; null: nobody"),
        sa.Column(
            "event_type_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Cal.com event type of the booking when quoted",
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column("net_minor", sa.BigInteger(), nullable=False, comment="Price without VAT"),
        sa.Column("vat_minor", sa.BigInteger(), nullable=False, comment="VAT on it"),
        sa.Column("gross_minor", sa.BigInteger(), nullable=False, comment="What the customer is charged"),
        sa.Column("vat_rate_bps", sa.BigInteger(), autoincrement=False, nullable=False, comment="VAT rate"),
        sa.Column(
            "vat_reason",
            sa.Text(),
            nullable=False,
            comment="Rule that gave the rate: standard, reduced, zero, reverse_charge, outside_scope",
        ),
        sa.Column("price_ref", sa.Text(), nullable=False, comment="Where the price stands: book/vN#event-ID"),
        sa.Column(
            "price",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The price as it stood, with what the amount was computed from",
        ),
        sa.Column(
            "terms",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Cancellation terms: hours and shares in basis points",
        ),
        sa.Column("charge_at", sa.DateTime(timezone=True), nullable=False, comment="When to charge"),
        sa.Column(
            "matures_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the commission's refund window is over",
        ),
        sa.Column("period", sa.Text(), nullable=False, comment="Month YYYY-MM (Europe/Berlin) of the appointment"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was frozen",
        ),
        sa.CheckConstraint("net_minor + vat_minor = gross_minor", name=op.f("ck_quotes_adds_up")),
        sa.ForeignKeyConstraint(["booking_uid"], ["bookings.uid"], name=op.f("fk_quotes_booking_uid")),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_quotes_chain_uid")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_quotes_customer_id")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_quotes_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_quotes_chain_uid_filled")
        ),
        sa.CheckConstraint("version BETWEEN 1 AND 10000", name=op.f("ck_quotes_version_range")),
        sa.CheckConstraint(
            "BTRIM(booking_uid) <> '' AND char_length(booking_uid) <= 120", name=op.f("ck_quotes_booking_uid_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(customer_id) <> '' AND char_length(customer_id) <= 120", name=op.f("ck_quotes_customer_id_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120", name=op.f("ck_quotes_reseller_id_filled")
        ),
        sa.CheckConstraint("event_type_id BETWEEN 0 AND 9007199254740992", name=op.f("ck_quotes_event_type_id_range")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_quotes_currency_iso")),
        sa.CheckConstraint("net_minor BETWEEN 0 AND 99999999999", name=op.f("ck_quotes_net_minor_range")),
        sa.CheckConstraint("vat_minor BETWEEN 0 AND 99999999999", name=op.f("ck_quotes_vat_minor_range")),
        sa.CheckConstraint("gross_minor BETWEEN 0 AND 99999999999", name=op.f("ck_quotes_gross_minor_range")),
        sa.CheckConstraint("vat_rate_bps BETWEEN 0 AND 10000", name=op.f("ck_quotes_vat_rate_bps_range")),
        sa.CheckConstraint(
            "BTRIM(vat_reason) <> '' AND char_length(vat_reason) <= 40", name=op.f("ck_quotes_vat_reason_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(price_ref) <> '' AND char_length(price_ref) <= 400", name=op.f("ck_quotes_price_ref_filled")
        ),
        sa.CheckConstraint("jsonb_typeof(price) = 'object'", name=op.f("ck_quotes_price_object")),
        sa.CheckConstraint("jsonb_typeof(terms) = 'object'", name=op.f("ck_quotes_terms_object")),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_quotes_period_month")),
        sa.PrimaryKeyConstraint("chain_uid", "version", name=op.f("pk_quotes")),
        sa.UniqueConstraint(
            "chain_uid", "booking_uid", "is_retained", name=op.f("uq_quotes_chain_uid_booking_uid_is_retained")
        ),
        comment="Frozen prices of bookings. Append-only: later price changes do not touch them",
    )
    op.create_index(op.f("ix_quotes_booking_uid"), "quotes", ["booking_uid"], unique=False)
    op.create_index(
        op.f("ix_quotes_customer_id_event_type_id_period"),
        "quotes",
        ["customer_id", "event_type_id", "period"],
        unique=False,
    )
    op.create_table(
        "quote_levels",
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain"),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False, comment="Version of the quote"),
        sa.Column(
            "level",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="0: the customer's own reseller, 1: the one above him, and so on",
        ),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Who earns"),
        sa.Column(
            "amount_minor",
            sa.BigInteger(),
            nullable=False,
            comment="What he will earn on this booking; 0: nothing by his rule",
        ),
        sa.Column(
            "rule",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The rule with every input, so that the amount can be recomputed",
        ),
        sa.Column(
            "agreement_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Version of his agreement",
        ),
        sa.Column("payout_mode", sa.Text(), nullable=False, comment="His payout mode when it was quoted"),
        sa.ForeignKeyConstraint(
            ["chain_uid", "version"],
            ["quotes.chain_uid", "quotes.version"],
            name=op.f("fk_quote_levels_chain_uid_version"),
        ),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_quote_levels_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_quote_levels_chain_uid_filled")
        ),
        sa.CheckConstraint("version BETWEEN 1 AND 10000", name=op.f("ck_quote_levels_version_range")),
        sa.CheckConstraint("level BETWEEN 0 AND 1000", name=op.f("ck_quote_levels_level_range")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_quote_levels_reseller_id_filled"),
        ),
        sa.CheckConstraint("amount_minor BETWEEN 0 AND 99999999999", name=op.f("ck_quote_levels_amount_minor_range")),
        sa.CheckConstraint("jsonb_typeof(rule) = 'object'", name=op.f("ck_quote_levels_rule_object")),
        sa.CheckConstraint(
            "agreement_version BETWEEN 1 AND 1000000", name=op.f("ck_quote_levels_agreement_version_range")
        ),
        sa.CheckConstraint(
            "payout_mode IN ('monthly', 'per_booking', 'on_hold')", name=op.f("ck_quote_levels_payout_mode_known")
        ),
        sa.PrimaryKeyConstraint("chain_uid", "version", "level", name=op.f("pk_quote_levels")),
        comment="Frozen commissions of a quote, one row a level. Append-only",
    )
    op.create_index(op.f("ix_quote_levels_reseller_id"), "quote_levels", ["reseller_id"], unique=False)


def downgrade() -> None:
    op.drop_table("quote_levels")
    op.drop_table("quotes")
