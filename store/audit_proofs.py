"""I5 and I8: commissions and ledger entries recomputed from their own content."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.commission import check_levels, recompute
from domain.ledger import entry_hash
from domain.model import Level
from store.audit_finding import Finding, Moment, findings_of
from store.ledger import entry_of
from store.tables_ledger import APPEND_ONLY
from store.tables_settlements import FROZEN

_BATCH = 2_000

_QUOTED = text("""
SELECT chain_uid, version, reseller_id, level, amount_minor, rule, agreement_version, payout_mode
FROM quote_levels ORDER BY chain_uid, version, level
""")
_EARNED = text("""
SELECT chain_uid, reseller_id, level, accrued_minor AS amount_minor, rule, agreement_version, payout_mode
FROM commissions ORDER BY chain_uid, level
""")
_NOT_AS_QUOTED = text("""
SELECT 'chain ' || c.chain_uid || ', reseller ' || c.reseller_id AS place,
    'a quoted level over ' || c.accrued_minor AS expected,
    coalesce((SELECT string_agg(CAST(q.amount_minor AS text), ', ' ORDER BY q.version) FROM quote_levels AS q
        WHERE q.chain_uid = c.chain_uid AND q.level = c.level AND q.reseller_id = c.reseller_id), 'none') AS found
FROM commissions AS c
WHERE NOT EXISTS (
    SELECT 1 FROM quote_levels AS q WHERE q.chain_uid = c.chain_uid AND q.level = c.level
        AND q.reseller_id = c.reseller_id AND q.amount_minor = c.accrued_minor AND q.rule = c.rule
) ORDER BY 1
""")
_NOT_AS_BOOKED = text("""
WITH booked AS (
    SELECT e.chain_uid, CASE WHEN e.kind = 'accrued' THEN p.credit_account ELSE p.debit_account END AS account,
        sum(CASE WHEN e.kind = 'accrued' THEN p.amount_minor ELSE 0 END) AS accrued_minor,
        sum(CASE WHEN e.kind = 'accrued' THEN 0 ELSE p.amount_minor END) AS reversed_minor, max(e.posted_at) AS at
    FROM ledger_entries AS e JOIN ledger_postings AS p ON p.entry_id = e.id
    WHERE e.kind IN ('accrued', 'commission_reversed') GROUP BY 1, 2
), earned AS (
    SELECT chain_uid, 'reseller:' || reseller_id AS account, sum(accrued_minor) AS accrued_minor,
        sum(reversed_minor) AS reversed_minor, max(accrued_at) AS at
    FROM commissions GROUP BY 1, 2
)
SELECT 'chain ' || chain_uid || ', ' || account AS place,
    coalesce(earned.accrued_minor, 0) || ' accrued, ' || coalesce(earned.reversed_minor, 0) || ' reversed' AS expected,
    coalesce(booked.accrued_minor, 0) || ' accrued, ' || coalesce(booked.reversed_minor, 0)
        || ' reversed in the ledger' AS found
FROM booked FULL JOIN earned USING (chain_uid, account)
WHERE (coalesce(booked.accrued_minor, 0) <> coalesce(earned.accrued_minor, 0)
    OR coalesce(booked.reversed_minor, 0) <> coalesce(earned.reversed_minor, 0))
  AND greatest(booked.at, earned.at) <= :settled_before
ORDER BY 1
""")

_ENTRIES = text("""
SELECT e.key, e.hash, e.kind, e.chain_uid, e.currency, e.effective_at, e.reverses_key, e.refs,
    (SELECT jsonb_agg(jsonb_build_array(p.debit_account, p.credit_account, p.amount_minor) ORDER BY p.position)
     FROM ledger_postings AS p WHERE p.entry_id = e.id) AS postings
FROM ledger_entries AS e ORDER BY e.id
""")
_UNGUARDED = text("""
SELECT 'table ' || wanted.name AS place, 'trigger ' || guard.name || ' enabled' AS expected,
    'missing or disabled' AS found
