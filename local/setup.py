"""Everything that has to be there before the first booking: schema, search attributes, catalogue, Stripe, schedules."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import httpx

from domain.catalog import parse_catalog
from settings import Settings
from starter.provision import Provisioning
from starter.schedules import ensure_schedules
from starter.temporal import connect, register_search_attributes
from store import Store, migrate
from workflows.visibility import SEARCH_ATTRIBUTES

CATALOGUE = Path(__file__).with_name("catalog.yaml")
"""The catalogue of the demo."""


class ProvisioningFailed(Exception):
    """Stripe refused a customer or a reseller; `str()` has a line for each, also for those that are set up now."""


@dataclass(frozen=True)
class Done:
    """What a set-up changed. All empty: everything was there."""

    revisions: tuple[str, ...]
    search_attributes: tuple[str, ...]
    schedules: tuple[str, ...]
    catalogue: tuple[str, ...]
    provisioned: tuple[str, ...]
    """A line for each customer and reseller that was set up at Stripe."""


async def set_up(settings: Settings, catalogue: Path | None, *, provision: bool, by: str = "set-up") -> Done:
    """Brings database, Temporal, catalogue and Stripe to what the system needs. A second run changes nothing.

    `catalogue` None leaves the stored one. `provision` also creates customers and connected accounts at Stripe. Raises
    CatalogErrors or CatalogRefused with every error of the catalogue, TemporalUnavailable and ProvisioningFailed.
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
            if not await Provisioning(settings, store, say=provisioned.append).run():
                raise ProvisioningFailed("\n".join(provisioned))
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


async def activate_accounts(store: Store, stripe_base_url: str) -> None:
    """The resellers' part of the onboarding, which only the stand-in can do for them: their accounts become active.

    Raises ProvisioningFailed where the stand-in has forgotten them.
    """
    async with store.begin() as tx:
        accounts = [row.stripe_account_id for row in await tx.catalog.resellers() if row.stripe_account_id]
    async with httpx.AsyncClient(base_url=stripe_base_url, timeout=20, trust_env=False) as client:
        for account in accounts:
            answer = await client.post(f"/_sandbox/accounts/{account}", json={"state": "active"})
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise ProvisioningFailed(
                    f"The Stripe stand-in does not know {account}: the database was set up with another Stripe. "
                    "Use an empty database, or the state directory that belongs to this one."
                )
            answer.raise_for_status()
