"""What tests of onboarding share: resellers of their own, onboardings with short waits, what became of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from temporalio.client import WorkflowHandle

from domain import ids
from domain.catalog_model import Address, CatalogReseller
from domain.onboarding import OnboardingReason, OnboardingStatus
from starter.dispatch import Dispatcher
from starter.onboarding import Onboarding
from starter.outcomes import Delivered
from store.reseller_rows import LinkRow, OnboardingRow, ResellerRow
from store.rows import LogRow
from tests.support.desk import ORDER, Desk, eventually
from workflows.onboarding import OnboardingWorkflow
from workflows.onboarding_models import OnboardingState

PRIVATE = ("Secretive Example", "secretive@example.com", "Hidden Lane 1")
"""Name, e-mail address and street of every reseller here: must never be seen in Temporal."""
_numbers = itertools.count(1)


def complete(reseller_id: str, **fields: Any) -> CatalogReseller:
    """A reseller whose master data leaves nothing to ask."""
    base: dict[str, Any] = {
        "id": reseller_id,
        "name": PRIVATE[0],
        "email": PRIVATE[1],
        "address": Address(line1=PRIVATE[2], postal_code="20095", city="Hamburg"),
        "tax_status_from": date(2026, 1, 1),
        "tax_status_proof": "letter 2026-17",
        "vat_id": "DE136695976",
    }
    return CatalogReseller(**{**base, **fields})


@dataclass
class Candidate:
    """One reseller who is taken on."""

    desk: Desk
    id: str
    onboarding: Onboarding

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        return self.desk.client.get_workflow_handle_for(OnboardingWorkflow.run, ids.onboarding_workflow(self.id))

    async def start(self) -> None:
        await self.onboarding.start(self.id, ORDER)

    async def save(self, **fields: Any) -> None:
        async with self.desk.store.begin() as tx:
            await tx.resellers.save([complete(self.id, **fields)], saved_by="tests")

    async def state(self) -> OnboardingState:
        answer: OnboardingState = await self.handle.query(OnboardingWorkflow.state)
        return answer

    async def row(self) -> OnboardingRow | None:
        async with self.desk.store.begin() as tx:
            return await tx.resellers.onboarding(self.id)

    async def reseller(self) -> ResellerRow:
        async with self.desk.store.begin() as tx:
            return await tx.resellers.get(self.id)

    async def links(self) -> list[LinkRow]:
        """All of his links that are known, by number."""
        async with self.desk.store.begin() as tx:
            newest = await tx.resellers.newest_link(self.id)
            count = 0 if newest is None else newest.sequence
            return [await tx.resellers.link(newest.id - back) for back in range(count) if newest is not None][::-1]

    async def newest_link(self) -> LinkRow:
        async with self.desk.store.begin() as tx:
            link = await tx.resellers.newest_link(self.id)
        assert link is not None
        assert link.url is not None
        return link

    async def log(self) -> list[LogRow]:
        async with self.desk.store.begin() as tx:
            return await tx.log.of(f"reseller:{self.id}")

    async def actions(self) -> list[str]:
        return [line.action for line in await self.log()]

    async def until(
        self, status: OnboardingStatus, reason: OnboardingReason | None = None, timeout_seconds: float = 30
    ) -> OnboardingRow:
        """Wait until the database says that it stands there."""

        async def look() -> OnboardingRow | None:
            row = await self.row()
            return row if row is not None and (row.status, row.reason) == (status, reason) else None

        try:
            found: OnboardingRow = await eventually(look, f"{self.id} {status} ({reason})", timeout_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {await self.row()}") from None
        return found

    async def account(self, state: str) -> None:
        """What Stripe or the reseller makes of his account; no webhook tells of it."""
        account_id = (await self.reseller()).stripe_account_id
        assert account_id is not None
        await self.desk.stripe.account(account_id, state)

    async def tell(self, name: str = "account_changed", *args: Any) -> None:
        await self.handle.signal(name, args=list(args))

    async def accounts_made(self) -> int:
        """How many accounts Stripe has for him."""
        answer = await self.desk.stripe._client.get("/v1/accounts", params={"limit": "100"})
        listed: Sequence[dict[str, Any]] = answer.json()["data"]
        return sum(one["metadata"].get("reseller_id") == self.id for one in listed)

    async def told_in_temporal(self) -> str:
        """Everything that Temporal keeps of it, as text."""
        return str([event async for event in self.handle.fetch_history_events()])


async def candidate(desk: Desk, reseller_id: str, *, save: bool = True, **settings: Any) -> Candidate:
    """A reseller of a test's own; `settings` are those of his onboarding."""
    changed = desk.settings.model_copy(update=settings)
    onboarding = Onboarding(store=desk.store, client=desk.client, settings=changed)
    made = Candidate(desk, reseller_id, onboarding)
    if save:
        await made.save()
    return made


async def deliver(desk: Desk, event_type: str, account_id: str | None, thing: dict[str, Any]) -> str:
    """An event of a connected account, or of the platform's own, as the relay would deliver it."""
    event_id = f"evt_{next(_numbers)}"
    body = {
        "id": event_id,
        "object": "event",
        "type": event_type,
        "account": account_id,
        "created": int(datetime.now(UTC).timestamp()),
        "data": {"object": thing},
    }
    async with desk.store.begin() as tx:
        await tx.inbox.add(event_id, "stripe", event_type, thing["id"], json.dumps(body).encode())
        row = await tx.inbox.get(event_id)
    assert row is not None
    dispatcher = Dispatcher(store=desk.store, client=desk.client, settings=desk.settings)
    outcome = await dispatcher.deliver(row)
    assert isinstance(outcome, Delivered)
    return outcome.note


async def tell_account(desk: Desk, account_id: str, event_type: str = "account.updated") -> None:
    """The event that Stripe sends when something of an account changed."""
    things = {
        "account.updated": {"id": account_id, "object": "account"},
        "capability.updated": {"id": "transfers", "object": "capability"},
        "account.application.deauthorized": {"id": "ca_1", "object": "application"},
    }
    assert await deliver(desk, event_type, account_id, things[event_type]) == (
        "told the reseller's workflow: account_changed"
    )
