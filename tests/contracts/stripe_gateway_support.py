"""Canned answers and a recorder for the tests of the Stripe gateway."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from gateways.stripe import StripeGateway

SECRET_KEY = "sk_test_example0000000000"
CONTRACT = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "stripe_contract.py"

Answer = Callable[[httpx.Request], httpx.Response]


def contract() -> ModuleType | None:
    """Stripe's published interface, where the folder beside the repository exists."""
    if not CONTRACT.exists():
        return None
    spec = importlib.util.spec_from_file_location("stripe_contract", CONTRACT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def movement(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "txn_1",
        "object": "balance_transaction",
        "amount": 4900,
        "currency": "eur",
        "fee": 99,
        "created": 1_790_000_000,
        "type": "charge",
        "source": "ch_1",
    }
    return {**base, **fields}


def charge(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "ch_1",
        "object": "charge",
        "amount_refunded": 0,
        "disputed": False,
        "status": "succeeded",
        "failure_code": None,
        "balance_transaction": movement(),
    }
    return {**base, **fields}


def intent(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "pi_1",
        "object": "payment_intent",
        "status": "succeeded",
        "amount": 4900,
        "amount_received": 4900,
        "currency": "eur",
        "latest_charge": charge(),
        "last_payment_error": None,
        "metadata": {"chain_uid": "uid-1", "billing_key": "charge:uid-1:1"},
    }
    return {**base, **fields}


def refund(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "re_1",
        "object": "refund",
        "status": "succeeded",
        "amount": 1000,
        "currency": "eur",
        "payment_intent": "pi_1",
        "charge": "ch_1",
        "metadata": {"billing_key": "refund:uid-1:1"},
    }
    return {**base, **fields}


def transfer(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "tr_1",
        "object": "transfer",
        "amount": 1225,
        "amount_reversed": 0,
        "currency": "eur",
        "destination": "acct_1",
        "transfer_group": "uid-1",
        "metadata": {"billing_key": "transfer:uid-1:r-1"},
    }
    return {**base, **fields}


def reversal(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "trr_1",
        "object": "transfer_reversal",
        "amount": 225,
        "currency": "eur",
        "transfer": "tr_1",
        "metadata": {"billing_key": "reversal:transfer:uid-1:r-1:1"},
    }
    return {**base, **fields}


def account(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "acct_1",
        "object": "account",
        "capabilities": {"transfers": "active"},
        "payouts_enabled": True,
        "default_currency": "eur",
        "requirements": {"disabled_reason": None},
    }
    return {**base, **fields}


def payout(**fields: Any) -> dict[str, Any]:
    base = {
        "id": "po_1",
        "object": "payout",
        "amount": 1225,
        "arrival_date": 1_767_225_600,
        "created": 1_767_139_200,
        "currency": "eur",
        "failure_code": None,
        "status": "paid",
    }
    return {**base, **fields}


def page(*items: Mapping[str, Any], has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": list(items), "has_more": has_more, "url": "/v1/things"}


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json=body, headers={"Request-Id": "req_1", **(headers or {})})


def refusal(
    status: int, kind: str = "invalid_request_error", headers: Mapping[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """An error as Stripe words it, with a person's name in the text: no message of ours may pass that on."""
    body = {"error": {"type": kind, "message": "Erika Mustermann <erika@example.com> did it", **fields}}
    return answer(body, status, headers)


class FakeStripe:
    """Answers with what was queued, in order, and keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception | Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        queued = self.answers.pop(0)
        if isinstance(queued, Exception):
            raise queued
        return queued if isinstance(queued, httpx.Response) else queued(request)

    def gateway(self, *, timeout_seconds: float = 5) -> StripeGateway:
        return StripeGateway(
            secret_key=SECRET_KEY,
            base_url="http://127.0.0.1:9",
            timeout_seconds=timeout_seconds,
            transport=httpx.MockTransport(self._handle),
        )


def form(request: httpx.Request) -> str:
    """The form body, or the query of a GET, as sent."""
    return request.content.decode() if request.method == "POST" else request.url.query.decode()


def body_of(response: httpx.Response) -> Any:
    return json.loads(response.content)
