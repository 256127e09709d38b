"""I2, I3, I4 and I6: what plain SQL can say about entries, effects and chains."""

from __future__ import annotations

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.audit_finding import Finding, Moment, findings_of
from store.catalog import VOID_OUTCOMES
from store.schema import words

IN_PROGRESS_SECONDS = 900
"""A stage in which the chain works and waits for nobody may take so long (retries included) before it is reported."""
OVERDUE_SECONDS = 600
"""An event may be due so long before it is reported: no relay seems to run."""

_WITHOUT_POSTINGS = text("""
SELECT 'entry ' || e.key AS place, 'at least one posting' AS expected, 'none' AS found
FROM ledger_entries AS e WHERE NOT EXISTS (SELECT 1 FROM ledger_postings AS p WHERE p.entry_id = e.id) ORDER BY e.id
""")
_REVERSED_TOO_MUCH = text("""
WITH taken_back AS (
    SELECT reverses_key AS key FROM ledger_entries WHERE kind = 'reversal' AND reverses_key IS NOT NULL
), undone AS (
    SELECT e.reverses_key AS key, e.currency, p.credit_account AS debit_account, p.debit_account AS credit_account,
        sum(p.amount_minor) AS amount_minor
    FROM ledger_entries AS e JOIN ledger_postings AS p ON p.entry_id = e.id
    WHERE e.reverses_key IS NOT NULL AND e.key NOT IN (SELECT key FROM taken_back)
    GROUP BY 1, 2, 3, 4
), posted AS (
    SELECT e.key, e.currency, p.debit_account, p.credit_account, sum(p.amount_minor) AS amount_minor
    FROM ledger_entries AS e JOIN ledger_postings AS p ON p.entry_id = e.id
    WHERE e.key IN (SELECT key FROM undone)
    GROUP BY 1, 2, 3, 4
)
SELECT 'entry ' || undone.key AS place,
    'at most ' || coalesce(posted.amount_minor, 0) || ' ' || undone.currency || ' undone of ' || undone.debit_account
        || ' from ' || undone.credit_account AS expected,
    undone.amount_minor AS found
FROM undone LEFT JOIN posted USING (key, currency, debit_account, credit_account)
WHERE undone.amount_minor > coalesce(posted.amount_minor, 0) ORDER BY 1
""")
_CHAIN_ACCOUNTS = f"""
WITH sides AS (
    SELECT e.chain_uid, p.debit_account AS account, p.amount_minor
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id WHERE e.chain_uid IS NOT NULL
    UNION ALL
    SELECT e.chain_uid, p.credit_account, -p.amount_minor
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id WHERE e.chain_uid IS NOT NULL
)
SELECT 'chain ' || c.chain_uid || ' (' || c.outcome || ')' AS place, sides.account || ' at 0' AS expected,
    sum(sides.amount_minor) AS found
FROM chains AS c JOIN sides ON sides.chain_uid = c.chain_uid
WHERE c.stage = 'closed' AND c.closed_at <= :settled_before
  AND (sides.account LIKE 'customer:%'
    OR (c.outcome IN ({words(VOID_OUTCOMES)}) AND sides.account NOT IN ('stripe', 'stripe_fees')))
GROUP BY c.chain_uid, c.outcome, sides.account HAVING sum(sides.amount_minor) <> 0 ORDER BY 1, 2
"""  # noqa: S608 - a constant

