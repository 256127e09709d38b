from __future__ import annotations

import pytest

from domain import ids


@pytest.mark.parametrize("part", ["", "a b", "a/b", "ä", "a\n", "\n", "x" * 121, "a\x00", "%2e"])
def test_unsafe_parts_never_reach_an_id(part: str) -> None:
    assert not ids.is_safe(part)
    for make in (ids.booking_workflow, ids.settlement_workflow, lambda unsafe: ids.charge_key(unsafe, 1)):
        with pytest.raises(ValueError, match="an id may hold"):
            make(part)


def test_the_same_business_event_has_the_same_key_and_another_one_another() -> None:
    made = [
        ids.charge_key("u1", 1),
        ids.charge_key("u1", 2),
        ids.charge_key("u2", 1),
        ids.refund_key("u1", 1),
        ids.transfer_key("u1", "r-1"),
        ids.reversal_key(ids.transfer_key("u1", "r-1"), 1),
        ids.settlement_transfer_key("2026-03", "r-1", "EUR"),
        ids.settlement_transfer_key("2026-03", "r-1", "EUR", 2),
        ids.booking_workflow("u1"),
        ids.settlement_workflow("2026-03"),
        ids.settlement_workflow("2026-03", 2),
        ids.reseller_settlement_workflow("2026-03", "r-1", "EUR"),
        ids.reseller_settlement_workflow("2026-03", "r-1", "EUR", 2),
    ]
    assert len(set(made)) == len(made)
    assert made[0] == "charge:u1:1"
