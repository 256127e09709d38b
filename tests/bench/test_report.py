"""What the benchmark's table says of its rounds, its targets and its failures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bench.report import Figure, PartRun, Table, at_least, at_most, between, middle, percentile, render

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def rendered(*runs: PartRun, tables: tuple[Table, ...] = ()) -> str:
    return render(runs, tables, at=AT, heading="2 cores.", settings={"rounds": "3"})


def row_of(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_spread_is_told_only_of_several_rounds() -> None:
    assert (middle([3.0, 1.0, 2.0]), between([3.0, 1.0, 2.0])) == ("2.0", "1.0-3.0")
    assert (middle([2.0]), between([2.0])) == ("2.0", "")


def test_the_median_decides_whether_a_target_is_met() -> None:
    assert at_least("speed", [20.0, 26.0, 30.0], 25).met is True
    assert at_least("speed", [20.0, 24.9, 30.0], 25).met is False
    assert at_most("time", [10.0, 60.0, 900.0], 60, unit="ms") == Figure(
        "time", "60.0 ms", "10.0-900.0", "≤ 60 ms", True, ""
    )


def test_the_table_says_what_is_met_missed_and_absent() -> None:
    figures = [
        Figure("good", "1", target="≥ 1", met=True),
        Figure("bad", "0", target="≥ 1", met=False),
        Figure("gone", "absent", target="≥ 1"),
        Figure("free", "3"),
    ]
    text = rendered(PartRun("chains", 61.0, figures))
    assert [row_of(text, name)[4] for name in ("good", "bad", "gone", "free")] == ["yes", "**no**", "absent", ""]
    assert "Missed: bad." in text
    assert "61 s: chains 61 s." in text


def test_a_part_that_failed_stands_in_the_table_with_its_error() -> None:
    text = rendered(PartRun("ledger", 2.0, error="OSError: no | pgbench\nat all"), PartRun("chains", 1.0))
    assert row_of(text, "part ledger")[1] == "failed"
    assert "OSError: no \\| pgbench at all" in text
    assert "Missed: part ledger." in text


def test_all_met_is_said() -> None:
    assert "Every target is met." in rendered(PartRun("chains", 1.0, [Figure("good", "1", target="1", met=True)]))


def test_tables_follow_the_figures_with_numbers_to_the_right() -> None:
    table = Table("Costs", ("what", "ms"), [("a", "1"), ("long name", "12,345")], frozenset({"ms"}), "Said before.")
    lines = rendered(tables=(table,)).splitlines()
    begin = lines.index("## Costs")
    assert lines[begin + 2] == "Said before."
    assert lines[begin + 4 : begin + 8] == [
        "| what      |     ms |",
        "| --------- | -----: |",
        "| a         |      1 |",
        "| long name | 12,345 |",
    ]
