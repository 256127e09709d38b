"""What the demo plants: every kind of booking, when it takes place and how its chain must end. Data, no I/O."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.chain import ChainOutcome, ChainStage
from domain.model import ParkReason
from domain.pricing import BERLIN, period_bounds, period_of, previous_period

FULL_FROM = 150
"""From this many bookings on, each kind of trouble comes several times."""

UNPRICED_EVENT_TYPE = 9
"""Has a customer, but no price in the catalogue: its bookings park until somebody sets one."""
UNMAPPED_EVENT_TYPE = 99
"""No customer in the catalogue."""

RUNNING_SECONDS = 20
"""How long appointments that are under way go on: time to charge, and to cancel, before they end."""


@dataclass(frozen=True)
class Destination:
    """Where a chain must be at the end of the demo."""

    stage: ChainStage
    outcome: ChainOutcome | None = None
    reason: ParkReason | None = None

    def __str__(self) -> str:
        if self.outcome is not None:
            return self.outcome.value
        return f"{self.stage.value}: {self.reason.value}" if self.reason is not None else self.stage.value


def closed(outcome: ChainOutcome) -> Destination:
    return Destination(ChainStage.CLOSED, outcome)


def parked(reason: ParkReason) -> Destination:
    return Destination(ChainStage.PARKED, reason=reason)


@dataclass(frozen=True)
class Kind:
    """One sort of booking. `event_types` take turns; `few` and `many` say how many a small and a full demo has."""

    name: str
    story: str
    when: Callable[[Slots], tuple[datetime, datetime | None]]
    event_types: tuple[int, ...]
    ends: Destination
    few: int = 1
    many: int = 2
    status: str | None = None
    organizer_id: int | None = None


@dataclass(frozen=True)
class Planned:
    """One booking: its kind, and its description as the Cal.com stand-in takes it. `uid` is also the chain's."""

    uid: str
    kind: Kind
    spec: dict[str, Any]

    @property
    def attendee_email(self) -> str:
        return str(self.spec["attendee"]["email"])


