"""Signed webhooks as Cal.com and Stripe send them, with planted personal data that must never leak."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

CALCOM_SECRET = "calcom-webhook-secret"
STRIPE_SECRET = "whsec_starter_tests"
NAME = "Erika Musterfrau"
EMAIL = "erika.musterfrau@example.com"


def calcom_body(trigger: str, uid: str | None, **payload: Any) -> bytes:
    """A body in the usual shape; `createdAt` is the same for the same arguments."""
    booking: dict[str, Any] = {"title": f"60min with {NAME}", "attendees": [{"name": NAME, "email": EMAIL}], **payload}
    if uid is not None:
        booking["uid"] = uid
    body = {"triggerEvent": trigger, "createdAt": "2026-11-22T18:30:00.538Z", "payload": booking}
    return json.dumps(body).encode()


def meeting_body(trigger: str, uid: str, **booking: Any) -> bytes:
    """The flat body of MEETING_STARTED and MEETING_ENDED."""
    return json.dumps({"triggerEvent": trigger, "uid": uid, "createdAt": "2026-11-22T18:30:00Z", **booking}).encode()


def calcom_headers(raw: bytes, secret: str = CALCOM_SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return {"X-Cal-Signature-256": digest, "Content-Type": "application/json"}


def stripe_body(event_id: str, event_type: str, thing: dict[str, Any], **event: Any) -> bytes:
    """A snapshot event about an object."""
    body = {
        "id": event_id,
        "object": "event",
        "type": event_type,
        "created": 1_795_372_200,
        "livemode": False,
        "data": {"object": thing},
        **event,
    }
    return json.dumps(body).encode()


def stripe_headers(raw: bytes, at: datetime, secret: str = STRIPE_SECRET) -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + raw, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={stamp},v1={digest}", "Content-Type": "application/json"}


def payment_intent(payment_id: str, chain_uid: str | None = None, **fields: Any) -> dict[str, Any]:
    metadata = {} if chain_uid is None else {"chain_uid": chain_uid, "billing_key": f"charge:{chain_uid}:1"}
    return {"id": payment_id, "object": "payment_intent", "metadata": metadata, "receipt_email": EMAIL, **fields}
