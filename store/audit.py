"""`billing audit`: the invariants I1 to I8, checked on what is stored and, for I1, against Stripe.

Chains run while the audit looks: between an effect at Stripe and its entry in the ledger there are moments in which
only one of the two exists. Everything younger than a grace period is therefore left to the next audit.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from domain.ports import PaymentGateway
from store.audit_effects import effects_at_stripe, i1_ledger_and_effects, i1_stripe_and_effects
from store.audit_finding import Finding, Moment
from store.audit_proofs import i5_commissions, i8_append_only
from store.audit_rules import i2_balanced, i3_once, i4_finished_or_waiting, i6_nothing_paid_on_refunds
from store.audit_statements import i6_clawed_back, i7_settlements
from store.database import Store

__all__ = ["Finding", "audit"]

GRACE_SECONDS = 60.0


async def audit(
    store: Store,
    payments: PaymentGateway | None,
    *,
    now: datetime | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> list[Finding]:
    """Everything that breaks an invariant, I1 first; empty: all hold.

    With a gateway I1 also compares every movement of the Stripe balance since the first chain, both ways; without one
    it compares the ledger with our own records of the effects. Reads only, in one snapshot of the database. Raises what
    the gateway raises: an audit that could not ask Stripe has no result.
    """
    until = now or datetime.now(UTC)
    moment = Moment(now=until, settled_before=until - timedelta(seconds=grace_seconds))
    at_stripe = None
    if payments is not None:
        async with store.begin() as tx:
            since = (await tx.connection.execute(text("SELECT min(opened_at) FROM chains"))).scalar()
        at_stripe = await effects_at_stripe(payments, since or until, until)
    async with store.begin() as tx:
        connection = tx.connection
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        findings = await i1_ledger_and_effects(connection, moment)
        if at_stripe is not None:
            findings += await i1_stripe_and_effects(connection, moment, at_stripe)
        findings += await i2_balanced(connection, moment)
        findings += await i3_once(connection, moment)
        findings += await i4_finished_or_waiting(connection, moment)
        findings += await i5_commissions(connection, moment)
        findings += await i6_nothing_paid_on_refunds(connection, moment)
        findings += await i6_clawed_back(connection, moment)
        findings += await i7_settlements(connection, moment)
        findings += await i8_append_only(connection, moment)
    return findings
