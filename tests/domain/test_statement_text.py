"""The page that a reseller reads: what stands on it, and that its words fit what happened."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain import statement_words as words
from domain.closing import Left, Terms
from domain.effects import AdjustmentDirection, AdjustmentKind, SettlementStatus
from domain.model import JsonDict, ParkReason
from domain.settlement import Statement
from domain.statement_text import WIDTH, page
from tests.domain import statement_samples as samples

ABROAD = Terms(vat_rate_bps=0, vat_reason="reverse_charge")
SMALL = Terms(vat_rate_bps=0, vat_reason="small_business")


def text(of: Statement) -> str:
    return "\n".join(page(of))


def figure(of: Statement, beginning: str) -> str:
    """The right side of the line that begins so."""
    (line,) = [line for line in page(of) if line.strip().startswith(beginning)]
    return line[len(line) - 20 :].strip()


def unwrapped(of: Statement) -> str:
    return " ".join(text(of).split())


def test_a_plain_month() -> None:
    made = samples.paid(samples.statement([samples.earning(1), samples.earning(2, 245, level=1)]))
    told = text(made)
    assert told.startswith("STATEMENT S-2026-03-r-1-EUR-1")
    for part in (
        *("March 2026", "Gutschrift, § 14 Abs. 2 Satz 2 UStG", "Example Sales GmbH", "10115 Berlin, DE"),
        *("VAT id DE123456789", "by      Example Platform GmbH", "20095 Hamburg", "VAT id DE987654321"),
        *("issued  03.04.2026", "01.04.2026 00:00 (Berlin)", "COMMISSIONS ON YOUR OWN CUSTOMERS (1)"),
        "OVERRIDES: BOOKINGS OF RESELLERS BELOW YOU (1)",
    ):
        assert part in told, part
    assert words.missing(made) == ()
    assert figure(made, "booking-001") == "12,25 €"
    assert "booking-001                 10.03.2026   25 % of 49,00 €" in told
    assert figure(made, "19 % Umsatzsteuer on 14,70 € net") == "2,79 €"
    assert figure(made, "PAID") == "17,49 €"
    assert "transferred on 03.04.2026 to your Stripe account acct_example (transfer tr_example)" in unwrapped(made)
    assert words.OBJECTION in unwrapped(made)


def test_no_line_is_wider_than_the_page() -> None:
    long = samples.adjustment(5_000, AdjustmentDirection.CREDIT, "because " * 20)
    made = samples.statement([samples.earning(1, chain_uid="u" * 120)], adjustments=[long])
    wide = [line for line in page(made) if len(line) > WIDTH]
    assert len(wide) == 2
    assert all(line.endswith(" €") for line in wide)


def test_clawbacks_and_own_transfers_name_their_booking() -> None:
    gone, stated = samples.clawed(9, 2_000)
    made = samples.statement([samples.own_transfer(3, 700), samples.earning(1, 9_000), gone], stated=stated)
    told = text(made)
    assert "CLAWBACKS: BOOKINGS REFUNDED LATER, TAKEN BACK (1)" in told
    assert "booking-009                 10.03.2026   refunded since an earlier statement, VAT then 19 %" in told
    assert "PAID ALREADY, BOOKING BY BOOKING (1)" in told
    assert figure(made, "transferred booking by booking") == "− 7,00 €"
    assert figure(made, "clawbacks, net") == "− 20,00 €"


def test_adjustments_say_why_and_how() -> None:
    off = samples.adjustment(300, AdjustmentDirection.DEBIT, "left").model_copy(
        update={"kind": AdjustmentKind.WRITE_OFF}
    )
    made = samples.statement(
        [samples.earning(1)], adjustments=[samples.adjustment(5_000, AdjustmentDirection.CREDIT), off]
    )
    assert figure(made, "Correction A-5000: agreed by phone (03.04.2026)") == "+ 50,00 €"
    assert figure(made, "Write-off A-300: left") == "− 3,00 €"


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (ABROAD, "Steuerschuldnerschaft des Leistungsempfängers (reverse charge, § 13b UStG)"),
        (SMALL, "Keine Umsatzsteuer: Steuerbefreiung für Kleinunternehmer (§ 19 UStG)"),
        (samples.STANDARD, "19 % Umsatzsteuer"),
    ],
)
def test_vat_is_worded_as_the_law_wants_it(terms: Terms, told: str) -> None:
    assert told in text(samples.statement([samples.earning(1)], terms=terms))


def test_a_statement_that_only_takes_back_is_a_correction() -> None:
    gone, stated = samples.clawed(9)
    made = samples.statement([gone], stated=stated)
    assert "Korrektur früherer Gutschriften, § 17 UStG" in text(made)
    assert words.OBJECTION not in unwrapped(made)
    assert figure(made, "YOU OWE") == "14,58 €"
    assert "taken back: 19 % Umsatzsteuer on 12,25 € net" in text(made)


def test_a_statement_without_earnings_is_no_credit_note() -> None:
    made = samples.statement(left=[Left(period="2026-02", credit_minor=400)])
    assert words.NO_DOCUMENT in text(made)
    assert "from S-2026-02-r-1-EUR-1" in text(made)
    assert words.missing(made) == ()


def test_what_the_law_demands_and_is_not_recorded_is_named() -> None:
    bare = samples.PARTY.model_copy(update={"address": None, "vat_id": None})
    made = samples.statement([samples.earning(1)], party=bare, issuer=None)
    assert words.missing(made) == ("your address", "your VAT id or tax number", "our name and address")
    assert "Not recorded, and needed on a credit note (§ 14 Abs. 4 UStG): your address" in unwrapped(made)


def of_status(status: SettlementStatus, **more: object) -> Statement:
    return samples.statement([samples.earning(1)]).model_copy(update={"status": status, **more})


SINCE = datetime(2026, 4, 3, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (of_status(SettlementStatus.OPEN), "14,58 € are transferred to your Stripe account with this month's run."),
        (
            of_status(SettlementStatus.WAITING, reason=ParkReason.BALANCE_INSUFFICIENT, waiting_since=SINCE),
            "14,58 € wait since 03.04.2026 07:30",
        ),
        (
            of_status(SettlementStatus.PARKED, reason=ParkReason.APPROVAL_REQUIRED),
            "a second person on our side has to approve it",
        ),
        (of_status(SettlementStatus.PARKED, reason=ParkReason.RESELLER_NOT_READY), "cannot receive transfers now"),
        (of_status(SettlementStatus.PARKED, reason=ParkReason.CURRENCY_MISMATCH), "does not hold EUR"),
        (of_status(SettlementStatus.PARKED, reason=ParkReason.INTERNAL), "a person on our side has to look at it"),
        (
            of_status(SettlementStatus.CARRIED_OVER, carried_by="fin-ben"),
            "14,58 € are not transferred, by a decision on our side, and come with your next statement.",
        ),
        (
            samples.statement([samples.earning(1, 500)], brought_into="S-2026-04-r-1-EUR-1"),
            "and come with statement S-2026-04-r-1-EUR-1.",
        ),
        (
            samples.statement([samples.earning(1)], terms=Terms(**{**ABROAD.model_dump(), "is_on_hold": True})),
            "12,25 € stay on your account because payouts are on hold",
        ),
        (samples.statement([samples.own_transfer(1)], terms=SMALL), "Nothing is left to pay."),
        (
            samples.statement(left=[Left(period="2026-02", debt_minor=400, negative_since="2026-02")]),
            "You owe 4,00 €. It is set against what you earn, with your next statement.",
        ),
        (
            samples.statement(left=[Left(period="2026-02", debt_minor=400, negative_since="2025-12")]).model_copy(
                update={"reason": ParkReason.NEGATIVE_BALANCE}
            ),
            "You owe 4,00 € since December 2025.",
        ),
        (samples.paid(samples.statement([samples.earning(1)]), reversed_minor=58), "0,58 € of it were taken back"),
    ],
)
def test_what_happens_to_the_money_is_said(made: Statement, told: str) -> None:
    assert told in unwrapped(made)


@pytest.mark.parametrize("status", SettlementStatus)
@pytest.mark.parametrize("reason", [None, *ParkReason])
def test_every_standing_has_words(status: SettlementStatus, reason: ParkReason | None) -> None:
    told = words.outcome(of_status(status, reason=reason))
    assert "{" not in told
    assert told.endswith(".")


def tiers(before_minor: int) -> JsonDict:
    """20 % up to 50,00 € of the month's volume, 25 % above."""
    rule = samples.rule(0, 4_900)
    inputs = {**rule["inputs"], "month_volume_before_minor": before_minor}
    steps = [{"from_minor": 0, "rate_bps": 2_000}, {"from_minor": 5_000, "rate_bps": 2_500}]
    return {**rule, "kind": "tiers", "tiers": steps, "inputs": inputs}


