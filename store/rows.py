"""What the repositories return, the words of the tables' statuses, and the errors that the store raises."""

from __future__ import annotations

from collections.abc import Sequence

from domain import ids
from domain.chain import ChainOutcome, ChainStage
from domain.effects import (
    ChargeStatus,
    EffectStatus,
    InboxStatus,
    InvoiceKind,
    RefundState,
    SettlementStatus,
    TransferKind,
)
from domain.model import CommissionStatus, Frozen, JsonDict, ParkReason, PayoutMode, UtcDatetime
from domain.orders import NotAllowed
from domain.ports import BookingStatus
from store.rows_settlements import (
    ClaimSummary,
    OpenBalance,
    SettlementLine,
    SettlementProgress,
    SettlementRow,
)

__all__ = [
    "AccountBalance",
    "AccountLine",
    "BookingRow",
    "CatalogRefused",
    "ChainRow",
    "ChargeRow",
    "ChargeStatus",
    "ClaimSummary",
    "CommissionRow",
    "EffectStatus",
    "IllegalMove",
    "InboxRow",
    "InboxStatus",
    "InvoiceKind",
    "InvoiceRow",
    "KeyConflict",
    "LedgerConflict",
    "LogRow",
    "NotSecondPerson",
    "OpenBalance",
    "OpenCharge",
    "Person",
    "PostResult",
    "RefundRow",
    "RefundState",
    "SettlementLine",
    "SettlementProgress",
    "SettlementRow",
    "SettlementStatus",
    "StoreError",
    "ToProvision",
    "TooMuch",
    "TransferKind",
    "TransferReversalRow",
    "TransferRow",
    "UnknownRow",
]


class StoreError(Exception):
    """Base of the store's own errors. Each means a mistake of ours or of the set-up: repeating is useless."""


class UnknownRow(StoreError, NotAllowed):
    """A row that must exist does not."""


class LedgerConflict(StoreError):
    """The ledger holds an entry with this key and other content. Nothing of the call was posted."""


class KeyConflict(StoreError, NotAllowed):
    """A charge, refund, transfer, invoice, commission, adjustment or alias exists under this key with other content."""


class OpenCharge(StoreError):
    """Another charge of this chain succeeded, or its outcome is still open: a second one could charge twice."""


class TooMuch(StoreError, NotAllowed):
    """More would be refunded, reversed or transferred than is left."""


class IllegalMove(StoreError, NotAllowed):
    """A status cannot follow the one that is stored."""


class NotSecondPerson(IllegalMove):
    """A person may not approve what he asked for himself."""


class CatalogRefused(StoreError):
    """The catalogue fits in itself, but not to what is stored. `errors` are all reasons; nothing was applied."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


class ChainRow(Frozen):
    """One chain as operations see it. Money and parties are None until it was quoted."""

    chain_uid: str
    workflow_id: str
    stage: ChainStage
    outcome: ChainOutcome | None
    """Set exactly when the stage is `closed`."""
    reason: ParkReason | None
    detail: str | None
    deadline_at: UtcDatetime | None
    """Until when the present stage should have moved on."""
    waits_for: str | None
    customer_id: str | None
    reseller_id: str | None
    currency: str | None
    gross_minor: int | None
    period: str | None
    opened_at: UtcDatetime
    updated_at: UtcDatetime
    closed_at: UtcDatetime | None


class BookingRow(Frozen):
    """The facts of a booking as last read from Cal.com, without what is personal."""

    uid: str
    chain_uid: str
    status: BookingStatus
    start_at: UtcDatetime
    end_at: UtcDatetime
    event_type_id: int
    organizer_ids: tuple[int, ...]
    team_ids: tuple[int, ...]
    attendee_absent: bool
    host_absent: bool
    created_at: UtcDatetime
    updated_at: UtcDatetime | None
    rescheduled_from_uid: str | None
    rescheduled_to_uid: str | None
    read_at: UtcDatetime


class Person(Frozen):
    """PERSONAL DATA: never put it into a workflow or a log."""

    name: str
    email: str


class ToProvision(Frozen):
    """A customer that is not set up at Stripe as the catalogue wants it."""

    customer_id: str
    stripe_customer_id: str | None
    payment_method_source: str | None


class ChargeRow(Frozen):
    key: str
    chain_uid: str
    attempt: int
    customer_id: str
    currency: str
    amount_minor: int
    """Gross, from the customer to the platform."""
    status: ChargeStatus
    payment_intent_id: str | None
    charge_id: str | None
    fee_minor: int | None
    refusal_code: str | None
    begun_at: UtcDatetime
    """When it was first begun, by the database's clock: the age of the idempotency key at Stripe."""
    finished_at: UtcDatetime | None