class Slots:
    """Hands out times: of the last month, so that charges and holds are over, and ahead of now."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.period = previous_period(period_of(now))
        first, after = period_bounds(self.period)
        self._first = first.astimezone(BERLIN) + timedelta(days=1)
        # The longest hold of the catalogue is two days: it must be over within the month, to be settled with it.
        self._days = (after - first).days - 6
        self._past = self._ahead = 0

    def last_month(self) -> tuple[datetime, datetime | None]:
        """Office hours in Berlin of the last month; the length is the event type's."""
        slot, self._past = self._past, self._past + 1
        day, place = slot % self._days, slot // self._days
        start = self._first + timedelta(days=day)
        return start.replace(hour=8 + place % 9, minute=15 * (place // 9 % 4)).astimezone(UTC), None

    def ahead(self, hours: int = 72) -> tuple[datetime, datetime | None]:
        """In some days, cancelled for free."""
        slot, self._ahead = self._ahead, self._ahead + 1
        return self.now + timedelta(hours=hours + 2 * slot), None

    def soon(self) -> tuple[datetime, datetime | None]:
        """In three hours: too late to cancel for free."""
        return self.now + timedelta(hours=3), None

    def running(self) -> tuple[datetime, datetime | None]:
        """Under way, and about to end."""
        return self.now - timedelta(minutes=10), self.now + timedelta(seconds=RUNNING_SECONDS)

    def brief(self) -> tuple[datetime, datetime | None]:
        """In some days, and only seconds long: moved to now, it ends within the demo."""
        start, _ = self.ahead()
        return start, start + timedelta(seconds=5)


PAID = closed(ChainOutcome.PAID)
MATURED = closed(ChainOutcome.MATURED)
CANCELLED = closed(ChainOutcome.CANCELLED)
CANCELLED_WITH_FEE = closed(ChainOutcome.CANCELLED_WITH_FEE)
REFUNDED = closed(ChainOutcome.REFUNDED)
DECLINED = closed(ChainOutcome.DECLINED)
ROLLED_BACK = closed(ChainOutcome.ROLLED_BACK)
HOLD = Destination(ChainStage.HOLD)
AWAITING_CHARGE = Destination(ChainStage.AWAITING_CHARGE)
AWAITING_CONFIRMATION = Destination(ChainStage.AWAITING_CONFIRMATION)

_PAST, _AHEAD = Slots.last_month, Slots.ahead

_MONTHLY = Kind(
    "monthly",
    "paid; commission settled with the month",
    _PAST,
    (1, 2, 5, 8, 13, 7, 1, 5),
    MATURED,
)

KINDS: tuple[Kind, ...] = (
    Kind("included", "within the month's included quota: free", _PAST, (3,), PAID, 3, 3),
    Kind("tiered", "above the included quota: volume tiers", _PAST, (3,), MATURED, 1, 9),
    Kind("per_booking", "paid; commission transferred at once", _PAST, (6,), PAID, 2, 20),
    Kind("direct", "paid; no reseller, no commission", _PAST, (14,), PAID, 1, 8),
    Kind("small", "paid; its reseller stays below his minimum payout", _PAST, (15,), MATURED),
    Kind("sepa", "SEPA debit that is paid late", _PAST, (4,), MATURED, 1, 10),
    Kind("lost_answer", "Stripe's answer to the charge was lost", _PAST, (8,), MATURED, 1, 3),
    Kind("lost_webhook", "webhook lost, found by the sweep", _PAST, (1,), MATURED),
    Kind("declined", "card declined", _PAST, (10,), DECLINED, 1, 6),
    Kind("dunned", "no funds at first, paid at the second attempt", _PAST, (11,), PAID),
    Kind("no_funds", "no funds at any attempt", _PAST, (11,), DECLINED, 1, 3),
    Kind("confirmed_payment", "bank asked the customer, he confirmed", _PAST, (12,), PAID),
    Kind(
        "unconfirmed_payment",
        "bank asks the customer, he has not answered",
        _PAST,
        (12,),
        parked(ParkReason.AUTHENTICATION_REQUIRED),
        many=1,
    ),
    Kind(
        "no_price",
        "parked without a price, released by a new catalogue",
        _PAST,
        (UNPRICED_EVENT_TYPE,),
        MATURED,
        many=4,
    ),
    Kind(
        "unmapped",
        "nobody knows who pays",
        _PAST,
        (UNMAPPED_EVENT_TYPE,),
        parked(ParkReason.UNMAPPED_CUSTOMER),
        many=1,
    ),
    Kind("cancelled_first", "cancellation arrived before the booking", _AHEAD, (1,), CANCELLED),
    Kind("confirmed", "confirmed by the organizer", _PAST, (1,), MATURED, status="pending"),
    Kind("rejected", "rejected by the organizer", _PAST, (1,), CANCELLED, status="pending"),
    Kind(
        "unconfirmed",
        "waits for the organizer",
        _AHEAD,
        (1,),
        AWAITING_CONFIRMATION,
        many=1,
        status="pending",
    ),
    Kind("cancelled", "cancelled in time, before the charge", _AHEAD, (2,), CANCELLED, 1, 5),
    Kind("cancelled_late", "cancelled late, before the charge: fee", Slots.soon, (2,), HOLD),
    Kind("refunded", "cancelled in time, after the charge", _AHEAD, (1,), REFUNDED, 1, 4),
    Kind(
        "late_fee",
        "cancelled late, after the charge: part is kept",
        Slots.running,
        (6,),
        CANCELLED_WITH_FEE,
        many=3,
    ),
    Kind("no_refund", "cancelled late: all of it is kept", Slots.soon, (11,), HOLD, many=1),
    Kind("no_show", "attendee did not come: all of it is kept", Slots.running, (6,), PAID),
    Kind("moved_before", "moved before the charge", _AHEAD, (5,), AWAITING_CHARGE, organizer_id=601),
    Kind("moved_after", "moved after the charge: charged once", Slots.brief, (6,), PAID, organizer_id=602),
    Kind("rolled_back", "rolled back while on hold", _AHEAD, (1,), ROLLED_BACK),
    Kind("rolled_back_paid", "rolled back after it was paid out", _PAST, (6,), ROLLED_BACK, many=1),
    Kind("upcoming", "charged at its end, in some days", _AHEAD, (2, 5), AWAITING_CHARGE, 1, 6),
)
"""All but `monthly`, which fills up."""

_FIRST = ("Mara", "Jonas", "Edda", "Til", "Ronja", "Arne", "Feli", "Kolja", "Svea", "Hanno", "Ilka", "Veit")
_LAST = ("Musterfrau", "Beispiel", "Probst", "Vorlage", "Testmann", "Exempel", "Mustermann", "Muster")


class Plan:
    """The bookings of one demo, in an order in which they can be planted kind by kind."""

    def __init__(self, bookings: int, now: datetime) -> None:
        slots = Slots(now)
        self.period = slots.period
        self.now = now
        is_full = bookings >= FULL_FROM
        counts = {kind: kind.many if is_full else kind.few for kind in KINDS}
        counts[_MONTHLY] = max(bookings - sum(counts.values()), 1)
        names = random.Random(20)
        self.of_kind: dict[str, list[Planned]] = {}
        for kind, count in counts.items():
            self.of_kind[kind.name] = [_planned(kind, number, slots, names) for number in range(1, count + 1)]
        self.all = [planned for group in self.of_kind.values() for planned in group]

    @property
    def kinds(self) -> list[Kind]:
        """In the order of the table: what goes well first."""
        return [_MONTHLY, *KINDS]

    def uids(self, *kinds: str) -> list[str]:
        return [planned.uid for kind in kinds for planned in self.of_kind[kind]]


def _planned(kind: Kind, number: int, slots: Slots, names: random.Random) -> Planned:
    start, end = kind.when(slots)
    first, last = names.choice(_FIRST), names.choice(_LAST)
    uid = f"{kind.name.replace('_', '-')}-{number:03d}"
    made = min(start, slots.now) - timedelta(days=names.randint(1, 6), minutes=names.randint(0, 600))
    spec: dict[str, Any] = {
        "uid": uid,
        "event_type_id": kind.event_types[(number - 1) % len(kind.event_types)],
        "start": start.isoformat(timespec="milliseconds"),
        "created_at": made.isoformat(timespec="milliseconds"),
        "attendee": {"name": f"{first} {last}", "email": f"{first}.{last}.{uid}@example.com".lower(), "locale": "de"},
    }
    if end is not None:
        spec["end"] = end.isoformat(timespec="milliseconds")
    if kind.status is not None:
        spec["status"] = kind.status
    if kind.organizer_id is not None:
        spec["organizer_id"] = kind.organizer_id
    return Planned(uid, kind, spec)


def people() -> dict[str, Any]:
    """What Cal.com has to know before bookings: organizers, teams and event types of the demo's catalogue."""
    lengths = {2: 35, 4: 90, 8: 50}
    organizers = [(5, "pro"), (501, "lindenhof"), (601, "foerde"), (602, "isarblick")]
    return {
        "organizers": [
            {"id": number, "name": f"Organisation {name}", "email": f"{name}@organizer.example.com", "username": name}
            for number, name in organizers
        ],
        "teams": [{"id": 70, "name": "Klinik Traveblick", "slug": "traveblick"}],
        "event_types": [
            {
                "id": number,
                "slug": f"termin-{number}",
                "title": f"Termin {number}",
                "length_minutes": lengths.get(number, 30),
                "organizer_id": 501 if number == 14 else 5,
                "team_id": 70 if number == 13 else None,
            }
            for number in (*range(1, 16), UNMAPPED_EVENT_TYPE)
        ],
    }


def priced_catalogue(catalogue_text: str) -> str:
    """The next version of the demo's catalogue: a price for the event type that had none."""
    book = f"""\
price_books:
  - id: optik-ruhrblick
    owner: {{kind: customer, id: c-optiker-essen}}
    version: 1
    effective_from: 2020-01-01
    currency: EUR
    prices:
      - event_type_id: {UNPRICED_EVENT_TYPE}
        kind: fixed
        net_minor: 3900
        charge_moment: at_booking
        hold_days: 1
        vat_rate_bps: 1900
        terms: {{free_until_hours_before: 24, late_fee_bps: 5000, no_show_fee_bps: 10000}}
"""
    head, mark, rest = catalogue_text.partition("price_books:\n")
    if not mark:
        raise ValueError("the catalogue has no price books")
    return head + book + rest
