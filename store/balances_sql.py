"""Every account, a reseller in one currency, twice: as the ledger has it, and as statements explain it."""

from __future__ import annotations

BALANCES = """
WITH booked AS (
    SELECT e.currency, p.credit_account AS account, p.amount_minor AS amount
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id WHERE p.credit_account {account}
    UNION ALL
    SELECT e.currency, p.debit_account, -p.amount_minor
    FROM ledger_postings AS p JOIN ledger_entries AS e ON e.id = p.entry_id WHERE p.debit_account {account}
), parts AS (
    SELECT substr(account, 10) AS reseller_id, currency, sum(amount) AS ledger, 0 AS unstated, 0 AS unpaid, 0 AS carried
    FROM booked GROUP BY 1, 2
    UNION ALL
    SELECT reseller_id, currency, 0, sum(accrued_minor - reversed_minor), 0, 0
    FROM commissions WHERE reseller_id {reseller} GROUP BY 1, 2
    UNION ALL
    SELECT reseller_id, currency, 0, -sum(amount_minor - reversed_minor), 0, 0
    FROM transfers WHERE status = 'succeeded' AND kind = 'booking' AND reseller_id {reseller} GROUP BY 1, 2
    UNION ALL
    SELECT reseller_id, currency, 0, sum(CASE direction WHEN 'credit' THEN amount_minor ELSE -amount_minor END), 0, 0
    FROM adjustments WHERE status = 'approved' AND settlement_id IS NULL AND reseller_id {reseller} GROUP BY 1, 2
    UNION ALL
    SELECT s.reseller_id, s.currency, 0,
        sum(s.clawback_minor + s.transferred_minor - s.earned_minor - s.returned_minor),
        sum(CASE WHEN s.carried_by IS NULL
            THEN s.payable_minor - CASE WHEN t.status = 'succeeded' THEN t.amount_minor - t.reversed_minor ELSE 0 END
            ELSE 0 END),
        sum(CASE WHEN s.brought_into IS NOT NULL THEN 0 WHEN s.carried_by IS NOT NULL THEN s.payable_minor
            ELSE s.carried_credit_minor - s.carried_debt_minor END)
    FROM settlements AS s LEFT JOIN transfers AS t ON t.settlement_id = s.id
    WHERE s.reseller_id {reseller} GROUP BY 1, 2
)
SELECT reseller_id, currency, CAST(greatest(0, sum(ledger)) AS bigint) AS owed_minor,
    CAST(greatest(0, -sum(ledger)) AS bigint) AS owing_minor,
    CAST(greatest(0, sum(unstated)) AS bigint) AS unstated_credit_minor,
    CAST(greatest(0, -sum(unstated)) AS bigint) AS unstated_debt_minor,
    CAST(sum(unpaid) AS bigint) AS unpaid_minor, CAST(greatest(0, sum(carried)) AS bigint) AS carried_credit_minor,
    CAST(greatest(0, -sum(carried)) AS bigint) AS carried_debt_minor
FROM parts GROUP BY reseller_id, currency ORDER BY reseller_id, currency
"""
"""Parameters of `str.format`: conditions on the ledger's account and on a reseller's id."""
