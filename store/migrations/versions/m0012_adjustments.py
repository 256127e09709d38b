"""VAT of statements, manual adjustments by two persons, and what the database keeps frozen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KINDS = (
    "billed",
    "charged",
    "fee",
    "accrued",
    "transferred",
    "refunded",
    "invoice_corrected",
    "commission_reversed",
    "transfer_reversed",
    "commission_vat",
    "adjusted",
    "written_off",
    "reversal",
)
_NEW_KINDS = ("commission_vat", "adjusted", "written_off")
_ACCOUNTS = "stripe|revenue|vat_output|vat_input|commission_expense|stripe_fees|dispute_losses|disputed|suspense"
_APPEND_ONLY = ("settlement_periods", "settlement_lines", "settlement_taxes")
_FROZEN = {
    "settlements": (
        "status",
        "reason",
        "detail",
        "waiting_since",
        "approved_by",
        "approved_at",
        "carried_by",
        "brought_into",
        "finished_at",
    ),
    "adjustments": ("status", "decided_by", "decided_at", "settlement_id"),
}
_FUNCTION = """
CREATE FUNCTION refuse_frozen_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR to_jsonb(OLD) - TG_ARGV IS DISTINCT FROM to_jsonb(NEW) - TG_ARGV THEN
        RAISE EXCEPTION '% on % refused: what it says is frozen', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation',
                  HINT = 'A statement is corrected by a line or an adjustment on the next one.';
    END IF;
    RETURN NEW;
END
$$
"""


_TAXES = """
INSERT INTO settlement_taxes (settlement_id, vat_rate_bps, vat_reason, net_minor, vat_minor)
SELECT id, vat_rate_bps, vat_reason, earned_minor - clawback_minor, 0 FROM settlements
WHERE earned_minor > clawback_minor
"""


def upgrade() -> None:
    _entries(_KINDS, f"{_ACCOUNTS}|write_offs")
    _create_taxes()
    op.execute(_TAXES)
    _create_adjustments()
    _change_commissions()
    _guard()


def downgrade() -> None:
    for table in (*_APPEND_ONLY, *_FROZEN):
        op.execute(f"DROP TRIGGER refuse_truncate ON {table}")
        op.execute(f"DROP TRIGGER refuse_change ON {table}")
    op.execute("DROP FUNCTION refuse_frozen_change()")
    op.drop_index("ix_commissions_undone", "commissions")
    op.drop_index("ix_commissions_unlisted", "commissions")
    op.drop_column("commissions", "is_listed")
    op.drop_table("adjustments")
    op.drop_table("settlement_taxes")
    _entries(tuple(word for word in _KINDS if word not in _NEW_KINDS), _ACCOUNTS)


def _entries(kinds: tuple[str, ...], accounts: str) -> None:
    """Replace the CHECKs of the ledger's kinds and accounts."""
    literals = ", ".join(f"'{kind}'" for kind in kinds)
    op.drop_constraint(op.f("ck_ledger_entries_kind_known"), "ledger_entries", type_="check")
    op.create_check_constraint(op.f("ck_ledger_entries_kind_known"), "ledger_entries", f"kind IN ({literals})")
    for side in ("debit_account", "credit_account"):
        name = op.f(f"ck_ledger_postings_{side}_known")
        op.drop_constraint(name, "ledger_postings", type_="check")
        op.create_check_constraint(
            name,
            "ledger_postings",
            f"{side} ~ '^({accounts}|(customer|customer_credit|reseller):[A-Za-z0-9_.:-]{{1,120}})$'",
        )


def _change_commissions() -> None:
    op.add_column(
        "commissions",
        sa.Column(
            "is_listed",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Of per_booking ones: a statement lists it. Others are found by their status",
        ),
    )
    op.create_check_constraint(
        op.f("ck_commissions_listed_is_per_booking"), "commissions", "NOT is_listed OR payout_mode = 'per_booking'"
    )
    op.create_index(
        "ix_commissions_unlisted",
        "commissions",
        ["matures_at"],
        postgresql_where=sa.text("payout_mode = 'per_booking' AND status IN ('settled', 'reversed') AND NOT is_listed"),
    )
    op.create_index("ix_commissions_undone", "commissions", ["id"], postgresql_where=sa.text("reversed_minor > 0"))


