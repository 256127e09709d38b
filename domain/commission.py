"""Commission agreements: what each level of the reseller tree earns on one booking, and what a refund takes back.

Commission is taken on the net amount. Levels are computed from the customer's own reseller upwards; what all of them
get together stays within the lowest ceiling of the path and within the net amount. Where rounding, a floor or a fixed
amount would go beyond, the levels further up get less: the one who brought the customer is served first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from domain.model import Currency, Frozen, Id, JsonDict, Level, NoQuote, ParkReason, Quote, Reseller, StrictBps
from domain.money import BPS_WHOLE, AmountMinor, percentage, share
from domain.pricing import EffectiveFrom

StrictMinor = Annotated[AmountMinor, Strict()]


class _Bounded(Frozen):
    floor_minor: StrictMinor | None = None
    """At least this per booking, as far as ceiling and net amount allow."""
    cap_minor: StrictMinor | None = None
    """At most this per booking."""

    @model_validator(mode="after")
    def _floor_below_cap(self) -> Self:
        if self.floor_minor is not None and self.cap_minor is not None and self.floor_minor > self.cap_minor:
            raise ValueError("floor_minor is above cap_minor")
        return self


class PercentageRule(_Bounded):
    kind: Literal["percentage"]
    rate_bps: StrictBps


class FixedRule(Frozen):
    kind: Literal["fixed"]
    amount_minor: StrictMinor


class VolumeTier(Frozen):
    from_minor: StrictMinor
    """Net volume of the month from which this rate applies."""
    rate_bps: StrictBps


class TiersRule(_Bounded):
    """Marginal rates by the reseller's net volume of the month: a booking that crosses a border is split there."""

    kind: Literal["tiers"]
    tiers: Annotated[tuple[VolumeTier, ...], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.tiers[0].from_minor != 0:
            raise ValueError("the first tier starts at from_minor 0")
        if any(a.from_minor >= b.from_minor for a, b in pairwise(self.tiers)):
            raise ValueError("tiers must be in ascending order of from_minor, each once")
        return self


class MarginRule(_Bounded):
    """The difference between the price the customer pays and the platform's wholesale price; nothing if it is lower."""

    kind: Literal["margin"]


Rule = Annotated[PercentageRule | FixedRule | TiersRule | MarginRule, Field(discriminator="kind")]


class Agreement(Frozen):
    """One version of a reseller's commission agreement, in force from `effective_from` until the next version's."""

    reseller_id: Id
    version: Annotated[int, Field(ge=1, strict=True)]
    effective_from: EffectiveFrom
    currency: Currency
    own: Rule
    """What he earns on his own customers' bookings."""
    override: Rule | None = None
    """What he earns on each booking that a reseller below him brought; None: nothing."""
    ceiling_bps: StrictBps
    """Upper limit of all levels together, of the net amount. Along a path the lowest one counts."""

    @model_validator(mode="after")
    def _margin_is_for_own(self) -> Self:
        if isinstance(self.override, MarginRule):
            raise ValueError("an override cannot be a margin: the margin belongs to the reseller who sets the price")
        return self


def agreement_for(agreements: Iterable[Agreement], reseller_id: str, at: datetime, currency: str) -> Agreement:
    """The reseller's agreement in force at `at`. Raises NoQuote `no_agreement`, or `currency_mismatch`."""
    valid = [a for a in agreements if a.reseller_id == reseller_id and a.effective_from <= at]
    if not valid:
        raise NoQuote(ParkReason.NO_AGREEMENT, f"reseller {reseller_id} has no agreement in force at {at.isoformat()}")
    newest = max(valid, key=lambda a: (a.effective_from, a.version))
    if newest.currency != currency:
        detail = f"agreement v{newest.version} of reseller {reseller_id} is in {newest.currency}, not {currency}"
        raise NoQuote(ParkReason.CURRENCY_MISMATCH, detail)
    return newest


def needs_wholesale(path: Sequence[tuple[Reseller, Agreement]]) -> bool:
    """Whether `commissions` needs the platform's wholesale price for this path."""
    return bool(path) and isinstance(path[0][1].own, MarginRule)


def commissions(
    *,
    net_minor: int,
    wholesale_net_minor: int | None,
    path: Sequence[tuple[Reseller, Agreement]],
    month_volume_before_minor: Mapping[str, int],
) -> tuple[Level, ...]:
    """What each reseller of the path earns: own reseller first, root last; also those that earn nothing.

    `month_volume_before_minor` is each reseller's net volume of the booking's month before this booking (missing: 0).
    Raises NoQuote `no_price` where a margin is agreed and the platform's wholesale price is missing.
    """
    if not path:
        return ()
    ceiling_bps = _ceiling(agreement for _, agreement in path)
    left_minor = net_minor * ceiling_bps // BPS_WHOLE
    levels = []
    for number, (reseller, agreement) in enumerate(path):
        rule = agreement.own if number == 0 else agreement.override
        volume_minor = month_volume_before_minor.get(reseller.id, 0)
        wanted_minor = _earned(rule, net_minor, wholesale_net_minor, volume_minor)
        amount_minor = min(wanted_minor, left_minor)
        frozen: JsonDict = rule.model_dump(mode="json") if rule is not None else {"kind": "none"}
        frozen["role"] = "own" if number == 0 else "override"
        frozen["inputs"] = {
            "net_minor": net_minor,
            "wholesale_net_minor": wholesale_net_minor,
            "month_volume_before_minor": volume_minor,
            "ceiling_bps": ceiling_bps,
            "left_minor": left_minor,
        }
        left_minor -= amount_minor
        levels.append(
            Level(
                reseller_id=reseller.id,
                level=number,
                amount_minor=amount_minor,
                rule=frozen,
                agreement_version=agreement.version,
                payout_mode=reseller.payout_mode,
            )
        )
    return tuple(levels)


def recompute(level: Level) -> int:
    """The amount once more, from the frozen rule alone and by other arithmetic than `commissions` (invariant I5)."""
    rule, inputs = level.rule, level.rule["inputs"]
    net, left = Fraction(inputs["net_minor"]), Fraction(inputs["left_minor"])
    exact = Fraction(0)
    match rule["kind"]:
        case "percentage":
            exact = net * rule["rate_bps"] / 10_000
        case "fixed":
            exact = Fraction(rule["amount_minor"])
        case "margin":
            exact = max(Fraction(0), net - inputs["wholesale_net_minor"])
        case "tiers":
            exact = _integral(rule["tiers"], inputs["month_volume_before_minor"] + net)
            exact -= _integral(rule["tiers"], Fraction(inputs["month_volume_before_minor"]))
        case "none":
            pass
        case unknown:
            raise ValueError(f"unknown rule kind {unknown!r}")
    amount = Fraction(_half_up(exact))
    if rule.get("floor_minor") is not None:
        amount = max(amount, Fraction(rule["floor_minor"]))
    if rule.get("cap_minor") is not None:
        amount = min(amount, Fraction(rule["cap_minor"]))
    amount = min(amount, left)
    if (retained := rule.get("retained")) is not None:
        given_back = amount * retained["waived_gross_minor"] / retained["whole_gross_minor"]
        amount -= _half_up(given_back)
    return int(amount)


def check_levels(levels: Sequence[Level]) -> list[str]:
    """What is wrong with the frozen levels of one booking, in words; empty: each is right and all fit the ceiling."""
    found = []
    left_minor: int | None = None
    for level in levels:
        inputs = level.rule["inputs"]
        if left_minor is None:
            left_minor = inputs["net_minor"] * inputs["ceiling_bps"] // BPS_WHOLE
        if inputs["left_minor"] != left_minor:
            found.append(f"level {level.level}: {inputs['left_minor']} was left, it should have been {left_minor}")
        if (expected := recompute(level)) != level.amount_minor:
            found.append(f"level {level.level}: {level.amount_minor} is booked, the frozen rule gives {expected}")
        unreduced = {name: value for name, value in level.rule.items() if name != "retained"}
        left_minor -= recompute(level.model_copy(update={"rule": unreduced}))
    return found


def reversed_total(accrued_minor: int, refunded_gross_minor: int, charged_gross_minor: int) -> int:
    """How much of a commission is undone in total after `refunded_gross_minor` (cumulative) of the charge went back.

    What remains is the difference to the accrued amount. Monotone, and all of it once everything is refunded; so the
    differences of any number of partial refunds add up exactly.
    """
    if not 0 <= refunded_gross_minor <= charged_gross_minor or charged_gross_minor == 0:
        raise ValueError(f"cannot refund {refunded_gross_minor} of {charged_gross_minor}")
    return share(accrued_minor, refunded_gross_minor, charged_gross_minor)


def retained_quote(quote: Quote, kept_bps: int) -> Quote:
    """The quote of a booking that was cancelled late before it was charged: the kept share of every amount.

    Gives the same cents as charging the whole quote and refunding the rest would. The frozen rules say what was waived.
    """
    kept_gross_minor = percentage(quote.gross_minor, kept_bps)
    if quote.gross_minor == 0 or kept_gross_minor == quote.gross_minor:
        return quote
    waived_minor = quote.gross_minor - kept_gross_minor
    net_minor = quote.net_minor - share(quote.net_minor, waived_minor, quote.gross_minor)
    retained = {"waived_gross_minor": waived_minor, "whole_gross_minor": quote.gross_minor}
    levels = tuple(
        level.model_copy(
            update={
                "amount_minor": level.amount_minor
                - reversed_total(level.amount_minor, waived_minor, quote.gross_minor),
                "rule": {**level.rule, "retained": retained},
            }
        )
        for level in quote.levels
    )
    fields = quote.model_dump(exclude={"levels"})
    fields.update(net_minor=net_minor, vat_minor=kept_gross_minor - net_minor, gross_minor=kept_gross_minor)
    fields["price"] = {**quote.price, "retained": retained}
    return Quote(**fields, levels=levels)


def check_ceiling(paths: Iterable[Sequence[Agreement]]) -> list[str]:
    """Every path of agreements (own reseller first) whose rates together can exceed its lowest ceiling, in words.

    Counts what holds at any price: percentages, and the highest rate of tiers. Fixed amounts, floors and margins depend
    on the price: see `check_price`.
    """
    found = []
    for path in paths:
        ceiling_bps = _ceiling(path)
        rates = [_highest_rate(a.own if n == 0 else a.override) for n, a in enumerate(path)]
        if sum(rates) > ceiling_bps:
            parts = " + ".join(f"{a.reseller_id} v{a.version} {rate}" for a, rate in zip(path, rates, strict=True))
            found.append(f"{parts} = {sum(rates)} bps, above the ceiling of {ceiling_bps} bps")
    return found


def check_price(path: Sequence[Agreement], *, net_minor: int, wholesale_net_minor: int | None) -> str | None:
    """Why a booking of a known net price would exceed the path's ceiling in the worst case; None: it cannot.

    A rounding of half a minor unit per level is not an excess (the levels further up give way).
    """
    ceiling_bps = _ceiling(path)
    wanted = [_worst(a.own if n == 0 else a.override, net_minor, wholesale_net_minor) for n, a in enumerate(path)]
    if sum(wanted) * BPS_WHOLE <= net_minor * ceiling_bps + len(path) * BPS_WHOLE // 2:
        return None
    parts = " + ".join(f"{a.reseller_id} v{a.version} {amount}" for a, amount in zip(path, wanted, strict=True))
    limit_minor = net_minor * ceiling_bps // BPS_WHOLE
    return f"{parts} = {sum(wanted)} of {net_minor} net, above the ceiling of {ceiling_bps} bps ({limit_minor})"


def _ceiling(path: Iterable[Agreement]) -> int:
    return min(agreement.ceiling_bps for agreement in path)


def _earned(rule: Any, net_minor: int, wholesale_net_minor: int | None, volume_before_minor: int) -> int:
    if rule is None:
        return 0
    if isinstance(rule, FixedRule):
        return rule.amount_minor
    if isinstance(rule, PercentageRule):
        amount_minor = percentage(net_minor, rule.rate_bps)
    elif isinstance(rule, MarginRule):
        if wholesale_net_minor is None:
            raise NoQuote(ParkReason.NO_PRICE, "a margin is agreed, and the platform has no wholesale price")
        amount_minor = max(0, net_minor - wholesale_net_minor)
    else:
        amount_minor = _marginal(rule, net_minor, volume_before_minor)
    amount_minor = max(amount_minor, rule.floor_minor or 0)
    return amount_minor if rule.cap_minor is None else min(amount_minor, rule.cap_minor)


def _marginal(rule: TiersRule, net_minor: int, before_minor: int) -> int:
    """Rounded once over all tiers that the booking touches."""
    after_minor = before_minor + net_minor
    weighted = 0
    for index, tier in enumerate(rule.tiers):
        end_minor = rule.tiers[index + 1].from_minor if index + 1 < len(rule.tiers) else after_minor
        inside_minor = min(after_minor, end_minor) - max(before_minor, tier.from_minor)
        weighted += max(0, inside_minor) * tier.rate_bps
    return share(weighted, 1, BPS_WHOLE)


def _highest_rate(rule: Any) -> int:
    if isinstance(rule, PercentageRule):
        return rule.rate_bps
    return max(tier.rate_bps for tier in rule.tiers) if isinstance(rule, TiersRule) else 0


def _worst(rule: Any, net_minor: int, wholesale_net_minor: int | None) -> int:
    if isinstance(rule, MarginRule) and wholesale_net_minor is None:
        return 0
    if not isinstance(rule, TiersRule):
        return _earned(rule, net_minor, wholesale_net_minor, 0)
    bounds = {"floor_minor": rule.floor_minor, "cap_minor": rule.cap_minor}
    at_highest = PercentageRule(kind="percentage", rate_bps=_highest_rate(rule), **bounds)
    return _earned(at_highest, net_minor, None, 0)


def _integral(tiers: Sequence[Mapping[str, int]], volume: Fraction) -> Fraction:
    """Commission of a whole month of this volume, as the area below the rate's steps."""
    total = Fraction(0)
    previous_bps = 0
    for tier in tiers:
        total += max(Fraction(0), volume - tier["from_minor"]) * (tier["rate_bps"] - previous_bps) / 10_000
        previous_bps = tier["rate_bps"]
    return total


def _half_up(exact: Fraction) -> int:
    return (exact + Fraction(1, 2)).__floor__()
