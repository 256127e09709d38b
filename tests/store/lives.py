"""Random lives of commissions and accounts, with every ledger entry that the steps of the pipeline post for them.

Each event is a few numbers; what they mean depends on what is there, so that any list of them is a possible story.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from domain import ids, ledger
from domain.chain import ChainOutcome, ChainStage
from domain.effects import AdjustmentDirection, AdjustmentKind, EffectStatus, SettlementStatus
from domain.model import CommissionStatus, Level, ParkReason, PayoutMode
from domain.pricing import BERLIN, period_bounds
from store import Store, Tx
from store.rows import CommissionRow, SettlementRow
from tests.store import closing

RESELLERS = ("r-a", "r-b", "r-c")
CURRENCIES = ("EUR", "CHF", "JPY")
MODES = (PayoutMode.MONTHLY, PayoutMode.PER_BOOKING, PayoutMode.ON_HOLD, PayoutMode.PER_BOOKING)
MONTHS = tuple(f"2026-{month:02}" for month in range(1, 13))
NOW = datetime(2026, 1, 1, tzinfo=UTC)

WHOLE = -1
"""In the place of an event's number: all of it."""

Event = tuple[str, int, int, int]


class Life:
    """A store with three resellers, and what happened to them so far."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.closed: list[tuple[str, int]] = []
        self._count = 0
        self._leaving: list[str] = []

    async def begin(self) -> None:
        async with self.store.begin() as tx:
            for reseller_id in RESELLERS:
                await tx.connection.execute(
                    text(
                        "INSERT INTO resellers (id, name, email, payout_mode, country, stripe_account_id)"
                        " VALUES (:id, :id, 'r@example.com', 'monthly', 'DE', 'acct_' || :id)"
                    ),
                    {"id": reseller_id},
                )

    async def happens(self, event: Event) -> None:
        """One event; does nothing where there is nothing that it could happen to."""
        kind, a, b, c = event
        self._count += 1
        async with self.store.begin() as tx:
            await getattr(self, f"_{kind}")(tx, a, b, c)

    async def goes_on(self) -> None:
        """Nothing is held any more: what was on its way back is undone, what waited for a decision goes on."""
        async with self.store.begin() as tx:
            while self._leaving:
                await self._undo(tx, 0, 0, 1)
            for uid in {row.chain_uid for row in await _commissions(tx)}:
                chain = await tx.chains.get(uid)
                if chain is not None and chain.stage is ChainStage.PARKED:
                    await tx.chains.update(uid, stage=ChainStage.PAYOUT)

    # --- bookings ---

    async def _earn(self, tx: Tx, a: int, b: int, c: int) -> None:
        uid = f"bk-{self._count}"
        currency, mode = CURRENCIES[b % 3], MODES[c % 4]
        level = Level(
            reseller_id=RESELLERS[a % 3],
            level=c % 2,
            amount_minor=1 + (a * 7 + b) % 5_000,
            rule={"kind": "none", "inputs": {}},
            agreement_version=1,
            payout_mode=mode,
        )
        await tx.chains.open(uid, f"booking-{uid}")
        await tx.connection.execute(
            text("UPDATE chains SET currency = :currency WHERE chain_uid = :uid"), {"uid": uid, "currency": currency}
        )
        _, month_end = period_bounds(MONTHS[(a + c) % 12])
        await tx.money.accrue(uid, [level], month_end - timedelta(seconds=b % 3 - 1))
        entry = ledger.accrued(chain_uid=uid, currency=currency, levels=[level], effective_at=NOW)
        assert entry is not None
        await tx.ledger.post(entry)
        if b % 5:
            await self._ripen(tx, uid)

    async def _mature(self, tx: Tx, a: int, b: int, c: int) -> None:
        rows = [row for row in await _commissions(tx) if row.status is CommissionStatus.ACCRUED]
        if rows:
            await self._ripen(tx, rows[a % len(rows)].chain_uid)

    async def _ripen(self, tx: Tx, uid: str) -> None:
        for row in await tx.money.mature(uid):
            key = ids.transfer_key(uid, row.reseller_id)
            if row.payout_mode is not PayoutMode.PER_BOOKING:
                continue
            begun = await tx.money.begin_booking_transfer(
                key=key, chain_uid=uid, reseller_id=row.reseller_id, destination_account_id="acct_x"
            )
            if begun is not None and begun.status is EffectStatus.STARTED:
                await _transferred(tx, key, row.reseller_id, row.currency, begun.amount_minor, uid)

    async def _reverse(self, tx: Tx, a: int, b: int, c: int) -> None:
        rows = [row for row in await _commissions(tx) if row.owed_minor]
        if not rows:
            return
        row = rows[-1 - a % min(3, len(rows))]  # the youngest, so that some are reversed again and again
        if c % 3:
            await self._take_back(tx, row, b)
        await self._reverse_row(tx, row, 1 + b % row.owed_minor if c % 8 else row.owed_minor)

    async def _reverse_row(self, tx: Tx, row: CommissionRow, amount_minor: int) -> None:
        if not amount_minor:
            return
        posting = ledger.Posting(
            debit_account=ledger.reseller(row.reseller_id),
            credit_account=ledger.COMMISSION_EXPENSE,
            amount_minor=amount_minor,
        )
        await tx.money.set_reversed(row.id, row.reversed_minor + amount_minor)
        await tx.ledger.post(
            ledger.Entry(
                key=f"commission_reversed:{row.chain_uid}:{row.id}:{row.reversed_minor + amount_minor}",
                kind=ledger.EntryKind.COMMISSION_REVERSED,
                chain_uid=row.chain_uid,
                currency=row.currency,
                postings=(posting,),
                effective_at=NOW,
                reverses_key=f"accrued:{row.chain_uid}",
            )
        )

    async def _undo(self, tx: Tx, a: int, b: int, c: int) -> None:
        """The way back, which may stop for days in between: transfers first, or the rest of a chain that stopped."""
        if self._leaving and c % 2:
            uid = self._leaving.pop(a % len(self._leaving))
            for row in await tx.money.commissions(uid):
                await self._take_back(tx, row, WHOLE)
                await self._reverse_row(tx, row, row.owed_minor)
            await tx.chains.update(uid, stage=ChainStage.CLOSED, outcome=ChainOutcome.ROLLED_BACK)
            return
        uids = sorted({row.chain_uid for row in await _commissions(tx) if row.owed_minor} - set(self._leaving))
        if uids:
            uid = uids[a % len(uids)]
            self._leaving.append(uid)
            for row in (await tx.money.commissions(uid))[: 1 + b % 2]:
                await self._take_back(tx, row, WHOLE if b % 3 else b)
            stopped = {"stage": ChainStage.PARKED, "reason": ParkReason.REVERSAL_REFUSED}
            await tx.chains.update(uid, **(stopped if b % 2 else {"stage": ChainStage.UNDOING}))

    async def _park(self, tx: Tx, a: int, b: int, c: int) -> None:
        """A chain waits for a decision about its booking, waits to pay a reseller, or goes on."""
        uids = sorted({row.chain_uid for row in await _commissions(tx)} - set(self._leaving))
        reasons = (ParkReason.DISPUTED, ParkReason.OUTCOME_UNKNOWN, ParkReason.RESELLER_NOT_READY)
        if uids and b % 4 < 3:
            await tx.chains.update(uids[a % len(uids)], stage=ChainStage.PARKED, reason=reasons[b % 4])
        elif uids:
            await tx.chains.update(uids[a % len(uids)], stage=ChainStage.PAYOUT)

    async def _take_back(self, tx: Tx, row: CommissionRow, b: int) -> None:
        """A part of the booking's own transfer, as the chain does before it reverses the commission."""
        transfer = await tx.money.transfer(ids.transfer_key(row.chain_uid, row.reseller_id))
        left_minor = transfer.amount_minor - transfer.reversed_minor if transfer is not None else 0
        if transfer is None or not left_minor:
            return
        sequence = len(await tx.money.reversals(transfer.key)) + 1
        amount_minor = left_minor if b == WHOLE else 1 + b % left_minor
        key = ids.reversal_key(transfer.key, sequence)
        await tx.money.begin_reversal(
            key=key,
            transfer_key=transfer.key,
            chain_uid=row.chain_uid,
            sequence=sequence,
            amount_minor=amount_minor,
        )
        await tx.money.finish_reversal(key, status=EffectStatus.SUCCEEDED, reversal_id=f"trr_{key}")
        entry = await tx.ledger.entry(f"transferred:{transfer.key}")
        assert entry is not None
        await tx.ledger.post(
            ledger.transfer_reversed(entry, sequence=sequence, amount_minor=amount_minor, effective_at=NOW)
        )

    # --- accounts ---

    async def _adjust(self, tx: Tx, a: int, b: int, c: int) -> None:
        adjustment_id = f"A-{self._count}"
        await tx.settlements.adjust(
            adjustment_id,
            reseller_id=RESELLERS[a % 3],
            currency=CURRENCIES[b % 3],
            amount_minor=1 + b % 3_000,
            direction=AdjustmentDirection.CREDIT if a % 2 else AdjustmentDirection.DEBIT,
            kind=AdjustmentKind.CORRECTION,
            why="because",
            requested_by="ops-anna",
        )
        if c % 4:
            await tx.settlements.decide_adjustment(adjustment_id, "ops-bert", approved=bool(c % 4 - 1))

    async def _change(self, tx: Tx, a: int, b: int, c: int) -> None:
        """Another payout mode or minimum, another tax status from some month on: what was stated stays as it is."""
        tax = {"id": RESELLERS[a % 3], "small": b % 3 == 0, "country": "AT" if b % 4 == 1 else "DE"}
        await tx.connection.execute(
            text(
                "UPDATE resellers SET payout_mode = :mode,"
                " minimum_payouts = jsonb_build_object('EUR', CAST(:minimum AS bigint), 'JPY', 50) WHERE id = :id"
            ),
            {
                "id": RESELLERS[a % 3],
                "mode": "on_hold" if c % 4 == 0 else "monthly",
                "minimum": (b * 13) % 4_000,
            },
        )
        number = len(await tx.resellers.tax_statuses(RESELLERS[a % 3])) + 1
        start, end = period_bounds(MONTHS[(b + c) % 12])
        day = (start if c % 2 else end - timedelta(days=1)).astimezone(BERLIN).date()
        await tx.connection.execute(
            text(
                "INSERT INTO reseller_tax_statuses"
                " (reseller_id, sequence, valid_from, small_business, country, recorded_by)"
                " VALUES (:id, :number, :day, :small, :country, 'tests')"
            ),
            {**tax, "number": number, "day": day if number > 1 else None},
        )

    async def _pay(self, tx: Tx, a: int, b: int, c: int) -> None:
        row = await self._one(tx, a)
        if row is None:
            return
        if row.needs_approval and row.approved_by is None:
            await tx.settlements.approve(row.id, "ops-carl")
        begun = await tx.settlements.begin(
            row.id, key=f"settlement:{row.id}", destination_account_id=f"acct_{row.reseller_id}"
        )
        if b % 5 == 0:
            await tx.money.finish_transfer(begun.key, status=EffectStatus.REFUSED, refusal_code="no")
            await tx.settlements.finish(row.id, status=SettlementStatus.PARKED, reason=ParkReason.TRANSFER_REFUSED)
            return
        await _transferred(tx, begun.key, row.reseller_id, row.currency, begun.amount_minor, None)
        await tx.settlements.finish(row.id, status=SettlementStatus.PAID)

    async def _carry(self, tx: Tx, a: int, b: int, c: int) -> None:
        row = await self._one(tx, a)
        if row is not None:
            await tx.settlements.carry_over(row.id, "ops-anna")

    async def _one(self, tx: Tx, a: int) -> SettlementRow | None:
        rows = [row for key in self.closed for row in await tx.settlements.unpaid(*key)]
        return rows[a % len(rows)] if rows else None


async def explained(store: Store) -> None:
    """Statements and open commissions are the ledger, to the cent; every statement is the sum of what it lists."""
    await closing.explained(store)
    async with store.begin() as tx:
        for reseller_id in RESELLERS:
            for row in await tx.settlements.of_reseller(reseller_id):
                await tx.settlements.statement(row.id)


async def _commissions(tx: Tx) -> list[CommissionRow]:
    found = await tx.connection.execute(text("SELECT DISTINCT chain_uid FROM commissions ORDER BY 1"))
    return [row for uid in found.scalars() for row in await tx.money.commissions(uid)]


async def _transferred(
    tx: Tx, key: str, reseller_id: str, currency: str, amount_minor: int, chain_uid: str | None
) -> None:
    await tx.money.finish_transfer(key, status=EffectStatus.SUCCEEDED, transfer_id=f"tr_{key.replace(':', '_')}")
    entry = ledger.transferred(
        transfer_key=key,
        chain_uid=chain_uid,
        reseller_id=reseller_id,
        currency=currency,
        amount_minor=amount_minor,
        effective_at=NOW,
    )
    await tx.ledger.post(entry)
