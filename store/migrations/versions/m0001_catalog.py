"""Catalogue: customers, resellers, price books, agreements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "catalog_versions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Order of application"),
        sa.Column("source_sha", sa.Text(), nullable=False, comment="SHA-256 (hex) of the file that was applied"),
        sa.Column("applied_by", sa.Text(), nullable=False, comment="Who applied it, as given on the command line"),
        sa.Column(
            "applied_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was applied",
        ),
        sa.Column(
            "changes",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="What it changed, one sentence each; empty: nothing was new",
        ),
        sa.CheckConstraint(
            "BTRIM(source_sha) <> '' AND char_length(source_sha) <= 64",
            name=op.f("ck_catalog_versions_source_sha_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(applied_by) <> '' AND char_length(applied_by) <= 120",
            name=op.f("ck_catalog_versions_applied_by_filled"),
        ),
        sa.CheckConstraint("jsonb_typeof(changes) = 'array'", name=op.f("ck_catalog_versions_changes_array")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_versions")),
        comment="Each application of a catalogue file. Append-only",
    )
    op.create_table(
        "price_books",
        sa.Column("id", sa.Text(), nullable=False, comment="Id of the book; its versions share it"),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False, comment="Counted from 1"),
        sa.Column("owner_kind", sa.Text(), nullable=False, comment="Whose book it is"),
        sa.Column("owner_id", sa.Text(), nullable=True, comment="Customer or reseller; null exactly for the platform"),
        sa.Column(
            "effective_from",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="In force from here until the next version",
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was applied",
        ),
        sa.CheckConstraint("(owner_kind = 'platform') = (owner_id IS NULL)", name=op.f("ck_price_books_owner_id_fits")),
        sa.CheckConstraint("BTRIM(id) <> '' AND char_length(id) <= 120", name=op.f("ck_price_books_id_filled")),
        sa.CheckConstraint("version BETWEEN 1 AND 1000000", name=op.f("ck_price_books_version_range")),
        sa.CheckConstraint(
            "owner_kind IN ('customer', 'reseller', 'platform')", name=op.f("ck_price_books_owner_kind_known")
        ),
        sa.CheckConstraint(
            "BTRIM(owner_id) <> '' AND char_length(owner_id) <= 120", name=op.f("ck_price_books_owner_id_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_price_books_currency_iso")),
        sa.PrimaryKeyConstraint("id", "version", name=op.f("pk_price_books")),
        comment="Versions of price books. Append-only: a change is a new version",
    )
    op.create_index(op.f("ix_price_books_owner_kind_owner_id"), "price_books", ["owner_kind", "owner_id"], unique=False)
    op.create_table(
        "resellers",
        sa.Column("id", sa.Text(), nullable=False, comment="Our id of the reseller"),
        sa.Column(
            "parent_id", sa.Text(), nullable=True, comment="The reseller above; null: directly below the platform"
        ),
        sa.Column(
            "name", sa.Text(), nullable=False, comment="PERSONAL DATA where he is a sole trader. Name on statements"
        ),
        sa.Column(
            "email",
            sa.Text(),
            nullable=False,
            comment="PERSONAL DATA where he is a sole trader. Address for statements",
        ),
        sa.Column(
            "payout_mode",
            sa.Text(),
            nullable=False,
            comment="How he gets matured commissions; frozen onto each commission when quoted",
        ),
        sa.Column(
            "stripe_account_id",
            sa.Text(),
            nullable=True,
            comment="His connected account at Stripe; null: not onboarded",
        ),
        sa.Column(
            "small_business",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Small business under § 19 UStG: shows no VAT on what he earns",
        ),
        sa.Column("country", sa.Text(), nullable=False, comment="ISO 3166-1 alpha-2 of his tax residence"),
        sa.Column("vat_id", sa.Text(), nullable=True, comment="VAT identification number with country prefix"),
        sa.Column(
            "paused",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Earns as before, but gets no transfer while this is set",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the catalogue first named him",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it last changed",
        ),
        sa.CheckConstraint("parent_id <> id", name=op.f("ck_resellers_not_his_own_parent")),
        sa.ForeignKeyConstraint(["parent_id"], ["resellers.id"], name=op.f("fk_resellers_parent_id")),
        sa.CheckConstraint("BTRIM(id) <> '' AND char_length(id) <= 120", name=op.f("ck_resellers_id_filled")),
        sa.CheckConstraint(
            "BTRIM(parent_id) <> '' AND char_length(parent_id) <= 120", name=op.f("ck_resellers_parent_id_filled")
        ),
        sa.CheckConstraint("BTRIM(name) <> '' AND char_length(name) <= 200", name=op.f("ck_resellers_name_filled")),
        sa.CheckConstraint("BTRIM(email) <> '' AND char_length(email) <= 320", name=op.f("ck_resellers_email_filled")),
        sa.CheckConstraint(
            "payout_mode IN ('monthly', 'per_booking', 'on_hold')", name=op.f("ck_resellers_payout_mode_known")
        ),
        sa.CheckConstraint(
            "BTRIM(stripe_account_id) <> '' AND char_length(stripe_account_id) <= 120",
            name=op.f("ck_resellers_stripe_account_id_filled"),
        ),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("ck_resellers_country_iso")),
        sa.CheckConstraint(
            "BTRIM(country) <> '' AND char_length(country) <= 2", name=op.f("ck_resellers_country_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(vat_id) <> '' AND char_length(vat_id) <= 20", name=op.f("ck_resellers_vat_id_filled")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resellers")),
        sa.UniqueConstraint("stripe_account_id", name=op.f("uq_resellers_stripe_account_id")),
        comment="Resellers, a tree of any depth below the platform",
    )
    op.create_index(op.f("ix_resellers_parent_id"), "resellers", ["parent_id"], unique=False)
    op.create_table(
        "agreements",
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Who earns by it"),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False, comment="Counted from 1"),
        sa.Column(
            "effective_from",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="In force from here until the next version",
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "ceiling_bps",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Upper limit of all levels together, of the net amount",
        ),
        sa.Column(
            "own",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="Rule for bookings of his own customers",
        ),
        sa.Column(
            "override",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
            comment="Rule for each booking that a reseller below him brought; null: nothing",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was applied",
        ),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_agreements_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_agreements_reseller_id_filled"),
        ),
        sa.CheckConstraint("version BETWEEN 1 AND 1000000", name=op.f("ck_agreements_version_range")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_agreements_currency_iso")),
        sa.CheckConstraint("ceiling_bps BETWEEN 0 AND 10000", name=op.f("ck_agreements_ceiling_bps_range")),
        sa.CheckConstraint("jsonb_typeof(own) = 'object'", name=op.f("ck_agreements_own_object")),
        sa.CheckConstraint("jsonb_typeof(override) = 'object'", name=op.f("ck_agreements_override_object")),
        sa.PrimaryKeyConstraint("reseller_id", "version", name=op.f("pk_agreements")),
        comment="Versions of commission agreements. Append-only: a change is a new version",
    )
    op.create_table(
        "customers",
        sa.Column("id", sa.Text(), nullable=False, comment="Our id of the customer"),
        sa.Column(
            "reseller_id", sa.Text(), nullable=True, comment="The reseller who brought him; null: the platform did"
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="PERSONAL DATA. Name for invoices"),
        sa.Column("email", sa.Text(), nullable=False, comment="PERSONAL DATA. Address for invoices"),
        sa.Column(
            "stripe_customer_id", sa.Text(), nullable=True, comment="Customer at Stripe; null: not set up there yet"
        ),
        sa.Column(
            "payment_method_id",
            sa.Text(),
            nullable=True,
            comment="Payment method at Stripe that is charged off-session; null: none yet",
        ),
        sa.Column(
            "payment_method_source",
            sa.Text(),
            nullable=True,
            comment="Payment method that the catalogue names for the set-up",
        ),
        sa.Column(
            "attached_source",
            sa.Text(),
            nullable=True,
            comment="The source that payment_method_id was made from; other than it: to be set up",
        ),
        sa.Column("country", sa.Text(), nullable=False, comment="ISO 3166-1 alpha-2 of his tax residence"),
        sa.Column(
            "is_business",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="Buys as a business (reverse charge needs that and a VAT id)",
        ),
        sa.Column("vat_id", sa.Text(), nullable=True, comment="VAT identification number with country prefix"),
        sa.Column(
            "vat_rate_bps",
            sa.BigInteger(),
            autoincrement=False,
            nullable=True,
            comment="VAT rate that overrides the price's; null: by rule",
        ),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the catalogue first named him",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it last changed",
        ),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_customers_reseller_id")),
        sa.CheckConstraint("BTRIM(id) <> '' AND char_length(id) <= 120", name=op.f("ck_customers_id_filled")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120", name=op.f("ck_customers_reseller_id_filled")
        ),
        sa.CheckConstraint("BTRIM(name) <> '' AND char_length(name) <= 200", name=op.f("ck_customers_name_filled")),
        sa.CheckConstraint("BTRIM(email) <> '' AND char_length(email) <= 320", name=op.f("ck_customers_email_filled")),
        sa.CheckConstraint(
            "BTRIM(stripe_customer_id) <> '' AND char_length(stripe_customer_id) <= 120",
            name=op.f("ck_customers_stripe_customer_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(payment_method_id) <> '' AND char_length(payment_method_id) <= 120",
            name=op.f("ck_customers_payment_method_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(payment_method_source) <> '' AND char_length(payment_method_source) <= 120",
            name=op.f("ck_customers_payment_method_source_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(attached_source) <> '' AND char_length(attached_source) <= 120",
            name=op.f("ck_customers_attached_source_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(country) <> '' AND char_length(country) <= 2", name=op.f("ck_customers_country_filled")
        ),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("ck_customers_country_iso")),
        sa.CheckConstraint(
            "BTRIM(vat_id) <> '' AND char_length(vat_id) <= 20", name=op.f("ck_customers_vat_id_filled")
        ),
        sa.CheckConstraint("vat_rate_bps BETWEEN 0 AND 10000", name=op.f("ck_customers_vat_rate_bps_range")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_customers_currency_iso")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customers")),
        sa.UniqueConstraint("stripe_customer_id", name=op.f("uq_customers_stripe_customer_id")),
        comment="Customers: those who are charged. Holds personal data in name and email",
    )
    op.create_index(op.f("ix_customers_reseller_id"), "customers", ["reseller_id"], unique=False)
    op.create_table(
        "prices",
        sa.Column("book_id", sa.Text(), nullable=False, comment="The book"),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False, comment="Version of the book"),
        sa.Column(
            "position", sa.BigInteger(), autoincrement=False, nullable=False, comment="Order within the book, from 0"
        ),
        sa.Column(
            "event_type_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=True,
            comment="Cal.com event type; null: the book's default",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="fixed, per_minute or tiered"),
        sa.Column(
            "price",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=False,
            comment="The whole price: net minor units, charge moment, hold days, terms, VAT rate",
        ),
        sa.ForeignKeyConstraint(
            ["book_id", "version"], ["price_books.id", "price_books.version"], name=op.f("fk_prices_book_id_version")
        ),
        sa.CheckConstraint(
            "BTRIM(book_id) <> '' AND char_length(book_id) <= 120", name=op.f("ck_prices_book_id_filled")
        ),
        sa.CheckConstraint("version BETWEEN 1 AND 1000000", name=op.f("ck_prices_version_range")),
        sa.CheckConstraint("position BETWEEN 0 AND 10000", name=op.f("ck_prices_position_range")),
        sa.CheckConstraint("event_type_id BETWEEN 1 AND 9007199254740992", name=op.f("ck_prices_event_type_id_range")),
        sa.CheckConstraint("BTRIM(kind) <> '' AND char_length(kind) <= 20", name=op.f("ck_prices_kind_filled")),
        sa.CheckConstraint("jsonb_typeof(price) = 'object'", name=op.f("ck_prices_price_object")),
        sa.PrimaryKeyConstraint("book_id", "version", "position", name=op.f("pk_prices")),
        sa.UniqueConstraint(
            "book_id",
            "version",
            "event_type_id",
            name=op.f("uq_prices_book_id_version_event_type_id"),
            postgresql_nulls_not_distinct=True,
        ),
        comment="Prices of one version of a book. Append-only",
    )
    op.create_table(
        "customer_mappings",
        sa.Column("kind", sa.Text(), nullable=False, comment="Which of the booking's Cal.com ids is meant"),
        sa.Column(
            "external_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Cal.com's id of the event type, team or user",
        ),
        sa.Column("customer_id", sa.Text(), nullable=False, comment="Who pays for such a booking"),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_customer_mappings_customer_id")),
        sa.CheckConstraint("kind IN ('event_type', 'team', 'organizer')", name=op.f("ck_customer_mappings_kind_known")),
        sa.CheckConstraint(
            "external_id BETWEEN 1 AND 9007199254740992", name=op.f("ck_customer_mappings_external_id_range")
        ),
        sa.CheckConstraint(
            "BTRIM(customer_id) <> '' AND char_length(customer_id) <= 120",
            name=op.f("ck_customer_mappings_customer_id_filled"),
        ),
        sa.PrimaryKeyConstraint("kind", "external_id", name=op.f("pk_customer_mappings")),
        comment="Which customer pays, by event type before team before organizer",
    )
    op.create_index(op.f("ix_customer_mappings_customer_id"), "customer_mappings", ["customer_id"], unique=False)


def downgrade() -> None:
    op.drop_table("customer_mappings")
    op.drop_table("prices")
    op.drop_table("customers")
    op.drop_table("agreements")
    op.drop_table("resellers")
    op.drop_table("price_books")
    op.drop_table("catalog_versions")
