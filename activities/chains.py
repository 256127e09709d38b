"""Where a chain stands, as a row that SQL, `billing chains` and the audit can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import ChainRef, RecordInput, UndoPlan

if TYPE_CHECKING:
    from store import Store, Tx


async def write_change(tx: Tx, change: RecordInput) -> None:
    """The chain's row, and with an `action` a line of the audit log."""
    await tx.chains.update(
        change.chain_uid,
        stage=change.stage,
        outcome=change.outcome,
        reason=change.reason,
        detail=change.detail or None,
        waits_for=change.waits_for or None,
        deadline_at=change.deadline_at,
    )
    if change.action is not None:
        await tx.log.write(
            actor=change.actor,
            action=change.action,
            target=f"chain:{change.chain_uid}",
            reason=change.why or (change.reason.value if change.reason else ""),
            details={"stage": change.stage.value, "detail": change.detail},
        )


class ChainActivities:
    """Steps on the chain's own row and the audit log; our database only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def record(self, change: RecordInput) -> None:
        """Write the stage; an `action` also goes to the audit log with who and why. A second call changes nothing."""
        async with self._store.begin() as tx:
            await write_change(tx, change)

    @activity.defn
    async def undo_plan(self, chain: ChainRef) -> UndoPlan:
        """What a closed chain did outside, so that it can be taken back."""
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(chain.chain_uid)
            commissions = await tx.money.commissions(chain.chain_uid)
            transfers = await tx.money.chain_transfers(chain.chain_uid)
            documents = await tx.money.invoices(chain.chain_uid)
        paid = [row.reseller_id for row in transfers]
        paid += [row.reseller_id for row in commissions if row.transfer_key is not None]
        return UndoPlan(
            customer_id=quote.customer_id if quote else None,
            reseller_ids=tuple(dict.fromkeys(paid)),
            next_sequence=max((document.sequence for document in documents), default=0) + 1,
        )
