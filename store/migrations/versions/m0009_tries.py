"""Count how often Stripe was asked anew after it had refused: each try needs an idempotency key of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLES = ("refunds", "transfers", "transfer_reversals")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(
            table,
            sa.Column(
                "tries",
                sa.BigInteger(),
                server_default=sa.text("1"),
                autoincrement=False,
                nullable=False,
                comment="How often it was begun: once, and again after each refusal",
            ),
        )
        op.create_check_constraint(op.f(f"ck_{table}_tries_range"), table, "tries BETWEEN 1 AND 1000000")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "tries")
