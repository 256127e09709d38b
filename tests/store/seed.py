"""A small catalogue, bookings and quotes for tests on the database."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from domain import commission, ledger, pricing
from domain.catalog import Catalog, parse_catalog
from domain.model import CancellationTerms, Level, PayoutMode, Quote
from domain.ports import BookingStatus, CalBooking
from store import Store, Tx
from store.rows import ChargeStatus, EffectStatus, InvoiceKind, RefundState

START = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 20, 12, 0, tzinfo=UTC)

CATALOG = """
version: 1
platform: {name: Example Platform, country: DE, currency: EUR}
resellers:
  - {id: r-root, name: Root GmbH, email: root@example.com, stripe_account_id: acct_root}
  - {id: r-mid, name: Mid GmbH, email: mid@example.com, parent_id: r-root, stripe_account_id: acct_mid}
  - {id: r-leaf, name: Leaf GmbH, email: leaf@example.com, parent_id: r-mid, stripe_account_id: acct_leaf}
customers:
  - {id: c-1, name: Example Practice, email: c1@example.com, reseller_id: r-leaf, payment_method: pm_card_visa}
  - {id: c-2, name: Example Salon, email: c2@example.com}
mappings:
  event_types: {7: c-1}
  teams: {21: c-2}
  organizers: {31: c-1, 32: c-2}
price_books:
  - id: platform
    owner: {kind: platform}
    version: 1
    effective_from: 2026-01-01
    currency: EUR
    prices:
      - kind: fixed
        net_minor: 10000
        charge_moment: at_booking
        hold_days: 3
        terms: {free_until_hours_before: 24}
        vat_rate_bps: 1900
agreements:
  - reseller_id: r-root
    version: 1
    effective_from: 2026-01-01
    currency: EUR
    own: {kind: percentage, rate_bps: 2500}
    override: {kind: percentage, rate_bps: 200}
    ceiling_bps: 4000
  - reseller_id: r-mid
    version: 1
    effective_from: 2026-01-01
    currency: EUR
    own: {kind: percentage, rate_bps: 2500}
    override: {kind: percentage, rate_bps: 500}
    ceiling_bps: 4000
  - reseller_id: r-leaf
    version: 1
    effective_from: 2026-01-01
    currency: EUR
    own: {kind: percentage, rate_bps: 2500}
    ceiling_bps: 4000
