"""What an error of the `stripe` library means for the business: one table, first matching row wins.

The library sorts by HTTP status (402 is CardError, 403 PermissionError, every 409 and 5xx APIError) and leaves `e.code`
empty on several classes, so the code is read from the answer's body. Error texts of Stripe are never passed on: ours
carry codes and ids only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import httpx
import stripe

from domain.ports import NotFound, OutcomeUnknown, OutsideError, RateLimited, Refused, SetupError


class InvalidRequest(SetupError):
    """A SetupError for which Stripe's code does not say whether the request was wrong or the object's state: the
    gateway looks at the object where that matters."""


class Operation(StrEnum):
    """What was asked of Stripe, where the same error code can mean different things."""

    CREATE_CUSTOMER = "create_customer"
    ATTACH = "attach_payment_method"
    CHARGE = "charge"
    CANCEL = "cancel_payment"
    REFUND = "refund"
    ACCOUNT = "create_account"
    ACCOUNT_LINK = "create_account_link"
    TRANSFER = "transfer"
    REVERSE = "reverse_transfer"
    READ = "read"


class Meaning(StrEnum):
    REFUSED = "refused"
    REFUSED_SOFT = "refused_soft"
    NEEDS_CUSTOMER = "needs_customer"
    UNKNOWN = "unknown"
    RATE_LIMITED = "rate_limited"
    SETUP = "setup"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True)
class Row:
    """One rule. A field that is None matches everything; `codes` is compared with the code and the decline code."""

    raised: type[stripe.StripeError]
    meaning: Meaning
    codes: frozenset[str] | None = None
    operation: Operation | None = None
    param: str | None = None
    statuses: range | None = None
    ours: str | None = None
    """Our code, where it is not Stripe's own."""

    def matches(self, operation: Operation, error: stripe.StripeError, said: Said) -> bool:
        return (
            isinstance(error, self.raised)
            and (self.operation is None or self.operation is operation)
            and (self.param is None or self.param == said.param)
            and (self.statuses is None or (error.http_status or 0) in self.statuses)
            and (self.codes is None or not self.codes.isdisjoint((said.code, said.decline_code)))
        )


def _codes(words: str) -> frozenset[str]:
    return frozenset(words.split())


CONFIRM_BY_CUSTOMER: Final = _codes(
    "authentication_required authentication_not_handled payment_intent_authentication_failure"
)
"""The bank wants the customer himself (SCA)."""

SOFT_DECLINES: Final = _codes(
    "insufficient_funds issuer_not_available processing_error try_again_later reenter_transaction approve_with_id"
    " card_velocity_exceeded withdrawal_count_limit_exceeded"
)
"""A no that may be a yes on another day: no funds, or trouble at the issuer (docs.stripe.com/declines/codes).

Everything else, `generic_decline` and `do_not_honor` too, counts as hard: the customer has to act, and card schemes
charge for repeated tries.
"""

TABLE: Final[tuple[Row, ...]] = (
    # Not done, come back later. `lock_timeout` is an object that another request holds.
    Row(stripe.RateLimitError, Meaning.RATE_LIMITED),
    Row(stripe.InvalidRequestError, Meaning.RATE_LIMITED, codes=_codes("lock_timeout rate_limit")),
    Row(stripe.APIError, Meaning.RATE_LIMITED, statuses=range(429, 430), ours="rate_limit"),
    # Refused on the card's side.
    Row(stripe.CardError, Meaning.NEEDS_CUSTOMER, codes=CONFIRM_BY_CUSTOMER),
    Row(stripe.CardError, Meaning.REFUSED_SOFT, codes=SOFT_DECLINES),
    Row(stripe.CardError, Meaning.REFUSED_SOFT, codes=_codes("balance_insufficient")),
    Row(stripe.CardError, Meaning.REFUSED),
    # Refused by the state of the business objects.
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED,
        operation=Operation.CHARGE,
        codes=_codes(
            "payment_intent_mandate_invalid payment_intent_payment_attempt_failed sepa_unsupported_account"
            " charge_exceeds_source_limit charge_exceeds_transaction_limit"
        ),
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED_SOFT,
        operation=Operation.TRANSFER,
        codes=_codes("balance_insufficient"),
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED,
        operation=Operation.TRANSFER,
        codes=_codes("insufficient_capabilities_for_transfer account_invalid"),
        ours="account_not_ready",
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED,
        operation=Operation.TRANSFER,
        codes=_codes("resource_missing"),
        param="destination",
        ours="account_not_ready",
    ),
    Row(
        stripe.PermissionError,
        Meaning.REFUSED,
        operation=Operation.TRANSFER,
        codes=_codes("account_invalid"),
        ours="account_not_ready",
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED_SOFT,
        operation=Operation.REVERSE,
        codes=_codes("balance_insufficient"),
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED,
        operation=Operation.REFUND,
        codes=_codes("charge_disputed refund_disputed_payment"),
        ours="charge_disputed",
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED,
        operation=Operation.REFUND,
        codes=_codes("charge_already_refunded charge_not_refundable payment_intent_unexpected_state"),
    ),
    Row(
        stripe.InvalidRequestError,
        Meaning.REFUSED_SOFT,
        operation=Operation.REFUND,
        codes=_codes("balance_insufficient"),
    ),
    # The effect may have happened, or happens just now.
    Row(stripe.APIConnectionError, Meaning.UNKNOWN),
    Row(stripe.InvalidRequestError, Meaning.UNKNOWN, codes=_codes("idempotency_key_in_use")),
    Row(stripe.APIError, Meaning.UNKNOWN, statuses=range(409, 410)),
    Row(stripe.APIError, Meaning.UNKNOWN, statuses=range(424, 425)),
    Row(stripe.APIError, Meaning.UNKNOWN, statuses=range(500, 600)),
    # Our bug or set-up.
    Row(stripe.InvalidRequestError, Meaning.NOT_FOUND, codes=_codes("resource_missing")),
    Row(stripe.PermissionError, Meaning.NOT_FOUND, codes=_codes("account_invalid")),
    Row(stripe.IdempotencyError, Meaning.SETUP, ours="idempotency_error"),
    Row(stripe.InvalidRequestError, Meaning.SETUP),
    Row(stripe.AuthenticationError, Meaning.SETUP, ours="authentication_error"),
    Row(stripe.PermissionError, Meaning.SETUP, ours="permission_error"),
    # Anything else: an answer that is not Stripe's (a proxy's page), or a class that this table does not know.
    Row(stripe.StripeError, Meaning.UNKNOWN),
)

