"""From a request's bytes to a row of the inbox: is it genuine, what is it, and under which id is it stored once?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateways.calcom_webhooks import BadWebhook, NotUnderstood, parse_calcom, verify_calcom
from gateways.stripe_webhooks import webhook_event
from starter.routing import OF_CONNECTED_ACCOUNTS, SOURCE_CALCOM, SOURCE_STRIPE, Action, action_for

RECEIVED: Final = "received"
IGNORED: Final = "ignored"
NOT_UNDERSTOOD: Final = "not_understood"

UNREADABLE_TYPE: Final = "unreadable"
"""Type of rows whose body names no event."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A genuine request, ready for the inbox.

    `event_id` is the same for a byte-equal redelivery. `status` is the inbox row's first status. `note` says why a body
    was not understood, without personal data.
    """

    source: str
    event_id: str
    type: str
    object_id: str | None
    status: str
    note: str | None = None


def _digest(*parts: bytes) -> str:
    """Hex SHA-256 over the parts, each with its length, so that no two different lists give the same bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _not_understood(source: str, raw: bytes, reason: str) -> Incoming:
    event_id = f"sha256-{_digest(source.encode(), raw)}"
    return Incoming(source, event_id, UNREADABLE_TYPE, None, NOT_UNDERSTOOD, reason)


def calcom(raw: bytes, signature_header: str, secret: str) -> Incoming:
    """Raises BadWebhook for what is not genuine. Cal.com gives no delivery id: the content is the id."""
    verify_calcom(raw, signature_header, secret)
    try:
        event = parse_calcom(raw)
    except NotUnderstood as problem:
        return _not_understood(SOURCE_CALCOM, raw, problem.reason)
    created = event.created_at.isoformat() if event.created_at else ""
    event_id = f"sha256-{_digest(event.trigger.encode(), (event.uid or '').encode(), created.encode(), raw)}"
    action = action_for(SOURCE_CALCOM, event.trigger)
    if action is Action.RESCHEDULE and event.reschedule_uid is None:
        note = "a rescheduling that does not name the earlier booking"
        return Incoming(SOURCE_CALCOM, event_id, event.trigger, event.uid, NOT_UNDERSTOOD, note)
    status = IGNORED if action is Action.IGNORE else RECEIVED
    return Incoming(SOURCE_CALCOM, event_id, event.trigger, event.uid, status)


def stripe(raw: bytes, signature_header: str, secret: str, *, now: datetime) -> Incoming:
    """Raises BadWebhook for what is not genuine, too old or of the future; `now` is aware.

    Of a connected account only the account itself and its payouts matter: this pipeline charges on the platform's.
    """
    try:
        event = webhook_event(raw, signature_header, secret, now=now)
    except NotUnderstood as problem:
        return _not_understood(SOURCE_STRIPE, raw, problem.reason)
    action = action_for(SOURCE_STRIPE, event.type)
    ignored = action is Action.IGNORE or (event.account is not None) != (action in OF_CONNECTED_ACCOUNTS)
    return Incoming(SOURCE_STRIPE, event.id, event.type, event.object_id, IGNORED if ignored else RECEIVED)


__all__ = [
    "IGNORED",
    "NOT_UNDERSTOOD",
    "RECEIVED",
    "UNREADABLE_TYPE",
    "BadWebhook",
    "Incoming",
    "calcom",
    "stripe",
]
