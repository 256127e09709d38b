"""Ways to break sound books: the invariant, the place that the audit must name, and the SQL that breaks it."""

from __future__ import annotations

BREAKS: dict[str, tuple[str, str, list[str]]] = {
    "I1 a charge without its entry": (
        "I1",
        "charge charge:month:1",
        ["DELETE FROM ledger_entries WHERE key = 'charged:month:1'"],
    ),
    "I1 an entry without its transfer": (
        "I1",
        "entry transferred:transfer:own:r-leaf",
        [
            "UPDATE commissions SET transfer_key = NULL, settled_minor = 0, status = 'matured' WHERE chain_uid = 'own'",
            "DELETE FROM transfers WHERE chain_uid = 'own'",
        ],
    ),
    "I1 another amount": (
        "I1",
        "refund refund:back:1",
        ["UPDATE refunds SET amount_minor = 11899 WHERE chain_uid = 'back'"],
    ),
    "I2 an entry without postings": (
        "I2",
        "entry billed:month",
        [
            "DELETE FROM ledger_postings WHERE entry_id = (SELECT id FROM ledger_entries WHERE key = 'billed:month')",
        ],
    ),
    "I2 undone beyond itself": (
        "I2",
        "entry charged:back:1",
        [
            "UPDATE ledger_postings SET amount_minor = 11901 WHERE entry_id ="
            " (SELECT id FROM ledger_entries WHERE key = 'refunded:back:1')",
        ],
    ),
    "I2 a closed chain that is not even": (
        "I2",
        "chain back (refunded)",
        [
            "DELETE FROM ledger_postings WHERE entry_id IN"
            " (SELECT id FROM ledger_entries WHERE key = 'invoice_corrected:back:1')",
            "DELETE FROM ledger_entries WHERE key = 'invoice_corrected:back:1'",
        ],
    ),
    "I3 charged twice": (
        "I3",
        "chain month",
        [
            "DROP INDEX uq_charges_one_open_or_succeeded",
            "INSERT INTO charges SELECT key || 'b', chain_uid, 2, customer_id, currency, amount_minor, status, 'pi_2',"
            " 'ch_2', fee_minor, NULL, begun_at, finished_at FROM charges WHERE chain_uid = 'month'",
        ],
    ),
    "I3 a missing guard": (
        "I3",
        "index uq_charges_one_open_or_succeeded",
        [
            "DROP INDEX uq_charges_one_open_or_succeeded",
        ],
    ),
    "I3 refunded twice": (
        "I3",
        "charge charge:back:1",
        [
            "INSERT INTO refunds SELECT key || 'b', chain_uid, 2, charge_key, currency, amount_minor,"
            " 'started', NULL, NULL, begun_at, NULL FROM refunds",
        ],
    ),
    "I3 transferred twice": (
        "I3",
        "chain own, reseller r-leaf",
        [
            "ALTER TABLE transfers DROP CONSTRAINT uq_transfers_chain_uid_reseller_id",
            "INSERT INTO transfers SELECT key || 'b', kind, chain_uid, settlement_id, reseller_id, currency,"
            " amount_minor, 0, destination_account_id, 'tr_2', status, NULL, begun_at, finished_at"
            " FROM transfers WHERE chain_uid = 'own'",
        ],
    ),
    "I4 parked without deadline": ("I4", "chain parked (parked, no_price)", ["UPDATE chains SET deadline_at = NULL"]),
    "I4 the deadline is over": ("I4", "chain parked (parked, no_price)", ["UPDATE chains SET deadline_at = now()"]),
    "I4 hangs in the middle": (
        "I4",
        "chain parked (charging)",
        [
            "UPDATE chains SET stage = 'charging', reason = NULL, deadline_at = NULL,"
            " updated_at = now() - interval '1 hour' WHERE stage = 'parked'",
        ],
    ),
    "I4 an event nobody delivers": (
        "I4",
        "inbox event evt_1 (x)",
        [
            "INSERT INTO inbox (event_id, source, type, status, next_attempt_at)"
            " VALUES ('evt_1', 'stripe', 'x', 'received', now() - interval '1 hour')",
        ],
    ),
    "I5 another amount than the rule gives": (
        "I5",
        "chain month, reseller r-mid",
        [
            "UPDATE commissions SET accrued_minor = 501 WHERE chain_uid = 'month' AND reseller_id = 'r-mid'",
        ],
    ),
    "I5 rule and amount changed together": (
        "I5",
        "chain month, reseller r-mid",
        [
            "UPDATE commissions SET accrued_minor = 600, rule = jsonb_set(rule, '{rate_bps}', '600')"
            " WHERE chain_uid = 'month' AND reseller_id = 'r-mid'",
        ],
    ),
    "I5 a quote that does not add up": (
        "I5",
        "chain parked, quote v1",
        [
            "INSERT INTO quote_levels SELECT 'parked', 1, level, reseller_id, amount_minor + 1, rule,"
            " agreement_version, payout_mode FROM quote_levels WHERE chain_uid = 'month'",
        ],
    ),
    "I5 a rule that lost its inputs": (
        "I5",
        "chain month, reseller r-mid",
        [
            "UPDATE commissions SET rule = '{}' WHERE chain_uid = 'month' AND reseller_id = 'r-mid'",
        ],
    ),
    "I6 paid more than is owed": (
        "I6",
        "chain own, reseller r-leaf",
        [
            "UPDATE commissions SET reversed_minor = 100 WHERE chain_uid = 'own' AND reseller_id = 'r-leaf'",
        ],
    ),
    "I6 a refund without its share": (
        "I6",
        "chain back, reseller r-root",
        [
            "UPDATE commissions SET reversed_minor = 0, status = 'accrued'"
            " WHERE chain_uid = 'back' AND reseller_id = 'r-root'",
        ],
    ),
    "I6 paid while disputed": (
        "I6",
        "chain own, reseller r-leaf",
        [
            "UPDATE chains SET stage = 'parked', reason = 'disputed', outcome = NULL, closed_at = NULL,"
            " deadline_at = now() + interval '1 day', updated_at = now() - interval '1 day' WHERE chain_uid = 'own'",
        ],
    ),
    "I7 a transfer over another amount": (
        "I7",
        "statement S-2026-03-r-leaf-EUR-1 (paid)",
        [
            "UPDATE transfers SET amount_minor = 3449 WHERE key = 'settlement:leaf'",
        ],
    ),
    "I7 never paid": (
        "I7",
        "statement S-2026-03-r-mid-EUR-1",
        [
            "UPDATE settlements SET frozen_at = now() - interval '2 days' WHERE reseller_id = 'r-mid'",
        ],
    ),
    "I8 a changed posting": (
        "I8",
        "entry fee:month:1",
        [
            "UPDATE ledger_postings SET credit_account = 'suspense' WHERE debit_account = 'stripe_fees' AND entry_id ="
            " (SELECT id FROM ledger_entries WHERE key = 'fee:month:1')",
        ],
    ),
    "I8 a posting that came later": (
        "I8",
        "entry billed:month",
        [
            "INSERT INTO ledger_postings SELECT id, 50, 'suspense', 'revenue', 1"
            " FROM ledger_entries WHERE key = 'billed:month'",
        ],
    ),
    "I8 a trigger that was switched off": (
        "I8",
        "table ledger_entries",
        [
            "ALTER TABLE ledger_entries DISABLE TRIGGER refuse_change",
        ],
    ),
    "I8 a trigger that was dropped": (
        "I8",
        "table ledger_postings",
        ["DROP TRIGGER refuse_truncate ON ledger_postings"],
    ),
}
