"""The statement that closes all accounts. One statement is one snapshot: figures and lines cannot disagree.

`due` is read twice, once for the sums and once for the lines: cheaper than keeping a million rows in between.
"""

from __future__ import annotations

from sqlalchemy import text

HELD = """
    {0}.stage IN ('parked', 'undoing') AND ({0}.stage = 'undoing' OR {0}.reason NOT IN
        ('reseller_not_ready', 'transfer_refused', 'balance_insufficient', 'currency_mismatch'))
"""
"""Condition on a chain (a name for `str.format`): it is being undone or waits for a person to decide about its booking.

A chain that only waits to pay one reseller himself holds nobody else's money back.
"""

_HELD = f"""
    SELECT c.id FROM chains JOIN commissions AS c ON c.chain_uid = chains.chain_uid WHERE {HELD.format("chains")}
"""  # noqa: S608 - constants
"""What may still be taken back, or is: a disputed booking, or one between the first of its compensations and the last.

Not closed before the chain goes on: then it is due, or reversed, for the next closing.
"""

_WAITING = """
    SELECT c.id, c.reseller_id, c.currency, c.level, c.accrued_minor - c.reversed_minor AS amount_minor,
        CAST(0 AS bigint) AS transferred_minor
    FROM commissions AS c
    WHERE c.status = 'matured' AND c.transfer_key IS NULL AND c.payout_mode IN ('monthly', 'on_hold')
      AND c.id NOT IN (SELECT id FROM held)
"""
"""NOT IN: looked up in a hash table, however few the planner expects; as a join it could read them all each time."""

_CLOSED_BEFORE = """(
    SELECT coalesce(max(boundary), '-infinity') FROM settlement_periods WHERE (period, sequence) <> (:period, :sequence)
)"""
"""Nothing that matures from here on stands on a statement: every closing took only what matured before its boundary,
and a matured commission keeps its moment. So the month's own commissions need not be looked up.
"""

_MONTHLY = f"{_WAITING} AND c.matures_at >= {_CLOSED_BEFORE} AND c.matures_at < :boundary"

_LATE = f"""
    {_WAITING} AND c.matures_at < {_CLOSED_BEFORE} AND c.matures_at < :boundary
      AND (SELECT l.sequence FROM settlement_lines AS l WHERE l.commission_id = c.id AND l.sequence = 0) IS NULL
"""  # noqa: S608 - constants
"""Seen too late for an earlier closing. All others from before that are still matured are on statements not paid yet.

A subquery that the planner must look up one by one, in the key's index: as a join it would read all lines ever made in
the many months in which almost nothing is late or unpaid.
"""

_OWN = """
    SELECT c.id, c.reseller_id, c.currency, c.level, c.accrued_minor - c.reversed_minor AS amount_minor,
        c.settled_minor AS transferred_minor
    FROM commissions AS c JOIN transfers AS t ON t.key = c.transfer_key AND t.status = 'succeeded'
    WHERE c.payout_mode = 'per_booking' AND c.status IN ('settled', 'reversed') AND NOT c.is_listed
      AND c.matures_at < :boundary AND (c.reversed_minor < c.accrued_minor OR c.settled_minor > 0)
      AND c.id NOT IN (SELECT id FROM held)
"""
"""Paid by a transfer of the booking's own. All of it reversed: only where the reseller still holds money for it."""

_UNDONE = """
    SELECT c.id, c.reseller_id, c.currency, s.vat_rate_bps, s.vat_reason, later.sequence + 1 AS sequence,
        greatest(0, moved.amount_minor) AS amount_minor, greatest(0, credit.returned_minor) AS transferred_minor
    FROM commissions AS c
    JOIN settlement_lines AS first ON first.commission_id = c.id AND first.sequence = 0
    JOIN settlements AS s ON s.id = first.settlement_id
    LEFT JOIN transfers AS t ON t.key = c.transfer_key
    CROSS JOIN LATERAL (
        SELECT coalesce(max(l.sequence), 0) AS sequence,
            CAST(coalesce(sum(l.amount_minor), 0) AS bigint) AS amount_minor,
            CAST(coalesce(sum(l.transferred_minor), 0) AS bigint) AS transferred_minor
        FROM settlement_lines AS l WHERE l.commission_id = c.id AND l.sequence > 0
    ) AS later
    CROSS JOIN LATERAL (
        SELECT first.amount_minor - later.amount_minor - (c.accrued_minor - c.reversed_minor) AS amount_minor,
            CASE WHEN t.status = 'succeeded'
                THEN CASE c.payout_mode WHEN 'per_booking' THEN first.transferred_minor ELSE first.amount_minor END
                    - later.transferred_minor - c.settled_minor
                ELSE 0 END AS returned_minor
    ) AS moved
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.id IN (SELECT id FROM held) THEN least(moved.returned_minor, greatest(0, moved.amount_minor))
            ELSE moved.returned_minor END AS returned_minor
    ) AS credit
    WHERE c.reversed_minor > 0 AND (moved.amount_minor > 0 OR credit.returned_minor > 0)
"""
"""What was reversed, or taken back of its transfer, since a commission's last line; VAT as on its earned line.

Of a held one never more is credited than is clawed back: the way back takes the transfer first, the commission last.
"""

