"""Resellers from taking them on to the money at their banks: master data, accounts, onboardings, links, payouts."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import text

from domain.catalog_model import CatalogReseller
from domain.onboarding import LinkCause, OnboardingReason, OnboardingStatus
from domain.ports import ConnectedAccount, Payout
from domain.tax_status import TaxStatus
from store.catalog_apply import CatalogApplication
from store.repository import Repository, columns, cut
from store.reseller_rows import (
    AccountState,
    Asked,
    LinkRow,
    OnboardingRow,
    PayoutRow,
    ResellerRow,
    ResellerTrouble,
)
from store.rows import KeyConflict, UnknownRow

_COLUMNS = columns(ResellerRow)
_ONE = text(f"SELECT {_COLUMNS} FROM resellers WHERE id = :id")  # noqa: S608 - a constant
_ALL = text(f"SELECT {_COLUMNS} FROM resellers ORDER BY id")  # noqa: S608 - a constant
_OF_ACCOUNT = text("SELECT id FROM resellers WHERE stripe_account_id = :account_id")
_TAX_STATUSES = text(
    f"SELECT {columns(TaxStatus)} FROM reseller_tax_statuses WHERE reseller_id = :id ORDER BY sequence"  # noqa: S608
)
_AGREED = text("SELECT DISTINCT reseller_id FROM agreements WHERE reseller_id = ANY(CAST(:ids AS text[]))")
_PAUSE = text("UPDATE resellers SET paused = :paused, updated_at = now() WHERE id = :id AND paused <> :paused")
_NOW = text("SELECT clock_timestamp()")
_TAKE_ACCOUNT = text("""
UPDATE resellers SET stripe_account_id = :account_id, updated_at = now()
WHERE id = :id AND (stripe_account_id IS NULL OR stripe_account_id = :account_id)
""")
_NOTE_ACCOUNT = text(
    f"""
UPDATE resellers AS r
SET transfers_active = :transfers_active, payouts_enabled = :payouts_enabled, disabled_reason = :disabled_reason,
    account_currency = coalesce(CAST(:currency AS text), r.account_currency), account_checked_at = :read_at
FROM (SELECT * FROM resellers WHERE id = :id FOR UPDATE) AS before
WHERE r.id = before.id AND r.stripe_account_id = :account_id
  AND (before.account_checked_at IS NULL OR before.account_checked_at <= :read_at)
RETURNING {columns(AccountState, "before.")}
"""  # noqa: S608 - a constant
)

_ONBOARDING = text(
    f"SELECT {columns(OnboardingRow)} FROM reseller_onboardings WHERE reseller_id = :id"  # noqa: S608 - a constant
)
_ONBOARDINGS = text(
    f"SELECT {columns(OnboardingRow)} FROM reseller_onboardings ORDER BY reseller_id"  # noqa: S608 - a constant
)
_NOTE_ONBOARDING = text("""
INSERT INTO reseller_onboardings
    (reseller_id, status, reason, detail, requirements, reminders, waits_until, finished_at)
VALUES (:id, :status, :reason, :detail, CAST(:requirements AS jsonb), :reminders, :waits_until,
        CASE WHEN :status IN ('completed', 'stopped') THEN now() END)
ON CONFLICT (reseller_id) DO UPDATE
SET status = excluded.status, reason = excluded.reason, detail = excluded.detail,
    requirements = excluded.requirements, reminders = excluded.reminders, waits_until = excluded.waits_until,
    finished_at = excluded.finished_at, updated_at = now(),
    started_at = CASE WHEN reseller_onboardings.finished_at IS NOT NULL AND excluded.finished_at IS NULL THEN now()
                      ELSE reseller_onboardings.started_at END
""")
_ASK = text("""
UPDATE resellers SET account_asked_at = coalesce(account_asked_at, now()) WHERE id = :id
RETURNING account_tries AS tries, account_asked_at AS asked_at, account_asked_at = now() AS is_first
""")
_REFUSED = text("""
UPDATE resellers SET account_tries = account_tries + 1, account_asked_at = NULL WHERE id = :id
""")

_BEGIN_LINK = text(
    f"""
