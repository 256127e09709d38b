"""All tables, for those who need the whole schema (migrations, drift checks)."""

from __future__ import annotations

from store import (
    tables_catalog,
    tables_chains,
    tables_inbox,
    tables_ledger,
    tables_money,
    tables_paces,
    tables_settlements,
)
from store.schema import metadata

__all__ = [
    "metadata",
    "tables_catalog",
    "tables_chains",
    "tables_inbox",
    "tables_ledger",
    "tables_money",
    "tables_paces",
    "tables_settlements",
]
