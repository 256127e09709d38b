"""What all tables share: one metadata, names of constraints, and columns that check themselves.

Amounts are `bigint` minor units without a sign, moments are `timestamptz`, words are `text` with a CHECK instead of a
database enum, so that a new word is one migration without a lock on the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Date, DateTime, ForeignKey, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

from domain.money import BPS_WHOLE, MAX_AMOUNT_MINOR

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID_LIMIT = 120
"""Longest id of ours or of Cal.com, in characters (`domain.ids`)."""
KEY_LIMIT = 400
"""Longest business key of an entry, in characters."""
TEXT_LIMIT = 2_000
"""Longest explanation or error text, in characters. Longer ones are cut by the repositories."""


def words(values: Iterable[str]) -> str:
    """A list of SQL string literals for an IN of a CHECK; only for our own enum values."""
    return ", ".join(f"'{value}'" for value in values)


def one_of(name: str, kind: type[StrEnum]) -> CheckConstraint:
    """A text column may hold only the values of an enum."""
    return CheckConstraint(f"{name} IN ({words(kind)})", name=f"{name}_known")


def text_column(
    name: str, comment: str, *items: SchemaItem, limit: int = ID_LIMIT, nullable: bool = False, **options: Any
) -> Column[str]:
    """Text that is neither blank nor longer than `limit` characters."""
    check = CheckConstraint(f"BTRIM({name}) <> '' AND char_length({name}) <= {limit}", name=f"{name}_filled")
    return Column(name, Text, *items, check, nullable=nullable, comment=comment, **options)


def id_column(
    name: str,
    comment: str,
    target: str | None = None,
    *,
    nullable: bool = False,
    index: bool = False,
    primary_key: bool = False,
) -> Column[str]:
    """An id of ours, optionally a foreign key to `table.column`."""
    items: list[SchemaItem] = [ForeignKey(target)] if target else []
    return text_column(name, comment, *items, nullable=nullable, index=index or None, primary_key=primary_key)


def word_column(name: str, kind: type[StrEnum], comment: str, *, nullable: bool = False) -> Column[str]:
    """One word of an enum, kept as text."""
    return Column(name, Text, one_of(name, kind), nullable=nullable, comment=comment)


def amount_column(
    name: str, comment: str, *, at_least: int = 1, nullable: bool = False, default: int | None = None
) -> Column[int]:
    """Minor units of the row's currency, without a sign. `at_least` is 1 where nothing happens for an amount of 0."""
    return Column(
        name,
        BigInteger,
        CheckConstraint(f"{name} BETWEEN {at_least} AND {MAX_AMOUNT_MINOR}", name=f"{name}_range"),
        nullable=nullable,
        comment=comment,
        server_default=None if default is None else text(str(default)),
    )


def number_column(
    name: str,
    comment: str,
    *,
    low: int,
    high: int,
    nullable: bool = False,
    default: int | None = None,
    primary_key: bool = False,
) -> Column[int]:
    """An integer within limits."""
    return Column(
        name,
        BigInteger,
        CheckConstraint(f"{name} BETWEEN {low} AND {high}", name=f"{name}_range"),
        nullable=nullable,
        primary_key=primary_key,
        autoincrement=False,
        comment=comment,
        server_default=None if default is None else text(str(default)),
    )


def rate_column(name: str, comment: str, *, nullable: bool = False) -> Column[int]:
    """Basis points: 10,000 is the whole."""
    return number_column(name, comment, low=0, high=BPS_WHOLE, nullable=nullable)


def currency_column() -> Column[str]:
    check = CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_iso")
    return Column("currency", Text, check, nullable=False, comment="ISO 4217 code of every amount in this row")


def period_column(*, nullable: bool = False, comment: str) -> Column[str]:
    check = CheckConstraint("period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'", name="period_month")
    return Column("period", Text, check, nullable=nullable, comment=comment)


def moment_column(name: str, comment: str, *, nullable: bool = False, now: bool = False) -> Column[datetime]:
    """A moment with time zone. `now`: the database's clock at the begin of the transaction."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        comment=comment,
        server_default=text("now()") if now else None,
    )


def day_column(name: str, comment: str, *, nullable: bool = False) -> Column[date]:
    """A calendar day."""
    return Column(name, Date, nullable=nullable, comment=comment)


def flag_column(name: str, comment: str, *, default: bool = False) -> Column[bool]:
    return Column(name, Boolean, nullable=False, comment=comment, server_default=text("true" if default else "false"))


def json_column(
    name: str, comment: str, *, kind: str = "object", nullable: bool = False, default: str | None = None
) -> Column[Any]:
    """JSON of one kind (`object` or `array`)."""
    check = CheckConstraint(f"jsonb_typeof({name}) = '{kind}'", name=f"{name}_{kind}")
    server_default = None if default is None else text(f"'{default}'")
    return Column(
        name, JSONB(none_as_null=True), check, nullable=nullable, comment=comment, server_default=server_default
    )
