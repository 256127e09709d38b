"""What both kinds of webhooks share: their two errors and the careful reading of a body.

No reason ever holds a part of the body: reasons go to logs and answers, bodies hold names and addresses.
"""

from __future__ import annotations

import json
from typing import Any, Final

SECRET_PLACEHOLDERS: Final = frozenset({"", "no-secret-provided"})
"""Values that mean that nobody configured a secret."""


class BadWebhook(Exception):
    """Not genuine, or no webhook at all: answer 4xx, store nothing. `reason` is short and free of personal data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotUnderstood(Exception):
    """Genuine, but not a shape that we know: answer 2xx, store it, list it for a person. `reason` as above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotText(ValueError):
    """The bytes of a body are not UTF-8."""


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def parse_json(raw: bytes) -> Any:
    """The JSON value of a body. Raises ValueError with a short reason: NotText, no JSON, nested too deeply, or a number
    that no machine needs (NaN, thousands of digits)."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NotText("the body is not UTF-8") from None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("the body is nested too deeply") from None
    except ValueError:
        raise ValueError("the body is not JSON") from None


def secret_bytes(secret: str) -> bytes:
    """The secret as a key for HMAC. Raises BadWebhook where none is configured: nothing could be genuine then."""
    if secret.strip() in SECRET_PLACEHOLDERS:
        raise BadWebhook("no webhook secret is configured")
    return secret.encode()