def _guard() -> None:
    op.execute(_FUNCTION)
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    for table, movable in _FROZEN.items():
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION refuse_frozen_change({', '.join(movable)})"
        )
    for table in (*_APPEND_ONLY, *_FROZEN):
        op.execute(
            f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _create_taxes() -> None:
    op.create_table(
        "settlement_taxes",
        sa.Column("settlement_id", sa.BigInteger(), nullable=False, comment="The statement"),
        sa.Column("vat_rate_bps", sa.BigInteger(), autoincrement=False, nullable=False, comment="VAT rate"),
        sa.Column("vat_reason", sa.Text(), nullable=False, comment="Rule that gave the rate"),
        sa.Column("net_minor", sa.BigInteger(), nullable=False, comment="What its lines of this rate come to"),
        sa.Column("vat_minor", sa.BigInteger(), nullable=False, comment="VAT on it, rounded once"),
        sa.Column(
            "is_debit",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="More was clawed back at this rate than was earned: the reseller gives both back",
        ),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_settlement_taxes_settlement_id")),
        sa.CheckConstraint("vat_rate_bps BETWEEN 0 AND 10000", name=op.f("ck_settlement_taxes_vat_rate_bps_range")),
        sa.CheckConstraint(
            "BTRIM(vat_reason) <> '' AND char_length(vat_reason) <= 40",
            name=op.f("ck_settlement_taxes_vat_reason_filled"),
        ),
        sa.CheckConstraint("net_minor BETWEEN 1 AND 99999999999", name=op.f("ck_settlement_taxes_net_minor_range")),
        sa.CheckConstraint("vat_minor BETWEEN 0 AND 99999999999", name=op.f("ck_settlement_taxes_vat_minor_range")),
        sa.PrimaryKeyConstraint("settlement_id", "vat_rate_bps", "vat_reason", name=op.f("pk_settlement_taxes")),
        comment="VAT of each statement by rate and reason, as its credit note shows it. Append-only",
    )


def _create_adjustments() -> None:
    op.create_table(
        "adjustments",
        sa.Column("id", sa.Text(), nullable=False, comment="Id as given when it was asked for"),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Whose account"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="As it stands: no VAT is computed on it"),
        sa.Column("direction", sa.Text(), nullable=False, comment="credit: the platform owes him more; debit: less"),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="Correction, or write-off of a balance that will never be settled",
        ),
        sa.Column("why", sa.Text(), nullable=False, comment="Why, in the words of the person who asked"),
        sa.Column("requested_by", sa.Text(), nullable=False, comment="Who asked for it"),
        sa.Column(
            "requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When"
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="Whether a second person agreed"),
        sa.Column("decided_by", sa.Text(), nullable=True, comment="Who decided: never the one who asked"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True, comment="When"),
        sa.Column(
            "settlement_id", sa.BigInteger(), nullable=True, comment="The statement that lists it; null: none yet"
        ),
        sa.CheckConstraint(
            "(status = 'requested') = (decided_by IS NULL)", name=op.f("ck_adjustments_decided_says_who")
        ),
        sa.CheckConstraint(
            "settlement_id IS NULL OR status = 'approved'", name=op.f("ck_adjustments_listed_was_approved")
        ),
        sa.CheckConstraint(
            "(decided_by IS NULL) = (decided_at IS NULL)", name=op.f("ck_adjustments_decided_says_when")
        ),
        sa.CheckConstraint("decided_by <> requested_by", name=op.f("ck_adjustments_two_persons")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_adjustments_reseller_id")),
        sa.ForeignKeyConstraint(["settlement_id"], ["settlements.id"], name=op.f("fk_adjustments_settlement_id")),
        sa.CheckConstraint("BTRIM(id) <> '' AND char_length(id) <= 120", name=op.f("ck_adjustments_id_filled")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_adjustments_reseller_id_filled"),
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_adjustments_currency_iso")),
        sa.CheckConstraint("amount_minor BETWEEN 1 AND 99999999999", name=op.f("ck_adjustments_amount_minor_range")),
        sa.CheckConstraint("direction IN ('credit', 'debit')", name=op.f("ck_adjustments_direction_known")),
        sa.CheckConstraint("kind IN ('correction', 'write_off')", name=op.f("ck_adjustments_kind_known")),
        sa.CheckConstraint("BTRIM(why) <> '' AND char_length(why) <= 2000", name=op.f("ck_adjustments_why_filled")),
        sa.CheckConstraint(
            "BTRIM(requested_by) <> '' AND char_length(requested_by) <= 120",
            name=op.f("ck_adjustments_requested_by_filled"),
        ),
        sa.CheckConstraint("status IN ('requested', 'approved', 'rejected')", name=op.f("ck_adjustments_status_known")),
        sa.CheckConstraint(
            "BTRIM(decided_by) <> '' AND char_length(decided_by) <= 120", name=op.f("ck_adjustments_decided_by_filled")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
        comment="Manual adjustments of resellers' accounts, made by two persons",
    )
    op.create_index(
        op.f("ix_adjustments_reseller_id_currency"), "adjustments", ["reseller_id", "currency"], unique=False
    )
    op.create_index(op.f("ix_adjustments_settlement_id"), "adjustments", ["settlement_id"], unique=False)
    op.create_index(
        "ix_adjustments_unlisted",
        "adjustments",
        ["reseller_id", "currency"],
        unique=False,
        postgresql_where=sa.text("status = 'approved' AND settlement_id IS NULL"),
    )
