"""Statements to render: closed by the rule itself, so that every one of them is possible."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from domain.closing import Earning, Left, Terms, close
from domain.effects import (
    AdjustmentDirection,
    AdjustmentKind,
    AdjustmentStatus,
    EffectStatus,
    SettlementStatus,
)
from domain.model import CommissionStatus, JsonDict, PayoutMode
from domain.settlement import Adjustment, Party, Statement, StatementLine, StatementTransfer

BOUNDARY = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)
FROZEN = datetime(2026, 4, 3, 4, 0, tzinfo=UTC)
APPOINTMENT = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)

PARTY = Party(
    name="Example Sales GmbH",
    email="sales@example.com",
    address={"line1": "Beispielweg 1", "line2": None, "postal_code": "10115", "city": "Berlin"},
    country="DE",
    vat_id="DE123456789",
    small_business=False,
)
ISSUER: JsonDict = {
    "name": "Example Platform GmbH",
    "address": ["Musterallee 2", "20095 Hamburg", "DE"],
    "vat_id": "DE987654321",
}
STANDARD = Terms(vat_rate_bps=1_900, vat_reason="standard", minimum_payout_minor=1_000)


def rule(rate_bps: int, net_minor: int, **more: Any) -> JsonDict:
    """A frozen percentage rule with its inputs."""
    inputs = {
        "net_minor": net_minor,
        "wholesale_net_minor": None,
        "month_volume_before_minor": 0,
        "ceiling_bps": 4_000,
        "left_minor": net_minor * 4_000 // 10_000,
    }
    return {"kind": "percentage", "rate_bps": rate_bps, "role": "own", "inputs": inputs, **more}


def earning(number: int, accrued_minor: int = 1_225, **changed: Any) -> Earning:
    fields: dict[str, Any] = {
        "commission_id": number,
        "chain_uid": f"booking-{number:03d}",
        "level": 0,
        "accrued_minor": accrued_minor,
        "reversed_minor": 0,
        "status": CommissionStatus.MATURED,
        "payout_mode": PayoutMode.MONTHLY,
        "matures_at": datetime(2026, 3, 12, 9, 0, tzinfo=UTC),
        "is_paid": False,
        "settled_minor": 0,
    }
    return Earning(**{**fields, **changed})


def own_transfer(number: int, accrued_minor: int = 1_225, **changed: Any) -> Earning:
    """A commission that a transfer of its booking has paid."""
    fields: dict[str, Any] = {
        "payout_mode": PayoutMode.PER_BOOKING,
        "status": CommissionStatus.SETTLED,
        "is_paid": True,
        "settled_minor": accrued_minor,
    }
    return earning(number, accrued_minor, **{**fields, **changed})


def clawed(number: int, kept_minor: int = 1_225) -> tuple[Earning, dict[int, list[StatementLine]]]:
    """A commission that stood on an earlier statement and was reversed since, all of it."""
    earlier = StatementLine(
        commission_id=number,
        sequence=0,
        chain_uid=f"booking-{number:03d}",
        level=0,
        amount_minor=kept_minor,
        vat_rate_bps=1_900,
        vat_reason="standard",
        matures_at=datetime(2026, 2, 12, 9, 0, tzinfo=UTC),
    )
    gone = earning(number, kept_minor, reversed_minor=kept_minor, status=CommissionStatus.REVERSED)
    return gone, {number: [earlier]}


def adjustment(amount_minor: int, direction: AdjustmentDirection, why: str = "agreed by phone") -> Adjustment:
    return Adjustment(
        id=f"A-{amount_minor}",
        reseller_id="r-1",
        currency="EUR",
        amount_minor=amount_minor,
        direction=direction,
        kind=AdjustmentKind.CORRECTION,
        why=why,
        requested_by="fin-anna",
        requested_at=FROZEN,
        status=AdjustmentStatus.APPROVED,
        decided_by="fin-ben",
        decided_at=FROZEN,
        settlement_id=1,
    )


def statement(
    earnings: Sequence[Earning] = (),
    *,
    terms: Terms = STANDARD,
    stated: dict[int, list[StatementLine]] | None = None,
    adjustments: Sequence[Adjustment] = (),
    left: Sequence[Left] = (),
    currency: str = "EUR",
    rules: dict[int, JsonDict] | None = None,
    **changed: Any,
) -> Statement:
    """The statement of March 2026 of reseller r-1; `changed` are fields of what became of it, or of the party."""
    closing = close(
        period="2026-03",
        boundary=BOUNDARY,
        terms=terms,
        earnings=earnings,
        stated=stated or {},
        adjustments=adjustments,
        left=left,
        negative_months=3,
    )
    assert closing is not None
    found = [
        line.model_copy(
            update={"appointment_at": APPOINTMENT, "rule": (rules or {}).get(line.commission_id, rule(2_500, 4_900))}
        )
        for line in closing.lines
    ]
    fields: dict[str, Any] = {
        **closing.figures.model_dump(),
        "id": f"S-2026-03-r-1-{currency}-1",
        "period": "2026-03",
        "sequence": 1,
        "reseller_id": "r-1",
        "currency": currency,
        "boundary": BOUNDARY,
        "frozen_at": FROZEN,
        "lines": tuple(found),
        "taxes": closing.taxes,
        "adjustments": tuple(adjustments),
        "party": PARTY,
        "issuer": ISSUER,
        "requested_by": "schedule",
        "needs_approval": False,
        "approved_by": None,
        "status": closing.status,
        "reason": None,
        "detail": None,
        "waiting_since": None,
        "carried_by": None,
        "brought_from": tuple(f"S-{one.period}-r-1-{currency}-1" for one in left),
        "brought_into": None,
        "transfer": None,
    }
    return Statement(**{**fields, **changed})


def paid(of: Statement, *, reversed_minor: int = 0) -> Statement:
    """The same, transferred."""
    transfer = StatementTransfer(
        key="settlement:2026-03:r-1:EUR",
        transfer_id="tr_example",
        status=EffectStatus.SUCCEEDED,
        amount_minor=of.payable_minor,
        reversed_minor=reversed_minor,
        destination_account_id="acct_example",
        refusal_code=None,
        finished_at=FROZEN,
    )
    return of.model_copy(update={"status": SettlementStatus.PAID, "transfer": transfer})
