"""I6 and I7 for statements: what they say is what they list, what was paid, what the ledger has, and all of it once."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.audit_finding import Finding, Moment, findings_of
from store.balances_sql import BALANCES
from store.claims_sql import HELD

UNPAID_SECONDS = 86_400
"""A statement may stay open so long before it is reported: its transfer is retried meanwhile."""
LATE_SECONDS = 900
"""A reversal may be written so long before a closing and not be seen by it: its transaction was still running."""

_ID = "'S-' || {0}.period || '-' || {0}.reseller_id || '-' || {0}.currency || '-' || {0}.sequence"
_S = "'statement ' || " + _ID.format("s")

_LEFT_OUT = text("""
WITH stated AS (
    SELECT commission_id, sum(CASE sequence WHEN 0 THEN amount_minor ELSE -amount_minor END) AS net_minor,
        sum(CASE sequence WHEN 0 THEN transferred_minor ELSE -transferred_minor END) AS transferred_minor
    FROM settlement_lines GROUP BY commission_id
), compared AS (
    SELECT c.id, c.chain_uid, c.accrued_minor, c.reversed_minor, c.settled_minor, stated.net_minor,
        stated.transferred_minor, c.accrued_minor - c.reversed_minor AS owed_minor,
        'chain ' || c.chain_uid || ', reseller ' || c.reseller_id AS place,
        c.payout_mode = 'per_booking' AS is_own, t.reversed_minor AS taken_minor
    FROM commissions AS c JOIN stated ON stated.commission_id = c.id LEFT JOIN transfers AS t ON t.key = c.transfer_key
)
SELECT place, 'statements over ' || owed_minor AS expected, net_minor AS found
FROM compared
WHERE net_minor <> owed_minor AND (
    net_minor < owed_minor OR net_minor > accrued_minor OR reversed_minor = 0 OR EXISTS (
        SELECT 1 FROM ledger_entries AS e, settlement_periods AS p
        WHERE e.chain_uid = compared.chain_uid AND e.kind = 'commission_reversed'
        GROUP BY p.claimed_at HAVING max(e.posted_at) < p.claimed_at - make_interval(secs => :late_seconds)))
UNION ALL
SELECT place, 'statements with ' || settled_minor || ' transferred', transferred_minor
FROM compared WHERE is_own AND taken_minor = 0 AND transferred_minor <> settled_minor
ORDER BY 1
""")
"""Statements say of each commission what is owed of it and what its own transfer carries, but for what was reversed or
taken back after the last closing: that is due for the next one as a clawback, never skipped by it.
"""

_SKIPPED = text(f"""
WITH waiting AS (
    SELECT c.id, c.chain_uid, c.reseller_id, c.matures_at, c.accrued_minor - c.reversed_minor AS owed_minor,
        CAST(NULL AS timestamptz) AS finished_at
    FROM commissions AS c
    WHERE c.status = 'matured' AND c.transfer_key IS NULL AND c.payout_mode <> 'per_booking'
    UNION ALL
    SELECT c.id, c.chain_uid, c.reseller_id, c.matures_at, c.accrued_minor - c.reversed_minor, t.finished_at
    FROM commissions AS c JOIN transfers AS t ON t.key = c.transfer_key AND t.status = 'succeeded'
    WHERE c.payout_mode = 'per_booking' AND c.status IN ('settled', 'reversed') AND NOT c.is_listed
      AND (c.reversed_minor < c.accrued_minor OR c.settled_minor > 0)
)
SELECT 'chain ' || w.chain_uid || ', reseller ' || w.reseller_id AS place,
    'on the statement of ' || p.period || ' or before' AS expected, w.owed_minor || ' on none' AS found
FROM waiting AS w JOIN chains AS h ON h.chain_uid = w.chain_uid
CROSS JOIN LATERAL (
    SELECT min(period) AS period FROM settlement_periods
    WHERE lists_all AND boundary > w.matures_at
      AND claimed_at > greatest(h.updated_at, w.finished_at) + make_interval(secs => :late_seconds)
) AS p
WHERE p.period IS NOT NULL AND h.stage IN ('closed', 'parked') AND NOT ({HELD.format("h")})
  AND NOT EXISTS (SELECT 1 FROM settlement_lines AS l WHERE l.commission_id = w.id AND l.sequence = 0)