_SUMS = """
    SELECT reseller_id, currency, CAST(sum(amount_minor) AS bigint) AS earned_minor,
        CAST(coalesce(sum(amount_minor) FILTER (WHERE level > 0), 0) AS bigint) AS override_minor,
        CAST(sum(transferred_minor) AS bigint) AS transferred_minor, count(*) AS line_count
    FROM due GROUP BY reseller_id, currency
"""

_LEFT = """
    SELECT s.id, s.reseller_id, s.currency, s.negative_since, s.asked_by, s.carried_debt_minor AS debt_minor,
        s.needs_approval AND s.payable_minor + s.carried_credit_minor + s.carried_debt_minor > 0 AS needs_approval,
        CASE WHEN s.carried_by IS NULL THEN s.carried_credit_minor ELSE s.payable_minor END AS credit_minor
    FROM settlements AS s
    WHERE s.brought_into IS NULL AND s.status IN ('carried_over', 'parked')
      AND (s.status = 'carried_over' OR s.payable_minor = 0)
"""
"""All that is left of an account, whichever months are closed in whichever order: he is not paid while he owes."""

_TAX_STATUS = """
    SELECT DISTINCT ON (reseller_id) *
    FROM (
        SELECT reseller_id, sequence, valid_from, small_business, country, vat_id, tax_status_from
        FROM reseller_tax_statuses
        WHERE valid_from IS NULL OR valid_from < to_date(CAST(:period AS text), 'YYYY-MM') + interval '1 month'
        UNION ALL
        SELECT id, 0, NULL, small_business, country, vat_id, tax_status_from FROM resellers
    ) AS known
    ORDER BY reseller_id, valid_from DESC NULLS LAST, sequence DESC
"""
"""The tax status of the month's last day, as `domain.tax_status.in_force`; none recorded: what is stored of him."""

_TAXES = """
    SELECT reseller_id, currency, vat_rate_bps, vat_reason, abs(sum(net_minor)) AS net_minor,
        CAST(floor((2 * abs(sum(net_minor)) * vat_rate_bps + 10000) / 20000) AS bigint) AS vat_minor,
        sum(net_minor) < 0 AS is_debit
    FROM (
        SELECT sums.reseller_id, sums.currency, tax.vat_rate_bps, tax.vat_reason, sums.earned_minor AS net_minor
        FROM sums JOIN tax USING (reseller_id)
        UNION ALL
        SELECT reseller_id, currency, vat_rate_bps, vat_reason, -amount_minor FROM undone
    ) AS net
    GROUP BY reseller_id, currency, vat_rate_bps, vat_reason HAVING sum(net_minor) <> 0
"""

