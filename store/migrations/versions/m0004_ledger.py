"""Ledger and audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of writing; may have gaps"
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When"),
        sa.Column(
            "actor",
            sa.Text(),
            nullable=False,
            comment="Who: a person's login as given on the command line, or the name of a part of the system",
        ),
        sa.Column("action", sa.Text(), nullable=False, comment="What was done, one word"),
        sa.Column("target", sa.Text(), nullable=False, comment="To what: kind:id"),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=False,
            comment="Why, in the actor's words; empty where the action explains itself",
        ),
        sa.Column(
            "details",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="More facts, ids only, no personal data",
        ),
        sa.CheckConstraint("BTRIM(actor) <> '' AND char_length(actor) <= 120", name=op.f("ck_audit_log_actor_filled")),
        sa.CheckConstraint(
            "BTRIM(action) <> '' AND char_length(action) <= 120", name=op.f("ck_audit_log_action_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(target) <> '' AND char_length(target) <= 400", name=op.f("ck_audit_log_target_filled")
        ),
        sa.CheckConstraint("char_length(reason) <= 2000", name=op.f("ck_audit_log_reason_length")),
        sa.CheckConstraint("jsonb_typeof(details) = 'object'", name=op.f("ck_audit_log_details_object")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        comment="Who did what, when and why. Append-only",
    )
    op.create_index(op.f("ix_audit_log_target_id"), "audit_log", ["target", "id"], unique=False)
    op.create_table(
        "ledger_entries",
        sa.Column(
            "id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of writing; may have gaps"
        ),
        sa.Column("key", sa.Text(), nullable=False, comment="Business key: the same event always has the same one"),
        sa.Column(
            "hash",
            sa.Text(),
            nullable=False,
            comment="SHA-256 (hex) of the content (domain.ledger.entry_hash), postings included",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="What happened"),
        sa.Column(
            "chain_uid", sa.Text(), nullable=True, comment="The chain it belongs to; null: a settlement's transfer"
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "effective_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it happened in the business's sense",
        ),
        sa.Column(
            "reverses_key",
            sa.Text(),
            nullable=True,
            comment="Key of the entry that this one undoes, in whole or in part",
        ),
        sa.Column(
            "refs",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Ids that explain it: payment intent, charge, invoice. No personal data",
        ),
        sa.Column(
            "posted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was written",
        ),
        sa.CheckConstraint("reverses_key <> key", name=op.f("ck_ledger_entries_not_its_own_reversal")),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_ledger_entries_chain_uid")),
        sa.ForeignKeyConstraint(["reverses_key"], ["ledger_entries.key"], name=op.f("fk_ledger_entries_reverses_key")),
        sa.CheckConstraint("BTRIM(key) <> '' AND char_length(key) <= 400", name=op.f("ck_ledger_entries_key_filled")),
        sa.CheckConstraint("hash ~ '^[0-9a-f]{64}$'", name=op.f("ck_ledger_entries_hash_sha256")),
        sa.CheckConstraint(
            (
                "kind IN ('billed', 'charged', 'fee', 'accrued', 'transferred', 'refunded', "
                "'invoice_corrected', 'commission_reversed', 'transfer_reversed', 'reversal')"
            ),
            name=op.f("ck_ledger_entries_kind_known"),
        ),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_ledger_entries_chain_uid_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_ledger_entries_currency_iso")),
        sa.CheckConstraint(
            "BTRIM(reverses_key) <> '' AND char_length(reverses_key) <= 400",
            name=op.f("ck_ledger_entries_reverses_key_filled"),
        ),
        sa.CheckConstraint("jsonb_typeof(refs) = 'object'", name=op.f("ck_ledger_entries_refs_object")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
        sa.UniqueConstraint("key", name=op.f("uq_ledger_entries_key")),
        comment="Double-entry ledger: entries. Append-only",
    )
    op.create_index(op.f("ix_ledger_entries_chain_uid"), "ledger_entries", ["chain_uid"], unique=False)
    op.create_index(op.f("ix_ledger_entries_reverses_key"), "ledger_entries", ["reverses_key"], unique=False)
    op.create_table(
        "ledger_postings",
        sa.Column("entry_id", sa.BigInteger(), nullable=False, comment="The entry"),
        sa.Column(
            "position", sa.BigInteger(), autoincrement=False, nullable=False, comment="Order within the entry, from 0"
        ),
        sa.Column("debit_account", sa.Text(), nullable=False, comment="Account that the amount moves to"),
        sa.Column("credit_account", sa.Text(), nullable=False, comment="Account that the amount moves from"),
        sa.Column(
            "amount_minor",
            sa.BigInteger(),
            nullable=False,
            comment="Minor units of the entry's currency, always positive",
        ),
        sa.CheckConstraint("debit_account <> credit_account", name=op.f("ck_ledger_postings_two_accounts")),
        sa.ForeignKeyConstraint(["entry_id"], ["ledger_entries.id"], name=op.f("fk_ledger_postings_entry_id")),
        sa.CheckConstraint("position BETWEEN 0 AND 99", name=op.f("ck_ledger_postings_position_range")),
        sa.CheckConstraint(
            (
                "debit_account ~ '^(stripe|revenue|vat_output|vat_input|commission_expense|stripe_fees|"
                "dispute_losses|disputed|suspense|(customer|customer_credit|"
                "reseller):[A-Za-z0-9_.:-]{1,120})$'"
            ),
            name=op.f("ck_ledger_postings_debit_account_known"),
        ),
        sa.CheckConstraint(
            (
                "credit_account ~ '^(stripe|revenue|vat_output|vat_input|commission_expense|stripe_fees|"
                "dispute_losses|disputed|suspense|(customer|customer_credit|"
                "reseller):[A-Za-z0-9_.:-]{1,120})$'"
            ),
            name=op.f("ck_ledger_postings_credit_account_known"),
        ),
        sa.CheckConstraint(
            "amount_minor BETWEEN 1 AND 99999999999", name=op.f("ck_ledger_postings_amount_minor_range")
        ),
        sa.PrimaryKeyConstraint("entry_id", "position", name=op.f("pk_ledger_postings")),
        comment="Double-entry ledger: postings. One row moves one amount, so no entry can be unbalanced. Append-only",
    )
    op.create_index(op.f("ix_ledger_postings_credit_account"), "ledger_postings", ["credit_account"], unique=False)
    op.create_index(op.f("ix_ledger_postings_debit_account"), "ledger_postings", ["debit_account"], unique=False)


def downgrade() -> None:
    op.drop_table("ledger_postings")
    op.drop_table("ledger_entries")
    op.drop_table("audit_log")
