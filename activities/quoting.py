"""Freeze what a booking costs and who earns what, and apply its cancellation terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from temporalio import activity

from activities.models import BookingRef, QuoteFacts, QuoteResult, TermsCause, TermsInput, TermsResult
from domain import commission, pricing, tax
from domain.commission import Agreement, TiersRule
from domain.model import Customer, NoQuote, ParkReason, Quote, Reseller
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
        async with self._store.begin() as tx:
            return await self.freeze(tx, ref)

    async def freeze(self, tx: Tx, ref: BookingRef, *, is_new: bool = False) -> QuoteResult:
        """`quote` within a transaction. `is_new`: the chain was opened in it, so there is no quote yet."""
        try:
            known = None if is_new else await tx.chains.quote(ref.chain_uid)
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
        at = booking.created_at
        offer = await tx.catalog.offer(customer, booking.event_type_id, at)
        book, price = pricing.find_price(
            offer.books,
            customer_id=customer.id,
            reseller_path=[reseller.id for reseller in offer.path],
            event_type_id=booking.event_type_id,
            at=at,
            currency=customer.currency,
        )
        pairs = [
            (reseller, commission.agreement_for(offer.agreements, reseller.id, at, book.currency))
            for reseller in offer.path
        ]
        period = pricing.period_of(booking.start_at)
        minutes = pricing.started_minutes(booking.start_at, booking.end_at)
        count = 0
        if isinstance(price, pricing.TieredPrice):
            # Tiers count the month's earlier bookings: one quote at a time for this customer.
            await tx.catalog.lock(f"volume:{customer.id}:{period}")
            count = await tx.catalog.month_count_before(customer.id, booking.event_type_id, period, ref.chain_uid)
        net_minor = pricing.net_amount(price, started_minutes=minutes, month_count_before=count)
        vat = tax.vat(net_minor=net_minor, price_rate_bps=price.vat_rate_bps, tax=customer.tax)
        levels = commission.commissions(
            net_minor=net_minor,
            wholesale_net_minor=await self._wholesale(tx, pairs, booking, count, book.currency),
            path=pairs,
            month_volume_before_minor=await self._volumes(tx, pairs, period, ref.chain_uid),
        )
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
        customer = await tx.catalog.payer(booking.event_type_id, booking.organizer_ids, booking.team_ids)
        if customer is None:
            raise NoQuote(
                ParkReason.UNMAPPED_CUSTOMER,
                f"no customer is mapped to event type {booking.event_type_id}, its team or its organizer",
            )
        if customer.stripe_customer_id is None or customer.payment_method_id is None:
            raise NoQuote(ParkReason.NO_PAYMENT_METHOD, f"customer {customer.id} has no payment method at Stripe")
        return customer

    async def _wholesale(
        self, tx: Tx, pairs: Sequence[tuple[Reseller, Agreement]], booking: BookingRow, count: int, currency: str
    ) -> int | None:
        """The platform's own net price of the booking, where a margin is agreed."""
        if not commission.needs_wholesale(pairs):
            return None
        _, price = pricing.find_price(
            await tx.catalog.price_books(None, [], booking.created_at),
            customer_id=None,
            reseller_path=[],
            event_type_id=booking.event_type_id,
            at=booking.created_at,
            currency=currency,
        )
        minutes = pricing.started_minutes(booking.start_at, booking.end_at)
        return pricing.net_amount(price, started_minutes=minutes, month_count_before=count)

    async def _volumes(
        self, tx: Tx, pairs: Sequence[tuple[Reseller, Agreement]], period: str, chain_uid: str
    ) -> dict[str, int]:
        """Net volume of the month so far, of the resellers whose rule has tiers: one quote at a time for each."""
        tiered = [
            reseller.id
            for reseller, agreement in pairs
            if isinstance(agreement.own, TiersRule) or isinstance(agreement.override, TiersRule)
        ]
        if not tiered:
            return {}
        for reseller_id in tiered:
            await tx.catalog.lock(f"volume:{reseller_id}:{period}")
        return dict(await tx.catalog.month_volume_before(tiered, period, chain_uid))