_CODE = re.compile(r"^[a-z0-9_]{1,80}\Z")
_ID = re.compile(r"^[A-Za-z0-9_]{1,255}\Z")
_PARAM = re.compile(r"^[A-Za-z0-9_\[\]]{1,80}\Z")


def _clean(value: object, pattern: re.Pattern[str]) -> str | None:
    """The value where it looks like what it should be: nothing else of an error may reach a message."""
    return value if isinstance(value, str) and pattern.match(value) else None


@dataclass(frozen=True, slots=True)
class Said:
    """What the body of an error says, as far as it can be trusted to be a code or an id."""

    code: str | None
    decline_code: str | None
    param: str | None
    type: str | None
    payment_intent_id: str | None
    payment_intent_status: str | None
    request_id: str | None

    @classmethod
    def of(cls, error: stripe.StripeError) -> Said:
        body = error.json_body
        inner = body.get("error") if isinstance(body, Mapping) else None
        inner = inner if isinstance(inner, Mapping) else {}
        intent = inner.get("payment_intent")
        intent = intent if isinstance(intent, Mapping) else {"id": intent}
        headers: Any = error.headers or {}
        return cls(
            code=_clean(inner.get("code"), _CODE),
            decline_code=_clean(inner.get("decline_code"), _CODE),
            param=_clean(inner.get("param"), _PARAM),
            type=_clean(inner.get("type"), _CODE),
            payment_intent_id=_clean(intent.get("id"), _ID),
            payment_intent_status=_clean(intent.get("status"), _CODE),
            request_id=_clean(headers.get("request-id"), _ID),
        )


def retry_after_seconds(error: stripe.StripeError) -> float | None:
    """The `Retry-After` hint in seconds; None where there is none or it is a date."""
    headers: Any = error.headers or {}
    value = headers.get("retry-after")
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value.strip()):
        return None
    return float(value)


def _no_answer_code(error: stripe.StripeError) -> str:
    """Why there was no usable answer: for search and alerts only, all of them mean unknown."""
    cause = error.__cause__
    if isinstance(cause, httpx.TimeoutException):
        return "timeout"
    if isinstance(cause, httpx.ConnectError):
        return "not_connected"
    if isinstance(error, stripe.APIConnectionError):
        return "connection_lost"
    status = error.http_status or 0
    return f"http_{status}" if status >= 400 else "bad_answer"


def _message(operation: Operation, error: stripe.StripeError, said: Said) -> str:
    parts = [str(operation)]
    if error.http_status:
        parts.append(f"http {error.http_status}")
    if said.code:
        parts.append(said.code if said.decline_code in (None, said.code) else f"{said.code}/{said.decline_code}")
    if said.param:
        parts.append(f"parameter {said.param}")
    if said.payment_intent_id:
        parts.append(said.payment_intent_id)
    if said.request_id:
        parts.append(f"request {said.request_id}")
    return ", ".join(parts)


def row_for(operation: Operation, error: stripe.StripeError) -> Row:
    """The table's row for this error; there always is one."""
    said = Said.of(error)
    return next(row for row in TABLE if row.matches(operation, error, said))


def translate(operation: Operation, error: stripe.StripeError) -> OutsideError:
    """The port's error for an error of the library. Raise it `from None`: a cause would carry Stripe's text along."""
    said = Said.of(error)
    row = row_for(operation, error)
    stripes = said.decline_code or said.code
    message = _message(operation, error, said)
    match row.meaning:
        case Meaning.REFUSED | Meaning.REFUSED_SOFT:
            return Refused(
                row.ours or stripes or "card_declined",
                message,
                soft=row.meaning is Meaning.REFUSED_SOFT,
                object_id=said.payment_intent_id,
            )
        case Meaning.NEEDS_CUSTOMER:
            return Refused("authentication_required", message, needs_customer=True, object_id=said.payment_intent_id)
        case Meaning.RATE_LIMITED:
            code = row.ours or said.code or "rate_limit"
            return RateLimited(code, message, retry_after_seconds=retry_after_seconds(error))
        case Meaning.NOT_FOUND:
            return NotFound(row.ours or said.code or "resource_missing", message)
        case Meaning.SETUP:
            kind = InvalidRequest if row.raised is stripe.InvalidRequestError else SetupError
            return kind(row.ours or said.code or said.type or "invalid_request_error", message)
        case Meaning.UNKNOWN:
            return OutcomeUnknown(said.code or _no_answer_code(error), message)
