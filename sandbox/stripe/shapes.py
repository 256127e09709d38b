"""The JSON shapes of payments: customer, payment method, PaymentIntent, charge, refund, dispute."""

from __future__ import annotations

from typing import Any

from sandbox.stripe.catalog import TestMethod
from sandbox.stripe.context import new_id
from sandbox.stripe.errors import JsonObject


def empty_address() -> JsonObject:
    """An address with nothing in it."""
    return dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def billing_details(given: JsonObject | None = None) -> JsonObject:
    """Billing details, filled with what was given."""
    given = given or {}
    return {
        "address": {**empty_address(), **(given.get("address") or {})},
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": given.get("tax_id"),
    }


def empty_list(url: str) -> JsonObject:
    """A list object without entries."""
    return {"object": "list", "data": [], "has_more": False, "url": url}


def customer(now: int) -> JsonObject:
    """A customer that nothing is known of."""
    return {
        "id": new_id("cus", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": new_id("x", 8)[2:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def payment_method(now: int, token: str, method: TestMethod, details: JsonObject | None = None) -> JsonObject:
    """A payment method that remembers which test method it came from."""
    body: JsonObject = {
        "id": new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": billing_details(details),
        "created": now,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": method.type,
        "_token": token,
        "_saved": False,
    }
    if method.type == "card":
        body["card"] = {
            "brand": method.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": method.country,
            "display_brand": method.brand,
            "exp_month": 12,
            "exp_year": 2034,
            "fingerprint": f"fp{method.last4}{method.brand}",
            "funding": method.funding,
            "generated_from": None,
            "last4": method.last4,
            "networks": {"available": [method.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        }
    else:
        body["sepa_debit"] = {
            "bank_code": "37040044",
            "branch_code": "",
            "country": method.country,
            "fingerprint": f"fp{method.last4}sepa",
            "generated_from": {"charge": None, "setup_attempt": None},
            "last4": method.last4,
        }
    return body


def payment_intent(now: int, amount: int, currency: str) -> JsonObject:
    """A PaymentIntent that waits for a payment method."""
    intent_id = new_id("pi")
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{intent_id}_secret_{new_id('s', 25)[2:]}",
        "confirmation_method": "automatic",
        "created": now,
        "currency": currency,
        "customer": None,
        "description": None,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card", "sepa_debit"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def _charge_details(method: JsonObject) -> JsonObject:
    if method["type"] == "sepa_debit":
        shown = ("bank_code", "branch_code", "country", "fingerprint", "last4")
        kept = {name: method["sepa_debit"][name] for name in shown}
        return {"type": "sepa_debit", "sepa_debit": {**kept, "mandate": None}}
    card = method["card"]
    names = (
        "brand",
        "checks",
        "country",
        "exp_month",
        "exp_year",
        "fingerprint",
        "funding",
        "last4",
        "regulated_status",
    )
    return {
        "type": "card",
        "card": {
            **{name: card[name] for name in names},
            "amount_authorized": None,
            "authorization_code": None,
            "extended_authorization": {"status": "disabled"},
            "incremental_authorization": {"status": "unavailable"},
            "installments": None,
            "mandate": None,
            "multicapture": {"status": "unavailable"},
            "network": card["brand"],
            "network_token": {"used": False},
            "network_transaction_id": None,
            "three_d_secure": None,
            "wallet": None,
        },
    }


def charge(now: int, intent: JsonObject, method: JsonObject, status: str) -> JsonObject:
    """The charge that one confirmation of a PaymentIntent makes: ``succeeded``, ``pending`` or ``failed``."""
    return {
        **_plain_charge(now, "py" if method["type"] == "sepa_debit" else "ch", intent["amount"], intent["currency"]),
        "amount_captured": 0 if status == "failed" else intent["amount"],
        "billing_details": method["billing_details"],
        "captured": status != "failed",
        "customer": intent["customer"],
        "description": intent["description"],
        "metadata": dict(intent["metadata"]),
        "paid": status != "failed",
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _charge_details(method),
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": status,
        "transfer_group": intent["transfer_group"],
        "_token": method["_token"],
    }


def destination_payment(now: int, amount: int, currency: str, transfer_id: str) -> JsonObject:
    """The ``py_`` charge that a transfer makes in the connected account."""
    body = _plain_charge(now, "py", amount, currency)
    body.update(source_transfer=transfer_id, status="succeeded", paid=True, captured=True, amount_captured=amount)
    body["payment_method_details"] = {"type": "stripe_account", "stripe_account": {}}
    return body


def _plain_charge(now: int, prefix: str, amount: int, currency: str) -> JsonObject:
    return {
        "id": new_id(prefix),
        "object": "charge",
        "amount": amount,
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": billing_details(),
        "calculated_statement_descriptor": "SANDBOX",
        "captured": False,
        "created": now,
        "currency": currency,
        "customer": None,
        "description": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "fraud_details": {},
        "livemode": False,
        "metadata": {},
        "on_behalf_of": None,
        "outcome": None,
        "paid": False,
        "payment_intent": None,
        "payment_method": None,
        "payment_method_details": None,
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "pending",
        "transfer_data": None,
        "transfer_group": None,
    }


def outcome(kind: str, network_status: str, reason: str | None, message: str) -> JsonObject:
    """A charge's ``outcome``."""
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": network_status,
        "reason": reason,
        "risk_level": "normal",
        "seller_message": message,
        "type": kind,
    }


def refund(now: int, charge_body: JsonObject, amount: int, reason: str | None) -> JsonObject:
    """A refund of a charge, not yet in a status."""
    is_card = (charge_body["payment_method_details"] or {}).get("type") == "card"
    body: JsonObject = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge_body["id"],
        "created": now,
        "currency": charge_body["currency"],
        "metadata": {},
        "payment_intent": charge_body["payment_intent"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    if is_card:
        body["destination_details"] = {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        }
    return body


EVIDENCE_FIELDS = (
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
)


def dispute(now: int, charge_body: JsonObject, amount: int, status: str, reason: str) -> JsonObject:
    """A dispute that has moved no money yet."""
    body: dict[str, Any] = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": charge_body["id"],
        "created": now,
        "currency": charge_body["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE_FIELDS), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": now + 7 * 86_400,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": status.startswith("warning"),
        "livemode": False,
        "metadata": {},
        "payment_intent": charge_body["payment_intent"],
        "reason": reason,
        "status": status,
    }
    details = charge_body["payment_method_details"] or {}
    if details.get("type") == "card":
        inquiry = status.startswith("warning")
        body["payment_method_details"] = {
            "card": {
                "brand": details["card"]["brand"],
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": details["card"]["network"],
                "network_reason_code": "10.4",
            },
            "type": "card",
        }
    return body
