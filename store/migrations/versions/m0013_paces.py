"""When the next call of a kind may be made, for all workers together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "paces",
        sa.Column("name", sa.Text(), nullable=False, comment="What is paced, such as transfers"),
        sa.Column(
            "next_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Before this moment every place is taken, by the database's clock",
        ),
        sa.CheckConstraint("BTRIM(name) <> '' AND char_length(name) <= 120", name=op.f("ck_paces_name_filled")),
        sa.PrimaryKeyConstraint("name", name="pk_paces"),
        comment="Calls of one kind are spread evenly over all workers: see store.pace",
    )


def downgrade() -> None:
    op.drop_table("paces")
