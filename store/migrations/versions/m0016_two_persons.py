"""What a second person agreed to: one spelling of each, one write-off of an account at a time, one account to pay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_MOVABLE = "status, reason, detail, waiting_since, approved_by, approved_at"
_LATER = "carried_by, brought_into, finished_at"
_FILL = """
UPDATE settlements AS s
SET approved_account_id = coalesce(
    (SELECT t.destination_account_id FROM transfers AS t WHERE t.settlement_id = s.id), r.stripe_account_id)
FROM resellers AS r WHERE r.id = s.reseller_id AND s.approved_by IS NOT NULL
"""
_ONE_OPEN = """
UPDATE adjustments AS a SET status = 'rejected', decided_by = 'migration', decided_at = now()
WHERE kind = 'write_off' AND status = 'requested' AND EXISTS (
    SELECT 1 FROM adjustments AS b
    WHERE b.reseller_id = a.reseller_id AND b.currency = a.currency AND b.kind = 'write_off' AND b.status = 'requested'
      AND (b.requested_at, b.id) > (a.requested_at, a.id))
"""
"""Of several write-offs that wait the newest one counts: it saw the account last."""


def upgrade() -> None:
    op.add_column(
        "settlements",
        sa.Column(
            "approved_account_id",
            sa.Text(),
            nullable=True,
            comment="The account at Stripe that it was approved for; no other is paid",
        ),
    )
    op.create_check_constraint(
        op.f("ck_settlements_approved_account_id_filled"),
        "settlements",
        "BTRIM(approved_account_id) <> '' AND char_length(approved_account_id) <= 120",
    )
    op.create_check_constraint(
        op.f("ck_settlements_account_was_approved"),
        "settlements",
        "approved_account_id IS NULL OR approved_by IS NOT NULL",
    )
    _movable(f"{_MOVABLE}, approved_account_id, {_LATER}")
    op.execute(_FILL)
    op.execute(_ONE_OPEN)
    op.create_index(
        "ix_adjustments_one_write_off",
        "adjustments",
        ["reseller_id", "currency"],
        unique=True,
        postgresql_where=sa.text("kind = 'write_off' AND status = 'requested'"),
    )
    # Fails where one person decided in another spelling what he had asked for: that is for people to look at.
    _two_persons("lower(normalize(decided_by, NFKC)) <> lower(normalize(requested_by, NFKC))")


def downgrade() -> None:
    _two_persons("decided_by <> requested_by")
    op.drop_index("ix_adjustments_one_write_off", "adjustments")
    _movable(f"{_MOVABLE}, {_LATER}")
    op.drop_column("settlements", "approved_account_id")


def _two_persons(rule: str) -> None:
    name = op.f("ck_adjustments_two_persons")
    op.drop_constraint(name, "adjustments", type_="check")
    op.create_check_constraint(name, "adjustments", rule)


def _movable(columns: str) -> None:
    op.execute("DROP TRIGGER refuse_change ON settlements")
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON settlements "
        f"FOR EACH ROW EXECUTE FUNCTION refuse_frozen_change({columns})"
    )
