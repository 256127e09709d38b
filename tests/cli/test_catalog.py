"""`billing catalog apply`: every error with its line, nothing changed by a wrong file, set-up at Stripe once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domain.ports import ConnectedAccount, RateLimited, Refused
from settings import load
from starter.provision import Provisioning
from store import Store
from tests.cli.conftest import Billing
from tests.store import seed


def file(billing: Billing, text: str = seed.CATALOG) -> str:
    path = billing.folder / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


async def customers(store: Store) -> list[str]:
    async with store.begin() as tx:
        return [customer.id for customer in await tx.catalog.customers()]


def test_it_is_applied_and_a_second_time_changes_nothing(billing: Billing, planted: Callable[..., Any]) -> None:
    path = file(billing)
    first = billing("catalog", "apply", path)
    assert first.exit_code == 0
    assert "customer c-1: new" in first.stdout
    assert "@example.com" not in first.output
    assert planted(customers) == ["c-1", "c-2"]
    second = billing("catalog", "apply", path)
    assert (second.exit_code, "nothing to do" in second.stdout) == (0, True)


def test_a_changed_price_becomes_a_new_version(billing: Billing) -> None:
    billing("catalog", "apply", file(billing))
    changed = seed.CATALOG.replace(
        "    version: 1\n    effective_from: 2026-01-01\n    currency: EUR\n    prices",
        "    version: 2\n    effective_from: 2026-02-01\n    currency: EUR\n    prices",
    )
    assert changed != seed.CATALOG
    result = billing("catalog", "apply", file(billing, changed))
    assert result.exit_code == 0, result.stderr
    assert "price book platform: version 2" in result.stdout


def test_every_error_has_its_line_and_nothing_changes(billing: Billing, planted: Callable[..., Any]) -> None:
    wrong = seed.CATALOG.replace("net_minor: 10000", "net_minor: 100.00").replace(
        "reseller_id: r-leaf, pay", "reseller_id: r-lef, pay"
    )
    path = file(billing, wrong)
    result = billing("catalog", "apply", path)
    assert result.exit_code == 2
    lines = wrong.splitlines()
    amount_line = next(number for number, line in enumerate(lines, 1) if "net_minor: 100.00" in line)
    party_line = next(number for number, line in enumerate(lines, 1) if "r-lef," in line)
    assert f"{path}:{amount_line}: price_books[0].prices[0].net_minor: " in result.stderr
    assert f"{path}:{party_line}: customers[0].reseller_id: " in result.stderr
    assert re.search(r"^[2-9] errors\. Nothing was changed\.$", result.stderr, flags=re.MULTILINE)
    assert planted(customers) == []


def test_a_wrong_file_is_told_before_any_setting_is_needed(unconfigured: Billing) -> None:
    assert "1 error. Nothing was changed." in unconfigured("catalog", "apply", file(unconfigured, "- 1\n")).stderr


def test_what_does_not_fit_to_what_is_stored_is_refused(billing: Billing, planted: Callable[..., Any]) -> None:
    billing("catalog", "apply", file(billing))
    old, new = "2500}\n    ceiling", "3300}\n    ceiling"
    date = "effective_from: 2026-01-01\n    currency: EUR\n    own: {kind: percentage, rate_bps: "
    assert date + old in seed.CATALOG
    later = seed.CATALOG.replace(date + old, date.replace("2026-01-01", "2026-06-01") + new)
    assert billing("catalog", "apply", file(billing, later)).exit_code == 0
    rewritten = seed.CATALOG.replace("rate_bps: 500", "rate_bps: 1000")
    result = billing("catalog", "apply", file(billing, rewritten))
    assert result.exit_code == 2
    assert "r-leaf" in result.stderr
    assert "ceiling" in result.stderr
    assert "Nothing was changed." in result.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\xff\xfe\x00", "no UTF-8"), (b"# \xc3\xa9\n" * 1_000_000, "larger than"), (b"", "the file is empty")],
    ids=["binary", "huge", "empty"],
)
def test_what_is_no_catalogue_is_said(billing: Billing, content: bytes, told: str) -> None:
    path = billing.folder / "wrong.yaml"
    path.write_bytes(content)
    result = billing("catalog", "apply", str(path))
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_missing_file_and_a_folder_are_said(billing: Billing, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        result = billing("catalog", "apply", str(path))
        assert result.exit_code == 2
        assert f"{path} cannot be read" in result.stderr


class Stripe:
    """The three calls of the set-up; counts them by key. `refuse` names a payment method that does not exist."""

    def __init__(self, *, refuse: str = "", busy: int = 0) -> None:
        self.keys: list[str] = []
        self._refuse = refuse
        self._busy = busy

    async def create_customer(self, *, customer_id: str, idempotency_key: str) -> str:
        if self._busy:
            self._busy -= 1
            raise RateLimited("rate_limit", "slow down", retry_after_seconds=0.01)
        self.keys.append(idempotency_key)
        return f"cus_{customer_id}"

    async def attach_payment_method(self, *, stripe_customer_id: str, payment_method: str, idempotency_key: str) -> str:
        if payment_method == self._refuse:
            raise Refused("resource_missing", "no such payment method")
        self.keys.append(idempotency_key)
        return f"{payment_method}_of_{stripe_customer_id}"

    async def create_account(self, *, reseller_id: str, country: str, idempotency_key: str) -> ConnectedAccount:
        self.keys.append(idempotency_key)
        return ConnectedAccount(
            account_id=f"acct_{reseller_id.replace('-', '')}",
            transfers_active=False,
            payouts_enabled=False,
            disabled_reason=None,
        )


def provision(database_url: str, stripe: Stripe) -> tuple[bool, list[str]]:
    told: list[str] = []

    async def go() -> bool:
        async with Store(database_url, pool_size=2) as store:
            return await Provisioning(load(), store, say=told.append).with_gateway(stripe)  # type: ignore[arg-type]

    return asyncio.run(go()), told


def test_everybody_is_set_up_once(billing: Billing, database_url: str) -> None:
    billing("catalog", "apply", file(billing, seed.CATALOG.replace(", stripe_account_id: acct_leaf", "")))
    stripe = Stripe(busy=2)
    complete, told = provision(database_url, stripe)
    assert complete
    assert sorted(stripe.keys)[:3] == ["account:r-leaf", "customer:c-1", "customer:c-2"]
    assert len(stripe.keys) == 4
    assert "Stripe: customer c-2: cus_c-2, no payment method yet" in told
    assert any("r-leaf: account acct_rleaf, cannot be paid before" in line for line in told)
    again, told = provision(database_url, Stripe())
    assert again
    assert told == ["Stripe: everybody is set up"]


def test_a_refusal_stops_nobody_else_and_is_taken_up_again(billing: Billing, database_url: str) -> None:
    billing("catalog", "apply", file(billing))
    complete, told = provision(database_url, Stripe(refuse="pm_card_visa"))
    assert not complete
    assert any("customer c-1: NOT set up: resource_missing" in line for line in told)
    assert any("customer c-2: cus_c-2" in line for line in told)
    stripe = Stripe()
    assert provision(database_url, stripe)[0]
    assert len(stripe.keys) == 1, "the customer exists already; only the payment method was left"


def test_stripe_out_of_reach_is_said_after_the_catalogue_was_applied(
    billing: Billing, planted: Callable[..., Any]
) -> None:
    result = billing("catalog", "apply", file(billing), "--provision")
    assert result.exit_code == 1
    assert "customer c-1: NOT set up" in result.stdout
    assert planted(customers) == ["c-1", "c-2"]
