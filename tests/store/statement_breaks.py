"""Ways to break sound statements: the invariant, the place that the audit must name, and the SQL that breaks it."""

from __future__ import annotations

_LEAF = "(SELECT id FROM settlements WHERE reseller_id = 'r-leaf' AND period = '2026-03')"
_NEXT = "(SELECT id FROM settlements WHERE reseller_id = 'r-leaf' AND period = '2026-04')"
_COMMISSION = "(SELECT id FROM commissions WHERE chain_uid = '{0}' AND reseller_id = 'r-leaf')"
_ENTRY = "(SELECT id FROM ledger_entries WHERE key = '{0}')"

BREAKS: dict[str, tuple[str, str, list[str]]] = {
    "a clawback that was left out": (
        "I6",
        "chain month, reseller r-leaf",
        [
            f"DELETE FROM settlement_lines WHERE sequence = 1 AND commission_id = {_COMMISSION.format('month')}",
            "UPDATE ledger_entries SET posted_at = posted_at - interval '1 hour' WHERE kind = 'commission_reversed'",
        ],
    ),
    "more clawed back than was reversed": (
        "I6",
        "chain month, reseller r-leaf",
        [
            "UPDATE settlement_lines SET amount_minor = 1300"
            f" WHERE sequence = 1 AND commission_id = {_COMMISSION.format('month')}",
        ],
    ),
    "two lines of one statement that are wrong and cancel out": (
        "I6",
        "chain two, reseller r-leaf",
        [
            "UPDATE settlement_lines SET amount_minor = amount_minor - 500"
            f" WHERE commission_id = {_COMMISSION.format('two')}",
            "UPDATE settlement_lines SET amount_minor = amount_minor + 500"
            f" WHERE sequence = 0 AND commission_id = {_COMMISSION.format('own')}",
        ],
    ),
    "an own transfer that its line does not show": (
        "I6",
        "chain own, reseller r-leaf",
        [
            "UPDATE settlement_lines SET transferred_minor = transferred_minor - 1"
            f" WHERE commission_id = {_COMMISSION.format('own')}",
        ],
    ),
    "a matured commission that a closing skipped": (
        "I6",
        "chain april, reseller r-root",
        [
            "UPDATE commissions SET transfer_key = NULL, settled_minor = 0, status = 'matured'"
            " WHERE chain_uid = 'april' AND reseller_id = 'r-root'",
            "DELETE FROM settlement_lines WHERE commission_id ="
            " (SELECT id FROM commissions WHERE chain_uid = 'april' AND reseller_id = 'r-root')",
            "UPDATE chains SET updated_at = updated_at - interval '1 hour'",
        ],
    ),
    "an own transfer that a closing skipped": (
        "I6",
        "chain own, reseller r-leaf",
        [
            f"UPDATE commissions SET is_listed = false WHERE id = {_COMMISSION.format('own')}",
            f"DELETE FROM settlement_lines WHERE commission_id = {_COMMISSION.format('own')}",
            "UPDATE chains SET updated_at = updated_at - interval '1 hour'",
            "UPDATE transfers SET finished_at = finished_at - interval '1 hour'",
        ],
    ),
    "figures that are not the lines": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1",
        [f"UPDATE settlement_lines SET amount_minor = 2499 WHERE commission_id = {_COMMISSION.format('two')}"],
    ),
    "a line that vanished": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1",
        [f"DELETE FROM settlement_lines WHERE commission_id = {_COMMISSION.format('two')}"],
    ),
    "a statement that does not balance": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1",
        [
            "ALTER TABLE settlements DROP CONSTRAINT ck_settlements_balances",
            f"UPDATE settlements SET payable_minor = payable_minor - 1 WHERE id = {_LEAF}",
        ],
    ),
    "an opening that was not left": (
        "I7",
        "statement S-2026-04-r-root-EUR-1",
        ["UPDATE settlements SET brought_into = NULL WHERE reseller_id = 'r-root'"],
    ),
    "a remainder brought into another account": (
        "I7",
        "statement S-2026-03-r-root-EUR-1",
        [f"UPDATE settlements SET brought_into = {_NEXT} WHERE reseller_id = 'r-root' AND period = '2026-03'"],
    ),
    "VAT that its lines don't give": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1",
        [f"UPDATE settlement_taxes SET vat_minor = vat_minor + 1 WHERE settlement_id = {_LEAF}"],
    ),
    "VAT that nothing explains": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1",
        [f"UPDATE settlement_taxes SET vat_reason = 'reverse_charge' WHERE settlement_id = {_LEAF}"],
    ),
    "VAT that is not in the ledger": (
        "I7",
        "entry commission_vat:S-2026-03-r-leaf-EUR-1",
        [
            f"DELETE FROM ledger_postings WHERE entry_id = {_ENTRY.format('commission_vat:S-2026-03-r-leaf-EUR-1')}",
            "DELETE FROM ledger_entries WHERE key = 'commission_vat:S-2026-03-r-leaf-EUR-1'",
        ],
    ),
    "an adjustment that is not in the ledger": (
        "I7",
        "entry adjusted:A-1",
        [
            f"DELETE FROM ledger_postings WHERE entry_id = {_ENTRY.format('adjusted:A-1')}",
            "DELETE FROM ledger_entries WHERE key = 'adjusted:A-1'",
        ],
    ),
    "an account that nothing explains": (
        "I7",
        "account reseller:r-leaf EUR",
        [
            "INSERT INTO ledger_postings SELECT id, 50, 'suspense', 'reseller:r-leaf', 1"
            " FROM ledger_entries WHERE key = 'billed:month'",
        ],
    ),
    "a line of nobody": (
        "I7",
        "line 999999/0",
        [f"INSERT INTO settlement_lines VALUES ({_LEAF}, 999999, 0, 1, 0)"],
    ),
    "a commission marked as listed that no statement shows": (
        "I7",
        "chain own, reseller r-leaf",
        [f"DELETE FROM settlement_lines WHERE commission_id = {_COMMISSION.format('own')}"],
    ),
    "carried over and paid": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1 (carried_over)",
        [f"UPDATE settlements SET status = 'carried_over', carried_by = 'x' WHERE id = {_LEAF}"],
    ),
    "paid without the second person": (
        "I7",
        "statement S-2026-04-r-leaf-EUR-1",
        [
            "UPDATE settlements SET approved_by = NULL, approved_at = NULL, approved_account_id = NULL"
            f" WHERE id = {_NEXT}",
        ],
    ),
    "approved for another account": (
        "I7",
        "statement S-2026-04-r-leaf-EUR-1",
        [f"UPDATE settlements SET approved_account_id = 'acct_other' WHERE id = {_NEXT}"],
    ),
    "approved by who asked": (
        "I7",
        "statement S-2026-04-r-leaf-EUR-1",
        [f"UPDATE settlements SET approved_by = 'OPS-Anna' WHERE id = {_NEXT}"],
    ),
    "a commission of a paid statement that is not settled": (
        "I7",
        "chain two, reseller r-leaf",
        [
            "UPDATE commissions SET status = 'matured', transfer_key = NULL, settled_minor = 0"
            " WHERE chain_uid = 'two' AND reseller_id = 'r-leaf'",
        ],
    ),
    "a guard that is gone": (
        "I3",
        "index pk_settlement_lines",
        ["ALTER TABLE settlement_lines DROP CONSTRAINT pk_settlement_lines"],
    ),
    "statements that can be changed": (
        "I8",
        "table settlements",
        ["ALTER TABLE settlements DISABLE TRIGGER refuse_change"],
    ),
}
