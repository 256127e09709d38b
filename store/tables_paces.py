"""The table that spreads calls evenly over time."""

from __future__ import annotations

from sqlalchemy import Table

from store.schema import metadata, moment_column, text_column

paces = Table(
    "paces",
    metadata,
    text_column("name", "What is paced, such as transfers", primary_key=True),
    moment_column("next_at", "Before this moment every place is taken, by the database's clock"),
    comment="Calls of one kind are spread evenly over all workers: see store.pace",
)
