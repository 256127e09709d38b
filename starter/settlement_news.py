"""Which settlements news about a reseller could set free."""

from __future__ import annotations

from domain import ids
from store.database import Store
from store.rows import SettlementStatus

ACCOUNT_CHANGED = "account_changed"
"""Signal to a `ResellerSettlementWorkflow`: it reads the account again and tries to pay."""

_WAIT = (SettlementStatus.OPEN, SettlementStatus.PARKED, SettlementStatus.WAITING)
"""Open is one whose try is under way: it may have read what is news before it changed."""


async def waiting_workflows(store: Store, reseller_id: str) -> list[str]:
    """Ids of the workflows that wait with a statement of his, oldest first.

    One of them may not run (a statement that is parked for a negative balance has none): that is no error.
    """
    async with store.begin() as tx:
        rows = await tx.settlements.of_reseller(reseller_id)
    return [
        ids.reseller_settlement_workflow(row.period, row.reseller_id, row.currency, row.sequence)
        for row in rows
        if row.status in _WAIT
    ]
