"""Tables of effects at Stripe, invoices and commissions.

An effect is written as `started` before Stripe is asked and moved afterwards, so a crash in between leaves a trace.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Table,
    UniqueConstraint,
    text,
)

from domain.model import CommissionStatus, PayoutMode
from store.rows import (
    ChargeStatus,
    EffectStatus,
    InvoiceKind,
    RefundState,
    TransferKind,
)
from store.schema import (
    KEY_LIMIT,
    amount_column,
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


def _key(comment: str) -> Column[str]:
    return text_column("key", comment, limit=KEY_LIMIT, primary_key=True)


def _key_of(name: str, target: str, comment: str, *, nullable: bool = False) -> Column[str]:
    return text_column(name, comment, ForeignKey(target), limit=KEY_LIMIT, nullable=nullable, index=True)


def _settlement(*, nullable: bool, unique: bool = False) -> Column[int]:
    comment = "The settlement it belongs to" + ("; null for a booking's transfer" if nullable else "")
    return Column(
        "settlement_id", BigInteger, ForeignKey("settlements.id"), nullable=nullable, unique=unique, comment=comment
    )


def _tries() -> Column[int]:
    comment = "How often it was begun: once, and again after each refusal"
    return number_column("tries", comment, low=1, high=1_000_000, default=1)


def _refusal() -> Column[str]:
    return text_column("refusal_code", "Stripe's code of the last refusal", nullable=True)


invoice_counters = Table(
    "invoice_counters",
    metadata,
    number_column("year", "Year of issue in Europe/Berlin", low=2000, high=9999, primary_key=True),
    number_column(
        "last_number", "Last number given; locked while one is given, so that there are no gaps", low=0, high=999_999
    ),
    comment="Next invoice number of each year",
)

invoices = Table(
    "invoices",
    metadata,
    text_column("number", "YYYY-NNNNNN, gapless within a year", limit=20, primary_key=True),
    word_column("kind", InvoiceKind, "Invoice, or correction of one"),
    id_column("chain_uid", "The chain", "chains.chain_uid"),
    number_column("sequence", "n-th of its kind in the chain, from 1", low=1, high=10_000),
    id_column("customer_id", "Who owes it, or gets it back for a correction", "customers.id", index=True),
    currency_column(),
    amount_column("net_minor", "Without VAT; of a correction: what it takes away", at_least=0),
    amount_column("vat_minor", "VAT", at_least=0),
    amount_column("gross_minor", "With VAT", at_least=0),
    rate_column("vat_rate_bps", "VAT rate"),
    text_column("vat_reason", "Rule that gave the rate", limit=40),
    text_column(
        "corrects",
        "Number of the invoice that is corrected",
        ForeignKey("invoices.number"),
        limit=20,
        nullable=True,
        index=True,
    ),
    moment_column("issued_at", "Date of the document"),
    UniqueConstraint("chain_uid", "kind", "sequence"),
    CheckConstraint("number ~ '^[0-9]{4}-[0-9]{6}$'", name="number_form"),
    CheckConstraint("net_minor + vat_minor = gross_minor", name="adds_up"),
    CheckConstraint("(kind = 'correction') = (corrects IS NOT NULL)", name="correction_names_invoice"),
    comment="Numbers and amounts of invoices and their corrections",
)

charges = Table(
    "charges",
    metadata,
    _key("Idempotency key at Stripe: charge:<chain>:<attempt>"),
    id_column("chain_uid", "The chain", "chains.chain_uid", index=True),
    number_column("attempt", "Dunning attempt, from 1", low=1, high=1_000),
    id_column("customer_id", "Who is charged", "customers.id"),
    currency_column(),
    amount_column("amount_minor", "Gross, from the customer to the platform"),
    word_column("status", ChargeStatus, "What is known of it"),
    text_column("payment_intent_id", "PaymentIntent at Stripe", nullable=True, unique=True),
    text_column("charge_id", "Charge at Stripe that succeeded", nullable=True, unique=True),
    amount_column("fee_minor", "Fee that Stripe kept; null until known", at_least=0, nullable=True),
    _refusal(),
    moment_column("begun_at", "When it was first begun: age of the idempotency key", now=True),
    moment_column("finished_at", "When its status was last moved; null: outcome unknown", nullable=True),
    UniqueConstraint("chain_uid", "attempt"),
    CheckConstraint("status <> 'succeeded' OR payment_intent_id IS NOT NULL", name="success_has_payment"),
    Index(
        "uq_charges_one_open_or_succeeded",
        "chain_uid",
        unique=True,
        postgresql_where=text("status IN ('started', 'processing', 'succeeded')"),
    ),
    comment="Attempts to charge a customer. At most one of a chain is open or succeeded",
)

refunds = Table(
    "refunds",
    metadata,
    _key("Idempotency key at Stripe: refund:<chain>:<sequence>"),
    id_column("chain_uid", "The chain", "chains.chain_uid"),
    number_column("sequence", "n-th refund of the chain, from 1", low=1, high=10_000),
    _key_of("charge_key", "charges.key", "The charge that is given back"),
    currency_column(),
    amount_column("amount_minor", "From the platform back to the customer"),
    word_column("status", RefundState, "What is known of it"),
    text_column("refund_id", "Refund at Stripe", nullable=True, unique=True),
    _tries(),
    _refusal(),
    moment_column("begun_at", "When it was first begun", now=True),
    moment_column("finished_at", "When its status was last moved; null: outcome unknown", nullable=True),
    UniqueConstraint("chain_uid", "sequence"),
    CheckConstraint("status NOT IN ('pending', 'succeeded') OR refund_id IS NOT NULL", name="success_has_id"),
    comment="Refunds of charges. Those of one charge never exceed it",
)

transfers = Table(
    "transfers",
    metadata,
    _key("Idempotency key at Stripe: transfer:… or settlement:…, see domain.ids"),
    word_column("kind", TransferKind, "For one booking, or for a month"),
    id_column("chain_uid", "The chain; null for a settlement", "chains.chain_uid", nullable=True, index=True),
    _settlement(nullable=True, unique=True),
    id_column("reseller_id", "Who gets it", "resellers.id", index=True),
    currency_column(),
    amount_column("amount_minor", "From the platform's balance to the reseller's connected account"),
    amount_column("reversed_minor", "Taken back by reversals that succeeded", at_least=0, default=0),
    text_column("destination_account_id", "Connected account at Stripe"),
    text_column("transfer_id", "Transfer at Stripe", nullable=True, unique=True),
    word_column("status", EffectStatus, "What is known of it"),
    _tries(),
    _refusal(),
    moment_column("begun_at", "When it was first begun", now=True),
    moment_column("finished_at", "When its status was last moved; null: outcome unknown", nullable=True),
    UniqueConstraint("chain_uid", "reseller_id"),
    CheckConstraint("reversed_minor <= amount_minor", name="reversed_within_amount"),
    CheckConstraint("(kind = 'booking') = (chain_uid IS NOT NULL)", name="booking_has_chain"),
    CheckConstraint("(kind = 'settlement') = (settlement_id IS NOT NULL)", name="settlement_has_id"),
    CheckConstraint("status <> 'succeeded' OR transfer_id IS NOT NULL", name="success_has_id"),
    comment="Transfers to resellers' connected accounts",
)

transfer_reversals = Table(
    "transfer_reversals",
    metadata,
    _key("Idempotency key at Stripe: reversal:<transfer key>:<sequence>"),
    _key_of("transfer_key", "transfers.key", "The transfer that is taken back"),
    id_column("chain_uid", "The chain whose refund caused it", "chains.chain_uid", nullable=True, index=True),
    number_column("sequence", "n-th reversal of the transfer, from 1", low=1, high=1_000_000),
    amount_column("amount_minor", "From the connected account back to the platform"),
    word_column("status", EffectStatus, "What is known of it"),
    text_column("reversal_id", "Transfer reversal at Stripe", nullable=True, unique=True),
    _tries(),
    _refusal(),
    moment_column("begun_at", "When it was first begun", now=True),
    moment_column("finished_at", "When its status was last moved; null: outcome unknown", nullable=True),
    UniqueConstraint("transfer_key", "sequence"),
    CheckConstraint("status <> 'succeeded' OR reversal_id IS NOT NULL", name="success_has_id"),
    comment="Reversals of transfers. Those of one transfer never exceed it",
)

commissions = Table(
    "commissions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Our number"),
    id_column("chain_uid", "The chain", "chains.chain_uid"),
    id_column("reseller_id", "Who earns it", "resellers.id"),
    number_column("level", "0: the customer's own reseller, 1: the one above him, and so on", low=0, high=1_000),
    currency_column(),
    amount_column("accrued_minor", "Earned on this booking, owed by the platform"),
    amount_column("reversed_minor", "Undone since, cumulative", at_least=0, default=0),
    word_column("status", CommissionStatus, "accrued, matured, settled; reversed: all of it was undone"),
    moment_column("matures_at", "Nominal: when its refund window is over, whenever that was noticed"),
    json_column("rule", "The frozen rule with every input of the amount"),
    number_column("agreement_version", "Version of the reseller's agreement", low=1, high=1_000_000),
    word_column("payout_mode", PayoutMode, "The reseller's payout mode when it was quoted"),
    _key_of("transfer_key", "transfers.key", "Transfer that pays it, from its begin; null: none yet", nullable=True),
    amount_column("settled_minor", "What that transfer carries for it", at_least=0, default=0),
    flag_column("is_listed", "Of per_booking ones: a statement lists it. Others are found by their status"),
    moment_column("accrued_at", "When it was earned", now=True),
    moment_column("settled_at", "When its transfer succeeded", nullable=True),
    UniqueConstraint("chain_uid", "reseller_id", "level"),
    CheckConstraint("reversed_minor <= accrued_minor", name="reversed_within_accrued"),
    CheckConstraint("(status = 'reversed') = (reversed_minor = accrued_minor)", name="reversed_means_all"),
    CheckConstraint("settled_minor <= accrued_minor", name="settled_within_accrued"),
    CheckConstraint("transfer_key IS NOT NULL OR settled_minor = 0", name="settled_by_transfer"),
    CheckConstraint("status <> 'settled' OR transfer_key IS NOT NULL", name="settled_has_transfer"),
    CheckConstraint("NOT is_listed OR payout_mode = 'per_booking'", name="listed_is_per_booking"),
    Index(
        "ix_commissions_due",
        "matures_at",
        "reseller_id",
        "currency",
        postgresql_where=text("status = 'matured' AND transfer_key IS NULL"),
    ),
    Index(
        "ix_commissions_unlisted",
        "matures_at",
        postgresql_where=text("payout_mode = 'per_booking' AND status IN ('settled', 'reversed') AND NOT is_listed"),
    ),
    Index("ix_commissions_undone", "id", postgresql_where=text("reversed_minor > 0")),
    Index(None, "reseller_id", "status"),
    comment="What each reseller earns on each booking, one row a level",
)
