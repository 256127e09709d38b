"""Closing all accounts at once: one SQL statement claims what is due and writes the statements.

Nothing passes through Python but what becomes a ledger entry, page by page, so that a million lines cost no memory
here. The rule is `domain.closing.close`; tests compare both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text

from domain import ids
from domain.ledger_statements import commission_vat
from domain.tax import PLATFORM_COUNTRY, STANDARD_RATE_BPS
from store.claims_sql import CLAIM
from store.ledger import LedgerRepository
from store.rows import ClaimSummary, IllegalMove, KeyConflict, SettlementRow
from store.statements import StatementRepository

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(:key)")
_LOCK_KEY = 5_401_731_966_022
"""Advisory lock of the claiming transaction; any number that nobody else uses (`store.database` has the one below)."""
_PLAN_AFRESH = text("""
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)
""")
"""For this transaction: a plan that was made when there were few lines would take hours with many."""
_CLOSE_PERIOD = text("""
INSERT INTO settlement_periods (period, sequence, boundary, requested_by, issuer)
VALUES (:period, :sequence, :boundary, :requested_by, CAST(:issuer AS jsonb))
ON CONFLICT (period, sequence) DO NOTHING
""")
_BOUNDARY = text("SELECT boundary FROM settlement_periods WHERE period = :period AND sequence = :sequence")
_SUMMARY = text("""
SELECT count(*) AS statements, count(*) FILTER (WHERE payable_minor > 0) AS payable,
    count(*) FILTER (WHERE payable_minor = 0 AND reason IS NULL) AS carried,
    count(*) FILTER (WHERE payable_minor = 0 AND reason IS NOT NULL) AS parked
FROM settlements WHERE period = :period AND sequence = :sequence
""")
_WITH_VAT = text("""
SELECT id, reseller_id, currency, vat_credit_minor, vat_debit_minor, frozen_at FROM settlements
WHERE period = :period AND sequence = :sequence AND id > :after AND vat_credit_minor + vat_debit_minor > 0
ORDER BY id LIMIT :page
""")
_PAGE = 500


class ClaimRepository(StatementRepository):
    async def claim(
        self,
        period: str,
        sequence: int,
        boundary: datetime,
        *,
        requested_by: str,
        negative_months: int = 3,
        approval_from_minor: Mapping[str, int] | None = None,
        issuer: Mapping[str, Any] | None = None,
    ) -> ClaimSummary:
        """Close all accounts: everything that matured before `boundary` and stands on no statement yet.

        Once for each (period, sequence): called again it claims nothing, and the summary says so. There is no lower
        bound, so that what was late for earlier months is taken along. Claims of several processes wait for each other.

        `approval_from_minor`: currency → payable amount from which on a second person must approve; a currency that is
        not named needs nobody. `issuer`: the platform as documents name it. IllegalMove: a supplement (`sequence` from
        2) of a closing that does not exist. KeyConflict: the closing exists with another boundary.
        """
        given: dict[str, Any] = {"period": period, "sequence": sequence}
        await self._value(_ONE_AT_A_TIME, key=_LOCK_KEY)
        if sequence > 1 and await self.latest_sequence(period) < sequence - 1:
            raise IllegalMove(f"{period} was not closed {sequence - 1} times: there is nothing to supplement")
        frozen = None if issuer is None else json.dumps(dict(issuer))
        is_new = bool(
            await self._execute(_CLOSE_PERIOD, **given, boundary=boundary, requested_by=requested_by, issuer=frozen)
        )
        if is_new:
            await self._value(_PLAN_AFRESH)
            await self._execute(
                CLAIM,
                **given,
                boundary=boundary,
                requested_by=requested_by,
                negative_months=negative_months,
                approval=json.dumps(dict(approval_from_minor or {})),
                country=PLATFORM_COUNTRY,
                standard_bps=STANDARD_RATE_BPS,
            )
            await self._post_vat(period, sequence)
        elif await self._value(_BOUNDARY, **given) != boundary:
            raise KeyConflict(f"{period} was closed with another boundary")
        counts = await self._only(_SUMMARY, **given)
        assert counts is not None
        return ClaimSummary(period=period, sequence=sequence, is_new=is_new, **counts)

    async def preview(
        self, period: str, boundary: datetime, *, sequence: int | None = None, **terms: Any
    ) -> list[SettlementRow]:
        """The statements that `claim` would make now, by the same SQL, taken back before anybody sees them.

        `sequence` None: the month's next one. For one that was closed already: its statements as they are. `terms`: the
        other arguments of `claim`. Claims wait while it runs.
        """
        number = await self.latest_sequence(period) + 1 if sequence is None else sequence
        attempt = await self._connection.begin_nested()
        try:
            await self.claim(period, number, boundary, **terms)
            return await self.of(period, number)
        finally:
            await attempt.rollback()

    async def _post_vat(self, period: str, sequence: int) -> None:
        """vat_input ← reseller for each statement, in pages."""
        after = 0
        while True:
            rows = await self._maps(_WITH_VAT, period=period, sequence=sequence, after=after, page=_PAGE)
            entries = [
                commission_vat(
                    statement_id=ids.statement_id(period, row["reseller_id"], row["currency"], sequence),
                    reseller_id=row["reseller_id"],
                    currency=row["currency"],
                    credit_minor=row["vat_credit_minor"],
                    debit_minor=row["vat_debit_minor"],
                    effective_at=row["frozen_at"],
                )
                for row in rows
            ]
            await LedgerRepository(self._connection).post(*(entry for entry in entries if entry is not None))
            if len(rows) < _PAGE:
                return
            after = rows[-1]["id"]
