"""A reseller's account at Stripe: made once, read, and what is known of it noted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from domain import ids
from domain.ports import ConnectedAccount, NotFound, PaymentGateway, Refused, SetupError

if TYPE_CHECKING:
    from store import Store

GONE = "account_gone"
"""Noted as the reason of the restriction where the account is out of reach: deleted, or the reseller cut us off."""


async def open_account(store: Store, payments: PaymentGateway, reseller_id: str) -> ConnectedAccount:
    """The reseller's account, made at Stripe where he has none; its id is stored before anything else follows.

    One account, also where an answer was lost: that Stripe is asked is stored first, and whoever finds a request that
    was sent before looks for its account, by its key in the metadata of all accounts made since. Stripe knows the key
    itself for a day only, and has no other way to ask. After a refusal, which makes nothing, the key is a new one.

    Raises what the port raises: Refused, and NotFound where his account is out of reach (which is noted).
    """
    async with store.begin() as tx:
        reseller = await tx.resellers.get(reseller_id)
    if reseller.stripe_account_id is not None:
        return await read_account(store, payments, reseller_id, reseller.stripe_account_id)
    async with store.begin() as tx:
        asked = await tx.resellers.ask_account(reseller_id)
    key = ids.next_try(ids.account_key(reseller_id), asked.tries)
    account = None
    if not asked.is_first:
        account = await payments.find_account(idempotency_key=key, created_after=asked.asked_at)
    if account is None:
        try:
            account = await payments.create_account(
                reseller_id=reseller_id, country=reseller.country, idempotency_key=key
            )
        except (Refused, SetupError):
            async with store.begin() as tx:
                await tx.resellers.account_refused(reseller_id)
            raise
    async with store.begin() as tx:
        await tx.resellers.take_account(reseller_id, account.account_id)
        await tx.resellers.note_account(reseller_id, account, await tx.resellers.now())
        details = {"account": account.account_id}
        await tx.log.write("workflow", "account_opened", f"reseller:{reseller_id}", "", details)
    return account


async def read_account(store: Store, payments: PaymentGateway, reseller_id: str, account_id: str) -> ConnectedAccount:
    """The account as Stripe has it now. What changed is noted, and told in the audit log. NotFound: noted as gone."""
    async with store.begin() as tx:
        read_at = await tx.resellers.now()
    try:
        account = await payments.get_account(account_id)
    except NotFound:
        gone = ConnectedAccount(
            account_id=account_id, transfers_active=False, payouts_enabled=False, disabled_reason=GONE
        )
        await _note(store, reseller_id, gone, read_at)
        raise
    await _note(store, reseller_id, account, read_at)
    return account


async def _note(store: Store, reseller_id: str, account: ConnectedAccount, read_at: datetime) -> None:
    async with store.begin() as tx:
        before = await tx.resellers.note_account(reseller_id, account, read_at)
        if before is None:
            return
        was_ready = before.transfers_active and before.payouts_enabled
        is_ready = account.transfers_active and account.payouts_enabled
        if was_ready != is_ready:
            action = "account_ready" if is_ready else "account_restricted"
            why = account.disabled_reason or ""
            await tx.log.write("stripe", action, f"reseller:{reseller_id}", why, {"account": account.account_id})