@pytest.mark.parametrize(
    ("rule", "amount_minor", "told"),
    [
        (samples.rule(2_500, 4_900), 1_225, "25 % of 49,00 €"),
        (samples.rule(2_500, 4_900), 500, "25 % of 49,00 €, less 7,25 € refunded"),
        (samples.rule(250, 400, floor_minor=100), 100, "2,5 % of 4,00 €, at least 1,00 €"),
        (
            samples.rule(5_000, 4_900),
            1_960,
            "50 % of 49,00 €, limited by the ceiling of all levels",
        ),
        (
            samples.rule(2_500, 4_900, retained={"waived_gross_minor": 2_915, "whole_gross_minor": 5_830}),
            613,
            "25 % of 49,00 €, of it 50 % kept after a cancellation",
        ),
        (tiers(0), 980, "20 % of 49,00 €, by volume of the month"),
        (tiers(5_000), 1_225, "25 % of 49,00 €, by volume of the month"),
        (tiers(3_000), 1_125, "20 % / 25 % of 49,00 €, by volume of the month"),
        ({**samples.rule(0, 4_900), "kind": "fixed", "amount_minor": 150}, 150, "fixed amount"),
        ({**samples.rule(0, 4_900), "kind": "none"}, 0, "nothing agreed"),
        ({}, 5, ""),
    ],
)
def test_the_rule_of_a_line_in_words(rule: dict[str, object], amount_minor: int, told: str) -> None:
    made = samples.statement([samples.earning(1, max(amount_minor, 1))], rules={1: rule})
    line = made.lines[0].model_copy(update={"amount_minor": amount_minor})
    assert words.how(line, "EUR") == told