class RefundRow(Frozen):
    key: str
    chain_uid: str
    sequence: int
    charge_key: str
    currency: str
    amount_minor: int
    status: RefundState
    refund_id: str | None
    tries: int
    refusal_code: str | None
    begun_at: UtcDatetime
    finished_at: UtcDatetime | None

    @property
    def stripe_key(self) -> str:
        """The idempotency key of the present try."""
        return ids.next_try(self.key, self.tries)


class TransferRow(Frozen):
    key: str
    kind: TransferKind
    chain_uid: str | None
    """Of a booking's transfer; a settlement's has `settlement_id` instead."""
    settlement_id: int | None
    reseller_id: str
    currency: str
    amount_minor: int
    reversed_minor: int
    """Sum of the reversals that succeeded."""
    destination_account_id: str
    transfer_id: str | None
    status: EffectStatus
    tries: int
    refusal_code: str | None
    begun_at: UtcDatetime
    finished_at: UtcDatetime | None

    @property
    def stripe_key(self) -> str:
        """The idempotency key of the present try."""
        return ids.next_try(self.key, self.tries)


class TransferReversalRow(Frozen):
    key: str
    transfer_key: str
    chain_uid: str | None
    """The chain whose refund caused it, also where the transfer was a settlement's."""
    sequence: int
    amount_minor: int
    reversal_id: str | None
    status: EffectStatus
    tries: int
    refusal_code: str | None
    begun_at: UtcDatetime
    finished_at: UtcDatetime | None

    @property
    def stripe_key(self) -> str:
        """The idempotency key of the present try."""
        return ids.next_try(self.key, self.tries)


class InvoiceRow(Frozen):
    number: str
    """`YYYY-NNNNNN`, gapless within the year of issue in Europe/Berlin, invoices and corrections in one series."""
    kind: InvoiceKind
    chain_uid: str
    sequence: int
    customer_id: str
    currency: str
    net_minor: int
    vat_minor: int
    gross_minor: int
    vat_rate_bps: int
    vat_reason: str
    corrects: str | None
    issued_at: UtcDatetime


class CommissionRow(Frozen):
    id: int
    chain_uid: str
    reseller_id: str
    level: int
    currency: str
    accrued_minor: int
    reversed_minor: int
    """Undone so far, cumulative; never above `accrued_minor`."""
    status: CommissionStatus
    matures_at: UtcDatetime
    """Nominal: the day the refund window is over, whenever it was found out."""
    rule: JsonDict
    agreement_version: int
    payout_mode: PayoutMode
    """As it was when it was quoted."""
    transfer_key: str | None
    """Key of the transfer that pays it, from the moment that the transfer is begun."""
    settled_minor: int
    """What that transfer carries for it. Above `owed_minor` the difference must come back by a transfer reversal."""

    @property
    def owed_minor(self) -> int:
        """What the reseller may keep of it."""
        return self.accrued_minor - self.reversed_minor


class InboxRow(Frozen):
    event_id: str
    source: str
    type: str
    object_id: str | None
    raw: bytes | None
    """The body as it came; personal data. None after `forget`."""
    status: InboxStatus
    attempts: int
    last_error: str | None
    received_at: UtcDatetime
    next_attempt_at: UtcDatetime | None


class LogRow(Frozen):
    at: UtcDatetime
    actor: str
    action: str
    target: str
    reason: str
    details: JsonDict


class PostResult(Frozen):
    key: str
    is_new: bool
    """False: the same entry was posted before, and that one stands."""


class AccountBalance(Frozen):
    """Turnover of one account in one currency. Both sides are non-negative; their difference is the balance."""

    account: str
    currency: str
    debit_minor: int
    credit_minor: int


class AccountLine(Frozen):
    """One posting seen from one account."""

    entry_key: str
    kind: str
    chain_uid: str | None
    effective_at: UtcDatetime
    currency: str
    is_debit: bool
    counter_account: str
    amount_minor: int
