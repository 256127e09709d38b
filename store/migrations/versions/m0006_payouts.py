"""Transfers, commissions and settlement lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "transfers",
        sa.Column(
            "key",
            sa.Text(),
            nullable=False,
            comment="Idempotency key at Stripe: transfer:… or settlement:…, see domain.ids",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="For one booking, or for a month"),
        sa.Column("chain_uid", sa.Text(), nullable=True, comment="The chain; null for a settlement"),
        sa.Column(
            "settlement_id",
            sa.BigInteger(),
            nullable=True,
            comment="The settlement it belongs to; null for a booking's transfer",
        ),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Who gets it"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "amount_minor",
            sa.BigInteger(),
            nullable=False,
            comment="From the platform's balance to the reseller's connected account",
        ),
        sa.Column(
            "reversed_minor",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Taken back by reversals that succeeded",
        ),
        sa.Column("destination_account_id", sa.Text(), nullable=False, comment="Connected account at Stripe"),
        sa.Column("transfer_id", sa.Text(), nullable=True, comment="Transfer at Stripe"),
        sa.Column("status", sa.Text(), nullable=False, comment="What is known of it"),
        sa.Column("refusal_code", sa.Text(), nullable=True, comment="Stripe's code of the last refusal"),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first begun",
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its status was last moved; null: outcome unknown",
        ),
        sa.CheckConstraint("(kind = 'booking') = (chain_uid IS NOT NULL)", name=op.f("ck_transfers_booking_has_chain")),
        sa.CheckConstraint(
            "(kind = 'settlement') = (settlement_id IS NOT NULL)", name=op.f("ck_transfers_settlement_has_id")
        ),
        sa.CheckConstraint(
            "status <> 'succeeded' OR transfer_id IS NOT NULL", name=op.f("ck_transfers_success_has_id")
        ),
        sa.CheckConstraint("reversed_minor <= amount_minor", name=op.f("ck_transfers_reversed_within_amount")),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_transfers_chain_uid")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_transfers_reseller_id")),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_transfers_settlement_id")),
        sa.CheckConstraint("BTRIM(key) <> '' AND char_length(key) <= 400", name=op.f("ck_transfers_key_filled")),
        sa.CheckConstraint("kind IN ('booking', 'settlement')", name=op.f("ck_transfers_kind_known")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_transfers_chain_uid_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120", name=op.f("ck_transfers_reseller_id_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_transfers_currency_iso")),
        sa.CheckConstraint("amount_minor BETWEEN 1 AND 99999999999", name=op.f("ck_transfers_amount_minor_range")),
        sa.CheckConstraint("reversed_minor BETWEEN 0 AND 99999999999", name=op.f("ck_transfers_reversed_minor_range")),
        sa.CheckConstraint(
            "BTRIM(destination_account_id) <> '' AND char_length(destination_account_id) <= 120",
            name=op.f("ck_transfers_destination_account_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(transfer_id) <> '' AND char_length(transfer_id) <= 120", name=op.f("ck_transfers_transfer_id_filled")
        ),
        sa.CheckConstraint("status IN ('started', 'succeeded', 'refused')", name=op.f("ck_transfers_status_known")),
        sa.CheckConstraint(
            "BTRIM(refusal_code) <> '' AND char_length(refusal_code) <= 120",
            name=op.f("ck_transfers_refusal_code_filled"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_transfers")),
        sa.UniqueConstraint("chain_uid", "reseller_id", name=op.f("uq_transfers_chain_uid_reseller_id")),
        sa.UniqueConstraint("settlement_id", name=op.f("uq_transfers_settlement_id")),
        sa.UniqueConstraint("transfer_id", name=op.f("uq_transfers_transfer_id")),
        comment="Transfers to resellers' connected accounts",
    )
    op.create_index(op.f("ix_transfers_chain_uid"), "transfers", ["chain_uid"], unique=False)
    op.create_index(op.f("ix_transfers_reseller_id"), "transfers", ["reseller_id"], unique=False)
    op.create_table(
        "commissions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Our number"),
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain"),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Who earns it"),
        sa.Column(
            "level",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="0: the customer's own reseller, 1: the one above him, and so on",
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "accrued_minor", sa.BigInteger(), nullable=False, comment="Earned on this booking, owed by the platform"
        ),
        sa.Column(
            "reversed_minor",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="Undone since, cumulative",
        ),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="accrued, matured, settled; reversed: all of it was undone"
        ),
        sa.Column(
            "matures_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Nominal: when its refund window is over, whenever that was noticed",
        ),
        sa.Column(
            "rule",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The frozen rule with every input of the amount",
        ),
        sa.Column(
            "agreement_version",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Version of the reseller's agreement",
        ),
        sa.Column("payout_mode", sa.Text(), nullable=False, comment="The reseller's payout mode when it was quoted"),
        sa.Column(
            "transfer_key", sa.Text(), nullable=True, comment="Transfer that pays it, from its begin; null: none yet"
        ),
        sa.Column(
            "settled_minor",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="What that transfer carries for it",
        ),
        sa.Column(
            "accrued_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was earned",
        ),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True, comment="When its transfer succeeded"),
        sa.CheckConstraint(
            "(status = 'reversed') = (reversed_minor = accrued_minor)", name=op.f("ck_commissions_reversed_means_all")
        ),
        sa.CheckConstraint(
            "status <> 'settled' OR transfer_key IS NOT NULL", name=op.f("ck_commissions_settled_has_transfer")
        ),
        sa.CheckConstraint("reversed_minor <= accrued_minor", name=op.f("ck_commissions_reversed_within_accrued")),
        sa.CheckConstraint("settled_minor <= accrued_minor", name=op.f("ck_commissions_settled_within_accrued")),
        sa.CheckConstraint(
            "transfer_key IS NOT NULL OR settled_minor = 0", name=op.f("ck_commissions_settled_by_transfer")
        ),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_commissions_chain_uid")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_commissions_reseller_id")),
        sa.ForeignKeyConstraint(["transfer_key"], ["transfers.key"], name=op.f("fk_commissions_transfer_key")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_commissions_chain_uid_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_commissions_reseller_id_filled"),
        ),
        sa.CheckConstraint("level BETWEEN 0 AND 1000", name=op.f("ck_commissions_level_range")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_commissions_currency_iso")),
        sa.CheckConstraint("accrued_minor BETWEEN 1 AND 99999999999", name=op.f("ck_commissions_accrued_minor_range")),
        sa.CheckConstraint(
            "reversed_minor BETWEEN 0 AND 99999999999", name=op.f("ck_commissions_reversed_minor_range")
        ),
        sa.CheckConstraint(
            "status IN ('accrued', 'matured', 'settled', 'reversed')", name=op.f("ck_commissions_status_known")
        ),
        sa.CheckConstraint("jsonb_typeof(rule) = 'object'", name=op.f("ck_commissions_rule_object")),
        sa.CheckConstraint(
            "agreement_version BETWEEN 1 AND 1000000", name=op.f("ck_commissions_agreement_version_range")
        ),
        sa.CheckConstraint(
            "payout_mode IN ('monthly', 'per_booking', 'on_hold')", name=op.f("ck_commissions_payout_mode_known")
        ),
        sa.CheckConstraint(
            "BTRIM(transfer_key) <> '' AND char_length(transfer_key) <= 400",
            name=op.f("ck_commissions_transfer_key_filled"),
        ),
        sa.CheckConstraint("settled_minor BETWEEN 0 AND 99999999999", name=op.f("ck_commissions_settled_minor_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commissions")),
        sa.UniqueConstraint(
            "chain_uid", "reseller_id", "level", name=op.f("uq_commissions_chain_uid_reseller_id_level")
        ),
        comment="What each reseller earns on each booking, one row a level",
    )
    op.create_index(
        "ix_commissions_due",
        "commissions",
        ["matures_at", "reseller_id", "currency"],
        unique=False,
        postgresql_where=sa.text("status = 'matured' AND transfer_key IS NULL"),
    )
    op.create_index(op.f("ix_commissions_reseller_id_status"), "commissions", ["reseller_id", "status"], unique=False)
    op.create_index(op.f("ix_commissions_transfer_key"), "commissions", ["transfer_key"], unique=False)
    op.create_table(
        "transfer_reversals",
        sa.Column(
            "key", sa.Text(), nullable=False, comment="Idempotency key at Stripe: reversal:<transfer key>:<sequence>"
        ),
        sa.Column("transfer_key", sa.Text(), nullable=False, comment="The transfer that is taken back"),
        sa.Column("chain_uid", sa.Text(), nullable=True, comment="The chain whose refund caused it"),
        sa.Column(
            "sequence",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="n-th reversal of the transfer, from 1",
        ),
        sa.Column(
            "amount_minor", sa.BigInteger(), nullable=False, comment="From the connected account back to the platform"
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="What is known of it"),
        sa.Column("reversal_id", sa.Text(), nullable=True, comment="Transfer reversal at Stripe"),
        sa.Column("refusal_code", sa.Text(), nullable=True, comment="Stripe's code of the last refusal"),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first begun",
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its status was last moved; null: outcome unknown",
        ),
        sa.CheckConstraint(
            "status <> 'succeeded' OR reversal_id IS NOT NULL", name=op.f("ck_transfer_reversals_success_has_id")
        ),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_transfer_reversals_chain_uid")),
        sa.ForeignKeyConstraint(["transfer_key"], ["transfers.key"], name=op.f("fk_transfer_reversals_transfer_key")),
        sa.CheckConstraint(
            "BTRIM(key) <> '' AND char_length(key) <= 400", name=op.f("ck_transfer_reversals_key_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(transfer_key) <> '' AND char_length(transfer_key) <= 400",
            name=op.f("ck_transfer_reversals_transfer_key_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120",
            name=op.f("ck_transfer_reversals_chain_uid_filled"),
        ),
        sa.CheckConstraint("sequence BETWEEN 1 AND 1000000", name=op.f("ck_transfer_reversals_sequence_range")),
        sa.CheckConstraint(
            "amount_minor BETWEEN 1 AND 99999999999", name=op.f("ck_transfer_reversals_amount_minor_range")
        ),
        sa.CheckConstraint(
            "status IN ('started', 'succeeded', 'refused')", name=op.f("ck_transfer_reversals_status_known")
        ),
        sa.CheckConstraint(
            "BTRIM(reversal_id) <> '' AND char_length(reversal_id) <= 120",
            name=op.f("ck_transfer_reversals_reversal_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(refusal_code) <> '' AND char_length(refusal_code) <= 120",
            name=op.f("ck_transfer_reversals_refusal_code_filled"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_transfer_reversals")),
        sa.UniqueConstraint("reversal_id", name=op.f("uq_transfer_reversals_reversal_id")),
        sa.UniqueConstraint("transfer_key", "sequence", name=op.f("uq_transfer_reversals_transfer_key_sequence")),
        comment="Reversals of transfers. Those of one transfer never exceed it",
    )
    op.create_index(op.f("ix_transfer_reversals_chain_uid"), "transfer_reversals", ["chain_uid"], unique=False)
    op.create_index(op.f("ix_transfer_reversals_transfer_key"), "transfer_reversals", ["transfer_key"], unique=False)
    op.create_table(
        "settlement_lines",
        sa.Column(
            "commission_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="The commission; it can be claimed only once",
        ),
        sa.Column("settlement_id", sa.BigInteger(), nullable=False, comment="The settlement that claimed it"),
        sa.Column(
            "amount_minor",
            sa.BigInteger(),
            nullable=False,
            comment="What is paid for it: accrued less reversed, fixed once the transfer began",
        ),
        sa.ForeignKeyConstraint(["commission_id"], ["commissions.id"], name=op.f("fk_settlement_lines_commission_id")),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_settlement_lines_settlement_id")),
        sa.CheckConstraint(
            "amount_minor BETWEEN 0 AND 99999999999", name=op.f("ck_settlement_lines_amount_minor_range")
        ),
        sa.PrimaryKeyConstraint("commission_id", name=op.f("pk_settlement_lines")),
        comment="Which settlement claimed which commission",
    )
    op.create_index(op.f("ix_settlement_lines_settlement_id"), "settlement_lines", ["settlement_id"], unique=False)


def downgrade() -> None:
    op.drop_table("settlement_lines")
    op.drop_table("transfer_reversals")
    op.drop_table("commissions")
    op.drop_table("transfers")
