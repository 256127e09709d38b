"""Protocols of the outside world and the errors each may raise.

An outcome of a call is done (it returns), refused (`Refused`), unknown (`OutcomeUnknown`), not done (`RateLimited`)
or a mistake of ours or of the set-up (`SetupError`). Only a refusal may start a compensation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict


class OutsideError(Exception):
    """Base of all errors of a port. Messages carry ids and codes, never names or addresses of people.

    `code` is a short machine word for search and routing (`card_declined`, `timeout`, `resource_missing`).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Refused(OutsideError):
    """The other side decided no, finally: a business outcome. Repeating the same call gives the same answer.

    `soft` marks a refusal that may turn into a yes on another day (insufficient funds): worth a new dunning attempt.
    `needs_customer` marks one that the customer can lift himself (`authentication_required`); `object_id` names the
    object at the vendor that he confirms (a PaymentIntent).
    """

    def __init__(
        self, code: str, message: str, *, soft: bool = False, needs_customer: bool = False, object_id: str | None = None
    ) -> None:
        super().__init__(code, message)
        self.soft = soft
        self.needs_customer = needs_customer
        self.object_id = object_id


class OutcomeUnknown(OutsideError):
    """No answer, or one that does not tell: the effect may have happened. Repeat with the same key."""


class RateLimited(OutsideError):
    """Not done; come back later. `retry_after_seconds` is the vendor's hint, None where it gave none."""

    def __init__(self, code: str, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(code, message)
        self.retry_after_seconds = retry_after_seconds


class SetupError(OutsideError):
    """Our bug or a wrong set-up (key, parameter, permission). Repeating is useless: park, never compensate."""


class NotFound(SetupError):
    """The object does not exist at the vendor under this account."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


# --- Cal.com -------------------------------------------------------------------------------------------------------


class BookingStatus(StrEnum):
    """Status of a booking in Cal.com's words (API 2024-08-13)."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    """Waits for the organizer's confirmation: nothing may be charged."""
    CANCELLED = "cancelled"
    """Also the state of a booking that was rescheduled: then `rescheduled_to_uid` is set."""
    REJECTED = "rejected"


class CalBooking(_Frozen):
    """What the API says of a booking. Times are aware, UTC. Holds personal data: never put it into a workflow."""

    uid: str
    status: BookingStatus
    start_at: datetime
    end_at: datetime
    event_type_id: int
    organizer_ids: tuple[int, ...]
    """Cal.com user ids of the hosts, the organizer first."""
    attendee_name: str | None
    attendee_email: str | None
    attendee_absent: bool
    """All attendees were marked absent (no-show)."""
    host_absent: bool
    created_at: datetime
    updated_at: datetime | None
    """Null in practice although documented as required."""
    rescheduled_from_uid: str | None
    rescheduled_to_uid: str | None


class BookingPage(_Frozen):
    bookings: tuple[CalBooking, ...]
    has_more: bool


class CalendarGateway(Protocol):
    """Cal.com API v2. Every method may raise OutcomeUnknown, RateLimited, SetupError (NotFound: unknown uid)."""

    async def get_booking(self, uid: str) -> CalBooking: ...

    async def list_bookings(
        self, *, updated_after: datetime | None = None, skip: int = 0, take: int = 100
    ) -> BookingPage:
        """Oldest change first. Pages by skip; an item that changes meanwhile may be seen twice, none is missed
        when the next run starts from before this run's begin."""
        ...

    async def booking_in_team(self, uid: str, team_id: int) -> bool:
        """Whether the booking belongs to the team (list by bookingUid and teamId)."""
        ...

    async def cancel_booking(self, uid: str, *, reason: str) -> None:
        """Cancelling a cancelled booking is success."""
        ...

    async def aclose(self) -> None: ...


# --- Stripe --------------------------------------------------------------------------------------------------------


class PaymentStatus(StrEnum):
    """Our view of a PaymentIntent."""

    SUCCEEDED = "succeeded"
    PROCESSING = "processing"
    """SEPA: up to 14 business days, may still fail."""
    REQUIRES_CUSTOMER = "requires_customer"
    """Waits for the customer (SCA) or for another payment method: no money moved."""
    CANCELED = "canceled"


class Payment(_Frozen):
    """A PaymentIntent with its latest charge. Amounts in minor units of `currency` (ISO, upper case)."""

    payment_intent_id: str
    status: PaymentStatus
    amount_minor: int
    amount_received_minor: int
    currency: str
    charge_id: str | None
    """Latest charge; None while nothing was tried."""
    amount_refunded_minor: int
    disputed: bool
    """A dispute is open, or was lost. One that was won, or only an inquiry (`warning_*`), moved no money in the end."""
    fee_minor: int | None
    """Stripe's fee from the charge's balance transaction; None until it is known."""
    balance_transaction_id: str | None
    failure_code: str | None
    """Decline code of the last try, where one failed."""
    failure_soft: bool = False
    """That decline may turn into a yes on another day, as in `Refused.soft`."""
    metadata: dict[str, str]


class RefundStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The money is back on our balance; the customer did not get it."""
    CANCELED = "canceled"


class Refund(_Frozen):
    refund_id: str
    status: RefundStatus
    amount_minor: int
    currency: str
    payment_intent_id: str
    charge_id: str | None
    metadata: dict[str, str]


class Transfer(_Frozen):
    """Money moved from the platform's balance to a connected account."""

    transfer_id: str
    amount_minor: int
    amount_reversed_minor: int
    """Look at this, not at `reversed`: that stays false after a partial reversal."""
    currency: str
    destination_account_id: str
    transfer_group: str | None
    metadata: dict[str, str]


class TransferReversal(_Frozen):
    reversal_id: str
    transfer_id: str
    amount_minor: int
    currency: str
    metadata: dict[str, str]


class ConnectedAccount(_Frozen):
    """An account that transfers go to, in words that both generations of Stripe's accounts have."""

    account_id: str
    transfers_active: bool
    payouts_enabled: bool
    disabled_reason: str | None
    default_currency: str | None = None
    """ISO, upper case; None where Stripe names none (yet)."""
    requirements: tuple[str, ...] = ()
    """What Stripe asks of the reseller now, in its words for fields; never a value."""


class PayoutStatus(StrEnum):
    PENDING = "pending"
    IN_TRANSIT = "in_transit"
    PAID = "paid"
    """Sent to the bank, which may still send it back: it can become `failed` for some days."""
    FAILED = "failed"
    """The money is back on the account's balance."""
    CANCELED = "canceled"


class Payout(_Frozen):
    """Money on its way from a connected account's balance to its bank."""

    payout_id: str
    status: PayoutStatus
    amount_minor: int
    currency: str
    failure_code: str | None
    """Such as `account_closed` or `no_account`; None: it did not fail."""
    arrives_on: date
    """UTC."""
    created_at: datetime


class AccountLink(_Frozen):
    """Where a reseller gives Stripe what it asks of him. SECRET: who opens it acts for the reseller."""

    url: str
    """Opens once."""
    expires_at: datetime
    """A few minutes after it was made."""


class BalanceTransaction(_Frozen):
    """A movement of the platform's balance. The one place with a direction: `is_credit` tells whether it came in."""

    balance_transaction_id: str
    type: str
    source_id: str | None
    amount_minor: int
    is_credit: bool
    fee_minor: int
    currency: str
    created_at: datetime


class PaymentGateway(Protocol):
    """Stripe. Every write requires the business's idempotency key and puts it into the object's metadata as
    `billing_key` (with `chain_uid` or `period`), so that a lost answer can be looked up after Stripe forgot the key.

    Every method may raise OutcomeUnknown, RateLimited and SetupError. Additional errors stand at the methods.
    """

    async def create_customer(self, *, customer_id: str, idempotency_key: str) -> str:
        """Returns Stripe's customer id; our id goes into metadata."""
        ...

    async def attach_payment_method(self, *, stripe_customer_id: str, payment_method: str, idempotency_key: str) -> str:
        """Returns the id of the attached payment method. May raise Refused."""
        ...

    async def charge(
        self,
        *,
        amount_minor: int,
        currency: str,
        stripe_customer_id: str,
        payment_method_id: str,
        chain_uid: str,
        description: str,
        idempotency_key: str,
    ) -> Payment:
        """One off-session PaymentIntent, confirmed. transfer_group is the chain uid.

        Raises Refused on a decline (`soft` for insufficient funds and issuer trouble), with needs_customer and the
        PaymentIntent's id for authentication_required.
        """
        ...

    async def get_payment(self, payment_intent_id: str) -> Payment: ...

    async def find_payment(
        self, *, stripe_customer_id: str, idempotency_key: str, created_after: datetime
    ) -> Payment | None:
        """The PaymentIntent whose metadata holds this key, by list (not search: its index lags)."""
        ...

    async def cancel_payment(self, payment_intent_id: str, *, idempotency_key: str) -> Payment:
        """Cancels an unpaid PaymentIntent. Refused (`already_succeeded`) where it was paid; twice is success."""
        ...

    async def refund(
        self, *, payment_intent_id: str, amount_minor: int, chain_uid: str, idempotency_key: str
    ) -> Refund:
        """Refused: `charge_disputed`, or `charge_already_refunded` where too little is left."""
        ...

    async def get_refund(self, refund_id: str) -> Refund: ...

    async def list_refunds(self, payment_intent_id: str) -> tuple[Refund, ...]:
        """All refunds of a payment, oldest first, whoever made them and whatever became of them."""
        ...

    async def find_refund(self, *, payment_intent_id: str, idempotency_key: str) -> Refund | None: ...

    async def get_account(self, account_id: str) -> ConnectedAccount: ...

    async def create_account(self, *, reseller_id: str, country: str, idempotency_key: str) -> ConnectedAccount:
        """An account by controller properties: the platform bears fees and losses and asks for what is required, by
        links; the reseller has no dashboard. It asks for transfers only. May raise Refused."""
        ...

    async def find_account(self, *, idempotency_key: str, created_after: datetime) -> ConnectedAccount | None:
        """The account whose metadata holds this key, by list: accounts have no filter but the time of their making."""
        ...

    async def create_account_link(
        self, *, account_id: str, refresh_url: str, return_url: str, idempotency_key: str
    ) -> AccountLink:
        """Where the reseller gives what Stripe asks of him. An opened or expired link leads to `refresh_url`."""
        ...

    async def get_payout(self, account_id: str, payout_id: str) -> Payout:
        """A payout of a connected account. NotFound also where the account does not let the platform in any more."""
        ...

    async def transfer(
        self,
        *,
        amount_minor: int,
        currency: str,
        destination_account_id: str,
        transfer_group: str,
        source_charge_id: str | None,
        metadata: dict[str, str],
        idempotency_key: str,
    ) -> Transfer:
        """Refused: `balance_insufficient` (soft), `account_not_ready` (capability missing, account gone)."""
        ...

    async def get_transfer(self, transfer_id: str) -> Transfer: ...

    async def find_transfer(self, *, transfer_group: str, idempotency_key: str) -> Transfer | None: ...

    async def reverse_transfer(self, *, transfer_id: str, amount_minor: int, idempotency_key: str) -> TransferReversal:
        """Refused: `balance_insufficient` (destination has not enough), `already_reversed`."""
        ...

    async def find_reversal(self, *, transfer_id: str, idempotency_key: str) -> TransferReversal | None: ...

    async def list_reversals(self, transfer_id: str) -> tuple[TransferReversal, ...]:
        """All reversals of a transfer, oldest first, whoever made them. Each has happened: none is ever pending."""
        ...

    async def available_balance_minor(self, currency: str) -> int:
        """Available (not pending) balance of the platform; may be negative, hence a plain int."""
        ...

    def list_balance_transactions(
        self, *, created_after: datetime, created_before: datetime
    ) -> AsyncIterator[BalanceTransaction]:
        """All movements of the platform's balance in the interval, newest first, over all pages."""
        ...

    async def aclose(self) -> None: ...
