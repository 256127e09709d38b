"""Cal.com's webhooks: is it genuine, and which booking does it name?

`X-Cal-Signature-256` is the hex HMAC-SHA256 of the raw body, without a timestamp: a replay cannot be told from the
first delivery, so nothing but the uid is taken from a body and the booking is read again by the API.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from domain.ids import is_safe
from gateways.webhook_bodies import BadWebhook, NotText, NotUnderstood, parse_json, secret_bytes

__all__ = ["BadWebhook", "CalcomEvent", "NotUnderstood", "parse_calcom", "verify_calcom"]

_SIGNATURE: Final = re.compile(r"[0-9a-fA-F]{64}")
_TRIGGER: Final = re.compile(r"[A-Z][A-Z0-9_]{0,79}")
_ABOUT_A_BOOKING: Final = ("BOOKING_", "MEETING_")


@dataclass(frozen=True, slots=True)
class CalcomEvent:
    """A genuine webhook, reduced to ids.

    `uid` is None only for triggers that are not about a booking (PING, FORM_SUBMITTED, OOO_CREATED).
    `reschedule_uid` is the uid that this booking replaces. `created_at` is when the event happened, aware, UTC; None
    for MEETING_* (their `createdAt` is the booking's). `team_id` is None where the booking belongs to no team.
    """

    trigger: str
    uid: str | None
    reschedule_uid: str | None
    created_at: datetime | None
    team_id: int | None


def verify_calcom(raw: bytes, signature_header: str, secret: str) -> None:
    """Raises BadWebhook unless the body, as received, was signed with this secret.

    Cal.com sends the words `no-secret-provided` for a webhook without a secret; they are refused like any forgery.
    """
    key = secret_bytes(secret)
    given = signature_header.strip()
    if not given:
        raise BadWebhook("the signature is missing")
    if given == "no-secret-provided":
        raise BadWebhook("the webhook at Cal.com has no secret")
    if not _SIGNATURE.fullmatch(given):
        raise BadWebhook("the signature header is malformed")
    if not hmac.compare_digest(hmac.new(key, raw, hashlib.sha256).hexdigest(), given.lower()):
        raise BadWebhook("the signature does not match")


def _uid(source: Mapping[str, Any], *names: str) -> str | None:
    """The first of these fields that holds a uid that can be part of an id."""
    for name in names:
        value = source.get(name)
        if isinstance(value, str) and value.isprintable() and is_safe(value):
            return value
    return None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _team_id(source: Mapping[str, Any]) -> int | None:
    team = source.get("team")
    for value in (source.get("teamId"), team.get("id") if isinstance(team, Mapping) else None):
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63:
            return value
    return None


def parse_calcom(raw: bytes) -> CalcomEvent:
    """The event in a body that `verify_calcom` accepted: the usual shape `{triggerEvent, createdAt, payload}` or the
    flat one of MEETING_STARTED and MEETING_ENDED `{triggerEvent, ...booking}`.

    Raises BadWebhook for a body that is not UTF-8, NotUnderstood for every other one: a payload template at Cal.com may
    have turned a genuine booking into anything.
    """
    try:
        body = parse_json(raw)
    except NotText as error:
        raise BadWebhook(str(error)) from None
    except ValueError as error:
        raise NotUnderstood(str(error)) from None
    if not isinstance(body, Mapping):
        raise NotUnderstood("the body is no object")
    trigger = body.get("triggerEvent")
    if not isinstance(trigger, str) or not _TRIGGER.fullmatch(trigger):
        raise NotUnderstood("the body names no trigger")
    payload = body.get("payload")
    source: Mapping[str, Any] = payload if isinstance(payload, Mapping) else body
    nested = source.get("booking")
    uid = _uid(source, "uid", "bookingUid") or (_uid(nested, "uid") if isinstance(nested, Mapping) else None)
    if uid is None and trigger.startswith(_ABOUT_A_BOOKING):
        raise NotUnderstood("the body names no booking")
    return CalcomEvent(
        trigger=trigger,
        uid=uid,
        reschedule_uid=_uid(source, "rescheduleUid", "fromReschedule"),
        created_at=None if source is body else _time(body.get("createdAt")),
        team_id=_team_id(source),
    )
