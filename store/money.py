"""All money of chains behind one name: charges, refunds, transfers, reversals, commissions, invoices."""

from __future__ import annotations

from sqlalchemy import text

from store.charges import ChargeRepository
from store.commissions import CommissionRepository
from store.invoices import InvoiceRepository
from store.transfers import TransferRepository

_CHAIN_OF_OBJECT = text("""
SELECT chain_uid FROM charges WHERE payment_intent_id = :id OR charge_id = :id
UNION SELECT chain_uid FROM refunds WHERE refund_id = :id
UNION SELECT chain_uid FROM transfers WHERE transfer_id = :id AND chain_uid IS NOT NULL
UNION SELECT chain_uid FROM transfer_reversals WHERE reversal_id = :id AND chain_uid IS NOT NULL
LIMIT 1
""")


class MoneyRepository(ChargeRepository, CommissionRepository, InvoiceRepository, TransferRepository):
    async def chain_of_object(self, stripe_id: str) -> str | None:
        """The chain that a PaymentIntent, charge, refund, transfer or reversal of Stripe belongs to; None: not ours."""
        found: str | None = await self._value(_CHAIN_OF_OBJECT, id=stripe_id)
        return found