_CHARGED_TWICE = text("""
SELECT 'chain ' || chain_uid AS place, 'one charge that succeeded' AS expected,
    count(*) || ': ' || string_agg(key, ', ' ORDER BY attempt) AS found
FROM charges WHERE status = 'succeeded' GROUP BY chain_uid HAVING count(*) > 1 ORDER BY 1
""")
_REFUNDED_TOO_MUCH = text("""
SELECT 'charge ' || c.key AS place, 'at most ' || c.amount_minor || ' refunded' AS expected,
    sum(r.amount_minor) AS found
FROM charges AS c JOIN refunds AS r ON r.charge_key = c.key AND r.status IN ('started', 'pending', 'succeeded')
GROUP BY c.key, c.amount_minor HAVING sum(r.amount_minor) > c.amount_minor ORDER BY 1
""")
_TRANSFERRED_TWICE = text("""
SELECT 'chain ' || chain_uid || ', reseller ' || reseller_id AS place, 'one transfer' AS expected,
    count(*) || ': ' || string_agg(key, ', ' ORDER BY key) AS found
FROM transfers WHERE status = 'succeeded' AND chain_uid IS NOT NULL
GROUP BY chain_uid, reseller_id HAVING count(*) > 1
UNION ALL
SELECT 'settlement ' || settlement_id, 'one transfer', count(*) || ': ' || string_agg(key, ', ' ORDER BY key)
FROM transfers WHERE status = 'succeeded' AND settlement_id IS NOT NULL
GROUP BY settlement_id HAVING count(*) > 1
ORDER BY 1
""")
_REVERSED_OTHERWISE = text("""
SELECT 'transfer ' || t.key AS place, 'reversed ' || t.reversed_minor AS expected,
    coalesce(sum(r.amount_minor), 0) || ' in reversals' AS found
FROM transfers AS t LEFT JOIN transfer_reversals AS r ON r.transfer_key = t.key AND r.status = 'succeeded'
GROUP BY t.key, t.reversed_minor HAVING coalesce(sum(r.amount_minor), 0) <> t.reversed_minor ORDER BY 1
""")
GUARDS = (
    "uq_charges_one_open_or_succeeded",
    "uq_charges_payment_intent_id",
    "uq_charges_charge_id",
    "uq_refunds_refund_id",
    "uq_transfers_transfer_id",
    "uq_transfers_chain_uid_reseller_id",
    "uq_transfers_settlement_id",
    "uq_transfer_reversals_reversal_id",
    "uq_commissions_chain_uid_reseller_id_level",
    "pk_settlement_periods",
    "uq_settlements_period_sequence_reseller_id_currency",
    "pk_settlement_lines",
    "pk_settlement_taxes",
    "pk_adjustments",
    "uq_ledger_entries_key",
)
"""Unique indexes that make a second effect impossible."""
_GUARDS = text("""
SELECT 'index ' || wanted.name AS place, 'unique and valid' AS expected, 'missing or invalid' AS found
FROM unnest(CAST(:guards AS text[])) AS wanted(name)
WHERE NOT EXISTS (
    SELECT 1 FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relname = wanted.name AND i.indisunique AND i.indisvalid
) ORDER BY 1
""")

_WAITING = text("""
SELECT 'chain ' || chain_uid || ' (' || stage || coalesce(', ' || reason, '') || ')' AS place,
    CASE WHEN deadline_at IS NULL THEN 'a deadline' ELSE 'to have moved on by ' || deadline_at END AS expected,
    'nothing since ' || updated_at AS found
FROM chains
WHERE stage <> 'closed' AND updated_at <= :settled_before AND (
    deadline_at <= :settled_before
    OR (deadline_at IS NULL AND (
        stage IN ('parked', 'awaiting_confirmation', 'awaiting_charge', 'hold')
        OR updated_at <= CAST(:now AS timestamptz) - make_interval(secs => :in_progress_seconds)))
) ORDER BY updated_at, chain_uid
""")
_UNDELIVERED = text("""
SELECT 'inbox event ' || event_id || ' (' || type || ')' AS place, 'delivered by ' || next_attempt_at AS expected,
    attempts || ' attempts' || coalesce(', last: ' || last_error, '') AS found
FROM inbox
WHERE status = 'received' AND next_attempt_at <= CAST(:now AS timestamptz) - make_interval(secs => :overdue_seconds)
ORDER BY received_at, event_id
""")

_PAID_TOO_MUCH = text("""
SELECT 'chain ' || c.chain_uid || ', reseller ' || c.reseller_id AS place,
    'at most ' || (c.accrued_minor - c.reversed_minor) || ' paid by ' || c.transfer_key AS expected,
    c.settled_minor AS found
FROM commissions AS c JOIN chains ON chains.chain_uid = c.chain_uid
JOIN transfers AS t ON t.key = c.transfer_key AND t.status = 'succeeded' AND t.kind = 'booking'
WHERE c.settled_minor > c.accrued_minor - c.reversed_minor AND NOT EXISTS (
    SELECT 1 FROM settlement_lines AS l WHERE l.commission_id = c.id
    HAVING sum(CASE l.sequence WHEN 0 THEN l.amount_minor ELSE -l.amount_minor END) = c.accrued_minor - c.reversed_minor
  ) AND chains.stage NOT IN ('undoing', 'parked')
  AND t.finished_at <= :settled_before AND chains.updated_at <= :settled_before
ORDER BY 1
""")
_NOT_REVERSED = text("""
WITH given_back AS (
    SELECT chain_uid, sum(amount_minor) AS amount_minor, max(finished_at) AS at FROM refunds
    WHERE status IN ('pending', 'succeeded') GROUP BY chain_uid
)
SELECT 'chain ' || c.chain_uid || ', reseller ' || c.reseller_id AS place,
    'at least ' || floor((2.0 * c.accrued_minor * g.amount_minor + q.gross_minor) / (2 * q.gross_minor))
        || ' of the commission reversed' AS expected,
    c.reversed_minor AS found
FROM commissions AS c JOIN given_back AS g ON g.chain_uid = c.chain_uid
JOIN chains ON chains.chain_uid = c.chain_uid
JOIN quotes AS q ON q.chain_uid = c.chain_uid AND q.version = chains.quote_version
WHERE q.gross_minor >= g.amount_minor AND q.gross_minor > 0
  AND c.reversed_minor < floor((2.0 * c.accrued_minor * g.amount_minor + q.gross_minor) / (2 * q.gross_minor))
  AND chains.stage NOT IN ('undoing', 'parked') AND g.at <= :settled_before AND chains.updated_at <= :settled_before
ORDER BY 1
""")
_PAID_WHILE_DISPUTED = text("""
SELECT 'chain ' || c.chain_uid || ', reseller ' || c.reseller_id AS place, 'no transfer while disputed' AS expected,
    c.settled_minor || ' by ' || c.transfer_key AS found
FROM commissions AS c JOIN chains ON chains.chain_uid = c.chain_uid
JOIN transfers AS t ON t.key = c.transfer_key AND t.status = 'succeeded'
WHERE chains.stage = 'parked' AND chains.reason = 'disputed' AND c.settled_minor > 0 AND t.begun_at > chains.updated_at
ORDER BY 1
""")


