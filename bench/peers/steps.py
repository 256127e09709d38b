"""The steps of a chain, the very activities that the product's worker runs: only who calls them differs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from temporalio.testing import ActivityEnvironment

from activities.billing import BillingActivities
from activities.chains import ChainActivities
from activities.charging import ChargingActivities
from activities.commissions import CommissionActivities
from activities.intake import IntakeActivities
from activities.models import BookingRef, ChainRef, ChargeInput, ChargeStatus, RecordInput
from activities.quoting import QuoteActivities
from domain.chain import ChainOutcome, ChainStage
from gateways.calcom import CalcomGateway
from gateways.stripe import StripeGateway
from settings import Settings
from store import Store

CONNECTIONS = 8
"""Of one peer to the database. More do not help on two cores, and all together must stay below the server's 100."""

Input = TypeVar("Input")
Result = TypeVar("Result")


class Price(NamedTuple):
    """What the charge has to be told of the quote. A tuple of JSON types, so that every queue can carry it."""

    amount_minor: int
    currency: str


class Steps:
    """One set for each event loop; `aclose` it in the end. A step that is repeated finds what the first call did."""

    ORDER: Final = ("read_booking", "quote", "bill", "charge", "accrue", "mature", "close")

    def __init__(self, settings: Settings) -> None:
        self._store = Store(settings.sqlalchemy_url, pool_size=CONNECTIONS)
        self._calendar = CalcomGateway(
            api_key=settings.calcom_api_key.get_secret_value(),
            base_url=settings.calcom_base_url,
            timeout_seconds=settings.http_timeout_seconds,
        )
        self._payments = StripeGateway(
            secret_key=settings.stripe_secret_key.get_secret_value(),
            base_url=settings.stripe_base_url,
            timeout_seconds=settings.http_timeout_seconds,
        )
        self._intake = IntakeActivities(self._store, self._calendar)
        self._quoting = QuoteActivities(self._store)
        self._billing = BillingActivities(self._store)
        self._charging = ChargingActivities(self._store, self._payments)
        self._commissions = CommissionActivities(self._store)
        self._chains = ChainActivities(self._store)

    async def aclose(self) -> None:
        await asyncio.gather(self._calendar.aclose(), self._payments.aclose(), self._store.dispose())

    async def step(self, name: str, uid: str, price: Price | None) -> Price | None:
        """A step by its name, for who keeps names in rows. Only `quote` returns a price, only `charge` needs it."""
        if name == "quote":
            return await self.quote(uid)
        if name == "charge":
            if price is None:
                raise ValueError("a charge needs the quoted price")
            await self.charge(uid, price)
        else:
            await getattr(self, name)(uid)
        return None

    async def read_booking(self, uid: str) -> None:
        await _call(self._intake.read_booking, BookingRef(chain_uid=uid, booking_uid=uid))

    async def quote(self, uid: str) -> Price:
        """Raises RuntimeError where the booking has no price, customer or agreement."""
        quote = (await _call(self._quoting.quote, BookingRef(chain_uid=uid, booking_uid=uid))).quote
        if quote is None:
            raise RuntimeError(f"{uid} has no quote")
        return Price(quote.gross_minor, quote.currency)

    async def bill(self, uid: str) -> None:
        await _call(self._billing.bill, ChainRef(chain_uid=uid))

    async def charge(self, uid: str, price: Price) -> None:
        """Raises RuntimeError where the money did not come."""
        amount_minor, currency = price
        order = ChargeInput(chain_uid=uid, attempt=1, amount_minor=amount_minor, currency=currency)
        charged = await _call(self._charging.charge, order)
        if charged.status is not ChargeStatus.SUCCEEDED:
            raise RuntimeError(f"{uid} was not charged")

    async def accrue(self, uid: str) -> None:
        await _call(self._commissions.accrue, ChainRef(chain_uid=uid))

    async def mature(self, uid: str) -> None:
        await _call(self._commissions.mature, ChainRef(chain_uid=uid))

    async def close(self, uid: str) -> None:
        end = RecordInput(
            chain_uid=uid, stage=ChainStage.CLOSED, outcome=ChainOutcome.MATURED, action="closed: matured"
        )
        await _call(self._chains.record, end)


async def _call(step: Callable[[Input], Awaitable[Result]], given: Input) -> Result:
    """Run a step as Temporal would, in a context of its own, without Temporal."""
    return await ActivityEnvironment().run(step, given)
