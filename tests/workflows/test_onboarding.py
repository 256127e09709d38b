"""Taking resellers on: from master data to an account that can be paid, with everything that comes between."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import CancelledError

from domain import ids
from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus
from starter.onboarding import NoLink
from tests.support.desk import ORDER, Desk, eventually
from tests.support.resellers import PRIVATE, Candidate, candidate

WAITING = OnboardingStatus.WAITING
PARKED = OnboardingStatus.PARKED
COMPLETED = OnboardingStatus.COMPLETED


async def test_a_reseller_is_taken_on(desk: Desk) -> None:
    r = await candidate(desk, "new-taken-on")
    await r.start()
    waiting = await r.until(WAITING)
    assert waiting.requirements
    assert waiting.waits_until is not None
    link = await r.newest_link()
    assert (link.sequence, link.cause, link.expires_at is not None) == (1, LinkCause.FIRST, True)
    row = await r.reseller()
    assert (row.stripe_account_id, row.transfers_active) == (link.account_id, False)
    await r.start()  # again: the one that runs goes on
    await r.account("submitted")
    await r.tell()
    await asyncio.sleep(0.5)
    assert (await r.state()).status is WAITING
    await r.account("active")
    await r.tell()
    assert await asyncio.wait_for(r.handle.result(), 30) is COMPLETED
    row = await r.reseller()
    assert (row.transfers_active, row.payouts_enabled, row.account_currency) == (True, True, "EUR")
    assert row.account_checked_at is not None
    ended = await r.until(COMPLETED)
    assert (ended.requirements, ended.finished_at is not None) == ((), True)
    assert [one.url for one in await r.links()] == [None]
    assert await r.actions() == [
        "master_data",
        "onboarding_started",
        "account_opened",
        "link",
        "account_ready",
        "onboarding_completed",
    ]
    started = (await r.log())[1]
    assert (started.actor, started.reason) == (ORDER.who, ORDER.why)


async def test_nothing_personal_and_no_link_reaches_temporal(desk: Desk) -> None:
    r = await candidate(desk, "new-private")
    link = await r.onboarding.link(r.id, ORDER)
    assert link.url is not None
    await r.account("active")
    await r.tell()
    assert await asyncio.wait_for(r.handle.result(), 30) is COMPLETED
    told = await r.told_in_temporal()
    for secret in (*PRIVATE, link.url, link.token, link.url.rsplit("/", 1)[-1]):
        assert secret not in told
    assert r.id in told


async def test_missing_master_data_parks_until_it_is_there(desk: Desk) -> None:
    r = await candidate(desk, "new-gaps", save=False)
    await r.save(vat_id="DE136695977", tax_status_proof=None)
    await r.start()
    row = await r.until(PARKED, OnboardingReason.MASTER_DATA)
    assert row.detail is not None
    assert "tax_status_proof" in row.detail
    assert "digit" in row.detail
    with pytest.raises(NoLink, match="there is no account yet"):
        await r.onboarding.link(r.id, ORDER)
    await r.save()
    assert f"onboarding-{r.id}" in await r.onboarding.tell_changed(r.id)
    await r.until(WAITING)
    assert await r.accounts_made() == 1


async def test_a_retry_checks_again_and_is_recorded(desk: Desk) -> None:
    r = await candidate(desk, "new-retry", save=False)
    await r.save(tax_status_proof=None)
    await r.start()
    await r.until(PARKED, OnboardingReason.MASTER_DATA)
    await r.onboarding.retry(r.id, ORDER)
    await eventually(lambda: _count(r, "onboarding_parked", 2), "parked again")
    await r.save()
    await r.onboarding.retry(r.id, ORDER)
    await r.until(WAITING)
    assert [line.actor for line in await r.log() if line.action == "retried"] == [ORDER.who, ORDER.who]
    with pytest.raises(Exception, match="not parked"):
        await r.onboarding.retry(r.id, ORDER)


async def _count(r: Candidate, action: str, count: int) -> bool:
    return (await r.actions()).count(action) >= count


async def test_pausing_holds_it_and_resuming_lets_it_go_on(desk: Desk) -> None:
    r = await candidate(desk, "new-paused")
    await r.start()
    await r.until(WAITING)
    async with desk.store.begin() as tx:
        await tx.resellers.pause(r.id, True)
    await r.onboarding.tell_changed(r.id)
    await r.until(PARKED, OnboardingReason.PAUSED)
    async with desk.store.begin() as tx:
        await tx.resellers.pause(r.id, False)
    await r.onboarding.tell_changed(r.id)
    await r.until(WAITING)
    assert len(await r.links()) == 1


@pytest.mark.parametrize("kind", ["lose_answer", "error_after", "error_before"])
async def test_a_lost_answer_makes_one_account(desk: Desk, kind: str) -> None:
    r = await candidate(desk, f"new-lost-{kind.replace('_', '-')}")
    fault = await desk.stripe.fault(kind, path="/v1/accounts$", body=r.id)
    await r.start()
    await r.until(WAITING)
    assert await desk.stripe.hits(fault) == 1
    assert await r.accounts_made() == 1
    assert (await r.reseller()).stripe_account_id is not None


async def test_an_account_whose_answer_was_lost_is_found_and_not_asked_for_again(desk: Desk) -> None:
    """As after a crash between Stripe's answer and our note of it; Stripe may have forgotten the key meanwhile."""
    r = await candidate(desk, "new-forgotten")
    async with desk.store.begin() as tx:
        await tx.resellers.ask_account(r.id)
    made = await desk.payments.create_account(reseller_id=r.id, country="DE", idempotency_key=ids.account_key(r.id))
    asked = await desk.stripe.fault("error_before", path="/v1/accounts$", body=r.id, times=-1)
    await r.start()
    await r.until(WAITING)
    assert await desk.stripe.hits(asked) == 0
    assert (await r.reseller()).stripe_account_id == made.account_id
    assert await r.accounts_made() == 1


