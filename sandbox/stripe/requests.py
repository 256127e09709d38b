"""One API request from its bytes to its answer: authentication, routing, idempotency, execution."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.stripe import accounts, balance, customers, disputes, intents, refunds, transfers, webhooks
from sandbox.stripe.context import API_VERSION, Clock, Context, Handler, Route, new_id
from sandbox.stripe.errors import ApiError, JsonObject, malformed, server_error, unauthorized, unknown_route
from sandbox.stripe.forms import Rules, check, decode_form
from sandbox.stripe.idempotency import IdempotencyKeys
from sandbox.stripe.settings import Settings
from sandbox.stripe.store import Store, dumps

_MODULES = (customers, intents, refunds, disputes, accounts, transfers, balance, webhooks)
_KEY_PREFIXES = ("sk_test_", "rk_test_")


@dataclass
class Request:
    """A request as it came in. ``form`` is the undecoded body or query string."""

    method: str
    path: str
    form: str
    headers: Mapping[str, str]
    id: str = field(default_factory=lambda: new_id("req", 14))

    @property
    def idempotency_key(self) -> str | None:
        """The key, on the one method for which Stripe looks at it."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None


@dataclass
class Answer:
    """What goes back. ``executed`` says whether the endpoint began its work."""

    status: int
    body: bytes
    headers: dict[str, str]
    executed: bool = True


def _index() -> dict[tuple[str, int], list[tuple[list[str], Rules, Handler, str]]]:
    found: dict[tuple[str, int], list[tuple[list[str], Rules, Handler, str]]] = {}
    routes: list[Route] = [route for module in _MODULES for route in module.ROUTES]
    for method, path, rules, handler in routes:
        parts = path.split("/")
        found.setdefault((method, len(parts)), []).append((parts, rules, handler, f"{method} {path}"))
    return found


_ROUTES = _index()


def find_route(method: str, path: str) -> tuple[Rules, Handler, tuple[str, ...], str]:
    """(parameter rules, handler, ids in the path, route name). Raises 404 for a URL that the API does not have."""
    parts = path.split("/")
    for pattern, rules, handler, name in _ROUTES.get((method, len(parts)), ()):
        if all(wanted == "*" or wanted == given for wanted, given in zip(pattern, parts, strict=True)):
            ids = tuple(given for wanted, given in zip(pattern, parts, strict=True) if wanted == "*")
            return rules, handler, ids, name
    raise unknown_route(method, path)


def _fingerprint(params: JsonObject) -> str:
    """What two requests with one key are compared by: the parameters in any order."""
    return json.dumps(params, sort_keys=True)


class Api:
    """Executes requests one after the other: every effect and its stored answer are one transaction."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, platform: str) -> None:
        self.store = store
        self.clock = clock
        self.settings = settings
        self.platform = platform
        self.base_url = ""
        self.keys = IdempotencyKeys(store, clock, settings.key_lifetime_seconds)
        self.executed: dict[str, int] = {}
        self.replayed = 0

    def context(self, request: Request | None = None, account: str | None = None) -> Context:
        """A view for one request, or for the stand-in itself."""
        return Context(
            self.store,
            self.clock,
            self.settings,
            self.platform,
            account=account,
            base_url=self.base_url,
            request_id=request.id if request else None,
            idempotency_key=request.idempotency_key if request else None,
        )

    def admit(self, request: Request) -> str:
        """Checks the key and the account header; gives the account to act in. Raises 401 or 403."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise unauthorized(
                "You did not provide an API key. You need to provide your API key in the Authorization header, using "
                "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
            )
        if not key.startswith(_KEY_PREFIXES):
            raise unauthorized(f"Invalid API Key provided: {key[:8]}****")
        account = request.headers.get("stripe-account")
        if account is None or account == self.platform:
            return self.platform
        accounts.accessible(self.context(request), account)
        return account

    def run(self, request: Request, account: str, forced: ApiError | None = None) -> Answer:
        """Answers the request. ``forced`` replaces the answer of whatever was executed, and is stored in its place."""
        with self.store.transaction():
            try:
                return self._run(request, account, forced)
            except ApiError as error:
                return self.refuse(request, error)

    def store_only(self, request: Request, account: str, error: ApiError) -> None:
        """Stores an error under the request's key without any effect, unless the key already has its answer."""
        key = request.idempotency_key
        if key is None:
            return
        fingerprint = _fingerprint(decode_form(request.form))
        with self.store.transaction():
            if self.keys.kept(account, key, request.method, request.path, fingerprint) is None:
                self.keys.keep(
                    account,
                    key,
                    request.method,
                    request.path,
                    fingerprint,
                    status=error.status,
                    body=dumps(error.body).encode(),
                    request_id=request.id,
                )

    def _run(self, request: Request, account: str, forced: ApiError | None) -> Answer:
        if "json" in request.headers.get("content-type", ""):
            raise malformed("Invalid request: the v1 API takes application/x-www-form-urlencoded bodies, not JSON.")
        rules, handler, ids, name = find_route(request.method, request.path)
        raw = decode_form(request.form)
        key = request.idempotency_key
        fingerprint = _fingerprint(raw) if key is not None else ""
        if key is not None:
            kept = self.keys.kept(account, key, request.method, request.path, fingerprint)
            if kept is not None:
                self.replayed += 1
                headers = {"idempotent-replayed": "true", "original-request": kept.request_id}
                return Answer(kept.status, kept.body, self._headers(request, headers))
        params = check(raw, rules)
        answer = self._execute(request, self.context(request, account), handler, ids, params)
        if not answer.executed:
            return answer
        self.executed[name] = self.executed.get(name, 0) + 1
        if forced is not None:
            answer = self.refuse(request, forced)
        if key is not None:
            self.keys.keep(
                account,
                key,
                request.method,
                request.path,
                fingerprint,
                status=answer.status,
                body=answer.body,
                request_id=request.id,
            )
        return answer

    def _execute(
        self, request: Request, ctx: Context, handler: Handler, ids: tuple[str, ...], params: dict[str, Any]
    ) -> Answer:
        refusal: ApiError | None = None
        try:
            with self.store.savepoint():
                try:
                    result: JsonObject = handler(ctx, ids, params)
                    return Answer(200, dumps(result).encode(), self._headers(request))
                except ApiError as error:
                    if not error.keeps_effects:
                        raise
                    refusal = error
        except ApiError as error:
            refusal = error
        except Exception:  # noqa: BLE001 - a bug here must look like Stripe's 500, not end the connection
            traceback.print_exc(file=sys.stderr)
            refusal = server_error()
        return self.refuse(request, refusal)

    def refuse(self, request: Request, error: ApiError) -> Answer:
        """The answer of an error."""
        headers = self._headers(request, error.headers)
        return Answer(error.status, dumps(error.body).encode(), headers, executed=error.executed)

    def _headers(self, request: Request, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "request-id": request.id,
            "stripe-version": request.headers.get("stripe-version", API_VERSION),
        }
        if request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key
        headers.update(extra or {})
        return headers
