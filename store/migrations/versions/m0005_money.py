"""Invoices, effects at Stripe, settlement periods."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "invoice_counters",
        sa.Column(
            "year", sa.BigInteger(), autoincrement=False, nullable=False, comment="Year of issue in Europe/Berlin"
        ),
        sa.Column(
            "last_number",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Last number given; locked while one is given, so that there are no gaps",
        ),
        sa.CheckConstraint("year BETWEEN 2000 AND 9999", name=op.f("ck_invoice_counters_year_range")),
        sa.CheckConstraint("last_number BETWEEN 0 AND 999999", name=op.f("ck_invoice_counters_last_number_range")),
        sa.PrimaryKeyConstraint("year", name=op.f("pk_invoice_counters")),
        comment="Next invoice number of each year",
    )
    op.create_table(
        "settlement_periods",
        sa.Column("period", sa.Text(), nullable=False, comment="Month YYYY-MM (Europe/Berlin) that was closed"),
        sa.Column(
            "boundary",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Commissions that mature before this moment were claimed",
        ),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was closed",
        ),
        sa.CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name=op.f("ck_settlement_periods_period_month")),
        sa.PrimaryKeyConstraint("period", name=op.f("pk_settlement_periods")),
        comment="Months whose commissions were claimed. What becomes due later waits for the next month",
    )
    op.create_table(
        "settlements",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Our number"),
        sa.Column("period", sa.Text(), nullable=False, comment="Month YYYY-MM that it closes"),
        sa.Column("reseller_id", sa.Text(), nullable=False, comment="Who is paid"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "amount_minor",
            sa.BigInteger(),
            nullable=False,
            comment="Sum of its lines, from the platform to the reseller; fixed once its transfer began",
        ),
        sa.Column(
            "line_count",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Number of its lines when it was claimed or begun",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="Where it stands"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why it is parked"),
        sa.Column("detail", sa.Text(), nullable=True, comment="The reason in words, no personal data"),
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When its lines were claimed",
        ),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it was paid, carried over or parked"
        ),
        sa.CheckConstraint("(status = 'parked') = (reason IS NOT NULL)", name=op.f("ck_settlements_parked_has_reason")),
        sa.ForeignKeyConstraint(["period"], ["settlement_periods.period"], name=op.f("fk_settlements_period")),
        sa.ForeignKeyConstraint(["reseller_id"], ["resellers.id"], name=op.f("fk_settlements_reseller_id")),
        sa.CheckConstraint(
            "BTRIM(reseller_id) <> '' AND char_length(reseller_id) <= 120",
            name=op.f("ck_settlements_reseller_id_filled"),
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_settlements_currency_iso")),
        sa.CheckConstraint("amount_minor BETWEEN 0 AND 99999999999", name=op.f("ck_settlements_amount_minor_range")),
        sa.CheckConstraint("line_count BETWEEN 0 AND 100000000", name=op.f("ck_settlements_line_count_range")),
        sa.CheckConstraint(
            "status IN ('open', 'paid', 'carried_over', 'parked')", name=op.f("ck_settlements_status_known")
        ),
        sa.CheckConstraint(
            (
                "reason IN ('unmapped_customer', 'no_price', 'no_agreement', 'no_payment_method', "
                "'currency_mismatch', 'authentication_required', 'setup_error', 'outcome_unknown', "
                "'disputed', 'reseller_not_ready', 'transfer_refused', "
                "'refund_refused', 'reversal_refused', 'booking_not_found', "
                "'internal')"
            ),
            name=op.f("ck_settlements_reason_known"),
        ),
        sa.CheckConstraint(
            "BTRIM(detail) <> '' AND char_length(detail) <= 2000", name=op.f("ck_settlements_detail_filled")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_settlements")),
        sa.UniqueConstraint(
            "period", "reseller_id", "currency", name=op.f("uq_settlements_period_reseller_id_currency")
        ),
        comment="Monthly closing of one reseller's matured commissions in one currency",
    )
    op.create_index(op.f("ix_settlements_reseller_id"), "settlements", ["reseller_id"], unique=False)
    op.create_table(
        "charges",
        sa.Column("key", sa.Text(), nullable=False, comment="Idempotency key at Stripe: charge:<chain>:<attempt>"),
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain"),
        sa.Column("attempt", sa.BigInteger(), autoincrement=False, nullable=False, comment="Dunning attempt, from 1"),
        sa.Column("customer_id", sa.Text(), nullable=False, comment="Who is charged"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="Gross, from the customer to the platform"),
        sa.Column("status", sa.Text(), nullable=False, comment="What is known of it"),
        sa.Column("payment_intent_id", sa.Text(), nullable=True, comment="PaymentIntent at Stripe"),
        sa.Column("charge_id", sa.Text(), nullable=True, comment="Charge at Stripe that succeeded"),
        sa.Column("fee_minor", sa.BigInteger(), nullable=True, comment="Fee that Stripe kept; null until known"),
        sa.Column("refusal_code", sa.Text(), nullable=True, comment="Stripe's code of the last refusal"),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first begun: age of the idempotency key",
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its status was last moved; null: outcome unknown",
        ),
        sa.CheckConstraint(
            "status <> 'succeeded' OR payment_intent_id IS NOT NULL", name=op.f("ck_charges_success_has_payment")
        ),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_charges_chain_uid")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_charges_customer_id")),
        sa.CheckConstraint("BTRIM(key) <> '' AND char_length(key) <= 400", name=op.f("ck_charges_key_filled")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_charges_chain_uid_filled")
        ),
        sa.CheckConstraint("attempt BETWEEN 1 AND 1000", name=op.f("ck_charges_attempt_range")),
        sa.CheckConstraint(
            "BTRIM(customer_id) <> '' AND char_length(customer_id) <= 120", name=op.f("ck_charges_customer_id_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_charges_currency_iso")),
        sa.CheckConstraint("amount_minor BETWEEN 1 AND 99999999999", name=op.f("ck_charges_amount_minor_range")),
        sa.CheckConstraint(
            "status IN ('started', 'processing', 'succeeded', 'refused', 'canceled')",
            name=op.f("ck_charges_status_known"),
        ),
        sa.CheckConstraint(
            "BTRIM(payment_intent_id) <> '' AND char_length(payment_intent_id) <= 120",
            name=op.f("ck_charges_payment_intent_id_filled"),
        ),
        sa.CheckConstraint(
            "BTRIM(charge_id) <> '' AND char_length(charge_id) <= 120", name=op.f("ck_charges_charge_id_filled")
        ),
        sa.CheckConstraint("fee_minor BETWEEN 0 AND 99999999999", name=op.f("ck_charges_fee_minor_range")),
        sa.CheckConstraint(
            "BTRIM(refusal_code) <> '' AND char_length(refusal_code) <= 120",
            name=op.f("ck_charges_refusal_code_filled"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_charges")),
        sa.UniqueConstraint("chain_uid", "attempt", name=op.f("uq_charges_chain_uid_attempt")),
        sa.UniqueConstraint("charge_id", name=op.f("uq_charges_charge_id")),
        sa.UniqueConstraint("payment_intent_id", name=op.f("uq_charges_payment_intent_id")),
        comment="Attempts to charge a customer. At most one of a chain is open or succeeded",
    )
    op.create_index(op.f("ix_charges_chain_uid"), "charges", ["chain_uid"], unique=False)
    op.create_index(
        "uq_charges_one_open_or_succeeded",
        "charges",
        ["chain_uid"],
        unique=True,
        postgresql_where=sa.text("status IN ('started', 'processing', 'succeeded')"),
    )
    op.create_table(
        "invoices",
        sa.Column("number", sa.Text(), nullable=False, comment="YYYY-NNNNNN, gapless within a year"),
        sa.Column("kind", sa.Text(), nullable=False, comment="Invoice, or correction of one"),
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain"),
        sa.Column(
            "sequence",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="n-th of its kind in the chain, from 1",
        ),
        sa.Column("customer_id", sa.Text(), nullable=False, comment="Who owes it, or gets it back for a correction"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column(
            "net_minor", sa.BigInteger(), nullable=False, comment="Without VAT; of a correction: what it takes away"
        ),
        sa.Column("vat_minor", sa.BigInteger(), nullable=False, comment="VAT"),
        sa.Column("gross_minor", sa.BigInteger(), nullable=False, comment="With VAT"),
        sa.Column("vat_rate_bps", sa.BigInteger(), autoincrement=False, nullable=False, comment="VAT rate"),
        sa.Column("vat_reason", sa.Text(), nullable=False, comment="Rule that gave the rate"),
        sa.Column("corrects", sa.Text(), nullable=True, comment="Number of the invoice that is corrected"),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="Date of the document"),
        sa.CheckConstraint(
            "(kind = 'correction') = (corrects IS NOT NULL)", name=op.f("ck_invoices_correction_names_invoice")
        ),
        sa.CheckConstraint("number ~ '^[0-9]{4}-[0-9]{6}$'", name=op.f("ck_invoices_number_form")),
        sa.CheckConstraint("net_minor + vat_minor = gross_minor", name=op.f("ck_invoices_adds_up")),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_invoices_chain_uid")),
        sa.ForeignKeyConstraint(["corrects"], ["invoices.number"], name=op.f("fk_invoices_corrects")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name=op.f("fk_invoices_customer_id")),
        sa.CheckConstraint("BTRIM(number) <> '' AND char_length(number) <= 20", name=op.f("ck_invoices_number_filled")),
        sa.CheckConstraint("kind IN ('invoice', 'correction')", name=op.f("ck_invoices_kind_known")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_invoices_chain_uid_filled")
        ),
        sa.CheckConstraint("sequence BETWEEN 1 AND 10000", name=op.f("ck_invoices_sequence_range")),
        sa.CheckConstraint(
            "BTRIM(customer_id) <> '' AND char_length(customer_id) <= 120", name=op.f("ck_invoices_customer_id_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_invoices_currency_iso")),
        sa.CheckConstraint("net_minor BETWEEN 0 AND 99999999999", name=op.f("ck_invoices_net_minor_range")),
        sa.CheckConstraint("vat_minor BETWEEN 0 AND 99999999999", name=op.f("ck_invoices_vat_minor_range")),
        sa.CheckConstraint("gross_minor BETWEEN 0 AND 99999999999", name=op.f("ck_invoices_gross_minor_range")),
        sa.CheckConstraint("vat_rate_bps BETWEEN 0 AND 10000", name=op.f("ck_invoices_vat_rate_bps_range")),
        sa.CheckConstraint(
            "BTRIM(vat_reason) <> '' AND char_length(vat_reason) <= 40", name=op.f("ck_invoices_vat_reason_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(corrects) <> '' AND char_length(corrects) <= 20", name=op.f("ck_invoices_corrects_filled")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_invoices")),
        sa.UniqueConstraint("chain_uid", "kind", "sequence", name=op.f("uq_invoices_chain_uid_kind_sequence")),
        comment="Numbers and amounts of invoices and their corrections",
    )
    op.create_index(op.f("ix_invoices_corrects"), "invoices", ["corrects"], unique=False)
    op.create_index(op.f("ix_invoices_customer_id"), "invoices", ["customer_id"], unique=False)
    op.create_table(
        "refunds",
        sa.Column("key", sa.Text(), nullable=False, comment="Idempotency key at Stripe: refund:<chain>:<sequence>"),
        sa.Column("chain_uid", sa.Text(), nullable=False, comment="The chain"),
        sa.Column(
            "sequence", sa.BigInteger(), autoincrement=False, nullable=False, comment="n-th refund of the chain, from 1"
        ),
        sa.Column("charge_key", sa.Text(), nullable=False, comment="The charge that is given back"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217 code of every amount in this row"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="From the platform back to the customer"),
        sa.Column("status", sa.Text(), nullable=False, comment="What is known of it"),
        sa.Column("refund_id", sa.Text(), nullable=True, comment="Refund at Stripe"),
        sa.Column("refusal_code", sa.Text(), nullable=True, comment="Stripe's code of the last refusal"),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first begun",
        ),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its status was last moved; null: outcome unknown",
        ),
        sa.CheckConstraint(
            "status NOT IN ('pending', 'succeeded') OR refund_id IS NOT NULL", name=op.f("ck_refunds_success_has_id")
        ),
        sa.ForeignKeyConstraint(["chain_uid"], ["chains.chain_uid"], name=op.f("fk_refunds_chain_uid")),
        sa.ForeignKeyConstraint(["charge_key"], ["charges.key"], name=op.f("fk_refunds_charge_key")),
        sa.CheckConstraint("BTRIM(key) <> '' AND char_length(key) <= 400", name=op.f("ck_refunds_key_filled")),
        sa.CheckConstraint(
            "BTRIM(chain_uid) <> '' AND char_length(chain_uid) <= 120", name=op.f("ck_refunds_chain_uid_filled")
        ),
        sa.CheckConstraint("sequence BETWEEN 1 AND 10000", name=op.f("ck_refunds_sequence_range")),
        sa.CheckConstraint(
            "BTRIM(charge_key) <> '' AND char_length(charge_key) <= 400", name=op.f("ck_refunds_charge_key_filled")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_refunds_currency_iso")),
        sa.CheckConstraint("amount_minor BETWEEN 1 AND 99999999999", name=op.f("ck_refunds_amount_minor_range")),
        sa.CheckConstraint(
            "status IN ('started', 'pending', 'succeeded', 'failed', 'canceled', 'refused')",
            name=op.f("ck_refunds_status_known"),
        ),
        sa.CheckConstraint(
            "BTRIM(refund_id) <> '' AND char_length(refund_id) <= 120", name=op.f("ck_refunds_refund_id_filled")
        ),
        sa.CheckConstraint(
            "BTRIM(refusal_code) <> '' AND char_length(refusal_code) <= 120",
            name=op.f("ck_refunds_refusal_code_filled"),
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_refunds")),
        sa.UniqueConstraint("chain_uid", "sequence", name=op.f("uq_refunds_chain_uid_sequence")),
        sa.UniqueConstraint("refund_id", name=op.f("uq_refunds_refund_id")),
        comment="Refunds of charges. Those of one charge never exceed it",
    )
    op.create_index(op.f("ix_refunds_charge_key"), "refunds", ["charge_key"], unique=False)


def downgrade() -> None:
    op.drop_table("refunds")
    op.drop_table("invoices")
    op.drop_table("charges")
    op.drop_table("settlements")
    op.drop_table("settlement_periods")
    op.drop_table("invoice_counters")
