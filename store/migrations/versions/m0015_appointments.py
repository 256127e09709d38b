"""Appointments frozen with their quotes, held chains found without reading all open ones, closings that list all."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_FILL = """
ALTER TABLE quotes DISABLE TRIGGER refuse_change;
UPDATE quotes SET start_at = bookings.start_at FROM bookings WHERE bookings.uid = quotes.booking_uid;
ALTER TABLE quotes ENABLE TRIGGER refuse_change
"""


def upgrade() -> None:
    op.add_column(
        "quotes",
        sa.Column(
            "start_at", sa.DateTime(timezone=True), nullable=True, comment="Begin of the appointment when quoted"
        ),
    )
    op.execute(_FILL)
    op.alter_column("quotes", "start_at", nullable=False)
    # False for those that were closed so far: they may have left out what later ones list.
    op.add_column(
        "settlement_periods",
        sa.Column(
            "lists_all",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="It took all that was due; false: made before those on hold and single bookings' transfers were"
            " listed",
        ),
    )
    op.alter_column("settlement_periods", "lists_all", server_default=sa.text("true"))
    op.create_index(
        "ix_chains_held", "chains", ["chain_uid"], postgresql_where=sa.text("stage IN ('parked', 'undoing')")
    )


def downgrade() -> None:
    op.drop_index("ix_chains_held", "chains")
    op.drop_column("settlement_periods", "lists_all")
    op.drop_column("quotes", "start_at")
