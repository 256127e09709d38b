"""Stripe's webhooks: is it genuine, and which object does it name?

Own code instead of the library's `construct_event`: that one accepts timestamps of the future, reads the clock itself,
and lets hostile bodies and headers through as a handful of unrelated exceptions. The scheme is Stripe's documented one:
`Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX...]`, HEX = HMAC-SHA256(secret, "SECONDS." + raw body).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from domain.ids import is_safe
from gateways.webhook_bodies import BadWebhook, NotUnderstood, parse_json, secret_bytes

__all__ = ["BadWebhook", "NotUnderstood", "VerifiedEvent", "parse_stripe", "webhook_event"]

FUTURE_TOLERANCE_SECONDS: Final = 60
"""Clocks differ; a minute is more than NTP leaves."""

MAX_HEADER_CHARACTERS: Final = 4096
"""Two signatures make 170 characters; more than this is an attack on the parser."""

_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
_ID: Final = re.compile(r"[A-Za-z0-9_]{1,255}")
_TYPE: Final = re.compile(r"[a-z0-9_.]{1,120}")

_REFERENCES: Final = ("payment_intent", "charge", "transfer", "balance_transaction", "customer", "destination")
"""Fields that hold an id or an expanded object, of the objects that billing handles."""

_OWN_METADATA: Final = ("chain_uid", "billing_key", "period", "reseller_id", "customer_id")
"""Metadata that the gateway and its callers write."""


@dataclass(frozen=True, slots=True)
class VerifiedEvent:
    """A genuine event, reduced to ids. Re-read the object: events come late, twice and out of order.

    `account` is the connected account that it happened on, None for the platform's own. `related` holds further ids by
    name: payment_intent, charge, transfer, balance_transaction, customer, destination, refund, dispute, payout,
    transfer_group and, from metadata, chain_uid, billing_key, period, reseller_id, customer_id; only what is there.
    """

    id: str
    type: str
    account: str | None
    object_id: str | None
    """None for objects without an id (balance)."""
    object_type: str
    created_at: datetime
    livemode: bool
    related: dict[str, str] = field(default_factory=dict)


def _signed_at(raw: bytes, header: str, key: bytes) -> int:
    """The timestamp, in seconds, that the signature covers."""
    if not header:
        raise BadWebhook("the signature is missing")
    if len(header) > MAX_HEADER_CHARACTERS:
        raise BadWebhook("the signature header is too long")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    stamps = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1" and _SIGNATURE.fullmatch(value)]
    if len(stamps) != 1 or not _TIMESTAMP.fullmatch(stamps[0]) or not signatures:
        raise BadWebhook("the signature header is malformed")
    expected = hmac.new(key, stamps[0].encode() + b"." + raw, hashlib.sha256).hexdigest()
    matches = [hmac.compare_digest(expected, signature) for signature in signatures]
    if not any(matches):
        raise BadWebhook("the signature does not match")
    return int(stamps[0])


def _text(value: object, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _id_of(value: object) -> str | None:
    return _text(value.get("id") if isinstance(value, Mapping) else value, _ID)


def _related(thing: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for name in _REFERENCES:
        yield name, _id_of(thing.get(name))
    if thing.get("object") == "payment_intent":
        yield "charge", _id_of(thing.get("latest_charge"))
    kind = _text(thing.get("object"), _TYPE)
    if kind is not None:
        yield kind, _id_of(thing)
    group = thing.get("transfer_group")
    yield "transfer_group", group if isinstance(group, str) and group.isprintable() and is_safe(group) else None
    metadata = thing.get("metadata")
    if isinstance(metadata, Mapping):
        for name in _OWN_METADATA:
            value = metadata.get(name)
            yield name, value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,255}", value) else None


def _event(body: object) -> VerifiedEvent:
    if not isinstance(body, Mapping):
        raise NotUnderstood("the body is no object")
    if body.get("object") != "event":
        thin = body.get("object") == "v2.core.event"
        raise NotUnderstood("a thin event: the endpoint must send snapshots" if thin else "the body is no event")
    event_id, event_type = _id_of(body.get("id")), _text(body.get("type"), _TYPE)
    data = body.get("data")
    thing = data.get("object") if isinstance(data, Mapping) else None
    object_type = _text(thing.get("object"), _TYPE) if isinstance(thing, Mapping) else None
    if event_id is None or event_type is None or not isinstance(thing, Mapping) or object_type is None:
        raise NotUnderstood("the event lacks its id, type or object")
    created = body.get("created")
    if not isinstance(created, int) or isinstance(created, bool) or not 0 <= created < 253_402_300_800:
        raise NotUnderstood("the event lacks its time")
    return VerifiedEvent(
        id=event_id,
        type=event_type,
        account=_id_of(body.get("account")),
        object_id=_id_of(thing),
        object_type=object_type,
        created_at=datetime.fromtimestamp(created, tz=UTC),
        livemode=body.get("livemode") is True,
        related={name: value for name, value in _related(thing) if value is not None},
    )


def webhook_event(
    raw: bytes, signature_header: str, secret: str, *, tolerance_seconds: int = 300, now: datetime
) -> VerifiedEvent:
    """The event in a request's body. `raw` is the body as received, its size already limited; `now` is aware.

    Raises BadWebhook for what is not signed with this secret at this time, and for a signed body that is no JSON (which
    Stripe never sends); NotUnderstood for genuine JSON that is no snapshot event.
    """
    signed_at = _signed_at(raw, signature_header, secret_bytes(secret))
    age_seconds = int(now.timestamp()) - signed_at
    if age_seconds > tolerance_seconds:
        raise BadWebhook("the signature is too old")
    if age_seconds < -FUTURE_TOLERANCE_SECONDS:
        raise BadWebhook("the signature is of the future")
    return parse_stripe(raw)


def parse_stripe(raw: bytes) -> VerifiedEvent:
    """The event in a body whose signature `webhook_event` accepted before; raises as that does."""
    try:
        body = parse_json(raw)
    except ValueError as error:
        raise BadWebhook(str(error)) from None
    return _event(body)
