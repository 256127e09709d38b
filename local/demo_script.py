"""What happens in the demo, scene by scene. Each scene plants bookings and then acts as people and banks do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from domain import ids
from domain.chain import ChainStage
from domain.model import ParkReason
from local.demo_plan import ROLLED_BACK, Plan, Planned, people, priced_catalogue
from local.demo_world import DemoFailed, World
from local.setup import CATALOGUE, apply_catalogue
from store.rows import ChainRow

SETTINGS = {
    "DUNNING_ATTEMPTS": "2",
    "DUNNING_INTERVAL_SECONDS": "4",
    "SWEEP_INTERVAL_SECONDS": "3600",
    "STRIPE_CALLS_PER_SECOND": "100",
}
"""Dunning in seconds instead of days. The sweep is triggered by its scene; the rate is that of a live account."""

NO_FUNDS = "pm_card_visa_chargeDeclinedInsufficientFunds"

BATCH = 20
SAME_WEBHOOK = 20
"""How often one webhook arrives at once; every tenth of the others comes twice."""

Say = Callable[[str], object]


@dataclass
class Told:
    """What the scenes found out, for the report."""

    refused_webhooks: Counter[int] = field(default_factory=Counter)
    """Forged and broken webhooks by the HTTP status that answered them."""
    not_understood_status: int = 0
    duplicates: int = 0
    lost_answers: int = 0
    charges_after_lost_answers: int = 0
    catalogue_changes: tuple[str, ...] = ()


class Script:
    """One run. `say` gets one line for each thing worth seeing."""

    def __init__(self, world: World, plan: Plan, say: Say) -> None:
        self._world = world
        self._plan = plan
        self._say = say
        self.told = Told()

    async def play(self) -> Told:
        """All scenes at once, until every chain is where it must be. Raises DemoFailed with what did not happen."""
        await self._world.calcom.control("catalogue", people())
        scenes: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self._moved,
            self._lost_webhooks,
            self._dunning,
            self._bank_asks,
            self._missing_price,
            self._cancelled_first,
            self._confirmation,
            self._cancellations,
            self._roll_backs,
            self._strangers,
            self._ordinary,
        ]
        # First, and alone: these appointments end while the demo runs, however slow the machine is.
        await self._appointments_under_way()
        try:
            async with asyncio.TaskGroup() as group:
                for scene in scenes:
                    group.create_task(scene())
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        for kind in self._plan.kinds:
            await self._arrived(kind.name)
        await self._world.calcom.settled()
        await self._count_lost_answers()
        return self.told

    # --- scenes -----------------------------------------------------------------------------------------------------

    async def _appointments_under_way(self) -> None:
        """Charged at booking; one attendee cancels and another stays away while the clock runs."""
        await self._plant("late_fee", "no_show")
        late, absent = self._of("late_fee"), self._of("no_show")
        await self._until_stage([*late, *absent], ChainStage.HOLD)
        self._say("First charges made; now attendees cancel late or stay away")
        await self._each(self._world.calcom.cancel, [planned.uid for planned in late])
        for planned in absent:
            await self._world.calcom.report_absent(planned.uid, planned.attendee_email)

    async def _moved(self) -> None:
        await self._plant("moved_before", "moved_after")
        before, after = self._of("moved_before"), self._of("moved_after")
        await self._until_stage(before, ChainStage.AWAITING_CHARGE)
        await self._until_stage(after, ChainStage.HOLD)
        for number, planned in enumerate(before):
            start = self._plan.now + timedelta(days=40, hours=2 * number)
            new_uid = await self._world.calcom.move(planned.uid, _iso(start))
            await self._until_deadline(planned, start + timedelta(minutes=30), f"moved to {new_uid}")
        for number, planned in enumerate(after):
            await self._world.calcom.move(planned.uid, _iso(datetime.now(UTC) + timedelta(seconds=3 + 8 * number)))
        self._say(f"{len(before) + len(after)} bookings moved to another day; each chain goes on under its first uid")

    async def _lost_webhooks(self) -> None:
        """Cal.com does not send them again: the sweep finds the bookings."""
        changed = _iso(datetime.now(UTC))
        await self._plant("lost_webhook", webhook=False, updated_at=changed)
        await self._world.client.get_schedule_handle(ids.SCHEDULE_SWEEP).trigger()

    async def _dunning(self) -> None:
        """One card without funds: filled between two attempts, again and again; then usable for a while; then empty."""
        world = self._world
        method = ""
        for planned in self._of("dunned"):
            await world.calcom.plant([planned.spec])
            await world.watch.until(
                [planned.uid], lambda row: row.waits_for == "the next charge attempt", "the first attempt was refused"
            )
            method = await self._payment_method("dunned")
            await world.stripe.card_behaves_as(method, "pm_card_visa")
            await world.watch.until([planned.uid], lambda row: row.stage is ChainStage.CLOSED, "paid when tried again")
            await world.stripe.card_behaves_as(method, NO_FUNDS)
        self._say("The salary arrived: the second attempt of a refused charge goes through")
        await world.stripe.card_behaves_as(method, "pm_card_visa")
        await self._plant("no_refund")
        kept = self._of("no_refund")
        await self._until_stage(kept, ChainStage.HOLD)
        await self._each(world.calcom.cancel, [planned.uid for planned in kept])
        await world.stripe.card_behaves_as(method, NO_FUNDS)
        await self._plant("no_funds")

    async def _bank_asks(self) -> None:
        """Strong customer authentication: the chain parks; the customer confirms the same payment himself."""
        await self._plant("confirmed_payment", "unconfirmed_payment")
        confirmed = self._of("confirmed_payment")
        await self._until_parked(confirmed, ParkReason.AUTHENTICATION_REQUIRED)
        method = await self._payment_method("confirmed_payment")
        for planned in confirmed:
            async with self._world.store.begin() as tx:
                charges = await tx.money.chain_charges(planned.uid)
            payment_intent_id = charges[-1].payment_intent_id if charges else None
            if payment_intent_id is None:
                raise DemoFailed(f"chain {planned.uid} is parked for the customer without a payment at Stripe")
            await self._world.stripe.confirm_payment(payment_intent_id, method)
        self._say("Customers confirmed the payments that their bank had asked about")

    async def _missing_price(self) -> None:
        """Parked until a new version of the catalogue has the price; an operator lets them go on."""
        await self._plant("no_price")
        unpriced = self._of("no_price")
        await self._until_parked(unpriced, ParkReason.NO_PRICE)
        text = priced_catalogue(await asyncio.to_thread(CATALOGUE.read_text, encoding="utf-8"))
        changes = await apply_catalogue(self._world.store, text, by="demo-operator")
        self.told.catalogue_changes = tuple(changes)
        self._say(f"Parked without a price: {len(unpriced)}. New catalogue: {'; '.join(changes)}")
        order = self._world.order("the price was missing and is there now")
        await self._each(lambda uid: self._world.operator.retry(uid, order), [planned.uid for planned in unpriced])

    async def _cancelled_first(self) -> None:
        """BOOKING_CANCELLED overtakes BOOKING_CREATED: nothing is charged."""
        await self._plant("cancelled_first", webhook=False)
        uids = self._plan.uids("cancelled_first")
        await self._each(self._world.calcom.cancel, uids)
        await self._arrived("cancelled_first")
        await self._world.calcom.control("announce", {"uids": uids, "trigger": "BOOKING_CREATED"})

    async def _confirmation(self) -> None:
        await self._plant("confirmed", "rejected", "unconfirmed")
        confirmed, rejected = self._plan.uids("confirmed"), self._plan.uids("rejected")
        await self._until_stage([*self._of("confirmed"), *self._of("rejected")], ChainStage.AWAITING_CONFIRMATION)
        await self._each(self._world.calcom.confirm, confirmed)
        await self._each(self._world.calcom.decline, rejected)

    async def _cancellations(self) -> None:
        await self._plant("cancelled", "cancelled_late", "refunded")
        await self._until_stage([*self._of("cancelled"), *self._of("cancelled_late")], ChainStage.AWAITING_CHARGE)
        await self._each(self._world.calcom.cancel, self._plan.uids("cancelled", "cancelled_late"))
        await self._until_stage(self._of("refunded"), ChainStage.HOLD)
        await self._each(self._world.calcom.cancel, self._plan.uids("refunded"))
        self._say("Cancellations before and after the charge: waived, kept in part or refunded by the booking's terms")

    async def _roll_backs(self) -> None:
        await self._plant("rolled_back", "rolled_back_paid")
        await self._until_stage(self._of("rolled_back"), ChainStage.HOLD)
        await self._until_stage(self._of("rolled_back_paid"), ChainStage.CLOSED)
        order = self._world.order("demo: the customer was billed by mistake")
        uids = self._plan.uids("rolled_back", "rolled_back_paid")
        await self._each(lambda uid: self._world.operator.roll_back(uid, order), uids)
        self._say(f"An operator rolls back {len(uids)} charged chains, one of them paid out already")

    async def _strangers(self) -> None:
        """Webhooks that nobody genuine sent are refused; a genuine one that nobody understands is kept."""
        world = self._world
        url = f"{world.environment.webhook_url}/webhooks/calcom"
        body = '{"triggerEvent":"BOOKING_CREATED","createdAt":"2026-01-01T00:00:00.000Z","payload":{"uid":"forged"}}'
        secret = world.settings.calcom_webhook_secret.get_secret_value()
        for forged in ("0" * 64, "no-secret-provided", ""):
            self.told.refused_webhooks[await world.calcom.send_raw(url, body, signature=forged)] += 1
        self.told.refused_webhooks[await world.calcom.send_raw(url, body, secret="another secret")] += 1
        too_large = "x" * (world.settings.webhook_max_bytes + 1)
        self.told.refused_webhooks[await world.calcom.send_raw(url, too_large, secret=secret)] += 1
        self.told.not_understood_status = await world.calcom.send_raw(url, '{"a template": "of theirs"}', secret=secret)

    async def _ordinary(self) -> None:
        """The bulk of the month."""
        for uid in self._plan.uids("lost_answer"):
            await self._world.stripe.lose_answer(uid)
        # The included quota goes to whoever is quoted first.
        await self._plant("included")
        kinds = ("lost_answer", "sepa", "small", "declined", "unmapped", "per_booking", "direct", "monthly", "upcoming")
        await self._duplicate(self._of("per_booking")[:1], SAME_WEBHOOK)
        await self._duplicate(self._of("monthly")[::10], 2)
        await self._plant(*kinds)
        await self._arrived("included")
        await self._plant("tiered")
        self._say(f"All {len(self._plan.all)} bookings are made; {self.told.duplicates} webhooks came more than once")

    # --- steps ------------------------------------------------------------------------------------------------------

    async def _plant(self, *kinds: str, **more: Any) -> None:
        specs = [{**planned.spec, **more} for kind in kinds for planned in self._of(kind)]
        for begin in range(0, len(specs), BATCH):
            await self._world.calcom.plant(specs[begin : begin + BATCH])

    async def _duplicate(self, bookings: Sequence[Planned], copies: int) -> None:
        for planned in bookings:
            fault = {"kind": "duplicate", "trigger": "BOOKING_CREATED", "uid": planned.uid, "copies": copies}
            await self._world.calcom.control("webhook-faults", fault)
            self.told.duplicates += 1

    async def _each(self, act: Callable[[str], Awaitable[object]], uids: Sequence[str]) -> None:
        for uid in uids:
            await act(uid)

    async def _arrived(self, kind_name: str) -> None:
        """Waits until all bookings of a kind are where they must be in the end."""
        group = self._of(kind_name)
        kind = group[0].kind
        await self._world.watch.until(
            [planned.uid for planned in group],
            lambda row: _arrived_or_lost(row, group[0]),
            f"{kind.story}: must end as {kind.ends}",
        )

    async def _until_stage(self, group: Sequence[Planned], stage: ChainStage) -> None:
        await self._world.watch.until([planned.uid for planned in group], lambda row: row.stage is stage, f"is {stage}")

    async def _until_deadline(self, planned: Planned, moment: datetime, what: str) -> None:
        await self._world.watch.until([planned.uid], lambda row: _is_near(row.deadline_at, moment), what)

    async def _until_parked(self, group: Sequence[Planned], reason: ParkReason) -> None:
        await self._world.watch.until(
            [planned.uid for planned in group], lambda row: row.reason is reason, f"is parked: {reason}"
        )

    async def _payment_method(self, kind_name: str) -> str:
        """Stripe's id of the payment method that this kind's customer pays by."""
        row = self._world.watch.rows[self._plan.uids(kind_name)[0]]
        async with self._world.store.begin() as tx:
            customer = await tx.catalog.customer(row.customer_id or "")
        if customer.payment_method_id is None:
            raise DemoFailed(f"customer {customer.id} has no payment method")
        return customer.payment_method_id

    async def _count_lost_answers(self) -> None:
        """How many charges Stripe really made where its answer was lost: one each."""
        self.told.lost_answers = await self._world.stripe.faults_struck()
        for uid in self._plan.uids("lost_answer"):
            self.told.charges_after_lost_answers += await self._world.stripe.payments_of(uid)

    def _of(self, kind_name: str) -> list[Planned]:
        return self._plan.of_kind[kind_name]


def arrived(row: ChainRow, planned: Planned) -> bool:
    """Whether a chain is where its plan wants it. One that is closed only counts with the right outcome."""
    ends = planned.kind.ends
    return (row.stage, row.outcome) == (ends.stage, ends.outcome) and ends.reason in (None, row.reason)


def _arrived_or_lost(row: ChainRow, planned: Planned) -> bool:
    """The same; raises DemoFailed for a chain that has ended elsewhere, where only a roll-back could change that."""
    good = arrived(row, planned)
    if row.outcome is not None and not good and planned.kind.ends != ROLLED_BACK:
        raise DemoFailed(f"{row.chain_uid} ended as {row.outcome} ({row.detail or ''}) instead of {planned.kind.ends}")
    return good


def all_arrived(rows: dict[str, ChainRow], plan: Plan) -> Iterator[bool]:
    """For each planned booking whether its chain has arrived."""
    for planned in plan.all:
        row = rows.get(planned.uid)
        yield row is not None and arrived(row, planned)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _is_near(moment: datetime | None, wanted: datetime) -> bool:
    return moment is not None and abs(moment - wanted) < timedelta(seconds=2)
