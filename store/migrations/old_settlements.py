"""Settlements as they were before statements (revision 0010), written as statements (revision 0011).

A settlement's lines followed what was owed until its transfer was begun; then they were fixed. A reversal after that
changed no line: the chain took its share back from the settlement's transfer. So, to the cent:

- Without a transfer that may have moved money, a line is what is owed now. Where nothing is left, nothing is due. What
  a refused transfer asked for is asked again over that amount; where nothing is left it is only told in `detail`.
- With one, lines are what it carried. What was taken back of it since is a clawback on the same statement, with the
  same amount as returned, for nothing was due between both. What was reversed and not taken back is left to the next
  closing, like every reversal from now on.
- VAT was not stated: rate 0 with a reason of its own, also for later clawbacks of these lines.
"""

from __future__ import annotations

from typing import Final

KEEP: Final = (
    """
CREATE TEMP TABLE kept_periods AS
SELECT p.period, p.boundary, p.claimed_at, coalesce((
    SELECT a.actor FROM audit_log AS a WHERE a.target = 'period:' || p.period AND a.action = 'settled'
    ORDER BY a.id LIMIT 1
), 'unknown') AS requested_by
FROM settlement_periods AS p
""",
    "CREATE TEMP TABLE kept_settlements AS SELECT * FROM settlements",
    """
CREATE TEMP TABLE kept_lines AS
SELECT l.settlement_id, l.commission_id, c.level,
    CASE WHEN t.status IN ('started', 'succeeded') THEN l.amount_minor ELSE c.accrued_minor - c.reversed_minor END
        AS amount_minor,
    CASE WHEN t.status = 'succeeded' AND c.transfer_key = t.key
        THEN greatest(0, l.amount_minor - greatest(c.accrued_minor - c.reversed_minor, c.settled_minor))
        ELSE 0 END AS returned_minor
FROM settlement_lines AS l JOIN commissions AS c ON c.id = l.commission_id
LEFT JOIN transfers AS t ON t.settlement_id = l.settlement_id
""",
)
"""Before the old tables are dropped."""

COPY: Final = (
    """
INSERT INTO settlement_periods (period, sequence, boundary, requested_by, claimed_at)
SELECT period, 1, boundary, requested_by, claimed_at FROM kept_periods
""",
    """
INSERT INTO settlement_lines (settlement_id, commission_id, sequence, amount_minor, transferred_minor)
SELECT settlement_id, commission_id, 0, amount_minor, 0 FROM kept_lines
UNION ALL
SELECT settlement_id, commission_id, 1, returned_minor, returned_minor FROM kept_lines WHERE returned_minor > 0
ORDER BY 2, 3
""",
    """
INSERT INTO settlements (id, period, sequence, reseller_id, currency, opening_credit_minor, opening_debt_minor,
    earned_minor, override_minor, clawback_minor, transferred_minor, returned_minor, adjustment_credit_minor,
    adjustment_debit_minor, vat_credit_minor, vat_debit_minor, payable_minor, carried_credit_minor, carried_debt_minor,
    minimum_payout_minor, line_count, carry_reason, vat_rate_bps, vat_reason, party, asked_by, boundary, frozen_at,
    status, reason, detail, finished_at)
OVERRIDING SYSTEM VALUE
SELECT s.id, s.period, 1, s.reseller_id, s.currency, 0, 0, s.earned_minor, s.override_minor, s.returned_minor, 0,
    s.returned_minor, 0, 0, 0, 0,
    CASE WHEN s.status = 'carried_over' THEN 0 ELSE s.earned_minor END,
    CASE WHEN s.status = 'carried_over' THEN s.earned_minor ELSE 0 END, 0, 0, s.line_count,
    CASE WHEN s.earned_minor = 0 THEN 'nothing_due' WHEN s.status = 'carried_over' THEN 'below_minimum' END,
    0, 'not_stated',
    jsonb_build_object('name', r.name, 'email', r.email, 'address', r.address, 'country', r.country, 'vat_id', r.vat_id,
        'small_business', r.small_business, 'tax_status_from', r.tax_status_from),
    CASE p.requested_by WHEN 'unknown' THEN jsonb_build_array() ELSE jsonb_build_array(p.requested_by) END,
    p.boundary, s.claimed_at,
    CASE WHEN s.earned_minor = 0 THEN 'carried_over' ELSE s.status END,
    CASE WHEN s.earned_minor = 0 THEN NULL ELSE s.reason END, s.detail,
    CASE WHEN s.earned_minor = 0 THEN coalesce(s.finished_at, now()) ELSE s.finished_at END
FROM (
    SELECT k.id, k.period, k.reseller_id, k.currency, k.status, k.reason, k.detail, k.claimed_at, k.finished_at,
        coalesce(l.earned_minor, 0) AS earned_minor, coalesce(l.override_minor, 0) AS override_minor,
        coalesce(l.returned_minor, 0) AS returned_minor, coalesce(l.line_count, 0) AS line_count
    FROM kept_settlements AS k LEFT JOIN (
        SELECT settlement_id, sum(amount_minor) AS earned_minor,
            coalesce(sum(amount_minor) FILTER (WHERE level > 0), 0) AS override_minor,
            sum(returned_minor) AS returned_minor, count(*) + count(*) FILTER (WHERE returned_minor > 0) AS line_count
        FROM kept_lines GROUP BY settlement_id
    ) AS l ON l.settlement_id = k.id
) AS s
JOIN kept_periods AS p USING (period) JOIN resellers AS r ON r.id = s.reseller_id
""",
    """
SELECT setval(pg_get_serial_sequence('settlements', 'id'), coalesce((SELECT max(id) FROM settlements), 1),
    EXISTS (SELECT 1 FROM settlements))
""",
    # Reversed before the transfer was begun: its line is 0, and it was the only one not to carry the transfer's key.
    """
UPDATE commissions AS c SET transfer_key = t.key, settled_minor = k.amount_minor, settled_at = t.finished_at
FROM kept_lines AS k JOIN transfers AS t ON t.settlement_id = k.settlement_id AND t.status = 'succeeded'
WHERE c.id = k.commission_id AND c.transfer_key IS NULL
""",
    """
UPDATE transfers AS t SET amount_minor = s.payable_minor
FROM settlements AS s
WHERE s.id = t.settlement_id AND t.status = 'refused' AND s.payable_minor > 0 AND t.amount_minor <> s.payable_minor
""",
    """
WITH refused AS (
    DELETE FROM transfers AS t USING settlements AS s
    WHERE s.id = t.settlement_id AND t.status = 'refused' AND s.payable_minor = 0
    RETURNING t.settlement_id, 'transfer ' || t.key || ' over ' || t.amount_minor || ' was refused'
        || coalesce(' (' || t.refusal_code || ')', '') AS said
)
UPDATE settlements AS s SET detail = left(concat_ws('; ', s.detail, refused.said), 2000)
FROM refused WHERE s.id = refused.settlement_id
""",
    "DROP TABLE kept_periods, kept_settlements, kept_lines",
)
"""Once the new tables are there. The foreign key of transfers must still be off, and nothing may be guarded yet."""