FROM unnest(CAST(:tables AS text[])) AS wanted(name), (VALUES ('refuse_change'), ('refuse_truncate')) AS guard(name)
WHERE NOT EXISTS (
    SELECT 1 FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE c.relname = wanted.name AND t.tgname = guard.name AND t.tgenabled IN ('O', 'A')
) ORDER BY 1, 2
""")


async def i5_commissions(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """Each commission is what its frozen rule gives when computed once more by other arithmetic; it is what was quoted,
    within the ceiling of its booking, and what the ledger says.
    """
    findings = []
    to_do = "Do not pay it; reverse the commission and find out who changed the row"
    async for row in _stream(connection, _EARNED):
        place = f"chain {row.pop('chain_uid')}, reseller {row['reseller_id']}"
        level = Level.model_validate(row)
        if (right := _recomputed(level)) != level.amount_minor:
            findings.append(
                _finding("I5", place, "a commission is not what its rule gives", right, level.amount_minor, to_do)
            )
    async for place, levels in _quotes(connection):
        findings += [
            _finding(
                "I5", place, "a quote's commissions are not what its rules give", "the rules' amounts", words, to_do
            )
            for words in _checked(levels)
        ]
    for statement, what in (
        (_NOT_AS_QUOTED, "a commission is not what was quoted"),
        (_NOT_AS_BOOKED, "commissions and the ledger differ"),
    ):
        findings += await findings_of(connection, statement, moment, invariant="I5", what=what, what_to_do=to_do)
    return findings


async def i8_append_only(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """The database still refuses changes, and each entry has the content that it was written with (by its hash)."""
    findings = await findings_of(
        connection,
        _UNGUARDED,
        moment,
        invariant="I8",
        what="a table can be changed that must be append-only",
        what_to_do="Create the trigger again as the migrations do, and find out who dropped it",
        tables=[*APPEND_ONLY, *FROZEN],
    )
    async for row in _stream(connection, _ENTRIES):
        stored = row.pop("hash")
        try:
            computed = entry_hash(entry_of(row))
        except ValueError as error:
            computed = f"not an entry: {type(error).__name__}"
        if computed != stored:
            findings.append(
                _finding(
                    "I8",
                    f"entry {row['key']}",
                    "an entry or its postings were changed after they were written",
                    f"hash {stored}",
                    f"hash {computed}",
                    "Compare with a backup, and find out who changed it",
                )
            )
    return findings


async def _quotes(connection: AsyncConnection) -> AsyncIterator[tuple[str, list[Level]]]:
    """The levels of each quote, own reseller first."""
    place, levels = "", list[Level]()
    async for row in _stream(connection, _QUOTED):
        of = f"chain {row.pop('chain_uid')}, quote v{row.pop('version')}"
        if of != place and levels:
            yield place, levels
            levels = []
        place = of
        levels.append(Level.model_validate(row))
    if levels:
        yield place, levels


async def _stream(connection: AsyncConnection, statement: Any) -> AsyncIterator[dict[str, Any]]:
    """Rows by a cursor of the server: a million of them need no memory here."""
    async with connection.stream(statement, execution_options={"yield_per": _BATCH}) as result:
        async for row in result.mappings():
            yield dict(row)


def _recomputed(level: Level) -> int | str:
    try:
        return recompute(level)
    except (KeyError, TypeError, ValueError) as error:
        return f"a complete rule ({type(error).__name__})"


def _checked(levels: list[Level]) -> list[str]:
    try:
        return check_levels(levels)
    except (KeyError, TypeError, ValueError) as error:
        return [f"a rule is not complete ({type(error).__name__})"]


def _finding(invariant: str, where: str, what: str, expected: object, found: object, what_to_do: str) -> Finding:
    return Finding(
        invariant=invariant,
        where=where,
        what=what,
        expected=str(expected),
        found=str(found),
        what_to_do=what_to_do,
    )
