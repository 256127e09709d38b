"""Freeze what a booking costs and who earns what, and apply its cancellation terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import BookingRef, QuoteFacts, QuoteResult, TermsCause, TermsInput, TermsResult
from domain import commission, pricing, tax
from domain.commission import Agreement
from domain.model import Customer, Level, NoQuote, ParkReason, Quote, Reseller
from domain.money import BPS_WHOLE, percentage

if TYPE_CHECKING:
    from store import Store, Tx
    from store.rows import BookingRow


class QuoteActivities:
    """Local activities: our database only."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @activity.defn
    async def quote(self, ref: BookingRef) -> QuoteResult:
        """The frozen quote of a booking. A second call for the same uid returns the first quote, whatever changed
        since; a rescheduled uid gets a new version. Without customer, price or agreement the result says why.
        """
        try:
            async with self._store.begin() as tx:
                known = await tx.chains.quote(ref.chain_uid)
                if known is None or known.booking_uid != ref.booking_uid:
                    known = await tx.chains.save_quote(await self._make(tx, ref))
        except NoQuote as none:
            return QuoteResult(quote=None, reason=none.reason, detail=none.detail)
        return QuoteResult(
            quote=QuoteFacts(
                customer_id=known.customer_id,
                reseller_id=known.reseller_id,
                currency=known.currency,
                gross_minor=known.gross_minor,
                charge_at=known.charge_at,
                matures_at=known.matures_at,
                period=known.period,
            )
        )

    @activity.defn
    async def apply_terms(self, order: TermsInput) -> TermsResult:
        """Gross shares that the customer owes and gets back when he cancels, or does not come, at a given moment."""
        async with self._store.begin() as tx:
            quote = await tx.chains.quote(order.chain_uid)
            booking = await tx.chains.booking(order.booking_uid)
        if quote is None or booking is None:
            raise LookupError(f"chain {order.chain_uid} has no quote or booking")
        if order.cause is TermsCause.NO_SHOW:
            kept_bps = quote.terms.no_show_fee_bps
        else:
            kept_bps = pricing.retained_bps(quote.terms, cancelled_at=order.at, start_at=booking.start_at)
        retained_minor = quote.gross_minor if kept_bps == BPS_WHOLE else percentage(quote.gross_minor, kept_bps)
        return TermsResult(retained_minor=retained_minor, given_back_minor=quote.gross_minor - retained_minor)

    async def _make(self, tx: Tx, ref: BookingRef) -> Quote:
        booking = await tx.chains.booking(ref.booking_uid)
        if booking is None:
            raise LookupError(f"booking {ref.booking_uid} was not read")
        customer = await self._customer(tx, booking)
        path = await tx.catalog.reseller_path(customer.reseller_id) if customer.reseller_id else []
        reseller_ids = [reseller.id for reseller in path]
        at = booking.created_at
        books = await tx.catalog.price_books(customer.id, reseller_ids, at)
        book, price = pricing.find_price(
            books,
            customer_id=customer.id,
            reseller_path=reseller_ids,
            event_type_id=booking.event_type_id,
            at=at,
            currency=customer.currency,
        )
        period = pricing.period_of(booking.start_at)
        # Volume tiers count earlier bookings of the month: one quote at a time per customer and per reseller.
        for name in [f"volume:{customer.id}:{period}", *(f"volume:{one}:{period}" for one in reseller_ids)]:
            await tx.catalog.lock(name)
        minutes = pricing.started_minutes(booking.start_at, booking.end_at)
        count = await tx.catalog.month_count_before(customer.id, booking.event_type_id, period, ref.chain_uid)
        net_minor = pricing.net_amount(price, started_minutes=minutes, month_count_before=count)
        vat = tax.vat(net_minor=net_minor, price_rate_bps=price.vat_rate_bps, tax=customer.tax)
        levels = await self._levels(tx, ref, path, booking, net_minor, minutes, count, period, book.currency)
        return Quote(
            chain_uid=ref.chain_uid,
            booking_uid=ref.booking_uid,
            customer_id=customer.id,
            reseller_id=customer.reseller_id,
            currency=book.currency,
            net_minor=net_minor,
            vat_minor=vat.vat_minor,
            gross_minor=net_minor + vat.vat_minor,
            vat_rate_bps=vat.rate_bps,
            vat_reason=vat.reason,
            price_ref=pricing.price_ref(book, price),
            price=pricing.frozen_price(price, started_minutes=minutes, month_count_before=count),
            charge_at=pricing.charge_at(price, booking.created_at, booking.start_at, booking.end_at),
            matures_at=pricing.matures_at(price, booking.end_at),
            terms=price.terms,
            levels=levels,
            period=period,
        )

    async def _customer(self, tx: Tx, booking: BookingRow) -> Customer:
        customer_id = await tx.catalog.customer_for(booking.event_type_id, booking.organizer_ids, booking.team_ids)
        if customer_id is None:
            raise NoQuote(
                ParkReason.UNMAPPED_CUSTOMER,
                f"no customer is mapped to event type {booking.event_type_id}, its team or its organizer",
            )
        customer = await tx.catalog.customer(customer_id)
        if customer.stripe_customer_id is None or customer.payment_method_id is None:
            raise NoQuote(ParkReason.NO_PAYMENT_METHOD, f"customer {customer_id} has no payment method at Stripe")
        return customer

    async def _levels(
        self,
        tx: Tx,
        ref: BookingRef,
        path: Sequence[Reseller],
        booking: BookingRow,
        net_minor: int,
        minutes: int,
        count: int,
        period: str,
        currency: str,
    ) -> tuple[Level, ...]:
        """Commission of every level by the agreements in force when the booking was made."""
        if not path:
            return ()
        reseller_ids = [reseller.id for reseller in path]
        agreements = list((await tx.catalog.agreements(reseller_ids, booking.created_at)).values())
        pairs: list[tuple[Reseller, Agreement]] = [
            (reseller, commission.agreement_for(agreements, reseller.id, booking.created_at, currency))
            for reseller in path
        ]
        wholesale_minor: int | None = None
        if commission.needs_wholesale(pairs):
            _, price = pricing.find_price(
                await tx.catalog.price_books(None, [], booking.created_at),
                customer_id=None,
                reseller_path=[],
                event_type_id=booking.event_type_id,
                at=booking.created_at,
                currency=currency,
            )
            wholesale_minor = pricing.net_amount(price, started_minutes=minutes, month_count_before=count)
        volume = await tx.catalog.month_volume_before(reseller_ids, period, ref.chain_uid)
        return commission.commissions(
            net_minor=net_minor, wholesale_net_minor=wholesale_minor, path=pairs, month_volume_before_minor=volume
        )