ORDER BY 1
""")  # noqa: S608 - constants
"""Due for a closing that did not take it. A chain that was not touched since then had matured, and was not held."""

_TRANSFERRED = text(f"""
SELECT {_S} || ' (' || s.status || ')' AS place,
    CASE WHEN s.status = 'paid' THEN 'a transfer over ' || s.payable_minor
        WHEN s.status = 'carried_over' THEN 'no transfer' ELSE 'paid, as its transfer is' END AS expected,
    'transfer ' || coalesce(t.amount_minor || ' (' || t.status || ')', 'none') AS found
FROM settlements AS s LEFT JOIN transfers AS t ON t.settlement_id = s.id
WHERE coalesce(t.finished_at, s.finished_at, s.frozen_at) <= :settled_before AND (
    (s.status = 'paid' AND t.status IS DISTINCT FROM 'succeeded')
    OR t.amount_minor <> s.payable_minor OR t.reseller_id <> s.reseller_id OR t.currency <> s.currency
    OR (s.status = 'carried_over' AND t.status IN ('started', 'succeeded'))
    OR (s.status IN ('open', 'parked', 'waiting') AND t.status = 'succeeded'))
ORDER BY 1
""")  # noqa: S608 - a constant

_APPROVED = text(f"""
SELECT {_S} AS place, 'an approval of this account by somebody who did not ask for it' AS expected,
    'approved by ' || coalesce(s.approved_by, 'nobody') || ' for ' || coalesce(s.approved_account_id, 'no account')
        || ', paid to ' || t.destination_account_id AS found
FROM settlements AS s JOIN transfers AS t ON t.settlement_id = s.id
WHERE s.needs_approval AND (s.approved_by IS NULL OR EXISTS (
    SELECT 1 FROM jsonb_array_elements_text(s.asked_by) AS asker(who)
    WHERE lower(normalize(asker.who, NFKC)) = lower(normalize(s.approved_by, NFKC)))
    OR (t.status = 'succeeded' AND t.destination_account_id IS DISTINCT FROM s.approved_account_id))
ORDER BY 1
""")  # noqa: S608 - a constant

_SUMS = text(f"""
WITH listed AS (
    SELECT l.settlement_id, count(*) AS line_count,
        coalesce(sum(l.amount_minor) FILTER (WHERE l.sequence = 0), 0) AS earned_minor,
        coalesce(sum(l.amount_minor) FILTER (WHERE l.sequence = 0 AND c.level > 0), 0) AS override_minor,
        coalesce(sum(l.amount_minor) FILTER (WHERE l.sequence > 0), 0) AS clawback_minor,
        coalesce(sum(l.transferred_minor) FILTER (WHERE l.sequence = 0), 0) AS transferred_minor,
        coalesce(sum(l.transferred_minor) FILTER (WHERE l.sequence > 0), 0) AS returned_minor
    FROM settlement_lines AS l JOIN commissions AS c ON c.id = l.commission_id GROUP BY 1
), taxed AS (
    SELECT settlement_id, coalesce(sum(vat_minor) FILTER (WHERE NOT is_debit), 0) AS credit_minor,
        coalesce(sum(vat_minor) FILTER (WHERE is_debit), 0) AS debit_minor
    FROM settlement_taxes GROUP BY 1
), adjusted AS (
    SELECT settlement_id, coalesce(sum(amount_minor) FILTER (WHERE direction = 'credit'), 0) AS credit_minor,
        coalesce(sum(amount_minor) FILTER (WHERE direction = 'debit'), 0) AS debit_minor
    FROM adjustments WHERE settlement_id IS NOT NULL GROUP BY 1
), opened AS (
    SELECT brought_into AS settlement_id,
        sum(CASE WHEN carried_by IS NULL THEN carried_credit_minor - carried_debt_minor ELSE payable_minor END) AS net
    FROM settlements WHERE brought_into IS NOT NULL GROUP BY 1
), both_sides AS (
    SELECT s.id, {_S} AS place,
        ARRAY[s.line_count, s.earned_minor, s.override_minor, s.clawback_minor, s.transferred_minor, s.returned_minor,
            s.vat_credit_minor, s.vat_debit_minor, s.adjustment_credit_minor, s.adjustment_debit_minor,
            s.opening_credit_minor - s.opening_debt_minor] AS stated,
        ARRAY[coalesce(l.line_count, 0), coalesce(l.earned_minor, 0), coalesce(l.override_minor, 0),
            coalesce(l.clawback_minor, 0), coalesce(l.transferred_minor, 0), coalesce(l.returned_minor, 0),
            coalesce(v.credit_minor, 0), coalesce(v.debit_minor, 0), coalesce(a.credit_minor, 0),
            coalesce(a.debit_minor, 0), coalesce(o.net, 0)] AS summed
    FROM settlements AS s LEFT JOIN listed AS l ON l.settlement_id = s.id
    LEFT JOIN taxed AS v ON v.settlement_id = s.id LEFT JOIN adjusted AS a ON a.settlement_id = s.id
    LEFT JOIN opened AS o ON o.settlement_id = s.id
)
SELECT place, wanted.name || ' ' || wanted.summed AS expected, wanted.name || ' ' || wanted.stated AS found
FROM both_sides, unnest(ARRAY['line_count', 'earned', 'override', 'clawback', 'transferred', 'returned', 'vat_credit',
    'vat_debit', 'adjustment_credit', 'adjustment_debit', 'opening'], stated, summed) AS wanted(name, stated, summed)
