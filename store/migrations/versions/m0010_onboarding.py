"""Resellers' master data, the state of their accounts, onboardings, links and payouts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = (
    "address",
    "tax_status_from",
    "tax_status_proof",
    "minimum_payouts",
    "transfers_active",
    "payouts_enabled",
    "disabled_reason",
    "account_currency",
    "account_checked_at",
    "account_asked_at",
    "account_tries",
)


def upgrade() -> None:
    op.add_column(
        "resellers",
        sa.Column(
            "address",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="PERSONAL DATA where he is a sole trader. Postal address: line1, line2, postal_code, city",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "tax_status_from",
            sa.Date(),
            nullable=True,
            comment="First day on which small_business was shown to hold; null: not shown",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "tax_status_proof",
            sa.Text(),
            nullable=True,
            comment="Where the proof of it is kept: a document's number, not its content",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "minimum_payouts",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="Smallest payout by currency, in minor units; none for a currency: any",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "transfers_active",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="His account at Stripe may receive transfers, when it was last read",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "payouts_enabled",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="His account at Stripe may pay out to his bank, when it was last read",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "disabled_reason",
            sa.Text(),
            nullable=True,
            comment="Why Stripe restricts his account, when it was last read; null: it does not",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "account_currency",
            sa.Text(),
            nullable=True,
            comment="ISO 4217 code of his account's default currency; null: not read yet",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "account_checked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When his account was last read at Stripe; null: never",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "account_asked_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When Stripe was first asked for his account: a lost answer is looked up from here",
        ),
    )
    op.add_column(
        "resellers",
        sa.Column(
            "account_tries",
            sa.BigInteger(),
            server_default=sa.text("1"),
            autoincrement=False,
            nullable=False,
            comment="Tries to make his account: one more after each refusal",
        ),
    )
    op.create_check_constraint(op.f("ck_resellers_address_object"), "resellers", "jsonb_typeof(address) = 'object'")
    op.create_check_constraint(
        op.f("ck_resellers_tax_status_proof_filled"),
        "resellers",
        "BTRIM(tax_status_proof) <> '' AND char_length(tax_status_proof) <= 200",
    )
    op.create_check_constraint(
        op.f("ck_resellers_minimum_payouts_object"), "resellers", "jsonb_typeof(minimum_payouts) = 'object'"
    )
    op.create_check_constraint(
        op.f("ck_resellers_disabled_reason_filled"),
        "resellers",
        "BTRIM(disabled_reason) <> '' AND char_length(disabled_reason) <= 120",
    )
    op.create_check_constraint(
        op.f("ck_resellers_account_currency_iso"), "resellers", "account_currency ~ '^[A-Z]{3}$'"
    )
    op.create_check_constraint(
        op.f("ck_resellers_account_tries_range"), "resellers", "account_tries BETWEEN 1 AND 1000000"
    )
    op.create_table(
        "reseller_onboardings",
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Who is taken on"),
        sa.Column("status", sa.Text(), nullable=False, comment="Where it stands"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why a person is needed; null: nobody is"),
        sa.Column("detail", sa.Text(), nullable=True, comment="What exactly, without personal data"),
        sa.Column(
            "requirements",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
            comment="What Stripe still asks of him, in its words for fields",
        ),
        sa.Column(
            "reminders",
            sa.BigInteger(),
            server_default=sa.text("0"),
            autoincrement=False,
            nullable=False,
            comment="How often he was reminded",
        ),
        sa.Column(
            "waits_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it goes on by itself; null: not before something happens",
        ),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was last started",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When this row last changed",
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was completed or stopped; null: it runs",
        ),
        sa.CheckConstraint(
            "(status IN ('completed', 'stopped')) = (finished_at IS NOT NULL)",
            name=op.f("ck_reseller_onboardings_finished_has_time"),
        ),
        sa.CheckConstraint(
            "status <> 'parked' OR reason IS NOT NULL", name=op.f("ck_reseller_onboardings_parked_has_reason")
        ),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_reseller_onboardings_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_reseller_onboardings_reseller_id_filled"),
        ),
        sa.CheckConstraint(
            "status IN ('checking', 'creating', 'waiting', 'parked', 'completed', 'stopped')",
            name=op.f("ck_reseller_onboardings_status_known"),
        ),
        sa.CheckConstraint(
            "reason IN ('master_data', 'paused', 'account_refused', 'account_rejected', "
            "'account_gone', 'no_answer', 'setup_error', 'outcome_unknown', 'internal')",
            name=op.f("ck_reseller_onboardings_reason_known"),
        ),
        sa.CheckConstraint(
            "BTRIM(detail) <> '' AND char_length(detail) <= 2000", name=op.f("ck_reseller_onboardings_detail_filled")
        ),
        sa.CheckConstraint(
            "jsonb_typeof(requirements) = 'array'", name=op.f("ck_reseller_onboardings_requirements_array")
        ),
        sa.CheckConstraint("reminders BETWEEN 0 AND 1000000", name=op.f("ck_reseller_onboardings_reminders_range")),
        sa.PrimaryKeyConstraint("reseller_id", name=op.f("pk_reseller_onboardings")),
        comment="The onboarding of each reseller, as its workflow last noted it",
    )
    op.create_table(
        "reseller_links",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Our number"),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Whom it is for"),
        sa.Column(
            "sequence",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="n-th link of the reseller, from 1",
        ),
        sa.Column("account_id", sa.Text(), nullable=False, comment="Account at Stripe that it leads to"),
        sa.Column("cause", sa.Text(), nullable=False, comment="Why it was made"),
        sa.Column(
            "token",
            sa.Text(),
            nullable=False,
            comment="SECRET. Part of the address that gives him a fresh link when this one is spent",
        ),
        sa.Column(
            "url",
            sa.Text(),
            nullable=True,
            comment="SECRET. The link itself, which opens once; null: not there yet, or erased",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was asked for",
        ),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it stops working at the latest; null: not there yet",
        ),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_reseller_links_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_reseller_links_reseller_id_filled"),
        ),
        sa.CheckConstraint("sequence BETWEEN 1 AND 1000000", name=op.f("ck_reseller_links_sequence_range")),
        sa.CheckConstraint(
            "BTRIM(account_id) <> '' AND char_length(account_id) <= 120",
            name=op.f("ck_reseller_links_account_id_filled"),
        ),
        sa.CheckConstraint(
            "cause IN ('first', 'reminder', 'requested', 'renewed')", name=op.f("ck_reseller_links_cause_known")
        ),
        sa.CheckConstraint(
            "BTRIM(token) <> '' AND char_length(token) <= 64", name=op.f("ck_reseller_links_token_filled")
        ),
        sa.CheckConstraint("BTRIM(url) <> '' AND char_length(url) <= 2000", name=op.f("ck_reseller_links_url_filled")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reseller_links")),
        sa.UniqueConstraint("reseller_id", "sequence", name=op.f("uq_reseller_links_reseller_id_sequence")),
        sa.UniqueConstraint("token", name=op.f("uq_reseller_links_token")),
        comment="Links with which resellers give Stripe what it asks of them. Holds secrets",
    )
    op.create_table(
        "reseller_payouts",
        sa.Column("payout_id", sa.Text(), nullable=False, comment="Payout at Stripe"),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Whose bank account it goes to"),
        sa.Column("account_id", sa.Text(), nullable=False, comment="His connected account at Stripe"),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="What Stripe last said of it; one that was paid can still fail"
        ),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="From his balance at Stripe to his bank"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "failure_code", sa.Text(), nullable=True, comment="Stripe's code of the failure; null: it did not fail"
        ),
        sa.Column(
            "arrives_on", sa.Date(), nullable=False, comment="Day (UTC) on which it is expected at his bank, or arrived"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="When it was made at Stripe"),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False, comment="When it was last read at Stripe"),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_reseller_payouts_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(payout_id) <> '' AND char_length(payout_id) <= 120",
            name=op.f("ck_reseller_payouts_payout_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_reseller_payouts_reseller_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(account_id) <> '' AND char_length(account_id) <= 120",
            name=op.f("ck_reseller_payouts_account_id_filled"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'in_transit', 'paid', 'failed', 'canceled')",
            name=op.f("ck_reseller_payouts_status_known"),
        ),
        sa.CheckConstraint(
            "amount_minor BETWEEN 0 AND 99999999999", name=op.f("ck_reseller_payouts_amount_minor_range")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_reseller_payouts_currency_iso")),
        sa.CheckConstraint(
            "BTRIM(failure_code) <> '' AND char_length(failure_code) <= 120",
            name=op.f("ck_reseller_payouts_failure_code_filled"),
        ),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_reseller_payouts")),
        comment="Payouts from resellers' connected accounts to their banks, as last read",
    )
    op.create_index(
        op.f("ix_reseller_payouts_reseller_id_created_at"),
        "reseller_payouts",
        ["reseller_id", "created_at"],
        unique=False,
    )


def downgrade() -> None:
    for table in ("reseller_payouts", "reseller_links", "reseller_onboardings"):
        op.drop_table(table)
    for column in _COLUMNS:
        op.drop_column("resellers", column)
