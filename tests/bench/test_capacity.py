"""The simulation behind docs/scaling.md, and that the document says what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import capacity
from bench.capacity import Day, Demand, Measured, Plant

MEASURED, DEMAND = Measured(), Demand()


def test_the_document_holds_the_tables_that_the_simulation_prints() -> None:
    document = capacity.DOCUMENT.read_text()
    assert capacity.document_with(capacity.report(MEASURED, DEMAND), document) == document, (
        "docs/scaling.md is not what the simulation says: run `python -m bench.capacity --write`"
    )


def test_every_booking_of_the_day_becomes_due_once() -> None:
    assert sum(capacity.arrivals(12_345, DEMAND)) == pytest.approx(12_345)


def test_the_largest_month_is_in_time_and_a_larger_one_is_not() -> None:
    plant = Plant(stripe_accounts=1)
    day = capacity.capacity(plant, MEASURED, DEMAND)
    assert day.bookings_per_month > 0
    assert capacity.in_time(day.bookings_per_month, plant, MEASURED, DEMAND)
    assert not capacity.in_time(day.bookings_per_month + 1_000, plant, MEASURED, DEMAND)


def test_never_more_than_stripe_takes() -> None:
    day = capacity.simulate(10**9, Plant(stripe_accounts=1), MEASURED, DEMAND)
    assert day.peak_per_second == pytest.approx(capacity.STRIPE_CALLS_PER_SECOND)


def test_twice_the_stripe_accounts_carry_twice_the_bookings() -> None:
    one, two = (capacity.capacity(Plant(stripe_accounts=count), MEASURED, DEMAND) for count in (1, 2))
    assert two.bookings_per_month == pytest.approx(2 * one.bookings_per_month, rel=0.01)


def test_a_cheaper_chain_needs_fewer_cores() -> None:
    def month(measured: Measured) -> Day:
        return capacity.capacity(Plant(cores=2), measured, DEMAND)

    cheaper = replace(MEASURED, worker_cpu_ms=MEASURED.worker_cpu_ms / 2)
    assert month(cheaper).bookings_per_month > month(MEASURED).bookings_per_month


@pytest.mark.parametrize(
    ("millions", "dollars"),
    [(0, 0), (1, 50), (5, 250), (10, 475), (11.25, 525), (200, 250 + 225 + 400 + 1_050 + 1_500 + 2_500)],
)
def test_actions_are_priced_by_steps(millions: float, dollars: float) -> None:
    assert capacity.cloud_dollars(millions * 1e6) == pytest.approx(dollars)


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        capacity.document_with("tables", "no marks here")