WHERE wanted.stated <> wanted.summed ORDER BY 1, 2
""")  # noqa: S608 - a constant

_BALANCE = text(f"""
SELECT {_S} AS place, 'both sides equal' AS expected,
    opening_credit_minor + earned_minor + returned_minor + adjustment_credit_minor + vat_credit_minor
        + carried_debt_minor || ' and ' || opening_debt_minor + clawback_minor + transferred_minor
        + adjustment_debit_minor + vat_debit_minor + payable_minor + carried_credit_minor AS found
FROM settlements AS s
WHERE opening_credit_minor + earned_minor + returned_minor + adjustment_credit_minor + vat_credit_minor
    + carried_debt_minor <> opening_debt_minor + clawback_minor + transferred_minor + adjustment_debit_minor
    + vat_debit_minor + payable_minor + carried_credit_minor
ORDER BY 1
""")  # noqa: S608 - a constant

_TAXES = text(f"""
WITH listed AS (
    SELECT settlement_id, bps, why, sum(net) AS net FROM (
        SELECT id AS settlement_id, vat_rate_bps AS bps, vat_reason AS why, earned_minor AS net FROM settlements
        UNION ALL
        SELECT l.settlement_id, e.vat_rate_bps, e.vat_reason, -l.amount_minor
        FROM settlement_lines AS l
        JOIN settlement_lines AS first ON first.commission_id = l.commission_id AND first.sequence = 0
        JOIN settlements AS e ON e.id = first.settlement_id
        WHERE l.sequence > 0
    ) AS parts GROUP BY 1, 2, 3 HAVING sum(net) <> 0
), shown AS (
    SELECT settlement_id, vat_rate_bps AS bps, vat_reason AS why, vat_minor,
        CASE WHEN is_debit THEN -net_minor ELSE net_minor END AS net
    FROM settlement_taxes
)
SELECT {_S} AS place,
    bps || ' bps (' || why || ') on ' || coalesce(listed.net, 0) || ': '
        || floor((2 * abs(coalesce(listed.net, 0)) * bps + 10000) / 20000) AS expected,
    coalesce('on ' || shown.net || ': ' || shown.vat_minor, 'no VAT row') AS found
FROM listed FULL JOIN shown USING (settlement_id, bps, why)
JOIN settlements AS s ON s.id = settlement_id
WHERE listed.net IS DISTINCT FROM shown.net
   OR shown.vat_minor <> floor((2 * abs(listed.net) * bps + 10000) / 20000)
ORDER BY 1, 2
""")  # noqa: S608 - a constant

_LINES = text("""
SELECT 'line ' || l.commission_id || '/' || l.sequence AS place,
    'a statement of the account that earned it' AS expected,
    CASE WHEN c.id IS NULL THEN 'no such commission' WHEN s.id IS NULL THEN 'no such statement'
        ELSE 'statement ' || s.id || ' of ' || s.reseller_id || ' ' || s.currency END AS found
