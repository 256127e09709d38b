"""Statements: supplements, carry-over, clawbacks and VAT beside the commissions of the month."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from store.migrations.old_settlements import COPY, KEEP

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_REASONS = (  # noqa: SIM905 - shorter
    "unmapped_customer no_price no_agreement no_payment_method currency_mismatch authentication_required "
    "setup_error outcome_unknown disputed reseller_not_ready transfer_refused balance_insufficient "
    "approval_required negative_balance refund_refused reversal_refused booking_not_found internal"
).split()
_NEW_REASONS = ("balance_insufficient", "approval_required", "negative_balance")
_FIGURES = {
    "opening_credit_minor": "Brought forward: owed to the reseller",
    "opening_debt_minor": "Brought forward: owed by the reseller",
    "earned_minor": "Net commissions of its earned lines",
    "override_minor": "The part of it from bookings of resellers below him",
    "clawback_minor": "Reversed since an earlier statement showed it as earned",
    "transferred_minor": "Paid already by transfers of single bookings",
    "returned_minor": "Taken back since of transfers that an earlier statement showed as paid",
    "adjustment_credit_minor": "Manual adjustments in his favour",
    "adjustment_debit_minor": "Manual adjustments against him",
    "vat_credit_minor": "VAT on what he earned",
    "vat_debit_minor": "VAT on what he gives back",
    "payable_minor": "To transfer; 0: carry_reason says why",
    "carried_credit_minor": "Left over for the next statement: owed to the reseller",
    "carried_debt_minor": "Left over for the next statement: owed by the reseller",
    "minimum_payout_minor": "Below this nothing was transferred at this closing",
}
_BALANCE = (
    "opening_credit_minor + earned_minor + returned_minor + adjustment_credit_minor + vat_credit_minor"
    " + carried_debt_minor = opening_debt_minor + clawback_minor + transferred_minor + adjustment_debit_minor"
    " + vat_debit_minor + payable_minor + carried_credit_minor"
)
_ONE_REMAINDER = (
    "CAST(payable_minor > 0 AS int) + CAST(carried_credit_minor > 0 AS int) + CAST(carried_debt_minor > 0 AS int) <= 1"
)
_LINES = (
    "What each statement lists. A line is claimed once, by its key. Append-only. No foreign keys: they cost more"
    " than the claim itself; commissions and statements are never deleted, and the audit looks for orphans"
)
_BACK = """
LOCK TABLE settlements IN ACCESS EXCLUSIVE MODE;
SELECT 1 / CAST(count(*) = 0 AS int) AS no_statements_may_exist FROM settlements;
ALTER TABLE transfers DROP CONSTRAINT fk_transfers_settlement_id;
DROP TABLE settlement_lines, settlements, settlement_periods;
CREATE TABLE settlement_periods (
    period text PRIMARY KEY, boundary timestamptz NOT NULL, claimed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE settlements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, period text NOT NULL REFERENCES settlement_periods,
    reseller_id text NOT NULL REFERENCES resellers, currency text NOT NULL, amount_minor bigint NOT NULL,
    line_count bigint NOT NULL, status text NOT NULL, reason text, detail text,
    claimed_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz, UNIQUE (period, reseller_id, currency)
);
CREATE INDEX ix_settlements_reseller_id ON settlements (reseller_id);
CREATE TABLE settlement_lines (
    commission_id bigint PRIMARY KEY REFERENCES commissions, settlement_id bigint NOT NULL REFERENCES settlements,
    amount_minor bigint NOT NULL
);
CREATE INDEX ix_settlement_lines_settlement_id ON settlement_lines (settlement_id);
ALTER TABLE transfers ADD CONSTRAINT fk_transfers_settlement_id FOREIGN KEY (settlement_id) REFERENCES settlements
"""


def upgrade() -> None:
    _reasons(_REASONS)
    for statement in KEEP:
        op.execute(statement)
    op.drop_constraint(op.f("fk_transfers_settlement_id"), "transfers", type_="foreignkey")
    op.drop_table("settlement_lines")
    op.drop_table("settlements")
    op.drop_table("settlement_periods")
    _create_statements()
    for statement in COPY:
        op.execute(statement)
    op.create_foreign_key(op.f("fk_transfers_settlement_id"), "transfers", "settlements", ["settlement_id"], ["id"])


def _literals(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str, *, nullable: bool) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable, comment=comment)


def _check(rule: str, name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=op.f(name))


def _figures() -> list[sa.Column[int] | sa.CheckConstraint]:
    """The amounts of a statement, each within its range."""
    columns = [_column(name, sa.BigInteger(), comment, nullable=False) for name, comment in _FIGURES.items()]
    ranges = [_check(f"{name} BETWEEN 0 AND 99999999999", f"ck_settlements_{name}_range") for name in _FIGURES]
    return [*columns, *ranges]


def _create_statements() -> None:
    op.create_table(
        "settlement_periods",
        sa.Column("period", sa.Text(), nullable=False, comment="Month YYYY-MM (Europe/Berlin) that was closed"),
        sa.Column(
            "sequence",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="1: the month's closing; 2 and up: supplements for what came later",
        ),
        _column(
            "boundary",
            sa.DateTime(timezone=True),
            "What matured before this moment and stood on no statement was claimed",
            nullable=False,
        ),
        sa.Column("requested_by", sa.Text(), nullable=False, comment="Who asked for the closing"),
        sa.Column(
            "issuer",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="The platform as documents name it: name, address, country, VAT id",
        ),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was closed",
        ),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_settlement_periods_period_month")),
        sa.CheckConstraint("sequence BETWEEN 1 AND 10000", name=op.f("ck_settlement_periods_sequence_range")),
        _check(
            "BTRIM(requested_by) <> '' AND char_length(requested_by) <= 120",
            "ck_settlement_periods_requested_by_filled",
        ),
        sa.CheckConstraint("jsonb_typeof(issuer) = 'object'", name=op.f("ck_settlement_periods_issuer_object")),
        sa.PrimaryKeyConstraint("period", "sequence", name=op.f("pk_settlement_periods")),
        comment="Closings. Writing the row is the claim: a second closing of the same name claims nothing. Append-only",
    )
    op.create_table(
        "settlements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Our number"),
        sa.Column("period", sa.Text(), nullable=False, comment="Month YYYY-MM that it closes"),
        sa.Column(
            "sequence",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="1: the month's closing; 2 and up: supplements for what came later",
        ),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Whose statement it is"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        *_figures(),
        sa.Column("line_count", sa.BigInteger(), autoincrement=False, nullable=False, comment="Number of its lines"),
        sa.Column("carry_reason", sa.Text(), nullable=True, comment="Why nothing is payable"),
        _column(
            "negative_since",
            sa.Text(),
            "Month of the first of an unbroken run of statements that left a debt",
            nullable=True,
        ),
        sa.Column(
            "vat_rate_bps",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="His VAT rate on what he earns, when it was closed",
        ),
        _column(
            "vat_reason", sa.Text(), "Rule that gave the rate: standard, small_business, reverse_charge", nullable=False
        ),
        sa.Column(
            "party",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="PERSONAL DATA. The reseller as documents name him: name, address, tax status",
        ),
        sa.Column(
            "needs_approval",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="A second person has to approve the transfer",
        ),
        sa.Column(
            "asked_by",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Who asked for the closing or for an adjustment on it: none of them may approve",
        ),
        _column(
            "boundary", sa.DateTime(timezone=True), "As of the closing: what matured before this moment", nullable=False
        ),
        sa.Column(
            "frozen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was made",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="Where it stands"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why it is parked or waits"),
        sa.Column("detail", sa.Text(), nullable=True, comment="The reason in words, no personal data"),
        _column(
            "waiting_since", sa.DateTime(timezone=True), "Since when it waits for the platform's balance", nullable=True
        ),
        sa.Column("approved_by", sa.Text(), nullable=True, comment="Who approved the transfer"),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True, comment="When it was approved"),
        sa.Column("carried_by", sa.Text(), nullable=True, comment="Who decided to carry a payable amount over instead"),
        _column(
            "brought_into", sa.BigInteger(), "The statement that brought forward what this one left over", nullable=True
        ),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it was paid, carried over or parked"
        ),
        sa.CheckConstraint(
            "(status = 'waiting') = (waiting_since IS NOT NULL)", name=op.f("ck_settlements_waiting_says_since")
        ),
        sa.CheckConstraint(
            "(status IN ('parked', 'waiting')) = (reason IS NOT NULL)", name=op.f("ck_settlements_parked_has_reason")
        ),
        sa.CheckConstraint(
            "brought_into IS NULL OR status = 'carried_over'", name=op.f("ck_settlements_brought_was_carried")
        ),
        _check(
            "carried_by IS NULL OR (payable_minor > 0 AND status = 'carried_over')",
            "ck_settlements_carried_was_payable",
        ),
        sa.CheckConstraint(
            "payable_minor > 0 OR status IN ('carried_over', 'parked')", name=op.f("ck_settlements_paid_has_amount")
        ),
        _check(
            "status <> 'carried_over' OR payable_minor = 0 OR carried_by IS NOT NULL", "ck_settlements_carried_says_who"
        ),
        sa.CheckConstraint(
            "(approved_by IS NULL) = (approved_at IS NULL)", name=op.f("ck_settlements_approved_says_when")
        ),
        sa.CheckConstraint(
            "(carried_debt_minor > 0) = (negative_since IS NOT NULL)", name=op.f("ck_settlements_negative_says_since")
        ),
        sa.CheckConstraint(
            "(payable_minor > 0) = (carry_reason IS NULL)", name=op.f("ck_settlements_says_why_not_paid")
        ),
        sa.CheckConstraint(_ONE_REMAINDER, name=op.f("ck_settlements_one_remainder")),
        sa.CheckConstraint("brought_into <> id", name=op.f("ck_settlements_not_into_itself")),
        sa.CheckConstraint(_BALANCE, name=op.f("ck_settlements_balances")),
        sa.CheckConstraint("override_minor <= earned_minor", name=op.f("ck_settlements_override_within_earned")),
        _check("payable_minor = 0 OR payable_minor >= minimum_payout_minor", "ck_settlements_payable_from_minimum"),
        sa.ForeignKeyConstraint(["brought_into"], ["settlements.id"], name=op.f("fk_settlements_brought_into")),
        sa.ForeignKeyConstraint(
            ["period", "sequence"],
            ["settlement_periods.period", "settlement_periods.sequence"],
            name=op.f("fk_settlements_period_sequence"),
        ),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_settlements_reseller_id")),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_settlements_period_month")),
        sa.CheckConstraint("sequence BETWEEN 1 AND 10000", name=op.f("ck_settlements_sequence_range")),
        _check("BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120", "ck_settlements_reseller_id_filled"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_settlements_currency_iso")),
        sa.CheckConstraint("line_count BETWEEN 0 AND 100000000", name=op.f("ck_settlements_line_count_range")),
        _check(
            "carry_reason IN ('below_minimum', 'on_hold', 'negative', 'nothing_due')",
            "ck_settlements_carry_reason_known",
        ),
        sa.CheckConstraint(
            "negative_since ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_settlements_negative_since_month")
        ),
        sa.CheckConstraint("vat_rate_bps BETWEEN 0 AND 10000", name=op.f("ck_settlements_vat_rate_bps_range")),
        sa.CheckConstraint(
            "BTRIM(vat_reason) <> '' AND char_length(vat_reason) <= 40", name=op.f("ck_settlements_vat_reason_filled")
        ),
        sa.CheckConstraint("jsonb_typeof(party) = 'object'", name=op.f("ck_settlements_party_object")),
        sa.CheckConstraint("jsonb_typeof(asked_by) = 'array'", name=op.f("ck_settlements_asked_by_array")),
        sa.CheckConstraint(
            "status IN ('open', 'waiting', 'paid', 'carried_over', 'parked')", name=op.f("ck_settlements_status_known")
        ),
        sa.CheckConstraint(f"reason IN ({_literals(_REASONS)})", name=op.f("ck_settlements_reason_known")),
        sa.CheckConstraint(
            "BTRIM(detail) <> '' AND char_length(detail) <= 2000", name=op.f("ck_settlements_detail_filled")
        ),
        _check("BTRIM(approved_by) <> '' AND char_length(approved_by) <= 120", "ck_settlements_approved_by_filled"),
        sa.CheckConstraint(
            "BTRIM(carried_by) <> '' AND char_length(carried_by) <= 120", name=op.f("ck_settlements_carried_by_filled")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlements")),
        sa.UniqueConstraint(
            "period",
            "sequence",
            "reseller_id",
            "currency",
            name=op.f("uq_settlements_period_sequence_reseller_id_currency"),
        ),
        comment="Statements: the closing of one reseller's account in one currency. Frozen, but for what became of it",
    )
    op.create_index(op.f("ix_settlements_brought_into"), "settlements", ["brought_into"], unique=False)
    op.create_index(
        "ix_settlements_left_over",
        "settlements",
        ["reseller_id", "currency"],
        unique=False,
        postgresql_where=sa.text("brought_into IS NULL AND status IN ('carried_over', 'parked')"),
    )
    op.create_index(
        op.f("ix_settlements_reseller_id_currency"), "settlements", ["reseller_id", "currency"], unique=False
    )
    op.create_table(
        "settlement_lines",
        sa.Column("settlement_id", sa.BigInteger(), nullable=False, comment="The statement (settlements.id)"),
        sa.Column(
            "commission_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="The commission (commissions.id)",
        ),
        sa.Column(
            "sequence",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="0: what it earned; 1 and up: its n-th clawback",
        ),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="Net: earned, or given back by a clawback"),
        _column(
            "transferred_minor",
            sa.BigInteger(),
            "Paid for it by a transfer of the booking's own; of a clawback: taken back of that",
            nullable=False,
        ),
        sa.CheckConstraint("sequence >= 0", name=op.f("ck_settlement_lines_sequence_range")),
        sa.CheckConstraint(
            "amount_minor BETWEEN 0 AND 99999999999", name=op.f("ck_settlement_lines_amount_minor_range")
        ),
        sa.CheckConstraint(
            "transferred_minor BETWEEN 0 AND 99999999999", name=op.f("ck_settlement_lines_transferred_minor_range")
        ),
        sa.PrimaryKeyConstraint("commission_id", "sequence", name=op.f("pk_settlement_lines")),
        comment=_LINES,
    )


def downgrade() -> None:
    """Refused where there are statements: the old tables cannot say what these do."""
    for statement in _BACK.split(";"):
        op.execute(statement)
    _reasons([word for word in _REASONS if word not in _NEW_REASONS])


def _reasons(words: list[str]) -> None:
    op.drop_constraint(op.f("ck_chains_reason_known"), "chains", type_="check")
    op.create_check_constraint(op.f("ck_chains_reason_known"), "chains", f"reason IN ({_literals(words)})")
