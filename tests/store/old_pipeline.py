"""What a pipeline of revision 0009 wrote, in plain SQL: bookings, refunds, months' settlements and their transfers.

Each booking costs 100.00 EUR net; its reseller earns 25.00 on it and the one above him 5.00.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from domain import ids, ledger
from domain.ledger import Entry, entry_hash
from domain.model import Level, PayoutMode
from domain.pricing import period_bounds

NET, GROSS, OWN, OVERRIDE, HALF = 10_000, 11_900, 2_500, 500, 5_950


class OldPipeline:
    """Writes to a database at revision 0009. `ago` everywhere: how long before now it happened."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._now = datetime.now(UTC)
        self._entries: dict[str, Entry] = {}
        self._levels: dict[str, list[Level]] = {}
        self._closed: dict[str, datetime] = {}
        self._insert("customers", id="c-1", name="Practice", email="c@example.com", country="DE", currency="EUR")

    def reseller(self, reseller_id: str, mode: PayoutMode = PayoutMode.MONTHLY, parent_id: str | None = None) -> None:
        self._insert(
            "resellers",
            id=reseller_id,
            parent_id=parent_id,
            name=f"{reseller_id} GmbH",
            email=f"{reseller_id}@example.com",
            payout_mode=mode.value,
            stripe_account_id=f"acct_{reseller_id}",
            country="DE",
        )

    def earned(
        self,
        uid: str,
        *path: str,
        matures: str,
        mode: PayoutMode = PayoutMode.MONTHLY,
        status: str = "matured",
        waits: bool = False,
        ago: timedelta = timedelta(days=40),
    ) -> None:
        """A charged booking. `path`: its reseller, and the one above. `matures`: a day. `waits`: parked."""
        at, matures_at = self._now - ago, datetime.fromisoformat(f"{matures}T12:00:00+00:00")
        self._levels[uid] = [_level(number, one, mode) for number, one in enumerate(path)]
        self._insert(
            "chains",
            chain_uid=uid,
            workflow_id=ids.booking_workflow(uid),
            stage="parked" if waits else "closed",
            outcome=None if waits else "matured",
            reason="reseller_not_ready" if waits else None,
            deadline_at=self._now + timedelta(days=9) if waits else None,
            customer_id="c-1",
            reseller_id=path[0],
            currency="EUR",
            gross_minor=GROSS,
            quote_version=1,
            opened_at=at,
            updated_at=at,
            closed_at=None if waits else at,
        )
        self._quote(uid, path[0], at, matures_at)
        self._insert(
            "charges",
            key=ids.charge_key(uid, 1),
            chain_uid=uid,
            attempt=1,
            customer_id="c-1",
            currency="EUR",
            amount_minor=GROSS,
            status="succeeded",
            payment_intent_id=f"pi_{uid}",
            charge_id=f"ch_{uid}",
            fee_minor=199,
            begun_at=at,
            finished_at=at,
        )
        self._commissions(uid, status, at, matures_at)
        booking: dict[str, Any] = {"chain_uid": uid, "currency": "EUR", "effective_at": at}
        self._post(ledger.billed(customer_id="c-1", net_minor=NET, vat_minor=GROSS - NET, **booking))
        self._post(ledger.charged(attempt=1, customer_id="c-1", gross_minor=GROSS, **booking))
        self._post(ledger.fee(attempt=1, fee_minor=199, **booking))
        self._post(ledger.accrued(levels=self._levels[uid], **booking))

    def _commissions(self, uid: str, status: str, at: datetime, matures_at: datetime) -> None:
        for level in self._levels[uid]:
            self._insert(
                "commissions",
                chain_uid=uid,
                reseller_id=level.reseller_id,
                level=level.level,
                currency="EUR",
                accrued_minor=level.amount_minor,
                status=status,
                matures_at=matures_at,
                rule=level.rule,
                agreement_version=1,
                payout_mode=level.payout_mode.value,
                accrued_at=at,
            )

    def refunded(self, uid: str, gross_minor: int, *, ago: timedelta, undoing: bool = False) -> None:
        """A refund by which the commissions went down. `undoing`: a transfer is still to be taken back."""
        at = self._now - ago
        self._insert(
            "refunds",
            key=ids.refund_key(uid, 1),
            chain_uid=uid,
            sequence=1,
            charge_key=ids.charge_key(uid, 1),
            currency="EUR",
            amount_minor=gross_minor,
            status="succeeded",
            refund_id=f"re_{uid}",
            begun_at=at,
            finished_at=at,
        )
        charge, bill, accrual = (self._entries[key] for key in (f"charged:{uid}:1", f"billed:{uid}", f"accrued:{uid}"))
        first: dict[str, Any] = {"sequence": 1, "effective_at": at}
        self._post(ledger.refunded(charge, amount_minor=gross_minor, **first))
        self._post(
            ledger.invoice_corrected(
                bill, total_reversed_before=[0] * len(bill.postings), corrected_gross_minor=gross_minor, **first
            )
        )
        self._post(
            ledger.commission_reversed(
                accrual,
                total_reversed_before=[0] * len(accrual.postings),
                refunded_gross_minor=gross_minor,
                charged_gross_minor=GROSS,
                **first,
            )
        )
        self._run(
            "UPDATE commissions SET reversed_minor = accrued_minor * :part / :whole,"
            " status = CASE WHEN :part = :whole THEN 'reversed' ELSE status END WHERE chain_uid = :uid",
            uid=uid,
            part=gross_minor,
            whole=GROSS,
        )
        if undoing:
            self._run(
                "UPDATE chains SET stage = 'parked', outcome = NULL, closed_at = NULL, reason = 'reversal_refused',"
                " deadline_at = :until WHERE chain_uid = :uid",
                uid=uid,
                until=self._now + timedelta(days=9),
            )
        elif gross_minor == GROSS:
            self._run("UPDATE chains SET outcome = 'refunded' WHERE chain_uid = :uid", uid=uid)

    def closed(self, period: str, *, ago: timedelta, by: str | None = None) -> None:
        """`by`: who asked for it, in the audit log."""
        at = self._closed[period] = self._now - ago
        self._insert("settlement_periods", period=period, boundary=period_bounds(period)[1], claimed_at=at)
        if by is not None:
            self._insert(
                "audit_log", at=at, actor=by, action="settled", target=f"period:{period}", reason="month", details={}
            )

    def settlement(
        self,
        period: str,
        reseller_id: str,
        uids: Sequence[str],
        status: str,
        *,
        reason: str | None = None,
        amount_minor: int | None = None,
    ) -> None:
        """With the lines of these bookings' commissions, over what is owed for them now."""
        number = self._insert(
            "settlements",
            returning="id",
            period=period,
            reseller_id=reseller_id,
            currency="EUR",
            amount_minor=0,
            line_count=len(uids),
            status=status,
            reason=reason,
            claimed_at=self._closed[period],
            finished_at=None if status == "open" else self._now,
        )
        self._run(
            "INSERT INTO settlement_lines (commission_id, settlement_id, amount_minor)"
            " SELECT id, :number, accrued_minor - reversed_minor FROM commissions"
            " WHERE reseller_id = :reseller_id AND chain_uid = ANY(:uids)",
            number=number,
            reseller_id=reseller_id,
            uids=list(uids),
        )
        self._run(
            "UPDATE settlements SET amount_minor = coalesce(:amount, (SELECT sum(amount_minor) FROM settlement_lines"
            " WHERE settlement_id = :number)) WHERE id = :number",
            number=number,
            amount=amount_minor,
        )

    def transferred(self, period: str, reseller_id: str, status: str, *, ago: timedelta, tries: int = 1) -> None:
        """The transfer of a settlement; from its begin its commissions carry its key, unless it was refused."""
        key = ids.settlement_transfer_key(period, reseller_id, "EUR")
        wanted = text("SELECT id, amount_minor FROM settlements WHERE period = :period AND reseller_id = :id")
        found = self._connection.execute(wanted, {"period": period, "id": reseller_id}).one()
        self._transfer(key, status, found.amount_minor, reseller_id, None, found.id, self._now - ago, tries)
        if status != "refused":
            self._run(
                "UPDATE commissions AS c SET transfer_key = :key, settled_minor = l.amount_minor,"
                " status = :status, settled_at = CASE :status WHEN 'settled' THEN now() END FROM settlement_lines AS l"
                " WHERE l.settlement_id = :number AND l.commission_id = c.id AND c.status = 'matured'",
                key=key,
                number=found.id,
                status="settled" if status == "succeeded" else "matured",
            )

    def paid_alone(self, uid: str, reseller_id: str, *, ago: timedelta) -> None:
        """The transfer of a booking's own."""
        key = ids.transfer_key(uid, reseller_id)
        self._transfer(key, "succeeded", OWN, reseller_id, uid, None, self._now - ago, 1)
        self._run(
            "UPDATE commissions SET transfer_key = :key, settled_minor = accrued_minor, status = 'settled',"
            " settled_at = now() WHERE chain_uid = :uid AND reseller_id = :reseller_id",
            key=key,
            uid=uid,
            reseller_id=reseller_id,
        )

    def taken_back(self, transfer_key: str, uid: str, amount_minor: int, *, ago: timedelta) -> None:
        """A chain takes its share back from a transfer, also from a settlement's."""
        at = self._now - ago
        self._insert(
            "transfer_reversals",
            key=ids.reversal_key(transfer_key, 1),
            transfer_key=transfer_key,
            chain_uid=uid,
            sequence=1,
            amount_minor=amount_minor,
            status="succeeded",
            reversal_id=f"trr_{transfer_key}",
            begun_at=at,
            finished_at=at,
        )
        given = {"key": transfer_key, "amount": amount_minor}
        self._run("UPDATE transfers SET reversed_minor = :amount WHERE key = :key", **given)
        self._run(
            "UPDATE commissions SET settled_minor = settled_minor - :amount"
            " WHERE transfer_key = :key AND chain_uid = :uid",
            uid=uid,
            **given,
        )
        paid = self._entries[f"transferred:{transfer_key}"]
        self._post(ledger.transfer_reversed(paid, sequence=1, amount_minor=amount_minor, effective_at=at))

    def _transfer(
        self,
        key: str,
        status: str,
        amount_minor: int,
        reseller_id: str,
        uid: str | None,
        settlement_id: int | None,
        at: datetime,
        tries: int,
    ) -> None:
        self._insert(
            "transfers",
            key=key,
            kind="settlement" if uid is None else "booking",
            chain_uid=uid,
            settlement_id=settlement_id,
            reseller_id=reseller_id,
            currency="EUR",
            amount_minor=amount_minor,
            destination_account_id=f"acct_{reseller_id}",
            transfer_id=f"tr_{key}" if status == "succeeded" else None,
            status=status,
            refusal_code="account_closed" if status == "refused" else None,
            begun_at=at,
            finished_at=None if status == "started" else at,
            tries=tries,
        )
        if status == "succeeded":
            self._post(
                ledger.transferred(
                    transfer_key=key,
                    chain_uid=uid,
                    reseller_id=reseller_id,
                    currency="EUR",
                    amount_minor=amount_minor,
                    effective_at=at,
                )
            )

    def _quote(self, uid: str, reseller_id: str, at: datetime, matures_at: datetime) -> None:
        self._insert(
            "bookings",
            uid=uid,
            chain_uid=uid,
            status="accepted",
            start_at=matures_at - timedelta(days=3),
            end_at=matures_at - timedelta(days=3),
            event_type_id=7,
            organizer_ids=[31],
            created_at=at,
        )
        self._insert(
            "quotes",
            chain_uid=uid,
            version=1,
            booking_uid=uid,
            customer_id="c-1",
            reseller_id=reseller_id,
            event_type_id=7,
            currency="EUR",
            net_minor=NET,
            vat_minor=GROSS - NET,
            gross_minor=GROSS,
            vat_rate_bps=1900,
            vat_reason="standard",
            price_ref="platform/v1#event-7",
            price={"kind": "fixed"},
            terms={"free_until_hours_before": 24},
            charge_at=at,
            matures_at=matures_at,
            period=f"{matures_at:%Y-%m}",
        )
        for level in self._levels[uid]:
            self._insert("quote_levels", chain_uid=uid, version=1, **level.model_dump(mode="json"))

    def _post(self, entry: Entry | None) -> None:
        assert entry is not None
        self._entries[entry.key] = entry
        number = self._insert(
            "ledger_entries",
            returning="id",
            key=entry.key,
            hash=entry_hash(entry),
            kind=entry.kind.value,
            chain_uid=entry.chain_uid,
            currency=entry.currency,
            effective_at=entry.effective_at,
            reverses_key=entry.reverses_key,
            refs=entry.refs,
            posted_at=entry.effective_at,
        )
        for position, posting in enumerate(entry.postings):
            self._insert("ledger_postings", entry_id=number, position=position, **posting.model_dump())

    def _insert(self, table: str, *, returning: str | None = None, **values: Any) -> Any:
        given = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
        places = ", ".join(
            f"CAST(:{name} AS jsonb)" if isinstance(value, dict) else f":{name}" for name, value in values.items()
        )
        wanted = f" RETURNING {returning}" if returning else ""
        statement = f"INSERT INTO {table} ({', '.join(given)}) VALUES ({places}){wanted}"
        result = self._connection.execute(text(statement), given)
        return result.scalar_one() if returning else None

    def _run(self, statement: str, **values: Any) -> None:
        self._connection.execute(text(statement), values)


def _level(number: int, reseller_id: str, mode: PayoutMode) -> Level:
    amount_minor = OVERRIDE if number else OWN
    return Level(
        reseller_id=reseller_id,
        level=number,
        amount_minor=amount_minor,
        rule={
            "kind": "percentage",
            "rate_bps": amount_minor * 10_000 // NET,
            "cap_minor": None,
            "floor_minor": None,
            "role": "override" if number else "own",
            "inputs": {
                "net_minor": NET,
                "wholesale_net_minor": None,
                "month_volume_before_minor": 0,
                "ceiling_bps": 4_000,
                "left_minor": 1_500 if number else 4_000,
            },
        },
        agreement_version=1,
        payout_mode=mode,
    )
