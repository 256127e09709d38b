"""Tables of the month's end: closings, statements with their lines and VAT, manual adjustments.

Everything that a statement says is frozen when it is written: lines and VAT are append-only, and the database refuses
to change the frozen columns of a statement or an adjustment. Only what became of it moves.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    UniqueConstraint,
    text,
)

from domain.effects import AdjustmentDirection, AdjustmentKind, AdjustmentStatus, CarryReason, SettlementStatus
from domain.model import ParkReason
from store.schema import (
    TEXT_LIMIT,
    amount_column,
    currency_column,
    flag_column,
    id_column,
    json_column,
    metadata,
    moment_column,
    number_column,
    period_column,
    rate_column,
    text_column,
    word_column,
)

FROZEN = {
    "settlements": (
        "status",
        "reason",
        "detail",
        "waiting_since",
        "approved_by",
        "approved_at",
        "approved_account_id",
        "carried_by",
        "brought_into",
        "finished_at",
    ),
    "adjustments": ("status", "decided_by", "decided_at", "settlement_id"),
}
"""Tables whose rows are never deleted, with the columns that may change: they say what became of it."""

_BALANCE = (
    "opening_credit_minor + earned_minor + returned_minor + adjustment_credit_minor + vat_credit_minor"
    " + carried_debt_minor = opening_debt_minor + clawback_minor + transferred_minor + adjustment_debit_minor"
    " + vat_debit_minor + payable_minor + carried_credit_minor"
)


def _figure(name: str, comment: str) -> Column[int]:
    return amount_column(name, comment, at_least=0)


def _sequence() -> Column[int]:
    return number_column(
        "sequence", "1: the month's closing; 2 and up: supplements for what came later", low=1, high=10_000
    )


settlement_periods = Table(
    "settlement_periods",
    metadata,
    period_column(comment="Month YYYY-MM (Europe/Berlin) that was closed"),
    _sequence(),
    moment_column("boundary", "What matured before this moment and stood on no statement was claimed"),
    text_column("requested_by", "Who asked for the closing"),
    json_column("issuer", "The platform as documents name it: name, address, country, VAT id", nullable=True),
    moment_column("claimed_at", "When it was closed", now=True),
    Column(
        "lists_all",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="It took all that was due; false: made before those on hold and single bookings' transfers were listed",
    ),
    PrimaryKeyConstraint("period", "sequence"),
    comment="Closings. Writing the row is the claim: a second closing of the same name claims nothing. Append-only",
)

settlements = Table(
    "settlements",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Our number"),
    period_column(comment="Month YYYY-MM that it closes"),
    _sequence(),
    id_column("reseller_id", "Whose statement it is", "resellers.id"),
    currency_column(),
    _figure("opening_credit_minor", "Brought forward: owed to the reseller"),
    _figure("opening_debt_minor", "Brought forward: owed by the reseller"),
    _figure("earned_minor", "Net commissions of its earned lines"),
    _figure("override_minor", "The part of it from bookings of resellers below him"),
    _figure("clawback_minor", "Reversed since an earlier statement showed it as earned"),
    _figure("transferred_minor", "Paid already by transfers of single bookings"),
    _figure("returned_minor", "Taken back since of transfers that an earlier statement showed as paid"),
    _figure("adjustment_credit_minor", "Manual adjustments in his favour"),
    _figure("adjustment_debit_minor", "Manual adjustments against him"),
    _figure("vat_credit_minor", "VAT on what he earned"),
    _figure("vat_debit_minor", "VAT on what he gives back"),
    _figure("payable_minor", "To transfer; 0: carry_reason says why"),
    _figure("carried_credit_minor", "Left over for the next statement: owed to the reseller"),
    _figure("carried_debt_minor", "Left over for the next statement: owed by the reseller"),
    _figure("minimum_payout_minor", "Below this nothing was transferred at this closing"),
    number_column("line_count", "Number of its lines", low=0, high=100_000_000),
    word_column("carry_reason", CarryReason, "Why nothing is payable", nullable=True),
    Column(
        "negative_since",
        text_column("negative_since", "").type,
        CheckConstraint("negative_since ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name="negative_since_month"),
        nullable=True,
        comment="Month of the first of an unbroken run of statements that left a debt",
    ),
    rate_column("vat_rate_bps", "His VAT rate on what he earns, when it was closed"),
    text_column("vat_reason", "Rule that gave the rate: standard, small_business, reverse_charge", limit=40),
    json_column("party", "PERSONAL DATA. The reseller as documents name him: name, address, tax status"),
    flag_column("needs_approval", "A second person has to approve the transfer"),
    json_column(
        "asked_by", "Who asked for the closing or for an adjustment on it: none of them may approve", kind="array"
    ),
    moment_column("boundary", "As of the closing: what matured before this moment"),
    moment_column("frozen_at", "When it was made", now=True),
    word_column("status", SettlementStatus, "Where it stands"),
    word_column("reason", ParkReason, "Why it is parked or waits", nullable=True),
    text_column("detail", "The reason in words, no personal data", limit=TEXT_LIMIT, nullable=True),
    moment_column("waiting_since", "Since when it waits for the platform's balance", nullable=True),
    text_column("approved_by", "Who approved the transfer", nullable=True),
    moment_column("approved_at", "When it was approved", nullable=True),
    text_column(
        "approved_account_id", "The account at Stripe that it was approved for; no other is paid", nullable=True
    ),
    text_column("carried_by", "Who decided to carry a payable amount over instead", nullable=True),
    Column(
        "brought_into",
        BigInteger,
        ForeignKey("settlements.id"),
        nullable=True,
        index=True,
        comment="The statement that brought forward what this one left over",
    ),
    moment_column("finished_at", "When it was paid, carried over or parked", nullable=True),
    ForeignKeyConstraint(["period", "sequence"], ["settlement_periods.period", "settlement_periods.sequence"]),
    UniqueConstraint("period", "sequence", "reseller_id", "currency"),
    CheckConstraint(_BALANCE, name="balances"),
    CheckConstraint(
        "CAST(payable_minor > 0 AS int) + CAST(carried_credit_minor > 0 AS int)"
        " + CAST(carried_debt_minor > 0 AS int) <= 1",
        name="one_remainder",
    ),
    CheckConstraint("(payable_minor > 0) = (carry_reason IS NULL)", name="says_why_not_paid"),
    CheckConstraint("(carried_debt_minor > 0) = (negative_since IS NOT NULL)", name="negative_says_since"),
    CheckConstraint("payable_minor = 0 OR payable_minor >= minimum_payout_minor", name="payable_from_minimum"),
    CheckConstraint("override_minor <= earned_minor", name="override_within_earned"),
    CheckConstraint("(status IN ('parked', 'waiting')) = (reason IS NOT NULL)", name="parked_has_reason"),
    CheckConstraint("(status = 'waiting') = (waiting_since IS NOT NULL)", name="waiting_says_since"),
    CheckConstraint("payable_minor > 0 OR status IN ('carried_over', 'parked')", name="paid_has_amount"),
    CheckConstraint(
        "carried_by IS NULL OR (payable_minor > 0 AND status = 'carried_over')", name="carried_was_payable"
    ),
    CheckConstraint("status <> 'carried_over' OR payable_minor = 0 OR carried_by IS NOT NULL", name="carried_says_who"),
    CheckConstraint("(approved_by IS NULL) = (approved_at IS NULL)", name="approved_says_when"),
    CheckConstraint("approved_account_id IS NULL OR approved_by IS NOT NULL", name="account_was_approved"),
    CheckConstraint("brought_into IS NULL OR status = 'carried_over'", name="brought_was_carried"),
    CheckConstraint("brought_into <> id", name="not_into_itself"),
    Index(None, "reseller_id", "currency"),
    Index(
        "ix_settlements_left_over",
        "reseller_id",
        "currency",
        postgresql_where=text("brought_into IS NULL AND status IN ('carried_over', 'parked')"),
    ),
    comment="Statements: the closing of one reseller's account in one currency. Frozen, but for what became of it",
)

settlement_lines = Table(
    "settlement_lines",
    metadata,
    Column("settlement_id", BigInteger, nullable=False, comment="The statement (settlements.id)"),
    Column("commission_id", BigInteger, nullable=False, autoincrement=False, comment="The commission (commissions.id)"),
    Column(
        "sequence",
        SmallInteger,
        CheckConstraint("sequence >= 0", name="sequence_range"),
        nullable=False,
        autoincrement=False,
        comment="0: what it earned; 1 and up: its n-th clawback",
    ),
    _figure("amount_minor", "Net: earned, or given back by a clawback"),
    _figure("transferred_minor", "Paid for it by a transfer of the booking's own; of a clawback: taken back of that"),
    PrimaryKeyConstraint("commission_id", "sequence"),
    comment="What each statement lists. A line is claimed once, by its key. Append-only. No foreign keys: they cost"
    " more than the claim itself; commissions and statements are never deleted, and the audit looks for orphans",
)

settlement_taxes = Table(
    "settlement_taxes",
    metadata,
    Column("settlement_id", BigInteger, ForeignKey("settlements.id"), nullable=False, comment="The statement"),
    rate_column("vat_rate_bps", "VAT rate"),
    text_column("vat_reason", "Rule that gave the rate", limit=40),
    amount_column("net_minor", "What its lines of this rate come to"),
    _figure("vat_minor", "VAT on it, rounded once"),
    flag_column("is_debit", "More was clawed back at this rate than was earned: the reseller gives both back"),
    PrimaryKeyConstraint("settlement_id", "vat_rate_bps", "vat_reason"),
    comment="VAT of each statement by rate and reason, as its credit note shows it. Append-only",
)

adjustments = Table(
    "adjustments",
    metadata,
    id_column("id", "Id as given when it was asked for", primary_key=True),
    id_column("reseller_id", "Whose account", "resellers.id"),
    currency_column(),
    amount_column("amount_minor", "As it stands: no VAT is computed on it"),
    word_column("direction", AdjustmentDirection, "credit: the platform owes him more; debit: less"),
    word_column("kind", AdjustmentKind, "Correction, or write-off of a balance that will never be settled"),
    text_column("why", "Why, in the words of the person who asked", limit=TEXT_LIMIT),
    text_column("requested_by", "Who asked for it"),
    moment_column("requested_at", "When", now=True),
    word_column("status", AdjustmentStatus, "Whether a second person agreed"),
    text_column("decided_by", "Who decided: never the one who asked", nullable=True),
    moment_column("decided_at", "When", nullable=True),
    Column(
        "settlement_id",
        BigInteger,
        ForeignKey("settlements.id"),
        nullable=True,
        index=True,
        comment="The statement that lists it; null: none yet",
    ),
    CheckConstraint("lower(normalize(decided_by, NFKC)) <> lower(normalize(requested_by, NFKC))", name="two_persons"),
    CheckConstraint("(status = 'requested') = (decided_by IS NULL)", name="decided_says_who"),
    CheckConstraint("(decided_by IS NULL) = (decided_at IS NULL)", name="decided_says_when"),
    CheckConstraint("settlement_id IS NULL OR status = 'approved'", name="listed_was_approved"),
    Index(None, "reseller_id", "currency"),
    Index(
        "ix_adjustments_unlisted",
        "reseller_id",
        "currency",
        postgresql_where=text("status = 'approved' AND settlement_id IS NULL"),
    ),
    Index(
        "ix_adjustments_one_write_off",
        "reseller_id",
        "currency",
        unique=True,
        postgresql_where=text("kind = 'write_off' AND status = 'requested'"),
    ),
    comment="Manual adjustments of resellers' accounts, made by two persons",
)
