"""What the settlement repositories return."""

from __future__ import annotations

from domain import ids
from domain.effects import LineKind, SettlementStatus
from domain.model import Frozen, ParkReason, UtcDatetime
from domain.money import AmountMinor
from domain.settlement import Figures


class ClaimSummary(Frozen):
    """What a closing made. The same closing asked for again gives the same, with `is_new` False."""

    period: str
    sequence: int
    is_new: bool
    statements: int
    payable: int
    """Statements with something to transfer, whatever became of them since."""
    carried: int
    parked: int
    """Statements that were closed with a debt that has lasted too long."""


class SettlementRow(Figures):
    """One statement without its lines: the frozen figures and what became of them."""

    id: int
    period: str
    sequence: int
    """1: the month's closing; 2 and up: supplements."""
    reseller_id: str
    currency: str
    needs_approval: bool
    """A second person has to approve the transfer, by its amount or because of an adjustment; see `may_be_paid`.

    Carried over, it goes with the money: the next statement needs it as well, if anything was left over."""
    asked_by: tuple[str, ...]
    """Who asked for the closing or for an adjustment on it, also on a statement brought forward that needed approval:
    none of them may approve. Empty: not recorded."""
    boundary: UtcDatetime
    frozen_at: UtcDatetime
    status: SettlementStatus
    reason: ParkReason | None
    detail: str | None
    waiting_since: UtcDatetime | None
    approved_by: str | None
    approved_at: UtcDatetime | None
    approved_account_id: str | None
    """The account at Stripe that it was approved for. Another one needs another approval."""
    carried_by: str | None
    """Who decided to carry the payable amount over instead of transferring it."""
    brought_into: int | None
    """The statement that brought forward what this one left over."""
    finished_at: UtcDatetime | None
    transfer_key: str | None
    """Of its transfer, once one was begun."""

    @property
    def statement_id(self) -> str:
        return ids.statement_id(self.period, self.reseller_id, self.currency, self.sequence)

    @property
    def may_be_paid(self) -> bool:
        """Something is payable, nobody carried it over, and a second person agreed where one has to."""
        approved = self.approved_by is not None or not self.needs_approval
        return self.payable_minor > 0 and self.status is not SettlementStatus.CARRIED_OVER and approved

    @property
    def left_credit_minor(self) -> int:
        """Owed to the reseller and left for the next statement, also where a person carried over what was payable."""
        return self.carried_credit_minor if self.carried_by is None else self.payable_minor


class SettlementLine(Frozen):
    """One line of a statement, without the rule that earned it (`domain.settlement.StatementLine` has it)."""

    commission_id: int
    sequence: int
    chain_uid: str
    level: int
    amount_minor: int
    transferred_minor: int
    matures_at: UtcDatetime

    @property
    def kind(self) -> LineKind:
        return LineKind.CLAWBACK if self.sequence else LineKind.EARNED


class SettlementProgress(Frozen):
    """Statements of one closing by status; they sum to `total`."""

    total: int
    open: int
    waiting: int
    paid: int
    carried: int
    parked: int


class OpenBalance(Frozen):
    """One account, a reseller in one currency, as the ledger has it and as statements explain it.

    `owed - owing == unstated_credit - unstated_debt + unpaid - overpaid + carried_credit - carried_debt`; the audit
    reports an account where it is not.
    """

    reseller_id: str
    currency: str
    owed_minor: AmountMinor
    """Ledger: the platform owes the reseller. At most one of this and `owing_minor` is not zero."""
    owing_minor: AmountMinor
    """Ledger: the reseller owes the platform."""
    unstated_credit_minor: AmountMinor
    """Earned, adjusted or taken back since the last statement: in the reseller's favour."""
    unstated_debt_minor: AmountMinor
    unpaid_minor: AmountMinor
    """On statements, and not (or not any more, where it was reversed) transferred."""
    carried_credit_minor: AmountMinor
    """Left over by statements and not brought forward yet."""
    carried_debt_minor: AmountMinor