FROM settlement_lines AS l LEFT JOIN settlements AS s ON s.id = l.settlement_id
LEFT JOIN commissions AS c ON c.id = l.commission_id
WHERE c.id IS NULL OR s.id IS NULL OR c.reseller_id <> s.reseller_id OR c.currency <> s.currency
UNION ALL
SELECT 'line ' || l.commission_id || '/' || l.sequence, 'the line before it', 'none'
FROM settlement_lines AS l
WHERE l.sequence > 0 AND NOT EXISTS (
    SELECT 1 FROM settlement_lines AS b WHERE b.commission_id = l.commission_id AND b.sequence = l.sequence - 1)
UNION ALL
SELECT 'chain ' || c.chain_uid || ', reseller ' || c.reseller_id,
    CASE WHEN c.is_listed THEN 'a line of a statement' ELSE 'to be marked as listed' END, 'is not so'
FROM commissions AS c LEFT JOIN settlement_lines AS l ON l.commission_id = c.id AND l.sequence = 0
WHERE c.payout_mode = 'per_booking' AND c.is_listed <> (l.commission_id IS NOT NULL)
ORDER BY 1
""")

_BROUGHT = text(f"""
SELECT {_S} AS place, 'brought into a statement of the same account made later' AS expected,
    {_ID.format("n")} AS found
FROM settlements AS s JOIN settlements AS n ON n.id = s.brought_into
WHERE n.reseller_id <> s.reseller_id OR n.currency <> s.currency OR n.id <= s.id
ORDER BY 1
""")  # noqa: S608 - a constant

_SETTLED = text("""
WITH RECURSIVE covered AS (
    SELECT s.id, t.key, t.finished_at FROM settlements AS s JOIN transfers AS t ON t.settlement_id = s.id
    WHERE t.status = 'succeeded' AND t.finished_at <= :settled_before
    UNION
    SELECT s.id, covered.key, covered.finished_at FROM settlements AS s JOIN covered ON s.brought_into = covered.id
), paid AS (
    SELECT l.commission_id, l.amount_minor, covered.key
    FROM settlement_lines AS l JOIN covered ON covered.id = l.settlement_id WHERE l.sequence = 0
)
SELECT 'chain ' || c.chain_uid || ', reseller ' || c.reseller_id AS place,
    coalesce('settled by ' || paid.key, 'no transfer of a statement') AS expected,
    c.status || coalesce(', ' || c.settled_minor || ' by ' || c.transfer_key, '') AS found
FROM commissions AS c LEFT JOIN transfers AS t ON t.key = c.transfer_key
LEFT JOIN paid ON paid.commission_id = c.id
WHERE c.payout_mode <> 'per_booking' AND (
    (paid.key IS NOT NULL AND (c.transfer_key IS DISTINCT FROM paid.key OR c.status NOT IN ('settled', 'reversed')
        OR c.settled_minor > paid.amount_minor))
    OR (paid.key IS NULL AND t.kind = 'settlement' AND t.status = 'succeeded' AND t.finished_at <= :settled_before))
ORDER BY 1
""")

_OWN_TRANSFERS = text("""
SELECT 'transfer ' || t.key AS place,
    (t.amount_minor - t.reversed_minor) || ' for commissions' AS expected, coalesce(sum(c.settled_minor), 0) AS found
FROM transfers AS t LEFT JOIN commissions AS c ON c.transfer_key = t.key
WHERE t.status = 'succeeded' AND t.kind = 'booking' AND t.finished_at <= :settled_before
GROUP BY t.key, t.amount_minor, t.reversed_minor
HAVING coalesce(sum(c.settled_minor), 0) <> t.amount_minor - t.reversed_minor ORDER BY 1
""")

_BOOKED = text(f"""
WITH wanted AS (
    SELECT 'commission_vat:' || {_ID.format("s")} AS key, vat_credit_minor - vat_debit_minor AS net,
        vat_credit_minor + vat_debit_minor AS gross
    FROM settlements AS s WHERE vat_credit_minor + vat_debit_minor > 0
    UNION ALL
    SELECT 'adjusted:' || id, CASE direction WHEN 'credit' THEN amount_minor ELSE -amount_minor END, amount_minor
    FROM adjustments WHERE status = 'approved'
), booked AS (
    SELECT e.key, sum(p.amount_minor) AS gross,
        sum(CASE WHEN p.credit_account LIKE 'reseller:%' THEN p.amount_minor ELSE -p.amount_minor END) AS net
    FROM ledger_entries AS e JOIN ledger_postings AS p ON p.entry_id = e.id
    WHERE e.kind IN ('commission_vat', 'adjusted', 'written_off') GROUP BY e.key
)
SELECT 'entry ' || key AS place, coalesce(wanted.gross || ', net ' || wanted.net, 'no entry') AS expected,
    coalesce(booked.gross || ', net ' || booked.net, 'no entry') AS found