_ACCOUNTS = """
    SELECT tax.reseller_id, a.currency, tax.vat_rate_bps, tax.vat_reason, tax.is_on_hold, tax.party,
        coalesce(CAST(tax.minimums ->> a.currency AS bigint), 0) AS minimum_payout_minor,
        greatest(0, coalesce(o.opening, 0)) AS opening_credit_minor,
        greatest(0, -coalesce(o.opening, 0)) AS opening_debt_minor, o.negative_since,
        coalesce(sums.earned_minor, 0) AS earned_minor, coalesce(sums.override_minor, 0) AS override_minor,
        coalesce(sums.transferred_minor, 0) AS transferred_minor, coalesce(u.clawback_minor, 0) AS clawback_minor,
        coalesce(u.returned_minor, 0) AS returned_minor, coalesce(j.credit_minor, 0) AS adjustment_credit_minor,
        coalesce(j.debit_minor, 0) AS adjustment_debit_minor, coalesce(v.credit_minor, 0) AS vat_credit_minor,
        coalesce(v.debit_minor, 0) AS vat_debit_minor,
        coalesce(sums.line_count, 0) + coalesce(u.line_count, 0) AS line_count,
        coalesce(j.asked_by, '{}') || coalesce(before.asked_by, '{}') AS asked_by,
        j.asked_by IS NOT NULL OR coalesce(o.needs_approval, false) AS was_asked
    FROM (
        SELECT reseller_id, currency FROM sums UNION SELECT reseller_id, currency FROM undone
        UNION SELECT reseller_id, currency FROM wanted
        UNION SELECT reseller_id, currency FROM remainders WHERE credit_minor + debt_minor > 0 AND :sequence = 1
    ) AS a
    JOIN tax ON tax.reseller_id = a.reseller_id
    LEFT JOIN sums ON sums.reseller_id = a.reseller_id AND sums.currency = a.currency
    LEFT JOIN (
        SELECT reseller_id, currency, CAST(sum(amount_minor) AS bigint) AS clawback_minor,
            CAST(sum(transferred_minor) AS bigint) AS returned_minor, count(*) AS line_count
        FROM undone GROUP BY reseller_id, currency
    ) AS u ON u.reseller_id = a.reseller_id AND u.currency = a.currency
    LEFT JOIN (
        SELECT reseller_id, currency,
            CAST(coalesce(sum(amount_minor) FILTER (WHERE direction = 'credit'), 0) AS bigint) AS credit_minor,
            CAST(coalesce(sum(amount_minor) FILTER (WHERE direction = 'debit'), 0) AS bigint) AS debit_minor,
            array_agg(requested_by) AS asked_by
        FROM wanted GROUP BY reseller_id, currency
    ) AS j ON j.reseller_id = a.reseller_id AND j.currency = a.currency
    LEFT JOIN (
        SELECT reseller_id, currency, CAST(sum(credit_minor - debt_minor) AS bigint) AS opening,
            min(negative_since) AS negative_since, bool_or(needs_approval) AS needs_approval
        FROM remainders GROUP BY reseller_id, currency
    ) AS o ON o.reseller_id = a.reseller_id AND o.currency = a.currency
    LEFT JOIN (
        SELECT reseller_id, currency, array_agg(DISTINCT who) AS asked_by
        FROM remainders, jsonb_array_elements_text(remainders.asked_by) AS who
        WHERE needs_approval GROUP BY reseller_id, currency
    ) AS before ON before.reseller_id = a.reseller_id AND before.currency = a.currency
    LEFT JOIN (
        SELECT reseller_id, currency,
            CAST(coalesce(sum(vat_minor) FILTER (WHERE NOT is_debit), 0) AS bigint) AS credit_minor,
            CAST(coalesce(sum(vat_minor) FILTER (WHERE is_debit), 0) AS bigint) AS debit_minor
        FROM taxes GROUP BY reseller_id, currency
    ) AS v ON v.reseller_id = a.reseller_id AND v.currency = a.currency
"""

_DUE = """
    SELECT *, opening_credit_minor + earned_minor + returned_minor + adjustment_credit_minor + vat_credit_minor
        - opening_debt_minor - clawback_minor - transferred_minor - adjustment_debit_minor - vat_debit_minor AS due
    FROM accounts
"""

_REASONED = """
    SELECT *, CASE WHEN due < 0 THEN 'negative' WHEN due = 0 THEN 'nothing_due' WHEN is_on_hold THEN 'on_hold'
            WHEN due < minimum_payout_minor THEN 'below_minimum' END AS carry_reason,
        CASE WHEN due < 0 THEN least(negative_since, CAST(:period AS text)) END AS since
    FROM balanced
"""

_CLOSED = """
    SELECT *, CASE WHEN carry_reason IS NULL THEN 'open'
        WHEN 12 * (CAST(left(:period, 4) AS int) - CAST(left(since, 4) AS int))
            + CAST(right(:period, 2) AS int) - CAST(right(since, 2) AS int) + 1 >= :negative_months THEN 'parked'
        ELSE 'carried_over' END AS status
    FROM reasoned
"""

