"""Who gives orders: one spelling of each person, and none of the system's own names."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from domain.orders import RESERVED, person
from workflows.models import OperatorOrder, SettlementInput


@pytest.mark.parametrize(
    "spelling", ["ops-anna", "OPS-Anna", "  ops-anna\n", "ｏｐｓ-ａｎｎａ", "ops\u200b-anna", "OPS-\u00adANNA"]
)
def test_a_person_has_one_spelling(spelling: str) -> None:
    assert person(spelling) == "ops-anna"
    assert OperatorOrder(who=spelling, why="asked for").who == "ops-anna"
    assert SettlementInput(requested_by=spelling).requested_by == "ops-anna"


def test_another_person_stays_another_person() -> None:
    assert len({person(name) for name in ("ops-anna", "ops-anne", "ops anna", "opsanna", "Groß", "ops-änna")}) == 6
    assert person("GROSS") == person("groß")
    assert person(person("İpek  Ǆ")) == person("İpek  Ǆ")


@pytest.mark.parametrize("name", ["", "  ", "\u200b", "a" * 81])
def test_nobody_and_endless_names_give_no_orders(name: str) -> None:
    with pytest.raises(ValidationError):
        OperatorOrder(who=name, why="asked for")


@pytest.mark.parametrize("name", sorted({*RESERVED, "Schedule", "WORKFLOW "}))
def test_the_names_of_the_system_give_no_orders(name: str) -> None:
    with pytest.raises(ValidationError, match="own login"):
        OperatorOrder(who=name, why="asked for")
    assert SettlementInput(requested_by=name).requested_by == person(name)