INSERT INTO reseller_links (reseller_id, sequence, account_id, cause, token)
SELECT :id, coalesce(max(sequence), 0) + 1, :account_id, :cause, :token FROM reseller_links WHERE reseller_id = :id
RETURNING {columns(LinkRow)}
"""  # noqa: S608 - a constant
)
_FINISH_LINK = text("UPDATE reseller_links SET url = :url, expires_at = :expires_at WHERE id = :id")
_LINK = text(f"SELECT {columns(LinkRow)} FROM reseller_links WHERE id = :id")  # noqa: S608 - a constant
_LINK_OF_TOKEN = text(f"SELECT {columns(LinkRow)} FROM reseller_links WHERE token = :token")  # noqa: S608 - a constant
_NEWEST_LINK = text(
    f"SELECT {columns(LinkRow)} FROM reseller_links WHERE reseller_id = :id ORDER BY sequence DESC LIMIT 1"  # noqa: S608
)
_FORGET_LINKS = text("UPDATE reseller_links SET url = NULL WHERE reseller_id = :id AND url IS NOT NULL")
_LOCK = text("SELECT id FROM resellers WHERE id = :id FOR UPDATE")

_NOTE_PAYOUT = text(
    f"""
WITH before AS (SELECT status FROM reseller_payouts WHERE payout_id = :payout_id)
INSERT INTO reseller_payouts AS p ({columns(PayoutRow)})
VALUES (:payout_id, :reseller_id, :account_id, :status, :amount_minor, :currency, :failure_code, :arrives_on,
        :created_at, :checked_at)
ON CONFLICT (payout_id) DO UPDATE
SET status = excluded.status, failure_code = excluded.failure_code, arrives_on = excluded.arrives_on,
    checked_at = excluded.checked_at
WHERE p.checked_at <= excluded.checked_at
RETURNING coalesce((SELECT status FROM before), '') AS status
"""  # noqa: S608 - a constant
)
_PAYOUTS = text(
    f"""
SELECT {columns(PayoutRow)} FROM reseller_payouts WHERE reseller_id = :id
ORDER BY created_at DESC, payout_id LIMIT :limit
"""  # noqa: S608 - a constant
)
_WAITING = text("""
SELECT reseller_id FROM reseller_onboardings WHERE finished_at IS NULL AND reseller_id = ANY(CAST(:ids AS text[]))
UNION
SELECT reseller_id FROM settlements
WHERE status IN ('parked', 'waiting') AND reseller_id = ANY(CAST(:ids AS text[]))
""")
_PARKED_CHAINS = text("""
SELECT c.chain_uid FROM chains AS c
WHERE c.stage = 'parked' AND c.reason = 'reseller_not_ready' AND EXISTS (
    SELECT 1 FROM commissions AS m WHERE m.chain_uid = c.chain_uid AND m.reseller_id = :id AND m.status = 'matured')
ORDER BY c.chain_uid LIMIT :limit
""")
_TROUBLES = text("""
SELECT o.reseller_id, 'onboarding' AS what, concat_ws(': ', o.reason, o.detail) AS detail
FROM reseller_onboardings AS o WHERE o.reason IS NOT NULL AND o.finished_at IS NULL
UNION ALL
SELECT r.id, 'account', coalesce(r.disabled_reason, CASE WHEN r.transfers_active THEN 'payouts are not enabled'
                                                         ELSE 'transfers are not active' END)
FROM resellers AS r LEFT JOIN reseller_onboardings AS o ON o.reseller_id = r.id
WHERE r.account_checked_at IS NOT NULL AND NOT (r.transfers_active AND r.payouts_enabled)
  AND (o.reseller_id IS NULL OR o.finished_at IS NOT NULL)
UNION ALL
SELECT p.reseller_id, 'payout', concat_ws(': ', p.payout_id, p.failure_code)
FROM (SELECT DISTINCT ON (reseller_id, currency) * FROM reseller_payouts
      ORDER BY reseller_id, currency, created_at DESC, payout_id) AS p