FROM wanted FULL JOIN booked USING (key)
WHERE wanted.net IS DISTINCT FROM booked.net OR wanted.gross IS DISTINCT FROM booked.gross ORDER BY 1
""")  # noqa: S608 - a constant

_EXPLAINED = text(
    f"""
SELECT 'account reseller:' || reseller_id || ' ' || currency AS place,
    (unstated_credit_minor - unstated_debt_minor) || ' unstated, ' || unpaid_minor || ' unpaid, '
        || (carried_credit_minor - carried_debt_minor) || ' carried' AS expected,
    (owed_minor - owing_minor) || ' in the ledger' AS found
FROM ({BALANCES.format(account="LIKE 'reseller:%'", reseller="IS NOT NULL")}) AS accounts
WHERE owed_minor - owing_minor <> unstated_credit_minor - unstated_debt_minor + unpaid_minor + carried_credit_minor
    - carried_debt_minor
ORDER BY 1
"""  # noqa: S608 - constants
)

_UNPAID = text(f"""
SELECT {_S} AS place, 'paid, carried over, waiting or parked with a reason' AS expected,
    'open since ' || s.frozen_at AS found
FROM settlements AS s
WHERE s.status = 'open' AND s.frozen_at <= CAST(:now AS timestamptz) - make_interval(secs => :unpaid_seconds)
  AND NOT EXISTS (SELECT 1 FROM transfers AS t WHERE t.settlement_id = s.id AND t.status = 'succeeded')
ORDER BY 1
""")  # noqa: S608 - a constant


async def i6_clawed_back(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """Statements say of each commission what was owed of it: what was reversed since is on a later one, or due for the
    next. Every commission that was due for a closing is on a statement.
    """
    checks = (
        (
            _LEFT_OUT,
            "a commission is not what its statements say",
            "Compare its lines with the ledger; correct the account by an adjustment",
        ),
        (
            _SKIPPED,
            "a closing left a commission out that was due",
            "Close the month again with `billing settle --supplement`; find out why",
        ),
    )
    findings = []
    for statement, what, what_to_do in checks:
        findings += await findings_of(
            connection, statement, moment, invariant="I6", what=what, what_to_do=what_to_do, late_seconds=LATE_SECONDS
        )
    return findings


async def i7_settlements(connection: AsyncConnection, moment: Moment) -> list[Finding]:
    """Statements are the sums of what they list, are paid once and by two persons where they must be, and with what no
    statement shows yet they explain the ledger's accounts of all resellers to the cent.
    """
    frozen = "Compare with a backup: what a statement says is frozen; correct the account by an adjustment"
    at_stripe = "Compare both with the transfer at Stripe, then settle again"
    checks = (
        (_TRANSFERRED, "a statement and its transfer differ", at_stripe),
        (
            _APPROVED,
            "a transfer without the second person's approval",
            "Ask both persons; reverse the transfer if wrong",
        ),
        (_BALANCE, "a statement does not balance", frozen),
        (_SUMS, "a statement's figures are not the sums of what it lists", frozen),
        (_TAXES, "the VAT of a statement is not what its lines give", frozen),
        (_LINES, "a line that belongs to nothing, or a listing without its line", frozen),
        (_BROUGHT, "a remainder was brought into a wrong statement", frozen),
        (_SETTLED, "a commission and the statement that paid it differ", at_stripe),
        (_OWN_TRANSFERS, "a transfer and the commissions it pays differ", "Compare with the transfer at Stripe"),
        (_BOOKED, "VAT or an adjustment and the ledger differ", "Post what is missing, or reverse what is wrong"),
        (_EXPLAINED, "statements do not explain a reseller's account", "Follow the account with `billing ledger`"),
    )
    findings = []
    for statement, what, what_to_do in checks:
        findings += await findings_of(connection, statement, moment, invariant="I7", what=what, what_to_do=what_to_do)
    return findings + await findings_of(
        connection,
        _UNPAID,
        moment,
        invariant="I7",
        what="a statement was never paid",
        what_to_do="Run `billing settle --month` again",
        unpaid_seconds=UNPAID_SECONDS,
    )
