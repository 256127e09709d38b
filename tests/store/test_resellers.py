"""Resellers' master data, the state of their accounts, onboardings, links and payouts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from domain.catalog_model import Address, CatalogReseller
from domain.model import Reseller
from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus
from domain.ports import ConnectedAccount, Payout, PayoutStatus
from store import Store
from store.reseller_rows import ResellerRow
from store.rows import CatalogRefused, KeyConflict, UnknownRow
from tests.store import seed

ADDRESS = Address(line1="Beispielweg 1", postal_code="20095", city="Hamburg")
FULL: dict[str, Any] = {
    "id": "r-new",
    "name": "New Example",
    "email": "new@example.com",
    "address": ADDRESS,
    "tax_status_from": date(2026, 1, 1),
    "tax_status_proof": "letter 2026-17",
    "vat_id": "DE136695976",
    "minimum_payouts": {"EUR": 2500, "JPY": 5000},
}


def reseller(**fields: Any) -> CatalogReseller:
    return CatalogReseller(**{**FULL, **fields})


def account(**fields: Any) -> ConnectedAccount:
    base = {"account_id": "acct_leaf", "transfers_active": True, "payouts_enabled": True, "disabled_reason": None}
    return ConnectedAccount(**{**base, "default_currency": "EUR", **fields})


def payout(status: PayoutStatus, **fields: Any) -> Payout:
    base = {"payout_id": "po_1", "amount_minor": 1225, "currency": "EUR", "failure_code": None}
    made = datetime(2026, 3, 1, 8, tzinfo=UTC)
    return Payout(**{**base, "status": status, "arrives_on": date(2026, 3, 4), "created_at": made, **fields})


async def save(store: Store, *resellers: CatalogReseller, **like: str) -> dict[str, list[str]]:
    async with store.begin() as tx:
        return await tx.resellers.save(resellers, agreement_like=like.get("like"), saved_by="ops-anna")  # type: ignore[arg-type]


async def row(store: Store, reseller_id: str = "r-new") -> ResellerRow:
    async with store.begin() as tx:
        return await tx.resellers.get(reseller_id)


async def test_saving_twice_changes_nothing_and_each_change_is_logged(store: Store) -> None:
    assert await save(store, reseller()) == {"r-new": ["new"]}
    assert await save(store, reseller()) == {}
    assert await save(store, reseller(name="Newer Example", country="AT")) == {
        "r-new": ["changed name, country", f"tax status from {seed.today()}"]
    }
    found = await row(store)
    assert (found.name, found.address, found.minimum_payouts) == ("Newer Example", ADDRESS, FULL["minimum_payouts"])
    assert found.master_data() == reseller(name="Newer Example", country="AT", paused=False)
    async with store.begin() as tx:
        lines = await tx.log.of("reseller:r-new")
        known = await tx.catalog.reseller("r-new")
    assert [line.details["changes"] for line in lines] == [
        ["new"],
        ["changed name, country", f"tax status from {seed.today()}"],
    ]
    assert "Newer" not in str(lines)
    assert isinstance(known, Reseller)
    assert (known.minimum_payouts, known.tax_status_from) == (FULL["minimum_payouts"], date(2026, 1, 1))


async def test_what_the_catalogue_does_not_say_stays(store: Store) -> None:
    await seed.apply(store)
    complete = reseller(id="r-leaf", name="Leaf GmbH", email="leaf@example.com", parent_id="r-mid", vat_id=None)
    await save(store, complete)
    async with store.begin() as tx:
        assert await tx.resellers.pause("r-leaf", True)
        assert not await tx.resellers.pause("r-leaf", True)
    assert await seed.apply(store) == []
    found = await row(store, "r-leaf")
    assert found.paused
    assert (found.address, found.tax_status_proof, found.stripe_account_id) == (ADDRESS, "letter 2026-17", "acct_leaf")
    assert await save(store, complete.model_copy(update={"minimum_payouts": {}})) == {
        "r-leaf": ["changed minimum_payouts"]
    }


async def test_an_agreement_is_copied_once_and_held_to_the_ceilings(store: Store) -> None:
    await seed.apply(store)
    assert await save(store, reseller(parent_id="r-root"), like={"r-new": "r-leaf"}) == {  # type: ignore[arg-type]
        "r-new": ["new", "agreement like r-leaf"]
    }
    assert await save(store, reseller(parent_id="r-root"), like={"r-new": "r-mid"}) == {}  # type: ignore[arg-type]
    async with store.begin() as tx:
        assert await tx.resellers.with_agreement(["r-new", "r-leaf", "r-none"]) == {"r-new", "r-leaf"}
    with pytest.raises(CatalogRefused, match="circle"):
        await save(store, reseller(id="r-root", parent_id="r-leaf"))
    assert (await row(store)).parent_id == "r-root"


async def test_accounts(store: Store) -> None:
    await save(store, reseller())
    async with store.begin() as tx:
        await tx.resellers.take_account("r-new", "acct_1")
        await tx.resellers.take_account("r-new", "acct_1")
        with pytest.raises(KeyConflict):
            await tx.resellers.take_account("r-new", "acct_2")
        assert await tx.resellers.of_account("acct_1") == "r-new"
        assert await tx.resellers.of_account("acct_2") is None
        now = await tx.resellers.now()
        ready = account(account_id="acct_1")
        before = await tx.resellers.note_account("r-new", ready, now)
        assert before is not None
        assert (before.transfers_active, before.account_currency) == (False, None)
        late = account(account_id="acct_1", transfers_active=False)
        assert await tx.resellers.note_account("r-new", late, now - timedelta(seconds=1)) is None
        assert await tx.resellers.note_account("r-new", account(account_id="acct_2"), now) is None
        gone = account(account_id="acct_1", transfers_active=False, default_currency=None, disabled_reason="gone")
        before = await tx.resellers.note_account("r-new", gone, now + timedelta(seconds=1))
        assert before is not None
        assert before.transfers_active
    found = await row(store)
    assert (found.transfers_active, found.disabled_reason, found.account_currency) == (False, "gone", "EUR")


async def test_of_another_account_nothing_is_known(store: Store) -> None:
    await save(store, reseller(stripe_account_id="acct_1"))
    async with store.begin() as tx:
        await tx.resellers.note_account("r-new", account(account_id="acct_1"), await tx.resellers.now())
    await save(store, reseller(stripe_account_id="acct_1", name="Other Name GmbH"))
    same = await row(store)
    assert (same.transfers_active, same.payouts_enabled, same.account_currency) == (True, True, "EUR")
    await save(store, reseller(stripe_account_id="acct_2"))
    other = await row(store)
    assert (other.stripe_account_id, other.transfers_active, other.payouts_enabled) == ("acct_2", False, False)
    assert (other.account_currency, other.account_checked_at, other.disabled_reason) == (None, None, None)


async def test_asking_for_an_account_is_remembered_until_it_is_refused(store: Store) -> None:
    await save(store, reseller())

    async def ask() -> tuple[int, bool]:
        async with store.begin() as tx:
            asked = await tx.resellers.ask_account("r-new")
            return asked.tries, asked.is_first

    assert [await ask(), await ask()] == [(1, True), (1, False)]
    async with store.begin() as tx:
        await tx.resellers.account_refused("r-new")
    assert [await ask(), await ask()] == [(2, True), (2, False)]


async def test_onboardings_begin_anew_after_their_end(store: Store) -> None:
    await save(store, reseller())

    async def note(status: OnboardingStatus, **more: Any) -> Any:
        async with store.begin() as tx:
            await tx.resellers.note_onboarding("r-new", status, **more)
        async with store.begin() as tx:
            return await tx.resellers.onboarding("r-new")

    first = await note(OnboardingStatus.CHECKING)
    waiting = await note(OnboardingStatus.WAITING, requirements=["external_account"], reminders=2)
    assert (waiting.requirements, waiting.reminders) == (("external_account",), 2)
    assert waiting.started_at == first.started_at
    parked = await note(OnboardingStatus.PARKED, reason=OnboardingReason.MASTER_DATA, detail="address")
    assert (parked.reason, parked.finished_at) == (OnboardingReason.MASTER_DATA, None)
    async with store.begin() as tx:
        assert [(one.what, one.detail) for one in await tx.resellers.troubles()] == [
            ("onboarding", "master_data: address")
        ]
    ended = await note(OnboardingStatus.COMPLETED)
    assert ended.finished_at is not None
    again = await note(OnboardingStatus.WAITING)
    assert again.finished_at is None
    assert again.started_at > first.started_at


async def test_links_are_secret_and_forgotten(store: Store) -> None:
    await save(store, reseller())
    async with store.begin() as tx:
        first = await tx.resellers.begin_link("r-new", "acct_1", LinkCause.FIRST)
        second = await tx.resellers.begin_link("r-new", "acct_1", LinkCause.REMINDER)
        await tx.resellers.finish_link(second.id, "https://connect.example.com/s/1", datetime(2026, 3, 1, tzinfo=UTC))
        assert (first.sequence, second.sequence) == (1, 2)
        assert first.token != second.token
        assert len(first.token) >= 32
        newest = await tx.resellers.newest_link("r-new")
        assert newest == await tx.resellers.link(second.id) == await tx.resellers.link_of_token(second.token)
        assert newest.url == "https://connect.example.com/s/1"
        assert await tx.resellers.link_of_token("other") is None
        await tx.resellers.forget_links("r-new")
        assert (await tx.resellers.link(second.id)).url is None
        with pytest.raises(UnknownRow):
            await tx.resellers.link(second.id + 1)


async def test_the_later_reading_of_a_payout_stays(store: Store) -> None:
    await save(store, reseller())
    now = datetime(2026, 3, 2, tzinfo=UTC)

    async def note(status: PayoutStatus, at: datetime, **more: Any) -> str | None:
        async with store.begin() as tx:
            return await tx.resellers.note_payout("r-new", "acct_1", payout(status, **more), at)

    assert await note(PayoutStatus.PAID, now) == ""
    failed = await note(PayoutStatus.FAILED, now + timedelta(days=1), failure_code="no_account")
    assert failed == "paid"
    assert await note(PayoutStatus.PAID, now) is None
    async with store.begin() as tx:
        (stored,) = await tx.resellers.payouts("r-new")
        assert (stored.status, stored.failure_code) == (PayoutStatus.FAILED, "no_account")
        assert [(one.what, one.detail) for one in await tx.resellers.troubles()] == [("payout", "po_1: no_account")]
    later = datetime(2026, 4, 1, tzinfo=UTC)
    assert await note(PayoutStatus.PENDING, later, payout_id="po_2", created_at=later) == ""
    async with store.begin() as tx:
        assert await tx.resellers.troubles() == []
        assert [one.payout_id for one in await tx.resellers.payouts("r-new")] == ["po_2", "po_1"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE resellers SET minimum_payouts = '[]'",
        "UPDATE resellers SET address = '\"street\"'",
        "UPDATE resellers SET account_currency = 'eur'",
        "UPDATE resellers SET tax_status_proof = ' '",
        "INSERT INTO reseller_onboardings (reseller_id, status) VALUES ('r-new', 'parked')",
        "INSERT INTO reseller_onboardings (reseller_id, status) VALUES ('r-new', 'completed')",
        "INSERT INTO reseller_onboardings (reseller_id, status) VALUES ('r-new', 'lost')",
    ],
)
async def test_the_database_refuses(store: Store, change: str) -> None:
    await save(store, reseller())
    with pytest.raises(Exception, match="CheckViolation"):
        async with store.begin() as tx:
            await tx.connection.execute(text(change))
