"""Stripe's error answers: one exception class, and a constructor for each kind that the API gives."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]

_SYMBOLS = {"eur": "€", "usd": "$", "gbp": "£"}


class ApiError(Exception):
    """An answer that is an error.

    ``executed`` is False where Stripe refuses before the endpoint starts (validation, key in use, rate limit): such
    an answer is never stored under the idempotency key. ``keeps_effects`` is True where the refusal itself is a
    recorded fact, such as the failed charge behind a declined card.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        executed: bool = True,
        keeps_effects: bool = False,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.executed = executed
        self.keeps_effects = keeps_effects
        self.headers = headers or {}
        error: JsonObject = {}
        if code is not None:
            error["code"] = code
            error["doc_url"] = "https://stripe.com/docs/error-codes/" + code.replace("_", "-")
        error["message"] = message
        if param is not None:
            error["param"] = param
        error.update({name: value for name, value in extra.items() if value is not None})
        error["type"] = kind
        self.body: JsonObject = {"error": error}


def money(amount_minor: int, currency: str) -> str:
    """An amount as Stripe writes it in messages: ``€49.00``."""
    text = f"{amount_minor:,}" if currency == "jpy" else f"{amount_minor // 100:,}.{amount_minor % 100:02d}"
    symbol = _SYMBOLS.get(currency)
    return f"{symbol}{text}" if symbol else f"{text} {currency}"


def invalid(message: str, *, param: str | None = None, code: str | None = None, **extra: Any) -> ApiError:
    """400 after execution began: the state of an object forbids the call. Stored under the idempotency key."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param, **extra)


def malformed(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """400 before execution: a parameter is missing, unknown or of the wrong type. Never stored."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param, executed=False)


def missing_object(kind: str, object_id: str, *, param: str, in_path: bool) -> ApiError:
    """404 where the path names an object that is not there, 400 where a parameter does."""
    message = f"No such {kind}: '{object_id}'"
    return ApiError(404 if in_path else 400, "invalid_request_error", message, code="resource_missing", param=param)


def unauthorized(message: str) -> ApiError:
    """401: no key, or one that is not a test key."""
    return ApiError(401, "invalid_request_error", message, executed=False)


def no_account_access(account: str) -> ApiError:
    """403: the account does not exist, or has revoked the platform's access."""
    return ApiError(
        403,
        "invalid_request_error",
        f"The provided key does not have access to account '{account}' (or that account does not exist). "
        "Application access may have been revoked.",
        code="account_invalid",
        executed=False,
    )


def unknown_route(method: str, path: str) -> ApiError:
    """404 for a URL that the API does not have."""
    return ApiError(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path}).", executed=False)


def rate_limited(reason: str, retry_after_seconds: int) -> ApiError:
    """429: nothing was done. ``reason`` is the value of Stripe's ``Stripe-Rate-Limited-Reason`` header."""
    headers = {"retry-after": str(retry_after_seconds), "stripe-rate-limited-reason": reason}
    return ApiError(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        executed=False,
        headers=headers,
    )


def server_error() -> ApiError:
    """500 as Stripe words it."""
    return ApiError(
        500, "api_error", "An unknown error occurred", executed=False, headers={"stripe-should-retry": "true"}
    )
