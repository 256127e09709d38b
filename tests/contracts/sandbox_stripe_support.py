"""Helpers of the Stripe sandbox's tests: the sandbox as a subprocess, Stripe's own library on it, a webhook receiver.

Each test's whole traffic is held against Stripe's published interface when the test ends, where that is at hand.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

REPOSITORY = Path(__file__).resolve().parents[2]
CONTRACT = REPOSITORY.parent / "shared" / "contracts" / "stripe_contract.py"
KEY = "sk_test_example"
WEBHOOK_SECRET = "whsec_example"
_numbers = itertools.count()

Form = dict[str, str | int]


def unique(prefix: str) -> str:
    """A name that no other test of this run uses."""
    return f"{prefix}-{next(_numbers)}"


def wait_for(condition: Callable[[], Any], what: str, timeout_seconds: float = 10.0) -> Any:
    """The first true value of ``condition``; fails the test if none comes in time."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"waited {timeout_seconds} s in vain for {what}")


class Library(stripe.HTTPXClient):
    """Stripe's own transport, that can be closed and hands text over in the way that httpx does not warn about."""

    def __init__(self) -> None:
        super().__init__(timeout=20, allow_sync_methods=True)

    def _get_request_args_kwargs(self, method: str, url: str, headers: Any, post_data: Any) -> Any:
        return [(method, url), {"headers": headers, "content": post_data or b"", "timeout": 20}]

    def close(self) -> None:
        """Ends the pool's connections."""
        if self._client is not None:
            self._client.close()


class Sandbox:
    """One sandbox process. ``client`` is Stripe's library; ``http`` speaks to it without that library."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self.arguments = arguments
        self.process: subprocess.Popen[str]
        self.address = ""
        self.client: stripe.StripeClient
        self.http: httpx.Client

    def start(self) -> Sandbox:
        """Starts (again) on the same data; returns once requests are answered."""
        command = [sys.executable, "-m", "sandbox.stripe", "--data-dir", str(self.data_dir), *self.arguments]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.startswith("stripe sandbox listening on http://127.0.0.1:"), line
        self.address = line.rsplit(" ", 1)[1]
        self.http = httpx.Client(base_url=self.address, headers={"authorization": f"Bearer {KEY}"}, trust_env=False)
        self._library = Library()
        self.client = stripe.StripeClient(
            KEY,
            base_addresses={"api": self.address},
            http_client=self._library,
            max_network_retries=0,
        )
        return self

    def end(self, *, kill: bool = False) -> int:
        """Stops the process and returns its exit code."""
        self.http.close()
        self._library.close()
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def post(self, path: str, form: Form | None = None, *, key: str | None = None, account: str = "") -> httpx.Response:
        """A raw API call."""
        headers = {"idempotency-key": key} if key is not None else {}
        if account:
            headers["stripe-account"] = account
        return self.http.post(path, data=form or {}, headers=headers)

    def control(self, path: str, **body: Any) -> dict[str, Any]:
        """A control call that must succeed."""
        answer = self.http.post(f"/_sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def log(self) -> list[dict[str, Any]]:
        """The requests since the log was cleared."""
        found: list[dict[str, Any]] = self.http.get("/_sandbox/log").json()
        return found

    def count(self, kind: str) -> int:
        """How many objects of a kind there are."""
        objects = self.http.get("/_sandbox/stats").json()["objects"]
        return int(objects.get(kind, {}).get("all", 0))

    def pay(self, method: str = "pm_card_visa", amount: int = 4900, **more: Any) -> stripe.PaymentIntent:
        """A confirmed off-session payment by a test payment method."""
        form: Any = {
            "amount": amount,
            "currency": "eur",
            "payment_method": method,
            "confirm": True,
            "off_session": True,
        }
        form.update(more)
        return self.client.v1.payment_intents.create(form)

    def charge_of(self, intent: stripe.PaymentIntent) -> stripe.Charge:
        """The latest charge of a PaymentIntent."""
        assert isinstance(intent.latest_charge, str)
        return self.client.v1.charges.retrieve(intent.latest_charge)

    def reseller(self, state: str | None = "active") -> stripe.Account:
        """A connected account that asks for transfers, in the wanted state."""
        account = self.client.v1.accounts.create(
            {
                "country": "DE",
                "email": "reseller@example.com",
                "controller": {
                    "fees": {"payer": "application"},
                    "losses": {"payments": "application"},
                    "stripe_dashboard": {"type": "express"},
                },
                "capabilities": {"transfers": {"requested": True}},
            }
        )
        if state is not None:
            self.control(f"accounts/{account.id}", state=state)
        return account

    def available_minor(self, account: str | None = None) -> int:
        """The euros that an account (None: the platform) can spend now."""
        options: Any = {"stripe_account": account} if account else {}
        balance = self.client.v1.balance.retrieve({}, options)
        return sum(part.amount for part in balance.available if part.currency == "eur")

    def check_traffic(self) -> None:
        """Holds what was said since the last check against Stripe's interface: answers, and requests that succeeded."""
        if not CONTRACT.exists():
            return
        spec = importlib.util.spec_from_file_location("stripe_contract", CONTRACT)
        assert spec is not None
        assert spec.loader is not None
        contract = sys.modules.get("stripe_contract")
        if contract is None:
            contract = importlib.util.module_from_spec(spec)
            sys.modules["stripe_contract"] = contract
            spec.loader.exec_module(contract)
        wrong: list[str] = []
        for call in self.log():
            where = f"{call['method']} {call['path']} {call['status']}: "
            try:
                if call["response"] is not None:
                    found = contract.response_errors(call["method"], call["path"], call["status"], call["response"])
                    wrong += [where + problem for problem in found]
                if call["method"] == "POST" and call["status"] == 200:
                    found = contract.request_errors(call["method"], call["path"], call["body"])
                    wrong += [where + "request " + problem for problem in found]
            except LookupError:
                assert call["status"] in (400, 401, 404), where + "not a route of Stripe's"
        self.http.delete("/_sandbox/log")
        assert not wrong, "\n".join(wrong)


def running(data_dir: Path, *arguments: str) -> Iterator[Sandbox]:
    """A sandbox for a module's tests."""
    sandbox = Sandbox(data_dir, *arguments).start()
    yield sandbox
    assert sandbox.end() == 0


def checked(sandbox: Sandbox) -> Iterator[None]:
    """Faults away before each test, its traffic checked after it."""
    sandbox.http.delete("/_sandbox/faults")
    sandbox.http.delete("/_sandbox/log")
    yield
    sandbox.check_traffic()


class Receiver:
    """A webhook endpoint on loopback. ``status`` is what it answers; ``received`` what came, unverified."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[bytes, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.received.append((body, self.headers["stripe-signature"]))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/webhooks/stripe"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def events(self, secret: str = WEBHOOK_SECRET) -> list[dict[str, Any]]:
        """Everything received so far, each signature verified by Stripe's library."""
        found: list[dict[str, Any]] = []
        for body, header in list(self.received):
            stripe.WebhookSignature.verify_header(body.decode(), header, secret, tolerance=300)
            found.append(json.loads(body))
        return found

    def types(self) -> list[str]:
        """The event types in the order in which they came."""
        return [event["type"] for event in self.events()]

    def close(self) -> None:
        """Stops listening."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join(5)
