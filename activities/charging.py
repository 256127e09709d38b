"""Charge a customer and give money back: the steps that move a customer's money at Stripe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio import activity

from activities.billing import write_bill
from activities.commissions import write_accrual
from activities.errors import told_to_temporal
from activities.lookup import look_first
from activities.models import ChainRef, ChargeInput, ChargeResult, ChargeStatus, EffectResult, RefundInput
from activities.refunds import Refunds
from domain import ids, ledger
from domain.effects import ChargeStatus as Stored
from domain.ledger import Entry
from domain.model import Customer, ParkReason, Quote
from domain.ports import Payment, PaymentGateway, PaymentStatus, Refused

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import ChargeRow

AUTHENTICATION = "authentication_required"


class ChargingActivities:
    def __init__(self, store: Store, payments: PaymentGateway) -> None:
        self._store = store
        self._payments = payments
        self._refunds = Refunds(store, payments)

    @activity.defn
    async def charge(self, order: ChargeInput) -> ChargeResult:
        """One dunning attempt, exactly once: recorded as started, sent under its key, recorded with its ledger entry.

        A decline is a result. A second call finds what the first one did, here or at Stripe.
        """
        async with self._store.begin() as tx:
            quote, customer, row = await self._begin(tx, order)
        return await self._send(order, quote, customer, row)

    @activity.defn
    async def bill_and_charge(self, order: ChargeInput) -> ChargeResult:
        """A booking's first attempt where nothing was given back before: `bill`, `charge` and, once it is paid,
        `accrue`, with one transaction before Stripe is asked and one after. The same guarantees as the three alone.
        """
        async with self._store.begin() as tx:
            quote, customer, row = await self._begin(tx, order)
            await write_bill(tx, quote)
        return await self._send(order, quote, customer, row, accrue=True)

    async def _begin(self, tx: Tx, order: ChargeInput) -> tuple[Quote, Customer, ChargeRow]:
        quote = await tx.chains.quote(order.chain_uid)
        if quote is None:
            raise LookupError(f"chain {order.chain_uid} has no quote")
        customer = await tx.catalog.customer(quote.customer_id)
        row = await tx.money.begin_charge(
            key=ids.charge_key(order.chain_uid, order.attempt),
            chain_uid=order.chain_uid,
            attempt=order.attempt,
            customer_id=customer.id,
            currency=order.currency,
            amount_minor=order.amount_minor,
        )
        return quote, customer, row

    async def _send(
        self, order: ChargeInput, quote: Quote, customer: Customer, row: ChargeRow, *, accrue: bool = False
    ) -> ChargeResult:
        if customer.stripe_customer_id is None or customer.payment_method_id is None:
            return await self._refused(row, Refused("no_payment_method", "no payment method", soft=True))
        payment = await self._find(row, customer.stripe_customer_id) if look_first(row.begun_at) else None
        if payment is None:
            try:
                with told_to_temporal():
                    payment = await self._payments.charge(
                        amount_minor=order.amount_minor,
                        currency=order.currency,
                        stripe_customer_id=customer.stripe_customer_id,
                        payment_method_id=customer.payment_method_id,
                        chain_uid=order.chain_uid,
                        description=f"Booking {quote.booking_uid}",
                        idempotency_key=row.key,
                    )
            except Refused as refused:
                return await self._refused(row, refused)
        return await self._recorded(row, payment, quote if accrue else None)

    @activity.defn
    async def check_payment(self, chain: ChainRef) -> ChargeResult:
        """What became of the chain's newest payment, asked at Stripe and recorded. Signals are not believed."""
        async with self._store.begin() as tx:
            row = last(await tx.money.chain_charges(chain.chain_uid))
            if row is None:
                raise LookupError(f"chain {chain.chain_uid} has no charge")
            customer = await tx.catalog.customer(row.customer_id)
        with told_to_temporal():
            payment = await self._payment_of(row, customer.stripe_customer_id or "")
            if payment is None:
                return ChargeResult(status=ChargeStatus.REFUSED, code=row.refusal_code or "not_found")
            result = await self._recorded(row, payment)
            if result.status is not ChargeStatus.SUCCEEDED:
                return result
            refunded_minor = await self._refunds.follow(
                row.model_copy(update={"payment_intent_id": result.payment_intent_id})
            )
        return result.model_copy(update={"refunded_minor": refunded_minor})

    @activity.defn
    async def refund(self, order: RefundInput) -> EffectResult:
        """Compensation of `charge`: give back up to a cumulative amount, or everything. Never charged: nothing to undo.

        What was given back already, by whomever, is found at Stripe first and counts. A payment that is neither paid
        nor refused is cancelled instead. Refused where it is disputed or under way.
        """
        with told_to_temporal():
            row = await self._settled_charge(order.chain_uid)
            if row is None:
                return EffectResult()
            if isinstance(row, EffectResult):
                return row
            return await self._refunds.give_back(row, order.given_back_minor)

    # --- how ---

    async def _payment_of(self, row: ChargeRow, stripe_customer_id: str) -> Payment | None:
        """The payment of a charge as it is now, whether its answer arrived or was lost."""
        if row.payment_intent_id is not None:
            return await self._payments.get_payment(row.payment_intent_id)
        return await self._find(row, stripe_customer_id)

    async def _find(self, row: ChargeRow, stripe_customer_id: str) -> Payment | None:
        """The payment of a charge whose answer was lost, by the key in its metadata."""
        with told_to_temporal():
            return await self._payments.find_payment(
                stripe_customer_id=stripe_customer_id,
                idempotency_key=row.key,
                created_after=row.begun_at - timedelta(hours=1),
            )

    async def _settled_charge(self, chain_uid: str) -> ChargeRow | EffectResult | None:
        """The charge to refund. One that is still open is looked up, and cancelled so that it cannot succeed."""
        async with self._store.begin() as tx:
            row = last(await tx.money.chain_charges(chain_uid))
            if row is None or row.status is Stored.CANCELED:
                return None
            customer = await tx.catalog.customer(row.customer_id)
        if row.status is Stored.SUCCEEDED:
            return row
        payment = await self._payment_of(row, customer.stripe_customer_id or "")
        if payment is not None and payment.status is PaymentStatus.SUCCEEDED:
            await self._recorded(row, payment)
            async with self._store.begin() as tx:
                return last(await tx.money.chain_charges(chain_uid))
        if payment is not None and payment.status is not PaymentStatus.CANCELED:
            try:
                await self._payments.cancel_payment(
                    payment.payment_intent_id, idempotency_key=ids.cancel_key(row.key, payment.status)
                )
            except Refused as refused:
                return EffectResult(refused_code=refused.code, reason=ParkReason.REFUND_REFUSED)
        async with self._store.begin() as tx:
            await tx.money.finish_charge(
                row.key,
                status=Stored.CANCELED,
                payment_intent_id=payment.payment_intent_id if payment else None,
            )
        return None

    async def _refused(self, row: ChargeRow, refused: Refused) -> ChargeResult:
        async with self._store.begin() as tx:
            await tx.money.finish_charge(
                row.key, status=Stored.REFUSED, payment_intent_id=refused.object_id, refusal_code=refused.code
            )
        status = ChargeStatus.REQUIRES_CUSTOMER if refused.needs_customer else ChargeStatus.REFUSED
        return ChargeResult(status=status, soft=refused.soft, code=refused.code, payment_intent_id=refused.object_id)

    async def _recorded(self, row: ChargeRow, payment: Payment, accrue: Quote | None = None) -> ChargeResult:
        """Write what Stripe says of a payment, with its ledger entries, in one transaction.

        `accrue`: the quote whose commission is accrued with it where the payment succeeded.
        """
        now = datetime.now(UTC)
        status = _status_of(payment)
        accrues = accrue is not None and status is ChargeStatus.SUCCEEDED
        async with self._store.begin() as tx:
            if status is ChargeStatus.SUCCEEDED:
                more = await write_accrual(tx, accrue) if accrue is not None else None
                await self._post(tx, row, payment, now, more)
            await tx.money.finish_charge(
                row.key,
                status=_stored(payment, status),
                payment_intent_id=payment.payment_intent_id,
                charge_id=payment.charge_id if status is ChargeStatus.SUCCEEDED else None,
                fee_minor=payment.fee_minor if status is ChargeStatus.SUCCEEDED else None,
                refusal_code=None if status is ChargeStatus.SUCCEEDED else payment.failure_code,
            )
        return ChargeResult(
            status=status,
            soft=payment.failure_soft,
            code=payment.failure_code,
            payment_intent_id=payment.payment_intent_id,
            fee_known=payment.fee_minor is not None,
            disputed=payment.disputed,
            accrued=accrues,
        )

    async def _post(self, tx: Tx, row: ChargeRow, payment: Payment, now: datetime, more: Entry | None) -> None:
        """stripe ← customer for what was received, and stripe_fees ← stripe once the fee is known; and `more`."""
        refs = {"payment_intent": payment.payment_intent_id, "charge": payment.charge_id or ""}
        entries = [
            ledger.charged(
                chain_uid=row.chain_uid,
                attempt=row.attempt,
                customer_id=row.customer_id,
                currency=row.currency,
                gross_minor=payment.amount_received_minor,
                effective_at=now,
                refs=refs,
            )
        ]
        if payment.fee_minor:
            entries.append(
                ledger.fee(
                    chain_uid=row.chain_uid,
                    attempt=row.attempt,
                    currency=row.currency,
                    fee_minor=payment.fee_minor,
                    effective_at=now,
                    refs={"balance_transaction": payment.balance_transaction_id or ""},
                )
            )
        await tx.ledger.post(*entries, *([more] if more is not None else []))


def last(rows: list[ChargeRow]) -> ChargeRow | None:
    """The newest attempt of a chain: only it can be open or have succeeded."""
    return rows[-1] if rows else None


def _stored(payment: Payment, status: ChargeStatus) -> Stored:
    """The row's status. One that waits for the customer counts as refused until he confirms the same payment."""
    if payment.status is PaymentStatus.CANCELED:
        return Stored.CANCELED
    return Stored.REFUSED if status is ChargeStatus.REQUIRES_CUSTOMER else Stored(status.value)


def _status_of(payment: Payment) -> ChargeStatus:
    if payment.status is PaymentStatus.SUCCEEDED:
        return ChargeStatus.SUCCEEDED
    if payment.status is PaymentStatus.PROCESSING:
        return ChargeStatus.PROCESSING
    if payment.status is PaymentStatus.REQUIRES_CUSTOMER and payment.failure_code in (None, AUTHENTICATION):
        return ChargeStatus.REQUIRES_CUSTOMER
    return ChargeStatus.REFUSED
