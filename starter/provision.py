"""Sets the catalogue's parties up at Stripe: customers with their payment method, resellers with an account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from activities.accounts import open_account
from domain import ids
from domain.model import Reseller
from domain.ports import OutsideError, PaymentGateway, RateLimited
from settings import Settings
from store import Store
from store.rows import ToProvision

T = TypeVar("T")

RATE_LIMIT_TRIES = 5
RATE_LIMIT_PAUSE_SECONDS = 2.0
"""Where Stripe gives no hint of its own."""


class Provisioning:
    """One run. What is set up already is skipped; keys come from our ids, so that a run cut short goes on where it was.

    `say` gets one line for each thing done or refused: ids only.
    """

    def __init__(self, given: Settings, store: Store, *, say: Callable[[str], object]) -> None:
        self._given = given
        self._store = store
        self._say = say

    async def run(self) -> bool:
        """Everything that is missing; True when nothing is left. A refusal of one party does not stop the others."""
        from gateways.stripe import StripeGateway

        payments = StripeGateway(
            secret_key=self._given.stripe_secret_key.get_secret_value(),
            base_url=self._given.stripe_base_url,
            timeout_seconds=self._given.http_timeout_seconds,
        )
        try:
            return await self.with_gateway(payments)
        finally:
            await payments.aclose()

    async def with_gateway(self, payments: PaymentGateway) -> bool:
        """The same with another gateway."""
        async with self._store.begin() as tx:
            customers = await tx.catalog.to_provision()
            resellers = [reseller for reseller in await tx.catalog.resellers() if reseller.stripe_account_id is None]
        complete = True
        for customer in customers:
            complete &= await self._tried(f"customer {customer.customer_id}", self._customer(payments, customer))
        for reseller in resellers:
            complete &= await self._tried(f"reseller {reseller.id}", self._reseller(payments, reseller))
        if not customers and not resellers:
            self._say("Stripe: everybody is set up")
        return complete

    async def _tried(self, who: str, step: Awaitable[str]) -> bool:
        try:
            self._say(f"Stripe: {who}: {await step}")
        except OutsideError as error:
            self._say(f"Stripe: {who}: NOT set up: {error}. Run the command again when that is put right.")
            return False
        return True

    async def _customer(self, payments: PaymentGateway, customer: ToProvision) -> str:
        stripe_id = customer.stripe_customer_id
        if stripe_id is None:
            stripe_id = await _patient(
                lambda: payments.create_customer(
                    customer_id=customer.customer_id, idempotency_key=ids.customer_key(customer.customer_id)
                )
            )
            async with self._store.begin() as tx:
                await tx.catalog.set_stripe_customer(customer.customer_id, stripe_id)
        source = customer.payment_method_source
        if source is None:
            return f"{stripe_id}, no payment method yet"
        method = await _patient(
            lambda: payments.attach_payment_method(
                stripe_customer_id=stripe_id,
                payment_method=source,
                idempotency_key=ids.payment_method_key(customer.customer_id, stripe_id, source),
            )
        )
        async with self._store.begin() as tx:
            await tx.catalog.set_stripe_customer(customer.customer_id, stripe_id, method)
        return f"{stripe_id}, payment method {method}"

    async def _reseller(self, payments: PaymentGateway, reseller: Reseller) -> str:
        account = await _patient(lambda: open_account(self._store, payments, reseller.id))
        ready = "can be paid" if account.transfers_active else "cannot be paid before he completed Stripe's onboarding"
        return f"account {account.account_id}, {ready}"


async def _patient(call: Callable[[], Awaitable[T]]) -> T:
    """The call, again after a pause where Stripe says that it was too many."""
    for _ in range(RATE_LIMIT_TRIES - 1):
        try:
            return await call()
        except RateLimited as error:
            await asyncio.sleep(error.retry_after_seconds or RATE_LIMIT_PAUSE_SECONDS)
    return await call()