async def i2_balanced(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """Entries have postings (each balanced by construction), no entry is undone beyond itself, and a closed chain owes
    nothing: the customer's account is even, and after an undoing every account but the fee that Stripe keeps.
    """
    checks = (
        (
            _WITHOUT_POSTINGS,
            "an entry without postings",
            "Restore the database: the ledger is written in one statement",
        ),
        (_REVERSED_TOO_MUCH, "more was undone than was posted", "Post the reversal of the superfluous reversal"),
        (
            text(_CHAIN_ACCOUNTS),
            "an account of a closed chain is not even",
            "Look at `billing show` and post what misses",
        ),
    )
    return await _all(connection, moment, "I2", checks)


async def i3_once(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """At most one effective charge, refund and transfer per business key, and the indexes that guarantee it exist."""
    checks = (
        (_CHARGED_TWICE, "a chain was charged twice", "Refund the later charge at once"),
        (_REFUNDED_TOO_MUCH, "more was refunded than was charged", "Ask the customer to pay back the difference"),
        (_TRANSFERRED_TWICE, "a commission was transferred twice", "Reverse the later transfer"),
        (_REVERSED_OTHERWISE, "a transfer and its reversals differ", "Compare both with the transfer at Stripe"),
    )
    findings = await _all(connection, moment, "I3", checks)
    return findings + await findings_of(
        connection,
        _GUARDS,
        moment,
        invariant="I3",
        what="a guard against second effects is missing",
        what_to_do="Create it again as the migrations do, after removing what it would refuse",
        guards=list(GUARDS),
    )


async def i4_finished_or_waiting(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """Every chain is closed or waits with a deadline that is not over; every event from outside is delivered."""
    stuck = await findings_of(
        connection,
        _WAITING,
        moment,
        invariant="I4",
        what="a chain neither finished nor waits with a deadline",
        what_to_do="Open its workflow in the Temporal Web UI; `billing retry` or `billing rollback` if it is parked",
        in_progress_seconds=IN_PROGRESS_SECONDS,
    )
    return stuck + await findings_of(
        connection,
        _UNDELIVERED,
        moment,
        invariant="I4",
        what="an event from outside was not delivered",
        what_to_do="See that the webhook app runs: its relay delivers what is due",
        overdue_seconds=OVERDUE_SECONDS,
    )


async def i6_nothing_paid_on_refunds(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """No reseller holds more than he may keep of a refunded booking, and none was paid on a disputed one.

    What a booking's own transfer paid too much is taken back, or stands on his statements as a debt. Chains that are
    being undone, or are parked in the middle of it, are I4's business.
    """
    take_back = "Reverse the transfer by the difference, or deduct it with the next settlement"
    checks = (
        (_PAID_TOO_MUCH, "more was paid out than is owed", take_back),
        (_NOT_REVERSED, "a refund without its share of the commission", "Roll the chain back, or reverse by hand"),
        (_PAID_WHILE_DISPUTED, "a commission was paid out on a disputed booking", take_back),
    )
    return await _all(connection, moment, "I6", checks)


async def _all(
    connection: AsyncConnection, moment: Moment, invariant: str, checks: tuple[tuple[TextClause, str, str], ...]
) -> list[Finding]:
    findings: list[Finding] = []
    for statement, what, what_to_do in checks:
        findings += await findings_of(
            connection, statement, moment, invariant=invariant, what=what, what_to_do=what_to_do
        )
    return findings
