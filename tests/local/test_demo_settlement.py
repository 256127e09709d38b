"""What the demo says of its settlement: its verdict, its reasons, and the shortened page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from domain.closing import Terms
from domain.effects import CarryReason, SettlementStatus
from domain.model import ParkReason
from domain.settlement import Figures
from domain.statement_text import page
from local.demo_settlement import Settled
from local.demo_settlement_report import problems, reasons, shortened, table
from store.rows import SettlementRow
from tests.domain import statement_samples as samples


def row(reseller_id: str, net_minor: int = 10_000, **changed: Any) -> SettlementRow:
    """A paid statement of March, unless told otherwise."""
    minimum = changed.pop("minimum_payout_minor", 0)
    terms = Terms(vat_rate_bps=1_900, vat_reason="standard", minimum_payout_minor=minimum)
    made = samples.statement([samples.earning(1, net_minor)], terms=terms)
    moment = datetime(2026, 4, 3, 4, 0, tzinfo=UTC)
    fields: dict[str, Any] = {
        **{name: getattr(made, name) for name in Figures.model_fields},
        "id": 1,
        "period": "2026-03",
        "sequence": 1,
        "reseller_id": reseller_id,
        "currency": "EUR",
        "needs_approval": False,
        "asked_by": ("fin-anna",),
        "boundary": samples.BOUNDARY,
        "frozen_at": moment,
        "status": SettlementStatus.PAID,
        "reason": None,
        "detail": None,
        "waiting_since": None,
        "approved_account_id": None,
        "approved_by": None,
        "approved_at": None,
        "carried_by": None,
        "brought_into": None,
        "finished_at": moment,
        "transfer_key": None,
    }
    return SettlementRow(**{**fields, **changed})


def good() -> Settled:
    small = row("r-insel", 950, minimum_payout_minor=5_000, status=SettlementStatus.CARRIED_OVER)
    assert small.carry_reason is CarryReason.BELOW_MINIMUM
    return Settled(
        rows=[row("r-hamburg"), small, row("r-west")],
        page=samples.statement([samples.earning(1)]),
        stories={"r-west": "parked at first"},
        was_parked={"r-west": ParkReason.RESELLER_NOT_READY, "r-hamburg": ParkReason.APPROVAL_REQUIRED},
        refusals=["no", "no"],
        payout="11,90 € arrived at the bank of r-west (payout po_example)",
    )


def test_a_settlement_as_it_must_be_has_no_problem() -> None:
    assert list(problems(good(), "2026-03")) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rows": []}, "nothing was settled for 2026-03"),
        ({"payout": ""}, "no payout to a reseller's bank"),
        ({"page": None}, "no statement to print"),
        ({"refusals": ["no"]}, "refused 1 times instead of at least 2"),
        ({"was_parked": {}}, "r-west was not parked for reseller_not_ready but for None"),
        ({"differs_from_dry_run": ["S-2026-03-r-1-EUR-1"]}, "the dry run showed other figures"),
        (
            {"rows": [row("r-hamburg"), row("r-insel"), row("r-west")]},
            "r-insel is not carried over for his minimum payout",
        ),
        (
            {"rows": [row("r-hamburg", status=SettlementStatus.PARKED, reason=ParkReason.APPROVAL_REQUIRED)]},
            "settlement of r-hamburg: parked approval_required",
        ),
    ],
)
def test_what_is_not_as_it_must_be_is_told(changed: dict[str, Any], told: str) -> None:
    settled = good()
    for name, value in changed.items():
        setattr(settled, name, value)
    assert any(told in problem for problem in problems(settled, "2026-03"))


def test_reasons_are_given_for_all_that_were_not_simply_paid() -> None:
    assert list(reasons(good())) == [
        "  r-insel: 11,31 € are below his minimum payout of 50,00 €: carried over to the next month",
        "  r-west: parked at first",
        "  11,90 € arrived at the bank of r-west (payout po_example)",
    ]


def test_the_table_fits_into_a_narrow_terminal() -> None:
    settled = good()
    settled.rows.append(row("r-a-rather-long", 12_345_678))
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(table(settled, "2026-03"))
    lines = capture.get().splitlines()
    assert len(lines) == 2 + len(settled.rows)
    assert all("…" not in line for line in lines)


def test_a_long_page_is_shortened_to_what_explains_it() -> None:
    made = samples.statement([samples.earning(number) for number in range(1, 51)])
    told = list(shortened(made))
    assert "  … 46 more" in told
    assert sum("booking-0" in line for line in told) == 4
    together = next(line for line in told if line.startswith("  together"))
    assert together in set(page(made))
    assert len(told) < 40 < len(list(page(made)))


def test_a_short_page_is_whole() -> None:
    made = samples.statement([samples.earning(number) for number in range(1, 4)])
    assert list(shortened(made)) == list(page(made))
