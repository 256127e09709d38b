"""Steps that take a reseller on, and that follow what Stripe tells of him afterwards."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from temporalio import activity

from activities.accounts import open_account, read_account
from activities.errors import told_to_temporal
from activities.onboarding_models import (
    AccountNews,
    AccountResult,
    LinkInput,
    LinkResult,
    MasterDataResult,
    OnboardingNote,
    PayoutRef,
    ResellerRef,
)
from domain import ids
from domain.onboarding import OnboardingStatus, missing_of
from domain.ports import ConnectedAccount, NotFound, PaymentGateway, PayoutStatus, Refused
from domain.pricing import BERLIN

if TYPE_CHECKING:
    from store import Store, Tx

_WAIT = ("open", "parked", "waiting")
"""Statuses of a settlement whose workflow tries again when it is told that the account changed. Open is one whose try
is under way: it may have read the account before the change."""

CHAINS_TOLD = 200
"""Parked chains that hear of one event; more look again by themselves, or hear of the next."""


class OnboardingActivities:
    """Steps that touch only our database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def check_master_data(self, order: ResellerRef) -> MasterDataResult:
        """What is missing of the reseller's master data today (Europe/Berlin)."""
        async with self._store.begin() as tx:
            reseller = await tx.resellers.get(order.reseller_id)
        today = datetime.now(BERLIN).date()
        return MasterDataResult(missing=missing_of(reseller.master_data(), today), paused=reseller.paused)

    @activity.defn
    async def note_onboarding(self, note: OnboardingNote) -> None:
        """Where it stands; the links of one that ended are erased. Again: the same row, and the line once more."""
        async with self._store.begin() as tx:
            await tx.resellers.note_onboarding(
                note.reseller_id,
                note.status,
                reason=note.reason,
                detail=note.detail,
                requirements=note.requirements,
                reminders=note.reminders,
                waits_until=note.waits_until,
            )
            if note.status in (OnboardingStatus.COMPLETED, OnboardingStatus.STOPPED):
                await tx.resellers.forget_links(note.reseller_id)
            if note.action is not None:
                told = note.told or note.detail
                details = {"detail": told} if told else {}
                await tx.log.write(note.actor, note.action, f"reseller:{note.reseller_id}", note.why, details)


class ResellerAccounts:
    """Steps that call Stripe."""

    def __init__(self, store: Store, payments: PaymentGateway) -> None:
        self._store = store
        self._payments = payments

    @activity.defn
    async def open_account(self, order: ResellerRef) -> AccountResult:
        """The reseller's account, made where he has none: one, however often this runs. A refusal is a result."""
        try:
            with told_to_temporal():
                try:
                    return _result(await open_account(self._store, self._payments, order.reseller_id))
                except NotFound as error:
                    return AccountResult(is_gone=True, disabled_reason=error.code)
        except Refused as refused:
            return AccountResult(refused_code=refused.code)

    @activity.defn
    async def read_account(self, order: ResellerRef) -> AccountResult:
        """What Stripe says of the reseller's account now; noted. An account that is out of reach is a result."""
        async with self._store.begin() as tx:
            account_id = (await tx.resellers.get(order.reseller_id)).stripe_account_id
        if account_id is None:
            return AccountResult()
        return await self._read(order.reseller_id, account_id)

    async def _read(self, reseller_id: str, account_id: str) -> AccountResult:
        with told_to_temporal():
            try:
                return _result(await read_account(self._store, self._payments, reseller_id, account_id))
            except NotFound as error:
                return AccountResult(account_id=account_id, is_gone=True, disabled_reason=error.code)

    @activity.defn
    async def make_link(self, order: LinkInput) -> LinkResult:
        """A fresh link to the reseller's account, stored; its number is the result. A refusal is one, too.

        Every try makes another one: a link costs nothing, and one whose answer was lost has been seen by nobody.
        """
        async with self._store.begin() as tx:
            account_id = (await tx.resellers.get(order.reseller_id)).stripe_account_id
            if account_id is None:
                return LinkResult(refused_code="no_connected_account")
            row = await tx.resellers.begin_link(order.reseller_id, account_id, order.cause)
        try:
            with told_to_temporal():
                link = await self._payments.create_account_link(
                    account_id=account_id,
                    refresh_url=f"{order.base_url}/onboarding/{row.token}",
                    return_url=f"{order.base_url}/onboarding/done",
                    idempotency_key=ids.link_key(order.reseller_id, row.sequence),
                )
        except Refused as refused:
            return LinkResult(refused_code=refused.code)
        async with self._store.begin() as tx:
            await tx.resellers.finish_link(row.id, link.url, link.expires_at)
        return LinkResult(link_id=row.id, sequence=row.sequence, expires_at=link.expires_at)

    @activity.defn
    async def follow_account(self, order: ResellerRef) -> AccountNews:
        """Read and note the account that changed; say which payments could go on now."""
        account = await self.read_account(order)
        if not account.is_ready:
            return AccountNews()
        async with self._store.begin() as tx:
            chains = await tx.resellers.parked_chains(order.reseller_id, CHAINS_TOLD)
            return AccountNews(
                settlements=await _waiting(tx, order.reseller_id),
                chains=tuple(ids.booking_workflow(chain_uid) for chain_uid in chains),
            )

    @activity.defn
    async def follow_payout(self, order: PayoutRef) -> str:
        """Read and note a payout of the reseller's account: what it says now counts, whatever the event said.

        Returns its status; empty where it is out of reach. A failure is told in the audit log, once.
        """
        async with self._store.begin() as tx:
            checked_at = await tx.resellers.now()
        with told_to_temporal():
            try:
                payout = await self._payments.get_payout(order.account_id, order.payout_id)
            except NotFound:
                return ""
        async with self._store.begin() as tx:
            before = await tx.resellers.note_payout(order.reseller_id, order.account_id, payout, checked_at)
            if payout.status is PayoutStatus.FAILED and before not in (None, PayoutStatus.FAILED):
                await tx.log.write(
                    "stripe",
                    "payout_failed",
                    f"reseller:{order.reseller_id}",
                    payout.failure_code or "",
                    {
                        "payout": payout.payout_id,
                        "amount_minor": payout.amount_minor,
                        "currency": payout.currency,
                        "was": before,
                    },
                )
        return payout.status.value


def _result(account: ConnectedAccount) -> AccountResult:
    return AccountResult(
        account_id=account.account_id,
        transfers_active=account.transfers_active,
        payouts_enabled=account.payouts_enabled,
        disabled_reason=account.disabled_reason,
        requirements=account.requirements,
    )


async def _waiting(tx: Tx, reseller_id: str) -> tuple[str, ...]:
    """Workflows that wait with a statement of his. One of them may have ended: that is no error for who tells them."""
    rows = await tx.settlements.of_reseller(reseller_id)
    return tuple(
        ids.reseller_settlement_workflow(row.period, row.reseller_id, row.currency, row.sequence)
        for row in rows
        if row.status.value in _WAIT
    )
