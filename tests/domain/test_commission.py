from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.commission import (
    Agreement,
    agreement_for,
    check_ceiling,
    check_levels,
    check_price,
    commissions,
    needs_wholesale,
    recompute,
    retained_quote,
    reversed_total,
)
from domain.model import CancellationTerms, Level, NoQuote, ParkReason, PayoutMode, Quote, Reseller

NOW = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = {"kind": "percentage", "rate_bps": 2500}
TIERS = {"kind": "tiers", "tiers": [{"from_minor": 0, "rate_bps": 2000}, {"from_minor": 10_000, "rate_bps": 3000}]}


def agreement(reseller_id: str = "r-0", **fields: Any) -> Agreement:
    base = {"version": 1, "effective_from": "2026-01-01", "currency": "EUR", "own": QUARTER, "ceiling_bps": 10_000}
    return Agreement.model_validate({"reseller_id": reseller_id, **base, **fields})


def reseller(id: str, parent_id: str | None = None) -> Reseller:
    return Reseller(
        id=id,
        parent_id=parent_id,
        payout_mode=PayoutMode.MONTHLY,
        stripe_account_id=None,
        small_business=False,
        country="DE",
        vat_id=None,
        paused=False,
    )


def earned(
    *agreements: Agreement, net: int, wholesale: int | None = None, volumes: dict[str, int] | None = None
) -> tuple[Level, ...]:
    return commissions(
        net_minor=net,
        wholesale_net_minor=wholesale,
        path=[(reseller(a.reseller_id), a) for a in agreements],
        month_volume_before_minor=volumes or {},
    )


def amounts(*agreements: Agreement, net: int, **fields: Any) -> list[int]:
    return [level.amount_minor for level in earned(*agreements, net=net, **fields)]


rules = st.one_of(
    st.builds(lambda rate: {"kind": "percentage", "rate_bps": rate}, st.integers(0, 10_000)),
    st.builds(lambda amount: {"kind": "fixed", "amount_minor": amount}, st.integers(0, 20_000)),
    st.builds(
        lambda bounds, rates, floor, extra: {
            "kind": "tiers",
            "tiers": [
                {"from_minor": start, "rate_bps": rate}
                for start, rate in zip([0, *sorted(bounds)], rates, strict=False)
            ],
            "floor_minor": floor,
            "cap_minor": None if extra is None else (floor or 0) + extra,
        },
        st.sets(st.integers(1, 100_000), max_size=3),
        st.lists(st.integers(0, 10_000), min_size=4, max_size=4),
        st.none() | st.integers(0, 2_000),
        st.none() | st.integers(0, 20_000),
    ),
)
own_rules = rules | st.builds(lambda cap: {"kind": "margin", "cap_minor": cap}, st.none() | st.integers(0, 20_000))


@st.composite
def paths(draw: st.DrawFn) -> list[Agreement]:
    return [
        agreement(
            f"r-{n}",
            own=draw(own_rules),
            override=draw(st.none() | rules),
            ceiling_bps=draw(st.sampled_from([0, 1000, 3333, 4000, 10_000])),
        )
        for n in range(draw(st.integers(1, 5)))
    ]


def test_the_own_reseller_earns_his_share_and_ancestors_their_override() -> None:
    five_percent = {"kind": "percentage", "rate_bps": 500}
    path = [agreement(f"r-{n}", override=five_percent) for n in range(3)]
    assert amounts(*path, net=4900) == [1225, 245, 245]
    assert amounts(agreement("r-0"), agreement("r-1"), net=4900) == [1225, 0]
    assert earned(net=4900) == ()


def test_floor_cap_and_fixed_amounts() -> None:
    bounded = agreement(own={**QUARTER, "floor_minor": 300, "cap_minor": 2000})
    assert [amounts(bounded, net=net)[0] for net in (1000, 4900, 10_000)] == [300, 1225, 2000]
    assert amounts(bounded, net=200) == [200], "a floor never exceeds the net amount"
    assert amounts(agreement(own={"kind": "fixed", "amount_minor": 700}), net=4900) == [700]


