"""Resellers' tax statuses by day, begun with what is stored of each; append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TABLE = "reseller_tax_statuses"
_FILL = """
INSERT INTO reseller_tax_statuses (reseller_id, sequence, small_business, country, vat_id, tax_status_from, proof,
    recorded_at, recorded_by)
SELECT id, 1, small_business, country, vat_id, tax_status_from, tax_status_proof, updated_at, 'migration' FROM resellers
"""


def _text(name: str, comment: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, comment=comment)


def _filled(name: str, limit: int) -> sa.CheckConstraint:
    return sa.CheckConstraint(
        f"BTRIM({name}) <> '' AND char_length({name}) <= {limit}", name=op.f(f"ck_{_TABLE}_{name}_filled")
    )


def upgrade() -> None:
    op.create_table(
        _TABLE,
        _text("reseller_id", "Whose status it is"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="n-th status of the reseller, from 1"),
        sa.Column(
            "valid_from",
            sa.Date(),
            nullable=True,
            comment="First day (Berlin) for which it counts; null: his first one, which counts for all the past",
        ),
        sa.Column(
            "small_business",
            sa.Boolean(),
            nullable=False,
            comment="Small business under § 19 UStG: shows no VAT on what he earns",
            server_default=sa.text("false"),
        ),
        _text("country", "ISO 3166-1 alpha-2 of his tax residence"),
        _text("vat_id", "VAT identification number with country prefix", nullable=True),
        sa.Column(
            "tax_status_from",
            sa.Date(),
            nullable=True,
            comment="First day on which small_business was shown to hold; null: not shown",
        ),
        _text("proof", "Where the proof of it is kept: a document's number, not its content", nullable=True),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When it was recorded",
            server_default=sa.text("now()"),
        ),
        _text("recorded_by", "Who recorded it"),
        _filled("reseller_id", 120),
        _filled("country", 2),
        _filled("vat_id", 20),
        _filled("proof", 200),
        _filled("recorded_by", 120),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f(f"ck_{_TABLE}_country_iso")),
        sa.CheckConstraint("sequence BETWEEN 1 AND 1000000", name=op.f(f"ck_{_TABLE}_sequence_range")),
        sa.CheckConstraint("(sequence = 1) = (valid_from IS NULL)", name=op.f(f"ck_{_TABLE}_first_for_the_past")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f(f"fk_{_TABLE}_reseller_id")),
        sa.PrimaryKeyConstraint("reseller_id", "sequence", name=op.f(f"pk_{_TABLE}")),
        comment="Tax statuses of resellers by day, for the VAT of their credit notes. Append-only",
    )
    op.execute(_FILL)
    for name, change in (("refuse_change", "UPDATE OR DELETE"), ("refuse_truncate", "TRUNCATE")):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {change} ON {_TABLE} FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.drop_table(_TABLE)
