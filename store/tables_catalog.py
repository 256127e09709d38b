"""Tables of the catalogue: who pays, who earns, by which prices and agreements."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from domain.model import PayoutMode
from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus
from domain.ports import PayoutStatus
from domain.pricing import OwnerKind
from store.schema import (
    TEXT_LIMIT,
    amount_column,
    currency_column,
    day_column,
    flag_column,
    id_column,
    json_column,
    metadata,
    moment_column,
    number_column,
    rate_column,
    text_column,
    word_column,
)


class MappingKind(StrEnum):
    """Which part of a Cal.com booking names the customer; the order is the precedence."""

    EVENT_TYPE = "event_type"
    TEAM = "team"
    ORGANIZER = "organizer"


def _country() -> Column[str]:
    check = CheckConstraint("country ~ '^[A-Z]{2}$'", name="country_iso")
    return text_column("country", "ISO 3166-1 alpha-2 of his tax residence", check, limit=2)


catalog_versions = Table(
    "catalog_versions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of application"),
    text_column("source_sha", "SHA-256 (hex) of the file that was applied", limit=64),
    text_column("applied_by", "Who applied it, as given on the command line"),
    moment_column("applied_at", "When it was applied", now=True),
    json_column("changes", "What it changed, one sentence each; empty: nothing was new", kind="array"),
    comment="Each application of a catalogue file. Append-only",
)

resellers = Table(
    "resellers",
    metadata,
    id_column("id", "Our id of the reseller", primary_key=True),
    id_column(
        "parent_id", "The reseller above; null: directly below the platform", "resellers.id", nullable=True, index=True
    ),
    text_column("name", "PERSONAL DATA where he is a sole trader. Name on statements", limit=200),
    text_column("email", "PERSONAL DATA where he is a sole trader. Address for statements", limit=320),
    word_column("payout_mode", PayoutMode, "How he gets matured commissions; frozen onto each commission when quoted"),
    text_column("stripe_account_id", "His connected account at Stripe; null: not onboarded", nullable=True),
    flag_column("small_business", "Small business under § 19 UStG: shows no VAT on what he earns"),
    _country(),
    text_column("vat_id", "VAT identification number with country prefix", limit=20, nullable=True),
    json_column(
        "address",
        "PERSONAL DATA where he is a sole trader. Postal address: line1, line2, postal_code, city",
        nullable=True,
    ),
    day_column(
        "tax_status_from", "First day on which small_business was shown to hold; null: not shown", nullable=True
    ),
    text_column(
        "tax_status_proof",
        "Where the proof of it is kept: a document's number, not its content",
        limit=200,
        nullable=True,
    ),
    json_column(
        "minimum_payouts", "Smallest payout by currency, in minor units; none for a currency: any", default="{}"
    ),
    flag_column("paused", "Earns as before, but gets no transfer while this is set"),
    flag_column("transfers_active", "His account at Stripe may receive transfers, when it was last read"),
    flag_column("payouts_enabled", "His account at Stripe may pay out to his bank, when it was last read"),
    text_column(
        "disabled_reason", "Why Stripe restricts his account, when it was last read; null: it does not", nullable=True
    ),
    Column(
        "account_currency",
        Text,
        CheckConstraint("account_currency ~ '^[A-Z]{3}$'", name="account_currency_iso"),
        nullable=True,
        comment="ISO 4217 code of his account's default currency; null: not read yet",
    ),
    moment_column("account_checked_at", "When his account was last read at Stripe; null: never", nullable=True),
    moment_column(
        "account_asked_at",
        "When Stripe was first asked for his account: a lost answer is looked up from here",
        nullable=True,
    ),
    number_column(
        "account_tries", "Tries to make his account: one more after each refusal", low=1, high=1_000_000, default=1
    ),
    moment_column("created_at", "When the catalogue first named him", now=True),
    moment_column("updated_at", "When it last changed", now=True),
    CheckConstraint("parent_id <> id", name="not_his_own_parent"),
    UniqueConstraint("stripe_account_id"),
    comment="Resellers, a tree of any depth below the platform",
)

reseller_tax_statuses = Table(
    "reseller_tax_statuses",
    metadata,
    id_column("reseller_id", "Whose status it is", "resellers.id"),
    number_column("sequence", "n-th status of the reseller, from 1", low=1, high=1_000_000),
    day_column(
        "valid_from",
        "First day (Berlin) for which it counts; null: his first one, which counts for all the past",
        nullable=True,
    ),
    flag_column("small_business", "Small business under § 19 UStG: shows no VAT on what he earns"),
    _country(),
    text_column("vat_id", "VAT identification number with country prefix", limit=20, nullable=True),
    day_column(
        "tax_status_from", "First day on which small_business was shown to hold; null: not shown", nullable=True
    ),
    text_column(
        "proof", "Where the proof of it is kept: a document's number, not its content", limit=200, nullable=True
    ),
    moment_column("recorded_at", "When it was recorded", now=True),
    text_column("recorded_by", "Who recorded it"),
    PrimaryKeyConstraint("reseller_id", "sequence"),
    CheckConstraint("(sequence = 1) = (valid_from IS NULL)", name="first_for_the_past"),
    comment="Tax statuses of resellers by day, for the VAT of their credit notes. Append-only",
)

reseller_onboardings = Table(
    "reseller_onboardings",
    metadata,
    id_column("reseller_id", "Who is taken on", "resellers.id", primary_key=True),
    word_column("status", OnboardingStatus, "Where it stands"),
    word_column("reason", OnboardingReason, "Why a person is needed; null: nobody is", nullable=True),
    text_column("detail", "What exactly, without personal data", limit=TEXT_LIMIT, nullable=True),
    json_column("requirements", "What Stripe still asks of him, in its words for fields", kind="array", default="[]"),
    number_column("reminders", "How often he was reminded", low=0, high=1_000_000, default=0),
    moment_column("waits_until", "When it goes on by itself; null: not before something happens", nullable=True),
    moment_column("started_at", "When it was last started", now=True),
    moment_column("updated_at", "When this row last changed", now=True),
    moment_column("finished_at", "When it was completed or stopped; null: it runs", nullable=True),
    CheckConstraint("(status IN ('completed', 'stopped')) = (finished_at IS NOT NULL)", name="finished_has_time"),
    CheckConstraint("status <> 'parked' OR reason IS NOT NULL", name="parked_has_reason"),
    comment="The onboarding of each reseller, as its workflow last noted it",
)

reseller_links = Table(
    "reseller_links",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Our number"),
    id_column("reseller_id", "Whom it is for", "resellers.id"),
    number_column("sequence", "n-th link of the reseller, from 1", low=1, high=1_000_000),
    text_column("account_id", "Account at Stripe that it leads to"),
    word_column("cause", LinkCause, "Why it was made"),
    text_column("token", "SECRET. Part of the address that gives him a fresh link when this one is spent", limit=64),
    text_column(
        "url",
        "SECRET. The link itself, which opens once; null: not there yet, or erased",
        limit=TEXT_LIMIT,
        nullable=True,
    ),
    moment_column("created_at", "When it was asked for", now=True),
    moment_column("expires_at", "When it stops working at the latest; null: not there yet", nullable=True),
    UniqueConstraint("reseller_id", "sequence"),
    UniqueConstraint("token"),
    comment="Links with which resellers give Stripe what it asks of them. Holds secrets",
)

reseller_payouts = Table(
    "reseller_payouts",
    metadata,
    text_column("payout_id", "Payout at Stripe", primary_key=True),
    id_column("reseller_id", "Whose bank account it goes to", "resellers.id"),
    text_column("account_id", "His connected account at Stripe"),
    word_column("status", PayoutStatus, "What Stripe last said of it; one that was paid can still fail"),
    amount_column("amount_minor", "From his balance at Stripe to his bank", at_least=0),
    currency_column(),
    text_column("failure_code", "Stripe's code of the failure; null: it did not fail", nullable=True),
    day_column("arrives_on", "Day (UTC) on which it is expected at his bank, or arrived"),
    moment_column("created_at", "When it was made at Stripe"),
    moment_column("checked_at", "When it was last read at Stripe"),
    Index(None, "reseller_id", "created_at"),
    comment="Payouts from resellers' connected accounts to their banks, as last read",
)

customers = Table(
    "customers",
    metadata,
    id_column("id", "Our id of the customer", primary_key=True),
    id_column(
        "reseller_id", "The reseller who brought him; null: the platform did", "resellers.id", nullable=True, index=True
    ),
    text_column("name", "PERSONAL DATA. Name for invoices", limit=200),
    text_column("email", "PERSONAL DATA. Address for invoices", limit=320),
    text_column("stripe_customer_id", "Customer at Stripe; null: not set up there yet", nullable=True),
    text_column(
        "payment_method_id", "Payment method at Stripe that is charged off-session; null: none yet", nullable=True
    ),
    text_column("payment_method_source", "Payment method that the catalogue names for the set-up", nullable=True),
    text_column(
        "attached_source", "The source that payment_method_id was made from; other than it: to be set up", nullable=True
    ),
    _country(),
    flag_column("is_business", "Buys as a business (reverse charge needs that and a VAT id)", default=True),
    text_column("vat_id", "VAT identification number with country prefix", limit=20, nullable=True),
    rate_column("vat_rate_bps", "VAT rate that overrides the price's; null: by rule", nullable=True),
    currency_column(),
    moment_column("created_at", "When the catalogue first named him", now=True),
    moment_column("updated_at", "When it last changed", now=True),
    UniqueConstraint("stripe_customer_id"),
    comment="Customers: those who are charged. Holds personal data in name and email",
)

customer_mappings = Table(
    "customer_mappings",
    metadata,
    word_column("kind", MappingKind, "Which of the booking's Cal.com ids is meant"),
    number_column("external_id", "Cal.com's id of the event type, team or user", low=1, high=2**53),
    id_column("customer_id", "Who pays for such a booking", "customers.id", index=True),
    PrimaryKeyConstraint("kind", "external_id"),
    comment="Which customer pays, by event type before team before organizer",
)

price_books = Table(
    "price_books",
    metadata,
    id_column("id", "Id of the book; its versions share it"),
    number_column("version", "Counted from 1", low=1, high=1_000_000),
    word_column("owner_kind", OwnerKind, "Whose book it is"),
    id_column("owner_id", "Customer or reseller; null exactly for the platform", nullable=True),
    moment_column("effective_from", "In force from here until the next version"),
    currency_column(),
    moment_column("created_at", "When it was applied", now=True),
    PrimaryKeyConstraint("id", "version"),
    CheckConstraint("(owner_kind = 'platform') = (owner_id IS NULL)", name="owner_id_fits"),
    Index(None, "owner_kind", "owner_id"),
    comment="Versions of price books. Append-only: a change is a new version",
)

prices = Table(
    "prices",
    metadata,
    id_column("book_id", "The book"),
    number_column("version", "Version of the book", low=1, high=1_000_000),
    number_column("position", "Order within the book, from 0", low=0, high=10_000),
    number_column("event_type_id", "Cal.com event type; null: the book's default", low=1, high=2**53, nullable=True),
    text_column("kind", "fixed, per_minute or tiered", limit=20),
    json_column("price", "The whole price: net minor units, charge moment, hold days, terms, VAT rate"),
    PrimaryKeyConstraint("book_id", "version", "position"),
    ForeignKeyConstraint(["book_id", "version"], ["price_books.id", "price_books.version"]),
    UniqueConstraint("book_id", "version", "event_type_id", postgresql_nulls_not_distinct=True),
    comment="Prices of one version of a book. Append-only",
)

agreements = Table(
    "agreements",
    metadata,
    id_column("reseller_id", "Who earns by it", "resellers.id"),
    number_column("version", "Counted from 1", low=1, high=1_000_000),
    moment_column("effective_from", "In force from here until the next version"),
    currency_column(),
    rate_column("ceiling_bps", "Upper limit of all levels together, of the net amount"),
    json_column("own", "Rule for bookings of his own customers"),
    json_column("override", "Rule for each booking that a reseller below him brought; null: nothing", nullable=True),
    moment_column("created_at", "When it was applied", now=True),
    PrimaryKeyConstraint("reseller_id", "version"),
    comment="Versions of commission agreements. Append-only: a change is a new version",
)
