"""The running stand-in of Stripe, and how the tests set the scene on it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from domain.ports import Payment, PaymentGateway
from gateways.stripe import StripeGateway

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


@dataclass
class Sandbox:
    """The running stand-in and its control API."""

    address: str
    http: httpx.Client

    def control(self, path: str, **body: Any) -> Any:
        answer = self.http.post(f"{self.address}/_sandbox/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, kind: str, path_regex: str, **more: Any) -> None:
        self.control("faults", kind=kind, path_regex=path_regex, **more)

    def clear_faults(self) -> None:
        self.http.delete(f"{self.address}/_sandbox/faults")

    def log(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.http.get(f"{self.address}/_sandbox/log").json()
        return found

    def effects(self, route: str) -> int:
        """How many requests of a route were executed, replays not counted."""
        executed: dict[str, int] = self.http.get(f"{self.address}/_sandbox/stats").json()["executed"]
        return executed.get(route, 0)


@contextmanager
def running_sandbox(place: Path) -> Iterator[Sandbox]:
    """The stand-in as a process of its own: SEPA debits wait for the test, money is available after two hours."""
    port_file = place / "port"
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0", "--port-file", str(port_file)]
    command += ["--data-dir", str(place / "data"), "--sepa-after-seconds", "-1", "--available-after-seconds", "7200"]
    log = (place / "log").open("w")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ})
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, "the sandbox does not start"
            time.sleep(0.02)
        with httpx.Client(timeout=10, trust_env=False) as http:
            yield Sandbox(f"http://127.0.0.1:{port_file.read_text().strip()}", http)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        log.close()


@asynccontextmanager
async def connected(sandbox: Sandbox) -> AsyncIterator[PaymentGateway]:
    """The gateway on a stand-in without faults, before and after."""
    sandbox.clear_faults()
    made = StripeGateway(secret_key="sk_test_example0000000000", base_url=sandbox.address, timeout_seconds=5)
    yield made
    await made.aclose()
    sandbox.clear_faults()


async def customer_with(gateway: PaymentGateway, payment_method: str = "pm_card_visa") -> tuple[str, str]:
    """Stripe's ids of a new customer and his payment method."""
    name = unique("cus")
    customer = await gateway.create_customer(customer_id=name, idempotency_key=f"customer:{name}")
    attached = await gateway.attach_payment_method(
        stripe_customer_id=customer, payment_method=payment_method, idempotency_key=f"attach:{name}"
    )
    return customer, attached


async def pay(
    gateway: PaymentGateway, customer: tuple[str, str], uid: str, *, amount_minor: int = 4900, attempt: int = 1
) -> Payment:
    return await gateway.charge(
        amount_minor=amount_minor,
        currency="EUR",
        stripe_customer_id=customer[0],
        payment_method_id=customer[1],
        chain_uid=uid,
        description=f"Booking {uid}",
        idempotency_key=f"charge:{uid}:{attempt}",
    )


async def paid(gateway: PaymentGateway, payment_method: str = "pm_card_visa") -> tuple[str, Payment]:
    uid = unique("uid")
    return uid, await pay(gateway, await customer_with(gateway, payment_method), uid)


async def reseller(sandbox: Sandbox, gateway: PaymentGateway, *, state: str | None = "active") -> str:
    name = unique("r")
    account = await gateway.create_account(reseller_id=name, country="DE", idempotency_key=f"account:{name}")
    if state is not None:
        sandbox.control(f"accounts/{account.account_id}", state=state)
    return account.account_id


async def send(
    gateway: PaymentGateway, uid: str, account_id: str, charge_id: str | None, *, amount_minor: int = 1225
) -> Any:
    return await gateway.transfer(
        amount_minor=amount_minor,
        currency="EUR",
        destination_account_id=account_id,
        transfer_group=uid,
        source_charge_id=charge_id,
        metadata={"chain_uid": uid},
        idempotency_key=f"transfer:{uid}:{account_id}",
    )


def now(sandbox: Sandbox) -> datetime:
    health = sandbox.http.get(f"{sandbox.address}/_sandbox/health").json()
    return datetime.fromtimestamp(health["now"], tz=UTC)
