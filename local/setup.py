"""Everything that has to be there before the first booking: schema, search attributes, catalogue, Stripe, schedules."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import httpx

from domain.catalog import parse_catalog
from domain.ports import PaymentGateway
from gateways.stripe import StripeGateway
from settings import Settings
from starter.schedules import ensure_schedules
from starter.temporal import connect, register_search_attributes
from store import Store, migrate
from workflows.visibility import SEARCH_ATTRIBUTES

CATALOGUE = Path(__file__).with_name("catalog.yaml")
"""The catalogue of the demo."""


@dataclass(frozen=True)
class Done:
    """What a set-up changed. All empty: everything was there."""

    revisions: tuple[str, ...]
    search_attributes: tuple[str, ...]
    schedules: tuple[str, ...]
    catalogue: tuple[str, ...]
    provisioned: tuple[str, ...]
    """Ids of ours that now have a customer or an account at Stripe."""


async def set_up(settings: Settings, catalogue: Path | None, *, provision: bool, by: str = "set-up") -> Done:
    """Brings database, Temporal, catalogue and Stripe to what the system needs. A second run changes nothing.

    `catalogue` None leaves the stored one. `provision` also creates customers and connected accounts at Stripe. Raises
    CatalogErrors or CatalogRefused with every error of the catalogue, TemporalUnavailable, and the ports' errors.
    """
    revisions = await migrate(settings.sqlalchemy_url)
    client = await connect(settings)
    attributes = await register_search_attributes(client, settings.temporal_namespace, SEARCH_ATTRIBUTES)
    changes: list[str] = []
    provisioned: list[str] = []
    async with Store(settings.sqlalchemy_url, pool_size=4) as store:
        if catalogue is not None:
            text = await asyncio.to_thread(catalogue.read_text, encoding="utf-8")
            changes = await apply_catalogue(store, text, by=by)
        if provision:
            payments = StripeGateway(
                secret_key=settings.stripe_secret_key.get_secret_value(),
                base_url=settings.stripe_base_url,
                timeout_seconds=settings.http_timeout_seconds,
            )
            try:
                provisioned = await provision_stripe(store, payments)
            finally:
                await payments.aclose()
            if settings.stripe_base_url is not None:
                await activate_accounts(store, settings.stripe_base_url)
    schedules = await ensure_schedules(client, settings)
    return Done(tuple(revisions), tuple(attributes), tuple(schedules), tuple(changes), tuple(provisioned))


async def apply_catalogue(store: Store, text: str, *, by: str) -> list[str]:
    """Load a catalogue; returns what changed, one sentence each. Raises CatalogErrors or CatalogRefused."""
    catalog = parse_catalog(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    async with store.begin() as tx:
        return await tx.catalog.apply(catalog, source_sha=digest, applied_by=by)


async def provision_stripe(store: Store, payments: PaymentGateway) -> list[str]:
    """Customers with the catalogue's payment methods, and connected accounts of resellers; returns their ids.

    Keys name what is set up, so a run that was cut off is finished by the next one without doubles. Raises the port's
    errors; what was done until then is kept.
    """
    done: list[str] = []
    async with store.begin() as tx:
        customers = await tx.catalog.to_provision()
        resellers = [row for row in await tx.catalog.resellers() if row.stripe_account_id is None]
    for row in customers:
        stripe_id = row.stripe_customer_id or await payments.create_customer(
            customer_id=row.customer_id, idempotency_key=f"customer:{row.customer_id}"
        )
        async with store.begin() as tx:
            await tx.catalog.set_stripe_customer(row.customer_id, stripe_id)
        if row.payment_method_source is not None:
            method_id = await payments.attach_payment_method(
                stripe_customer_id=stripe_id,
                payment_method=row.payment_method_source,
                idempotency_key=f"method:{row.customer_id}:{row.payment_method_source}",
            )
            async with store.begin() as tx:
                await tx.catalog.set_stripe_customer(row.customer_id, stripe_id, method_id)
        done.append(row.customer_id)
    for reseller in resellers:
        account = await payments.create_account(
            reseller_id=reseller.id, country=reseller.country, idempotency_key=f"account:{reseller.id}"
        )
        async with store.begin() as tx:
            await tx.catalog.set_stripe_account(reseller.id, account.account_id)
        done.append(reseller.id)
    return done


async def activate_accounts(store: Store, stripe_base_url: str) -> None:
    """The resellers' part of the onboarding, which only the stand-in can do for them: their accounts become active."""
    async with store.begin() as tx:
        accounts = [row.stripe_account_id for row in await tx.catalog.resellers() if row.stripe_account_id]
    async with httpx.AsyncClient(base_url=stripe_base_url, timeout=20, trust_env=False) as client:
        for account in accounts:
            answer = await client.post(f"/_sandbox/accounts/{account}", json={"state": "active"})
            answer.raise_for_status()