"""


def today() -> date:
    """Today in Berlin."""
    return datetime.now(pricing.BERLIN).date()


def catalog(replacing: dict[str, str] | None = None) -> Catalog:
    """The catalogue, with parts of its text replaced; a part that is not there is an error of the test."""
    text = CATALOG
    for old, new in (replacing or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    return parse_catalog(text)


async def apply(store: Store, replacing: dict[str, str] | None = None) -> list[str]:
    async with store.begin() as tx:
        return await tx.catalog.apply(catalog(replacing), source_sha="0" * 64, applied_by="tester")


def booking(uid: str, **changed: Any) -> CalBooking:
    fields: dict[str, Any] = {
        "uid": uid,
        "status": BookingStatus.ACCEPTED,
        "start_at": START,
        "end_at": START + timedelta(hours=1),
        "event_type_id": 7,
        "organizer_ids": (31,),
        "attendee_name": "Erika Example",
        "attendee_email": "erika@example.com",
        "attendee_absent": False,
        "host_absent": False,
        "created_at": START - timedelta(days=5),
        "updated_at": None,
        "rescheduled_from_uid": None,
        "rescheduled_to_uid": None,
    }
    return CalBooking(**{**fields, **changed})


async def quote_for(tx: Tx, chain_uid: str, *, mode: PayoutMode = PayoutMode.MONTHLY, **changed: Any) -> Quote:
    """A quote of 100.00 EUR net by the stored catalogue, with all three levels."""
    path = await tx.catalog.reseller_path("r-leaf")
    agreements = await tx.catalog.agreements([one.id for one in path], START)
    levels: tuple[Level, ...] = commission.commissions(
        net_minor=10_000,
        wholesale_net_minor=None,
        path=[(one.model_copy(update={"payout_mode": mode}), agreements[one.id]) for one in path],
        month_volume_before_minor={},
    )
    fields: dict[str, Any] = {
        "chain_uid": chain_uid,
        "booking_uid": chain_uid,
        "customer_id": "c-1",
        "reseller_id": "r-leaf",
        "currency": "EUR",
        "net_minor": 10_000,
        "vat_minor": 1_900,
        "gross_minor": 11_900,
        "vat_rate_bps": 1900,
        "vat_reason": "standard",
        "price_ref": "platform/v1#event-default",
        "price": {"kind": "fixed", "net_minor": 10_000, "inputs": {"started_minutes": 60, "month_count_before": 0}},
        "charge_at": START - timedelta(days=5),
        "matures_at": START + timedelta(days=3),
        "terms": CancellationTerms(free_until_hours_before=24),
        "levels": levels,
        "period": pricing.period_of(START),
    }
    return Quote(**{**fields, **changed})


async def open_quoted(store: Store, chain_uid: str, *, mode: PayoutMode = PayoutMode.MONTHLY, **changed: Any) -> Quote:
    """A chain with its booking and quote; the catalogue must be applied."""
    async with store.begin() as tx:
        await tx.chains.open(chain_uid, f"booking-{chain_uid}")
        await tx.chains.save_booking(chain_uid, booking(chain_uid))
        return await tx.chains.save_quote(await quote_for(tx, chain_uid, mode=mode, **changed))


async def charge(store: Store, quote: Quote, *, fee_minor: int = 199) -> None:
    """Bill, charge and accrue a quoted chain, as the steps of a workflow do."""
    uid = quote.chain_uid
    refs = {"payment_intent": f"pi_{uid}", "charge": f"ch_{uid}"}
    async with store.begin() as tx:
        bill = ledger.billed(
            chain_uid=uid,
            customer_id=quote.customer_id,
            currency="EUR",
            net_minor=quote.net_minor,
            vat_minor=quote.vat_minor,
            effective_at=NOW,
        )
        assert bill is not None
        await tx.ledger.post(bill)
        await tx.money.next_invoice(
            InvoiceKind.INVOICE,
            chain_uid=uid,
            sequence=1,
            customer_id=quote.customer_id,
            currency="EUR",
            net_minor=quote.net_minor,
            vat_minor=quote.vat_minor,
            vat_rate_bps=1900,
            vat_reason="standard",
            issued_at=NOW,
        )
    key = f"charge:{uid}:1"
    async with store.begin() as tx:
        await tx.money.begin_charge(
            key=key,
            chain_uid=uid,
            attempt=1,
            customer_id=quote.customer_id,
            currency="EUR",
            amount_minor=quote.gross_minor,
        )
    async with store.begin() as tx:
        await tx.money.finish_charge(
            key,
            status=ChargeStatus.SUCCEEDED,
            payment_intent_id=refs["payment_intent"],
            charge_id=refs["charge"],
            fee_minor=fee_minor,
        )
        await tx.money.accrue(uid, quote.levels, quote.matures_at)
        accrued = ledger.accrued(chain_uid=uid, currency="EUR", levels=quote.levels, effective_at=NOW)
        assert accrued is not None
        await tx.ledger.post(
            ledger.charged(
                chain_uid=uid,
                attempt=1,
                customer_id=quote.customer_id,
                currency="EUR",
                gross_minor=quote.gross_minor,
                effective_at=NOW,
                refs=refs,
            ),
            ledger.fee(chain_uid=uid, attempt=1, currency="EUR", fee_minor=fee_minor, effective_at=NOW, refs=refs),
            accrued,
        )


async def charged_chain(
    store: Store, chain_uid: str, *, mode: PayoutMode = PayoutMode.MONTHLY, **changed: Any
) -> Quote:
    """A chain that was billed, charged and accrued: 25.00 + 5.00 + 2.00 EUR of commission."""
    quote = await open_quoted(store, chain_uid, mode=mode, **changed)
    await charge(store, quote)
    return quote


async def pay_reseller(store: Store, chain_uid: str, reseller_id: str) -> None:
    """Transfer a matured per-booking commission, ledger entry included."""
    key = f"transfer:{chain_uid}:{reseller_id}"
    async with store.begin() as tx:
        begun = await tx.money.begin_booking_transfer(
            key=key, chain_uid=chain_uid, reseller_id=reseller_id, destination_account_id="acct_x"
        )
        assert begun is not None
    async with store.begin() as tx:
        await tx.money.finish_transfer(key, status=EffectStatus.SUCCEEDED, transfer_id=f"tr_{chain_uid}_{reseller_id}")
        await tx.ledger.post(
            ledger.transferred(
                transfer_key=key,
                chain_uid=chain_uid,
                reseller_id=reseller_id,
                currency="EUR",
                amount_minor=begun.amount_minor,
                effective_at=NOW,
            )
        )


async def refund(store: Store, chain_uid: str, amount_minor: int, *, sequence: int = 1) -> None:
    """Refund a part of the charge and reverse commissions in proportion, ledger entries included."""
    key = f"refund:{chain_uid}:{sequence}"
    async with store.begin() as tx:
        await tx.money.begin_refund(
            key=key,
            chain_uid=chain_uid,
            sequence=sequence,
            charge_key=f"charge:{chain_uid}:1",
            currency="EUR",
            amount_minor=amount_minor,
        )
    async with store.begin() as tx:
        await tx.money.finish_refund(key, status=RefundState.SUCCEEDED, refund_id=f"re_{chain_uid}_{sequence}")
        entries = await tx.ledger.entries(chain_uid)
        by_key = {entry.key: entry for entry in entries}
        charged_entry, accrual = by_key[f"charged:{chain_uid}:1"], by_key[f"accrued:{chain_uid}"]
        refunds = await tx.money.chain_refunds(chain_uid)
        total_minor = sum(one.amount_minor for one in refunds)
        reversal = ledger.commission_reversed(
            accrual,
            sequence=sequence,
            total_reversed_before=ledger.reversed_before(accrual, entries),
            refunded_gross_minor=total_minor,
            charged_gross_minor=charged_entry.amount_minor,
            effective_at=NOW,
        )
        assert reversal is not None
        await tx.ledger.post(
            ledger.refunded(charged_entry, sequence=sequence, amount_minor=amount_minor, effective_at=NOW), reversal
        )
        for row in await tx.money.commissions(chain_uid):
            undone = commission.reversed_total(row.accrued_minor, total_minor, charged_entry.amount_minor)
            await tx.money.set_reversed(row.id, undone)