_INSERT = """
    INSERT INTO settlements (id, period, sequence, reseller_id, currency, opening_credit_minor, opening_debt_minor,
        earned_minor, override_minor, clawback_minor, transferred_minor, returned_minor, adjustment_credit_minor,
        adjustment_debit_minor, vat_credit_minor, vat_debit_minor, payable_minor, carried_credit_minor,
        carried_debt_minor, minimum_payout_minor, line_count, carry_reason, negative_since, vat_rate_bps, vat_reason,
        party, needs_approval, asked_by, boundary, status, reason, finished_at)
    OVERRIDING SYSTEM VALUE
    SELECT id, :period, :sequence, reseller_id, currency, opening_credit_minor, opening_debt_minor, earned_minor,
        override_minor, clawback_minor, transferred_minor, returned_minor, adjustment_credit_minor,
        adjustment_debit_minor, vat_credit_minor, vat_debit_minor, CASE WHEN carry_reason IS NULL THEN due ELSE 0 END,
        CASE WHEN carry_reason IS NULL THEN 0 ELSE greatest(0, due) END, greatest(0, -due), minimum_payout_minor,
        line_count, carry_reason, since, vat_rate_bps, vat_reason, party,
        was_asked OR (carry_reason IS NULL
            AND coalesce(due >= CAST(CAST(:approval AS jsonb) ->> currency AS bigint), false)),
        to_jsonb(ARRAY(SELECT DISTINCT unnest(array_append(asked_by, :requested_by)) ORDER BY 1)), :boundary, status,
        CASE status WHEN 'parked' THEN 'negative_balance' END, CASE WHEN status <> 'open' THEN now() END
    FROM made
"""

CLAIM = text(
    f"""
WITH held AS MATERIALIZED ({_HELD}),
own AS MATERIALIZED ({_OWN}),
late AS MATERIALIZED ({_LATE}),
due AS NOT MATERIALIZED ({_MONTHLY} UNION ALL SELECT * FROM late UNION ALL SELECT * FROM own),
undone AS MATERIALIZED ({_UNDONE}),
wanted AS MATERIALIZED (
    SELECT id, reseller_id, currency, amount_minor, direction, requested_by FROM adjustments
    WHERE status = 'approved' AND settlement_id IS NULL
),
remainders AS MATERIALIZED ({_LEFT}),
tax AS MATERIALIZED (
    SELECT r.id AS reseller_id, r.payout_mode = 'on_hold' AS is_on_hold, r.minimum_payouts AS minimums,
        CASE WHEN s.small_business OR s.country <> :country THEN 0 ELSE :standard_bps END AS vat_rate_bps,
        CASE WHEN s.small_business THEN 'small_business' WHEN s.country <> :country THEN 'reverse_charge'
            ELSE 'standard' END AS vat_reason,
        jsonb_build_object('name', r.name, 'email', r.email, 'address', r.address, 'country', s.country,
            'vat_id', s.vat_id, 'small_business', s.small_business, 'tax_status_from', s.tax_status_from) AS party
    FROM resellers AS r JOIN ({_TAX_STATUS}) AS s ON s.reseller_id = r.id
),
sums AS MATERIALIZED ({_SUMS}),
taxes AS MATERIALIZED ({_TAXES}),
accounts AS ({_ACCOUNTS}),
balanced AS ({_DUE}),
reasoned AS ({_REASONED}),
closed AS ({_CLOSED}),
made AS MATERIALIZED (
    SELECT nextval('settlements_id_seq') AS id, ordered.*
    FROM (SELECT * FROM closed ORDER BY reseller_id, currency) AS ordered
),
written AS ({_INSERT}),
taxed AS (
    INSERT INTO settlement_taxes (settlement_id, vat_rate_bps, vat_reason, net_minor, vat_minor, is_debit)
    SELECT made.id, taxes.vat_rate_bps, taxes.vat_reason, net_minor, vat_minor, is_debit
    FROM taxes JOIN made USING (reseller_id, currency)
),
clawed AS (
    INSERT INTO settlement_lines (settlement_id, commission_id, sequence, amount_minor, transferred_minor)
    SELECT made.id, undone.id, undone.sequence, undone.amount_minor, undone.transferred_minor
    FROM undone JOIN made USING (reseller_id, currency)
),
listed AS (
    UPDATE commissions AS c SET is_listed = true FROM own WHERE c.id = own.id
),
adjusted AS (
    UPDATE adjustments AS a SET settlement_id = made.id
    FROM wanted JOIN made USING (reseller_id, currency) WHERE a.id = wanted.id
),
brought AS (
    UPDATE settlements AS s SET brought_into = made.id, status = 'carried_over', reason = NULL
    FROM remainders JOIN made USING (reseller_id, currency) WHERE s.id = remainders.id
)
INSERT INTO settlement_lines (settlement_id, commission_id, sequence, amount_minor, transferred_minor)
SELECT made.id, due.id, 0, due.amount_minor, due.transferred_minor
FROM due JOIN made ON made.reseller_id = due.reseller_id AND made.currency = due.currency
"""  # noqa: S608 - constants
)