def test_tiers_split_a_booking_that_crosses_a_border() -> None:
    tiers = agreement(own=TIERS)
    assert amounts(tiers, net=4000) == [800]
    assert amounts(tiers, net=4000, volumes={"r-0": 8000}) == [2000 * 20 // 100 + 2000 * 30 // 100]
    assert amounts(tiers, net=4000, volumes={"r-0": 10_000}) == [1200]


@given(volumes=st.lists(st.integers(0, 9_000), min_size=1, max_size=12))
def test_tiers_over_a_month_give_what_one_large_booking_would_up_to_rounding(volumes: list[int]) -> None:
    tiers = agreement(own=TIERS)
    before, total = 0, 0
    for net in volumes:
        total += amounts(tiers, net=net, volumes={"r-0": before})[0]
        before += net
    assert abs(total - amounts(tiers, net=before)[0]) <= (len(volumes) + 1) // 2 + 1


def test_a_margin_is_the_difference_to_wholesale_and_never_negative() -> None:
    margin = agreement(own={"kind": "margin"})
    assert amounts(margin, net=6900, wholesale=4900) == [2000]
    assert amounts(margin, net=4000, wholesale=4900) == [0]
    assert needs_wholesale([(reseller("r-0"), margin)])
    assert not needs_wholesale([(reseller("r-0"), agreement())])
    with pytest.raises(NoQuote) as missing:
        earned(margin, net=6900)
    assert missing.value.reason is ParkReason.NO_PRICE


def test_the_lowest_ceiling_of_the_path_holds_and_those_further_up_give_way() -> None:
    half = {"kind": "percentage", "rate_bps": 5000}
    path = [
        agreement("r-0", own=half),
        agreement("r-1", override=half, ceiling_bps=6000),
        agreement("r-2", override=half),
    ]
    assert amounts(*path, net=1000) == [500, 100, 0]


@settings(max_examples=500)
@given(
    path=paths(),
    net=st.integers(0, 1_000_000),
    wholesale=st.integers(0, 1_000_000),
    volume=st.integers(0, 200_000),
)
def test_levels_stay_below_ceiling_and_net_and_recompute_to_the_same_amount(
    path: list[Agreement], net: int, wholesale: int, volume: int
) -> None:
    levels = earned(*path, net=net, wholesale=wholesale, volumes={a.reseller_id: volume for a in path})
    total = sum(level.amount_minor for level in levels)
    assert total * 10_000 <= net * min(a.ceiling_bps for a in path)
    assert total <= net
    assert [level.level for level in levels] == list(range(len(path)))
    for level in levels:
        stored = Level.model_validate_json(level.model_dump_json())
        assert recompute(stored) == level.amount_minor
    assert check_levels(levels) == []


def test_a_changed_amount_or_a_changed_rule_is_found() -> None:
    first, second = earned(agreement("r-0"), agreement("r-1", override=QUARTER), net=4900)
    assert (
        "1226 is booked, the frozen rule gives 1225"
        in check_levels([first.model_copy(update={"amount_minor": 1226}), second])[0]
    )
    richer = {**second.rule, "inputs": {**second.rule["inputs"], "left_minor": 99_999}}
    assert "was left" in check_levels([first, second.model_copy(update={"rule": richer})])[0]


@settings(max_examples=2000)
@given(
    accrued=st.integers(0, 1_000_000),
    charged=st.integers(1, 2_000_000),
    cuts=st.lists(st.integers(0, 2_000_000), max_size=15),
)
def test_what_remains_after_partial_refunds_falls_to_nothing_and_never_rises(
    accrued: int, charged: int, cuts: list[int]
) -> None:
    refunds = [*sorted(cut % charged for cut in cuts), charged]
    totals = [reversed_total(accrued, refunded, charged) for refunded in refunds]
    assert totals == sorted(totals)
    assert totals[-1] == accrued
    assert reversed_total(accrued, 0, charged) == 0


@pytest.mark.parametrize(("refunded", "charged"), [(2, 1), (-1, 1), (0, 0)])
def test_a_refund_above_the_charge_is_an_error(refunded: int, charged: int) -> None:
    with pytest.raises(ValueError, match="cannot refund"):
        reversed_total(100, refunded, charged)


@given(path=paths(), net=st.integers(1, 500_000), vat_bps=st.sampled_from([0, 700, 1900]), kept=st.integers(0, 10_000))
def test_a_late_cancellation_before_the_charge_costs_what_refunding_the_rest_would_leave(
    path: list[Agreement], net: int, vat_bps: int, kept: int
) -> None:
    levels = earned(*path, net=net, wholesale=net // 2)
    vat = net * vat_bps // 10_000
    quote = Quote(
        chain_uid="u1",
        booking_uid="u1",
        customer_id="c1",
        reseller_id="r-0",
        currency="EUR",
        net_minor=net,
        vat_minor=vat,
        gross_minor=net + vat,
        vat_rate_bps=vat_bps,
        vat_reason="standard",
        price_ref="p/v1#event-1",
        price={"kind": "fixed"},
        charge_at=NOW,
        matures_at=NOW,
        terms=CancellationTerms(free_until_hours_before=24),
        levels=levels,
        period="2026-03",
    )
    reduced = retained_quote(quote, kept)
    assert reduced.gross_minor == (2 * quote.gross_minor * kept + 10_000) // 20_000
    waived = quote.gross_minor - reduced.gross_minor
    for whole, part in zip(quote.levels, reduced.levels, strict=True):
        assert part.amount_minor == whole.amount_minor - reversed_total(whole.amount_minor, waived, quote.gross_minor)
        assert recompute(part) == part.amount_minor
    assert check_levels(reduced.levels) == []
    assert retained_quote(quote, 10_000) == quote
    assert retained_quote(quote, 0).gross_minor == 0


def test_agreements_are_found_by_time_and_currency() -> None:
    versions = [agreement(version=1), agreement(version=2, effective_from="2026-06-01", own=TIERS)]
    assert agreement_for(versions, "r-0", NOW, "EUR").version == 1
    assert agreement_for(versions, "r-0", datetime(2026, 5, 31, 22, tzinfo=UTC), "EUR").version == 2
    for reseller_id, at, currency, reason in (
        ("r-1", NOW, "EUR", ParkReason.NO_AGREEMENT),
        ("r-0", datetime(2025, 1, 1, tzinfo=UTC), "EUR", ParkReason.NO_AGREEMENT),
        ("r-0", NOW, "CHF", ParkReason.CURRENCY_MISMATCH),
    ):
        with pytest.raises(NoQuote) as refused:
            agreement_for(versions, reseller_id, at, currency)
        assert refused.value.reason is reason


def test_rates_above_the_ceiling_are_refused_when_saved() -> None:
    five_percent = {"kind": "percentage", "rate_bps": 500}
    low = agreement("r-0", ceiling_bps=3000)
    assert check_ceiling([[low, agreement("r-1", override=five_percent)]]) == []
    (problem,) = check_ceiling([[low], [low, agreement("r-1", override={"kind": "percentage", "rate_bps": 501})]])
    assert "r-0 v1 2500 + r-1 v1 501 = 3001 bps, above the ceiling of 3000 bps" in problem
    assert check_ceiling([[agreement(own=TIERS, ceiling_bps=2999)]]), "the highest tier counts"


def test_amounts_above_the_ceiling_are_refused_at_a_known_price() -> None:
    fixed = agreement(own={"kind": "fixed", "amount_minor": 1000}, ceiling_bps=4000)
    assert check_price([fixed], net_minor=2500, wholesale_net_minor=None) is None
    assert "= 1000 of 2400 net" in str(check_price([fixed], net_minor=2400, wholesale_net_minor=None))
    margin = agreement(own={"kind": "margin"}, ceiling_bps=4000)
    assert check_price([margin], net_minor=6900, wholesale_net_minor=4900) is None
    assert check_price([margin], net_minor=8900, wholesale_net_minor=4900) is not None


@settings(max_examples=150)
@given(path=paths(), net=st.integers(1, 100_000), wholesale=st.integers(0, 100_000), volume=st.integers(0, 200_000))
def test_what_a_saved_agreement_allows_is_never_cut_by_more_than_rounding(
    path: list[Agreement], net: int, wholesale: int, volume: int
) -> None:
    assume(check_price(path, net_minor=net, wholesale_net_minor=wholesale) is None)
    volumes = {a.reseller_id: volume for a in path}
    open_path = [a.model_copy(update={"ceiling_bps": 10_000}) for a in path]
    capped = amounts(*path, net=net, wholesale=wholesale, volumes=volumes)
    uncapped = amounts(*open_path, net=net, wholesale=wholesale, volumes=volumes)
    assert sum(uncapped) - sum(capped) <= len(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"own": {"kind": "percentage", "rate_bps": 25.0}}, "valid integer"),
        ({"own": {"kind": "percentage", "rate_bps": 10_001}}, "less than or equal to 10000"),
        ({"own": {**QUARTER, "floor_minor": 5, "cap_minor": 4}}, "floor_minor is above cap_minor"),
        ({"override": {"kind": "margin"}}, "override cannot be a margin"),
        ({"own": {"kind": "tiers", "tiers": [{"from_minor": 1, "rate_bps": 1}]}}, "starts at from_minor 0"),
        ({"own": {"kind": "tiers", "tiers": [{"from_minor": 0, "rate_bps": 1}] * 2}}, "ascending"),
        ({"currency": "XXX"}, "unknown currency"),
    ],
)
def test_wrong_agreements_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        agreement(**fields)
