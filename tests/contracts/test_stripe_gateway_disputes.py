"""A charge says `disputed` for ever: how the dispute stands is what counts."""

from __future__ import annotations

import pytest

from tests.contracts.stripe_gateway_support import FakeStripe, answer, intent


@pytest.mark.parametrize(
    ("statuses", "disputed"),
    [
        (["needs_response"], True),
        (["under_review"], True),
        (["lost"], True),
        (["won"], False),
        (["warning_needs_response"], False),
        (["warning_closed"], False),
        (["prevented"], False),
        (["won", "needs_response"], True),
        ([], False),
    ],
)
async def test_the_status_of_the_dispute_decides(statuses: list[str], disputed: bool) -> None:
    charge = {"id": "ch_1", "amount_refunded": 0, "disputed": True}
    found = [{"id": f"du_{index}", "status": status} for index, status in enumerate(statuses)]
    stripe = FakeStripe(answer(intent(latest_charge=charge)), answer({"data": found, "has_more": False}))
    assert (await stripe.gateway().get_payment("pi_1")).disputed is disputed
    assert len(stripe.requests) == 2


async def test_an_undisputed_payment_asks_no_second_time() -> None:
    stripe = FakeStripe(answer(intent()))
    assert not (await stripe.gateway().get_payment("pi_1")).disputed
    assert len(stripe.requests) == 1
