"""Tables of the ledger and the audit log. The database refuses UPDATE, DELETE and TRUNCATE on all of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, PrimaryKeyConstraint, Table

from domain.ledger import EntryKind
from store.schema import (
    KEY_LIMIT,
    TEXT_LIMIT,
    amount_column,
    currency_column,
    id_column,
    json_column,
    metadata,
    moment_column,
    number_column,
    text_column,
    word_column,
)

APPEND_ONLY = (
    "ledger_entries",
    "ledger_postings",
    "audit_log",
    "catalog_versions",
    "price_books",
    "prices",
    "agreements",
    "reseller_tax_statuses",
    "quotes",
    "quote_levels",
    "settlement_periods",
    "settlement_lines",
    "settlement_taxes",
)
"""Tables whose rows are never changed or deleted: each has the triggers `refuse_change` and `refuse_truncate`."""

_ACCOUNT = (
    "~ '^(stripe|revenue|vat_output|vat_input|commission_expense|stripe_fees|dispute_losses|disputed|suspense"
    "|write_offs|(customer|customer_credit|reseller):[A-Za-z0-9_.:-]{1,120})$'"
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of writing; may have gaps"),
    text_column("key", "Business key: the same event always has the same one", limit=KEY_LIMIT, unique=True),
    Column(
        "hash",
        text_column("hash", "").type,
        CheckConstraint("hash ~ '^[0-9a-f]{64}$'", name="hash_sha256"),
        nullable=False,
        comment="SHA-256 (hex) of the content (domain.ledger.entry_hash), postings included",
    ),
    word_column("kind", EntryKind, "What happened"),
    id_column(
        "chain_uid",
        "The chain it belongs to; null: a settlement's transfer",
        "chains.chain_uid",
        nullable=True,
        index=True,
    ),
    currency_column(),
    moment_column("effective_at", "When it happened in the business's sense"),
    text_column(
        "reverses_key",
        "Key of the entry that this one undoes, in whole or in part",
        ForeignKey("ledger_entries.key"),
        limit=KEY_LIMIT,
        nullable=True,
        index=True,
    ),
    json_column("refs", "Ids that explain it: payment intent, charge, invoice. No personal data"),
    moment_column("posted_at", "When it was written", now=True),
    CheckConstraint("reverses_key <> key", name="not_its_own_reversal"),
    comment="Double-entry ledger: entries. Append-only",
)

ledger_postings = Table(
    "ledger_postings",
    metadata,
    Column("entry_id", BigInteger, ForeignKey("ledger_entries.id"), nullable=False, comment="The entry"),
    number_column("position", "Order within the entry, from 0", low=0, high=99),
    Column(
        "debit_account",
        text_column("debit_account", "").type,
        CheckConstraint(f"debit_account {_ACCOUNT}", name="debit_account_known"),
        nullable=False,
        index=True,
        comment="Account that the amount moves to",
    ),
    Column(
        "credit_account",
        text_column("credit_account", "").type,
        CheckConstraint(f"credit_account {_ACCOUNT}", name="credit_account_known"),
        nullable=False,
        index=True,
        comment="Account that the amount moves from",
    ),
    amount_column("amount_minor", "Minor units of the entry's currency, always positive"),
    PrimaryKeyConstraint("entry_id", "position"),
    CheckConstraint("debit_account <> credit_account", name="two_accounts"),
    comment="Double-entry ledger: postings. One row moves one amount, so no entry can be unbalanced. Append-only",
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Order of writing; may have gaps"),
    moment_column("at", "When", now=True),
    text_column("actor", "Who: a person's login as given on the command line, or the name of a part of the system"),
    text_column("action", "What was done, one word"),
    text_column("target", "To what: kind:id", limit=KEY_LIMIT),
    Column(
        "reason",
        text_column("reason", "").type,
        CheckConstraint(f"char_length(reason) <= {TEXT_LIMIT}", name="reason_length"),
        nullable=False,
        comment="Why, in the actor's words; empty where the action explains itself",
    ),
    json_column("details", "More facts, ids only, no personal data"),
    Index(None, "target", "id"),
    comment="Who did what, when and why. Append-only",
)