async def test_links_expire_and_are_renewed(desk: Desk) -> None:
    r = await candidate(desk, "new-links")
    first = await r.onboarding.link(r.id, ORDER)
    assert first.cause is LinkCause.REQUESTED
    second = await r.onboarding.link(r.id, ORDER)
    assert first.url != second.url
    assert first.token != second.token
    with pytest.raises(NoLink) as early:
        await r.onboarding.renew(r.id)
    assert early.value.is_early
    await asyncio.sleep(2.2)
    renewed = await r.onboarding.renew(r.id)
    assert renewed.cause is LinkCause.RENEWED
    causes = [one.cause for one in await r.links()]
    assert sorted(causes) == sorted([LinkCause.FIRST, LinkCause.REQUESTED, LinkCause.REQUESTED, LinkCause.RENEWED])
    who = [line.actor for line in await r.log() if line.action == "link"]
    assert who.count(ORDER.who) == 2


async def test_reminders_each_with_a_fresh_link_and_a_person_after_the_last(desk: Desk) -> None:
    r = await candidate(desk, "new-silent", onboarding_reminder_seconds="1,2,3")
    await r.start()
    row = await r.until(WAITING, OnboardingReason.NO_ANSWER)
    assert row.reminders == 3
    links = await r.links()
    assert [one.cause for one in links] == [LinkCause.FIRST, *[LinkCause.REMINDER] * 3]
    reminded = [line for line in await r.log() if line.action == "reminded"]
    assert [line.details["detail"].split(";")[0] for line in reminded] == [
        f"reminder {number}, link {number + 1}" for number in (1, 2, 3)
    ]
    gaps = [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(reminded)]
    assert all(0.5 < gap < 3 for gap in gaps)
    async with desk.store.begin() as tx:
        assert [one.what for one in await tx.resellers.troubles() if one.reseller_id == r.id] == ["onboarding"]
    assert (await r.actions()).count("onboarding_unanswered") == 1
    await r.account("active")
    await r.tell()
    assert await asyncio.wait_for(r.handle.result(), 30) is COMPLETED


async def test_a_lost_webhook_is_made_up_for(desk: Desk) -> None:
    r = await candidate(desk, "new-polled", onboarding_poll_seconds=1)
    await r.start()
    await r.until(WAITING)
    await r.account("active")
    assert await asyncio.wait_for(r.handle.result(), 30) is COMPLETED


async def test_a_rejected_reseller_parks(desk: Desk) -> None:
    r = await candidate(desk, "new-rejected")
    await r.start()
    await r.until(WAITING)
    await r.account("rejected")
    await r.tell()
    row = await r.until(PARKED, OnboardingReason.ACCOUNT_REJECTED)
    assert row.detail == "rejected.other"
    await r.account("active")  # Stripe thought better of it
    await r.tell()
    assert await asyncio.wait_for(r.handle.result(), 30) is COMPLETED


async def test_an_account_that_is_gone_parks(desk: Desk) -> None:
    r = await candidate(desk, "new-gone")
    await r.start()
    await r.until(WAITING)
    await r.account("deauthorized")
    await r.tell()
    await r.until(PARKED, OnboardingReason.ACCOUNT_GONE)
    row = await r.reseller()
    assert (row.transfers_active, row.disabled_reason) == (False, "account_gone")
    await r.onboarding.stop(r.id, ORDER)
    assert await asyncio.wait_for(r.handle.result(), 30) is OnboardingStatus.STOPPED


async def test_stopped_and_begun_again_with_the_same_account(desk: Desk) -> None:
    r = await candidate(desk, "new-stopped")
    await r.start()
    await r.until(WAITING)
    account_id = (await r.reseller()).stripe_account_id
    await r.onboarding.stop(r.id, ORDER)
    assert await asyncio.wait_for(r.handle.result(), 30) is OnboardingStatus.STOPPED
    await r.until(OnboardingStatus.STOPPED)
    stopped = (await r.log())[-1]
    assert (stopped.action, stopped.actor, stopped.reason) == ("onboarding_stopped", ORDER.who, ORDER.why)
    with pytest.raises(Exception, match="runs no workflow"):
        await r.onboarding.stop(r.id, ORDER)
    await r.start()
    await r.until(WAITING)
    assert (await r.reseller()).stripe_account_id == account_id
    assert await r.accounts_made() == 1


async def test_cancelling_the_workflow_stops_it_cleanly(desk: Desk) -> None:
    r = await candidate(desk, "new-cancelled")
    await r.start()
    await r.until(WAITING)
    await r.handle.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await asyncio.wait_for(r.handle.result(), 30)
    assert isinstance(ended.value.cause, CancelledError)
    await r.until(OnboardingStatus.STOPPED)


async def test_an_update_that_is_not_possible_is_refused(desk: Desk) -> None:
    r = await candidate(desk, "new-ready")
    await r.start()
    await r.until(WAITING)
    with pytest.raises(WorkflowUpdateFailedError):
        await r.handle.execute_update("retry", ORDER)
    assert (await r.state()).steps[-1] == "link 1 (first)"
