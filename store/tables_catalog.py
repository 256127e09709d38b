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
    UniqueConstraint,
)

from domain.model import PayoutMode
from domain.pricing import OwnerKind
from store.schema import (
    currency_column,
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
    flag_column("paused", "Earns as before, but gets no transfer while this is set"),
    moment_column("created_at", "When the catalogue first named him", now=True),
    moment_column("updated_at", "When it last changed", now=True),
    CheckConstraint("parent_id <> id", name="not_his_own_parent"),
    UniqueConstraint("stripe_account_id"),
    comment="Resellers, a tree of any depth below the platform",
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
