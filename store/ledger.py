"""The ledger's only way in, and the ways to read it."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

from domain.ledger import Entry, Posting, entry_hash
from store.repository import Repository
from store.rows import AccountBalance, AccountLine, LedgerConflict, PostResult

_POST = text("""
WITH posted AS (
    INSERT INTO ledger_entries (key, hash, kind, chain_uid, currency, effective_at, reverses_key, refs)
    SELECT key, hash, kind, chain_uid, currency, effective_at, reverses_key, refs
    FROM jsonb_to_recordset(CAST(:entries AS jsonb)) AS given(key text, hash text, kind text, chain_uid text,
        currency text, effective_at timestamptz, reverses_key text, refs jsonb)
    ORDER BY key
    ON CONFLICT (key) DO NOTHING
    RETURNING id, key
), moved AS (
    INSERT INTO ledger_postings (entry_id, position, debit_account, credit_account, amount_minor)
    SELECT posted.id, p.position, p.debit_account, p.credit_account, p.amount_minor
    FROM jsonb_to_recordset(CAST(:postings AS jsonb)) AS p(key text, position bigint, debit_account text,
        credit_account text, amount_minor bigint)
    JOIN posted USING (key)
)
SELECT key FROM posted
""")
"""JSON, because the driver writes two texts in a tenth of the time that an array for each column takes it."""

_HASHES = text("SELECT key, hash FROM ledger_entries WHERE key = ANY(CAST(:keys AS text[]))")

_ENTRY_COLUMNS = """
    e.key, e.kind, e.chain_uid, e.currency, e.effective_at, e.reverses_key, e.refs,
    (SELECT jsonb_agg(jsonb_build_array(p.debit_account, p.credit_account, p.amount_minor) ORDER BY p.position)
     FROM ledger_postings AS p WHERE p.entry_id = e.id) AS postings
"""
_BY_KEY = text(f"SELECT {_ENTRY_COLUMNS} FROM ledger_entries AS e WHERE e.key = :key")  # noqa: S608 - a constant
_BY_CHAIN = text(
    f"SELECT {_ENTRY_COLUMNS} FROM ledger_entries AS e WHERE e.chain_uid = :chain_uid ORDER BY e.id"  # noqa: S608
)

_BALANCES = """
SELECT account, currency, CAST(sum(debit) AS bigint) AS debit_minor, CAST(sum(credit) AS bigint) AS credit_minor
FROM (
    SELECT p.debit_account AS account, e.currency, sum(p.amount_minor) AS debit, 0 AS credit
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id {where} GROUP BY 1, 2
    UNION ALL
    SELECT p.credit_account, e.currency, 0, sum(p.amount_minor)
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id {where} GROUP BY 1, 2
) AS sides
GROUP BY account, currency ORDER BY account, currency
"""
_TRIAL_BALANCE = text(_BALANCES.format(where=""))
_CHAIN_BALANCES = text(_BALANCES.format(where="WHERE e.chain_uid = :chain_uid"))

_ACCOUNT = text("""
SELECT e.key AS entry_key, e.kind, e.chain_uid, e.effective_at, e.currency,
       p.debit_account = :account AS is_debit,
       CASE WHEN p.debit_account = :account THEN p.credit_account ELSE p.debit_account END AS counter_account,
       p.amount_minor
FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id
WHERE p.debit_account = :account OR p.credit_account = :account
ORDER BY e.id DESC, p.position LIMIT :limit
""")


class LedgerRepository(Repository):
    async def post(self, *entries: Entry) -> list[PostResult]:
        """Post all entries in one SQL statement; results in the order given.

        An entry whose key was posted before with the same content is not posted again (`is_new` False). With other
        content it is a LedgerConflict, and the caller's transaction must be rolled back. An entry that reverses names
        one that exists already or is posted in the same call; otherwise the database refuses it (IntegrityError).
        Two entries of one call with the same key are one, or a LedgerConflict.
        """
        wanted: dict[str, tuple[Entry, str]] = {}
        for entry in entries:
            digest = entry_hash(entry)
            if wanted.setdefault(entry.key, (entry, digest))[1] != digest:
                raise LedgerConflict(f"{entry.key}: two entries of one call have this key and other content")
        if not wanted:
            return []
        new = {row["key"] for row in await self._maps(_POST, **_texts(wanted))}
        # Posted before, maybe by another transaction while this statement ran: the next one's snapshot sees it.
        old = [key for key in wanted if key not in new]
        stored = {row["key"]: row["hash"] for row in await self._maps(_HASHES, keys=old)} if old else {}
        for key in old:
            if stored.get(key) != wanted[key][1]:
                raise LedgerConflict(f"{key}: the ledger holds an entry with this key and other content")
        return [PostResult(key=entry.key, is_new=entry.key in new) for entry in entries]

    async def entry(self, key: str) -> Entry | None:
        rows = await self._entries(_BY_KEY, key=key)
        return rows[0] if rows else None

    async def entries(self, chain_uid: str) -> list[Entry]:
        """All entries of a chain in the order of writing. Settlements' transfers belong to no chain."""
        return await self._entries(_BY_CHAIN, chain_uid=chain_uid)

    async def trial_balance(self) -> list[AccountBalance]:
        """Turnover of every account and currency. The sums of both sides are equal for each currency."""
        return await self._rows(AccountBalance, _TRIAL_BALANCE)

    async def chain_balances(self, chain_uid: str) -> list[AccountBalance]:
        """Turnover of the accounts that a chain touched."""
        return await self._rows(AccountBalance, _CHAIN_BALANCES, chain_uid=chain_uid)

    async def account(self, account: str, *, limit: int = 200) -> list[AccountLine]:
        """Postings of one account, newest first."""
        return await self._rows(AccountLine, _ACCOUNT, account=account, limit=limit)

    async def _entries(self, statement: Any, **parameters: Any) -> list[Entry]:
        return [entry_of(row) for row in await self._maps(statement, **parameters)]


def entry_of(row: dict[str, Any]) -> Entry:
    """The entry of a row that holds its columns and its postings as `[[debit, credit, amount], …]`."""
    postings = tuple(
        Posting(debit_account=debit, credit_account=credit, amount_minor=amount)
        for debit, credit, amount in row.pop("postings") or ()
    )
    return Entry.model_validate({**row, "postings": postings})


def _texts(wanted: dict[str, tuple[Entry, str]]) -> dict[str, str]:
    """The entries and their postings, each as a JSON array of rows: their fields have the names of the columns."""
    entries = [
        {**entry.model_dump(mode="json", exclude={"postings"}), "hash": digest} for entry, digest in wanted.values()
    ]
    postings = [
        {"key": key, "position": position, **posting.model_dump()}
        for key, (entry, _) in wanted.items()
        for position, posting in enumerate(entry.postings)
    ]
    return {"entries": json.dumps(entries), "postings": json.dumps(postings)}
