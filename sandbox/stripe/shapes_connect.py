"""The JSON shapes of Connect and of money on its way: account, transfer, reversal, payout, balance transaction."""

from __future__ import annotations

from sandbox.stripe.context import new_id
from sandbox.stripe.errors import JsonObject
from sandbox.stripe.shapes import empty_address, empty_list

_DUE = ["business_profile.url", "external_account", "tos_acceptance.date", "tos_acceptance.ip"]


def requirements(due: list[str] | None = None, disabled_reason: str | None = None) -> JsonObject:
    """What an account or capability still has to hand in."""
    return {
        "alternatives": [],
        "current_deadline": None,
        "currently_due": list(due or []),
        "disabled_reason": disabled_reason,
        "errors": [],
        "eventually_due": list(due or []),
        "past_due": list(due or []) if disabled_reason == "requirements.past_due" else [],
        "pending_verification": [],
    }


def account(now: int, country: str, default_currency: str, controller: JsonObject) -> JsonObject:
    """A connected account that has not been onboarded."""
    account_id = new_id("acct", 16)
    return {
        "id": account_id,
        "object": "account",
        "business_profile": {
            "annual_revenue": None,
            "estimated_worker_count": None,
            "mcc": None,
            "name": None,
            "product_description": None,
            "support_address": empty_address(),
            "support_email": None,
            "support_phone": None,
            "support_url": None,
            "url": None,
        },
        "business_type": None,
        "capabilities": {},
        "charges_enabled": False,
        "controller": controller,
        "country": country,
        "created": now,
        "default_currency": default_currency,
        "details_submitted": False,
        "email": None,
        "external_accounts": empty_list(f"/v1/accounts/{account_id}/external_accounts"),
        "future_requirements": requirements(),
        "metadata": {},
        "payouts_enabled": False,
        "requirements": requirements(_DUE, "requirements.past_due"),
        "settings": {
            "bacs_debit_payments": {"display_name": None, "service_user_number": None},
            "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
            "card_payments": {
                "decline_on": {"avs_failure": False, "cvc_failure": False},
                "statement_descriptor_prefix": None,
                "statement_descriptor_prefix_kana": None,
                "statement_descriptor_prefix_kanji": None,
            },
            "dashboard": {"display_name": None, "timezone": "Europe/Berlin"},
            "payments": {
                "statement_descriptor": None,
                "statement_descriptor_kana": None,
                "statement_descriptor_kanji": None,
            },
            "payouts": {
                "debit_negative_balances": True,
                "schedule": {"delay_days": 7, "interval": "manual"},
                "statement_descriptor": None,
            },
            "sepa_debit_payments": {},
        },
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": "none",
        "_access": True,
    }


def bank_account(account_id: str, country: str, currency: str, last4: str) -> JsonObject:
    """The bank account that payouts go to."""
    return {
        "id": new_id("ba"),
        "object": "bank_account",
        "account": account_id,
        "account_holder_name": None,
        "account_holder_type": None,
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "STRIPE TEST BANK",
        "country": country,
        "currency": currency,
        "default_for_currency": True,
        "fingerprint": f"fp{last4}bank",
        "last4": last4,
        "metadata": {},
        "routing_number": "37040044",
        "status": "new",
    }


def balance_transaction(
    now: int, kind: str, category: str, amount: int, fee: int, currency: str, available_on: int, source: str
) -> JsonObject:
    """One movement of a Stripe balance. ``amount`` is signed, as at Stripe: it is their format, not our ledger."""
    details = (
        [
            {
                "amount": fee,
                "application": None,
                "currency": currency,
                "description": "Stripe processing fees",
                "type": "stripe_fee",
            }
        ]
        if fee
        else []
    )
    return {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": available_on,
        "balance_type": "payments",
        "created": now,
        "currency": currency,
        "description": None,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": details,
        "net": amount - fee,
        "reporting_category": category,
        "source": source,
        "status": "available" if available_on <= now else "pending",
        "type": kind,
    }


def transfer(now: int, amount: int, currency: str, destination: str) -> JsonObject:
    """A transfer to a connected account."""
    transfer_id = new_id("tr")
    return {
        "id": transfer_id,
        "object": "transfer",
        "amount": amount,
        "amount_reversed": 0,
        "balance_transaction": None,
        "created": now,
        "currency": currency,
        "description": None,
        "destination": destination,
        "livemode": False,
        "metadata": {},
        "reversals": empty_list(f"/v1/transfers/{transfer_id}/reversals"),
        "reversed": False,
        "source_transaction": None,
        "source_type": "card",
        "transfer_group": None,
    }


def reversal(now: int, transfer_body: JsonObject, amount: int) -> JsonObject:
    """A (partial) reversal of a transfer."""
    return {
        "id": new_id("trr"),
        "object": "transfer_reversal",
        "amount": amount,
        "balance_transaction": None,
        "created": now,
        "currency": transfer_body["currency"],
        "destination_payment_refund": None,
        "metadata": {},
        "source_refund": None,
        "transfer": transfer_body["id"],
    }


def payout(now: int, amount: int, currency: str, destination: str, arrival_date: int) -> JsonObject:
    """A payout on its way to a bank."""
    return {
        "id": new_id("po"),
        "object": "payout",
        "amount": amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": arrival_date,
        "automatic": False,
        "balance_transaction": None,
        "created": now,
        "currency": currency,
        "description": None,
        "destination": destination,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
    }