WHERE p.status = 'failed'
ORDER BY 1, 2
""")


class ResellerRepository(Repository):
    # --- master data ---

    async def save(
        self, resellers: Sequence[CatalogReseller], *, agreement_like: Mapping[str, str] | None = None, saved_by: str
    ) -> dict[str, list[str]]:
        """Add or change resellers, parents before their children, and return what changed by id; saved before: nothing.

        What is None where the model says so keeps what is stored. `agreement_like`: who without an agreement gets a
        copy of whose. Each change is written to the audit log by its field's name. Raises CatalogRefused with every
        reason, and changes nothing, where agreements along the tree would exceed their ceilings.
        """
        return await CatalogApplication(self._connection).save_resellers(resellers, agreement_like or {}, saved_by)

    async def get(self, reseller_id: str) -> ResellerRow:
        """Raises UnknownRow."""
        return _known(await self._row(ResellerRow, _ONE, id=reseller_id), reseller_id)

    async def all(self) -> list[ResellerRow]:
        return await self._rows(ResellerRow, _ALL)

    async def tax_statuses(self, reseller_id: str) -> list[TaxStatus]:
        """All that were ever recorded, in that order; `domain.tax_status.in_force` says which one holds on a day."""
        return await self._rows(TaxStatus, _TAX_STATUSES, id=reseller_id)

    async def with_agreement(self, reseller_ids: Sequence[str]) -> set[str]:
        """Those who have an agreement. A booking of a customer of anybody else parks."""
        return {row["reseller_id"] for row in await self._maps(_AGREED, ids=list(reseller_ids))}

    async def pause(self, reseller_id: str, paused: bool) -> bool:
        """Whether that changed anything. Raises UnknownRow."""
        _known(await self._row(ResellerRow, _ONE, id=reseller_id), reseller_id)
        return await self._execute(_PAUSE, id=reseller_id, paused=paused) > 0

    # --- his account at Stripe ---

    async def now(self) -> datetime:
        """The database's clock: the moment to give to what is read at Stripe next."""
        moment: datetime = await self._value(_NOW)
        return moment

    async def of_account(self, account_id: str) -> str | None:
        """Whose account it is; None: nobody's."""
        found: str | None = await self._value(_OF_ACCOUNT, account_id=account_id)
        return found

    async def ask_account(self, reseller_id: str) -> Asked:
        """Note that Stripe is about to be asked for an account. Raises nothing of its own: the reseller exists."""
        row = await self._row(Asked, _ASK, id=reseller_id)
        assert row is not None
        return row

    async def account_refused(self, reseller_id: str) -> None:
        """Stripe made none: the next try is another request."""
        await self._execute(_REFUSED, id=reseller_id)

    async def take_account(self, reseller_id: str, account_id: str) -> None:
        """Note the account that Stripe made; again is the same. Raises KeyConflict where he has another one."""
        if await self._execute(_TAKE_ACCOUNT, id=reseller_id, account_id=account_id) == 0:
            raise KeyConflict(f"reseller {reseller_id} has another account than {account_id}")

    async def note_account(self, reseller_id: str, account: ConnectedAccount, read_at: datetime) -> AccountState | None:
        """Note what Stripe says of the account, and return what was noted before.

        None where nothing was noted: a later reading is there already, or the account is not his any more. `read_at`
        is `now()` from before the reading, so that of two readings at once the later one stays.
        """
        return await self._row(
            AccountState,
            _NOTE_ACCOUNT,
            id=reseller_id,
            account_id=account.account_id,
            transfers_active=account.transfers_active,
            payouts_enabled=account.payouts_enabled,
            disabled_reason=cut(account.disabled_reason, 120),
            currency=account.default_currency,
            read_at=read_at,
        )

    # --- onboarding ---

    async def onboarding(self, reseller_id: str) -> OnboardingRow | None:
        return await self._row(OnboardingRow, _ONBOARDING, id=reseller_id)

    async def onboardings(self) -> list[OnboardingRow]:
        return await self._rows(OnboardingRow, _ONBOARDINGS)

    async def note_onboarding(
        self,
        reseller_id: str,
        status: OnboardingStatus,
        *,
        reason: OnboardingReason | None = None,
        detail: str = "",
        requirements: Sequence[str] = (),
        reminders: int = 0,
        waits_until: datetime | None = None,
    ) -> None:
        """Where it stands now. After it had ended this begins a new one."""
        await self._execute(
            _NOTE_ONBOARDING,
            id=reseller_id,
            status=status,
            reason=reason,
            detail=cut(detail),
            requirements=json.dumps(list(requirements)),
            reminders=reminders,
            waits_until=waits_until,
        )

    # --- links ---

    async def begin_link(self, reseller_id: str, account_id: str, cause: LinkCause) -> LinkRow:
        """A new link, which Stripe is about to be asked for, with a token of its own."""
        await self._execute(_LOCK, id=reseller_id)
        row = await self._row(
            LinkRow,
            _BEGIN_LINK,
            id=reseller_id,
            account_id=account_id,
            cause=cause,
            token=secrets.token_urlsafe(24),
        )
        assert row is not None
        return row

    async def finish_link(self, link_id: int, url: str, expires_at: datetime) -> None:
        await self._execute(_FINISH_LINK, id=link_id, url=url, expires_at=expires_at)

    async def link(self, link_id: int) -> LinkRow:
        """Raises UnknownRow."""
        found = await self._row(LinkRow, _LINK, id=link_id)
        if found is None:
            raise UnknownRow(f"link {link_id} does not exist")
        return found

    async def link_of_token(self, token: str) -> LinkRow | None:
        return await self._row(LinkRow, _LINK_OF_TOKEN, token=token)

    async def newest_link(self, reseller_id: str) -> LinkRow | None:
        return await self._row(LinkRow, _NEWEST_LINK, id=reseller_id)

    async def forget_links(self, reseller_id: str) -> None:
        """Erase the addresses at Stripe. Tokens stay: each leads nowhere once no onboarding runs."""
        await self._execute(_FORGET_LINKS, id=reseller_id)

    # --- payouts to his bank ---

    async def note_payout(self, reseller_id: str, account_id: str, payout: Payout, checked_at: datetime) -> str | None:
        """Note what Stripe says of a payout; returns its status before, empty for a new one.

        None where a later reading is there already; see `note_account` for `checked_at`.
        """
        found: str | None = await self._value(
            _NOTE_PAYOUT,
            payout_id=payout.payout_id,
            reseller_id=reseller_id,
            account_id=account_id,
            status=payout.status,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
            failure_code=cut(payout.failure_code, 120),
            arrives_on=payout.arrives_on,
            created_at=payout.created_at,
            checked_at=checked_at,
        )
        return found

    async def payouts(self, reseller_id: str, limit: int = 20) -> list[PayoutRow]:
        """The newest payouts, newest first."""
        return await self._rows(PayoutRow, _PAYOUTS, id=reseller_id, limit=limit)

    # --- who waits, and who needs a person ---

    async def waiting(self, reseller_ids: Sequence[str]) -> list[str]:
        """Those of them for whom an onboarding runs or a statement waits: a change of theirs is news to a workflow."""
        return [row["reseller_id"] for row in await self._maps(_WAITING, ids=list(reseller_ids))]

    async def parked_chains(self, reseller_id: str, limit: int) -> list[str]:
        """Chains that wait because a reseller cannot be paid, and that owe this one something."""
        return [row["chain_uid"] for row in await self._maps(_PARKED_CHAINS, id=reseller_id, limit=limit)]

    async def troubles(self) -> list[ResellerTrouble]:
        """Onboardings that wait for a person; accounts, once taken on, that Stripe restricts; newest payouts that
        failed (a later one that goes its way ends that)."""
        return await self._rows(ResellerTrouble, _TROUBLES)


def _known(found: ResellerRow | None, reseller_id: str) -> ResellerRow:
    if found is None:
        raise UnknownRow(f"reseller {reseller_id} is not in the catalogue")
    return found
