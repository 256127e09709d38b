"""What a reseller's browser gets: a fresh link, or a page that says what to do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from domain.catalog_model import CatalogReseller
from domain.onboarding import LinkCause, OnboardingStatus
from domain.ports import ConnectedAccount
from starter import onboarding_pages as pages
from store.reseller_rows import LinkRow
from tests.starter.fake_temporal import FakeHandle
from tests.starter.world import World

URL = "https://connect.example.com/s/fresh"


async def waiting(world: World, status: OnboardingStatus = OnboardingStatus.WAITING) -> LinkRow:
    """A reseller who was given a link."""
    reseller = CatalogReseller(id="r-1", name="One Example", email="one@example.com", stripe_account_id="acct_1")
    async with world.store.begin() as tx:
        await tx.resellers.save([reseller], saved_by="tests")
        await tx.resellers.note_onboarding("r-1", status)
        link = await tx.resellers.begin_link("r-1", "acct_1", LinkCause.FIRST)
        await tx.resellers.finish_link(link.id, "https://connect.example.com/s/spent", datetime.now(UTC))
    return link


def answer_updates(monkeypatch: pytest.MonkeyPatch, world: World, answer: Exception | None) -> list[str]:
    """What the onboarding's workflow answers; returns the names of the updates that it was sent."""
    asked: list[str] = []

    async def execute_update(self: FakeHandle, name: str, *, args: list[Any], result_type: type) -> int:
        asked.append(name)
        if answer is not None:
            raise answer
        async with world.store.begin() as tx:
            link = await tx.resellers.begin_link("r-1", "acct_1", LinkCause.RENEWED)
            await tx.resellers.finish_link(link.id, URL, datetime.now(UTC))
        return link.id

    monkeypatch.setattr(FakeHandle, "execute_update", execute_update, raising=False)
    return asked


async def get(world: World, token: str) -> httpx.Response:
    return await world.http.get(f"/onboarding/{token}", follow_redirects=False)


def check_private(answer: httpx.Response) -> None:
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_token_leads_to_a_fresh_link_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await waiting(world)
    asked = answer_updates(monkeypatch, world, None)
    for _ in range(2):
        answer = await get(world, link.token)
        assert (answer.status_code, answer.headers["location"]) == (303, URL)
        check_private(answer)
    assert asked == ["renew", "renew"]


@pytest.mark.parametrize("token", ["x" * 32, "short", "a b", "'; DROP TABLE resellers", "%00", "x" * 5_000])
async def test_unknown_tokens_ask_nobody(world: World, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    await waiting(world)
    asked = answer_updates(monkeypatch, world, None)
    answer = await get(world, token)
    assert (answer.status_code, asked) == (404, [])


async def test_a_token_of_another_account_is_worth_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await waiting(world)
    asked = answer_updates(monkeypatch, world, None)
    changed = CatalogReseller(id="r-1", name="One Example", email="one@example.com", stripe_account_id="acct_2")
    async with world.store.begin() as tx:
        await tx.resellers.save([changed], saved_by="tests")
    assert ((await get(world, link.token)).status_code, asked) == (404, [])


async def test_who_can_be_paid_is_thanked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await waiting(world)
    asked = answer_updates(monkeypatch, world, None)
    ready = ConnectedAccount(account_id="acct_1", transfers_active=True, payouts_enabled=True, disabled_reason=None)
    async with world.store.begin() as tx:
        await tx.resellers.note_account("r-1", ready, await tx.resellers.now())
    answer = await get(world, link.token)
    assert (answer.status_code, pages.FINISHED in answer.text, asked) == (200, True, [])
    check_private(answer)


async def test_an_onboarding_that_was_stopped_gives_no_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await waiting(world, OnboardingStatus.STOPPED)
    asked = answer_updates(monkeypatch, world, None)
    answer = await get(world, link.token)
    assert (answer.status_code, asked) == (409, [])


def refusal(kind: str) -> WorkflowUpdateFailedError:
    return WorkflowUpdateFailedError(ApplicationError("no", type=kind))


@pytest.mark.parametrize(
    ("error", "status_code", "words"),
    [
        (refusal("TooSoon"), 429, pages.TOO_SOON),
        (refusal("NothingToDo"), 409, pages.NOT_RUNNING),
        (refusal("NoLink"), 409, pages.NOT_RUNNING),
        (TimeoutError(), 503, pages.UNAVAILABLE),
        (RPCError("gone", RPCStatusCode.NOT_FOUND, b""), 503, pages.UNAVAILABLE),
        (RPCError("away", RPCStatusCode.UNAVAILABLE, b""), 503, pages.UNAVAILABLE),
        (RuntimeError("a bug"), 503, pages.UNAVAILABLE),
    ],
)
async def test_whatever_is_broken_the_browser_gets_a_page(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, status_code: int, words: str
) -> None:
    link = await waiting(world)
    answer_updates(monkeypatch, world, error)
    answer = await get(world, link.token)
    assert (answer.status_code, words in answer.text) == (status_code, True)
    assert ("retry-after" in answer.headers) == (status_code in (429, 503))
    check_private(answer)


async def test_the_way_back_from_stripe_thanks(world: World) -> None:
    answer = await get(world, "done")
    assert (answer.status_code, pages.DONE in answer.text) == (200, True)
