"""Tables of a chain's life: the chain, the bookings of its reschedulings, the frozen quotes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason, PayoutMode
from domain.ports import BookingStatus
from store.schema import (
    KEY_LIMIT,
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

chains = Table(
    "chains",
    metadata,
    id_column("chain_uid", "First uid of the booking, before any rescheduling", primary_key=True),
    text_column("workflow_id", "Temporal workflow id", limit=200),
    word_column("stage", ChainStage, "Where it stands now"),
    word_column("outcome", ChainOutcome, "How it ended; set exactly when the stage is closed", nullable=True),
    word_column("reason", ParkReason, "Why it waits for a person; always set while parked", nullable=True),
    text_column("detail", "The reason in words, ids only, no personal data", limit=TEXT_LIMIT, nullable=True),
    moment_column(
        "deadline_at", "Until when the stage should have moved on; later it is listed as stuck", nullable=True
    ),
    text_column("waits_for", "What it waits for, in words, no personal data", limit=TEXT_LIMIT, nullable=True),
    id_column("customer_id", "Who pays; null until quoted", "customers.id", nullable=True, index=True),
    id_column(
        "reseller_id",
        "Who brought the customer; null: nobody, or not quoted",
        "resellers.id",
        nullable=True,
        index=True,
    ),
    Column(
        "currency",
        text_column("currency", "").type,
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_iso"),
        nullable=True,
        comment="ISO 4217 code of gross_minor; null until quoted",
    ),
    amount_column("gross_minor", "Price with VAT of the newest quote; null until quoted", at_least=0, nullable=True),
    period_column(nullable=True, comment="Month YYYY-MM (Europe/Berlin) of the appointment; null until quoted"),
    number_column(
        "quote_version", "Version of the quote in force; null until quoted", low=1, high=10_000, nullable=True
    ),
    moment_column("opened_at", "When the first event of it was stored", now=True),
    moment_column("updated_at", "When its stage was last written", now=True),
    moment_column("closed_at", "When it ended", nullable=True),
    CheckConstraint("(stage = 'closed') = (outcome IS NOT NULL)", name="closed_has_outcome"),
    CheckConstraint("(stage = 'closed') = (closed_at IS NOT NULL)", name="closed_has_time"),
    CheckConstraint("stage <> 'parked' OR reason IS NOT NULL", name="parked_has_reason"),
    UniqueConstraint("workflow_id"),
    Index("ix_chains_open", "updated_at", postgresql_where=text("stage <> 'closed'")),
    Index("ix_chains_held", "chain_uid", postgresql_where=text("stage IN ('parked', 'undoing')")),
    Index(None, "customer_id", "period"),
    comment="One row for each chain: everything that happens to one booking",
)

chain_aliases = Table(
    "chain_aliases",
    metadata,
    id_column("booking_uid", "A Cal.com uid: the chain's first one or one it was rescheduled to", primary_key=True),
    id_column("chain_uid", "The chain it belongs to", "chains.chain_uid", index=True),
    moment_column("created_at", "When it became known", now=True),
    comment="Which chain a Cal.com uid belongs to. A uid never changes its chain",
)

bookings = Table(
    "bookings",
    metadata,
    id_column("uid", "Cal.com uid", primary_key=True),
    id_column("chain_uid", "The chain it belongs to", "chains.chain_uid", index=True),
    word_column("status", BookingStatus, "Cal.com's status when it was last read"),
    moment_column("start_at", "Begin of the appointment"),
    moment_column("end_at", "End of the appointment"),
    number_column("event_type_id", "Cal.com event type", low=0, high=2**53),
    Column(
        "organizer_ids", ARRAY(BigInteger), nullable=False, comment="Cal.com user ids of the hosts, organizer first"
    ),
    Column(
        "team_ids",
        ARRAY(BigInteger),
        nullable=False,
        server_default=text("'{}'"),
        comment="Those of the mapped Cal.com teams that it belongs to, when that was asked",
    ),
    text_column("attendee_name", "PERSONAL DATA. Who booked", limit=500, nullable=True),
    text_column("attendee_email", "PERSONAL DATA. Address of who booked", limit=500, nullable=True),
    flag_column("attendee_absent", "All attendees were marked absent (no-show)"),
    flag_column("host_absent", "The host was marked absent"),
    moment_column("created_at", "When it was booked, by Cal.com"),
    moment_column("updated_at", "Cal.com's last change; null where Cal.com gives none", nullable=True),
    id_column("rescheduled_from_uid", "The booking it replaced", nullable=True),
    id_column("rescheduled_to_uid", "The booking that replaced it", nullable=True),
    moment_column("read_at", "When we last read it from Cal.com", now=True),
    CheckConstraint("end_at >= start_at", name="ends_after_start"),
    comment="Bookings as last read from Cal.com's API. Holds personal data in attendee_name and attendee_email",
)

quotes = Table(
    "quotes",
    metadata,
    id_column("chain_uid", "The chain", "chains.chain_uid"),
    number_column("version", "Counted from 1; a rescheduling can make a new one", low=1, high=10_000),
    id_column("booking_uid", "The booking that was quoted", "bookings.uid", index=True),
    flag_column("is_retained", "Only the share that the cancellation terms keep"),
    id_column("customer_id", "Who pays", "customers.id"),
    id_column("reseller_id", "Who brought him; null: nobody", "resellers.id", nullable=True),
    number_column("event_type_id", "Cal.com event type of the booking when quoted", low=0, high=2**53),
    moment_column("start_at", "Begin of the appointment when quoted"),
    currency_column(),
    amount_column("net_minor", "Price without VAT", at_least=0),
    amount_column("vat_minor", "VAT on it", at_least=0),
    amount_column("gross_minor", "What the customer is charged", at_least=0),
    rate_column("vat_rate_bps", "VAT rate"),
    text_column(
        "vat_reason", "Rule that gave the rate: standard, reduced, zero, reverse_charge, outside_scope", limit=40
    ),
    text_column("price_ref", "Where the price stands: book/vN#event-ID", limit=KEY_LIMIT),
    json_column("price", "The price as it stood, with what the amount was computed from"),
    json_column("terms", "Cancellation terms: hours and shares in basis points"),
    moment_column("charge_at", "When to charge"),
    moment_column("matures_at", "When the commission's refund window is over"),
    period_column(comment="Month YYYY-MM (Europe/Berlin) of the appointment"),
    moment_column("created_at", "When it was frozen", now=True),
    PrimaryKeyConstraint("chain_uid", "version"),
    UniqueConstraint("chain_uid", "booking_uid", "is_retained"),
    CheckConstraint("net_minor + vat_minor = gross_minor", name="adds_up"),
    Index(None, "customer_id", "event_type_id", "period"),
    comment="Frozen prices of bookings. Append-only: later price changes do not touch them",
)

quote_levels = Table(
    "quote_levels",
    metadata,
    id_column("chain_uid", "The chain"),
    number_column("version", "Version of the quote", low=1, high=10_000),
    number_column("level", "0: the customer's own reseller, 1: the one above him, and so on", low=0, high=1_000),
    id_column("reseller_id", "Who earns", "resellers.id", index=True),
    amount_column("amount_minor", "What he will earn on this booking; 0: nothing by his rule", at_least=0),
    json_column("rule", "The rule with every input, so that the amount can be recomputed"),
    number_column("agreement_version", "Version of his agreement", low=1, high=1_000_000),
    word_column("payout_mode", PayoutMode, "His payout mode when it was quoted"),
    PrimaryKeyConstraint("chain_uid", "version", "level"),
    ForeignKeyConstraint(["chain_uid", "version"], ["quotes.chain_uid", "quotes.version"]),
    comment="Frozen commissions of a quote, one row a level. Append-only",
)
