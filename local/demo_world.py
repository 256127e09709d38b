"""What the demo acts through: the stand-ins, as customers, banks and organizers use them, and our own side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import httpx
from temporalio.client import Client

from local.environment import Environment
from settings import Settings
from starter.operator import Operator
from starter.temporal import connect
from store import Store
from store.rows import ChainRow
from workflows.models import OperatorOrder

PATIENCE_SECONDS = 150.0
"""Longest wait for one thing to happen; far beyond what a loaded machine needs for a few hundred bookings."""
PATIENCE_SECONDS_PER_BOOKING = 0.2

_API = {"cal-api-version": "2024-08-13"}


class DemoFailed(Exception):
    """Something did not come out as it must. `str()` says what, and where to look."""


class Calcom:
    """The Cal.com stand-in: its API as attendees and organizers use it, and its control routes."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._client = httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False, headers=_API)
        self._organizer = {"Authorization": f"Bearer {api_key}"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def control(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to a control route below `/_sandbox/`."""
        return dict(_answer(await self._client.post(f"/_sandbox/{route}", json=body)))

    async def plant(self, specs: Sequence[dict[str, Any]]) -> None:
        """Books, and sends the webhooks of it."""
        await self.control("bookings", {"bookings": list(specs)})

    async def cancel(self, uid: str) -> None:
        """As the attendee does by the link in his mail."""
        await self._act(uid, "cancel", {"cancellationReason": "no time"})

    async def move(self, uid: str, start: str) -> str:
        """Rescheduled by the attendee; returns the new uid."""
        answer = await self._act(uid, "reschedule", {"start": start, "reschedulingReason": "another day"})
        return str(answer["data"]["uid"])

    async def confirm(self, uid: str) -> None:
        await self._act(uid, "confirm", {}, self._organizer)

    async def decline(self, uid: str) -> None:
        await self._act(uid, "decline", {"reason": "closed that day"}, self._organizer)

    async def report_absent(self, uid: str, email: str) -> None:
        await self._act(uid, "mark-absent", {"attendees": [{"email": email, "absent": True}]}, self._organizer)

    async def send_raw(self, url: str, body: str, *, secret: str | None = None, signature: str | None = None) -> int:
        """Any body to our webhook app, signed with `secret` or with the given header; returns the answer's status."""
        order = {"url": url, "body": body, "secret": secret, "signature": signature}
        sent = await self.control("webhooks/raw", order)
        return int(sent["delivery"]["status_code"] or 0)

    async def settled(self) -> None:
        """Returns when no webhook is on its way any more."""
        await self.control("webhooks/flush", {})

    async def _act(
        self, uid: str, verb: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return dict(_answer(await self._client.post(f"/v2/bookings/{uid}/{verb}", json=body, headers=headers)))


class Stripe:
    """The Stripe stand-in: what customers and banks do, and what can be seen in its dashboard."""

    def __init__(self, base_url: str, secret_key: str) -> None:
        key = {"Authorization": f"Bearer {secret_key}"}
        self._client = httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False, headers=key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def control(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to a control route below `/_sandbox/`."""
        return dict(_answer(await self._client.post(f"/_sandbox/{route}", json=body)))

    async def lose_answer(self, chain_uid: str) -> None:
        """The next charge of this chain happens, and nobody hears of it."""
        await self.control(
            "faults", {"kind": "lose_answer", "path_regex": "^/v1/payment_intents$", "body_regex": f"{chain_uid}(&|$)"}
        )

    async def faults_struck(self) -> int:
        faults = _answer(await self._client.get("/_sandbox/faults"))
        return sum(int(fault["hits"]) for fault in faults)

    async def confirm_payment(self, payment_intent_id: str, payment_method_id: str) -> None:
        """The customer opens the link, and his bank believes him: the same PaymentIntent, on-session."""
        form = {"payment_method": payment_method_id}
        _answer(await self._client.post(f"/v1/payment_intents/{payment_intent_id}/confirm", data=form))
        await self.control(f"payment_intents/{payment_intent_id}/authenticate", {"succeeds": True})

    async def card_behaves_as(self, payment_method_id: str, test_method: str) -> None:
        await self.control(f"payment_methods/{payment_method_id}", {"behaves_as": test_method})

    async def pay_bank(self, account_id: str, amount_minor: int, currency: str) -> str:
        """A connected account pays its bank, and the bank says that it arrived. Returns the payout's id."""
        form = {"amount": str(amount_minor), "currency": currency.lower()}
        account = {"Stripe-Account": account_id}
        payout_id = str(_answer(await self._client.post("/v1/payouts", data=form, headers=account))["id"])
        await self.control(f"payouts/{payout_id}", {"status": "paid"})
        return payout_id

    async def payments_of(self, chain_uid: str) -> int:
        """How many PaymentIntents of a chain took money. Search knows what is at least a second old."""
        query = f'metadata["chain_uid"]:"{chain_uid}" AND status:"succeeded"'
        page = _answer(await self._client.get("/v1/payment_intents/search", params={"query": query}))
        return len(page["data"])


def _answer(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise DemoFailed(
            f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}: {answer.text[:300]}"
        )
    return answer.json()


class Watch:
    """Follows all chains in the database. One reader for all scenes, so that waiting costs nothing."""

    def __init__(self, store: Store, patience_seconds: float, interval_seconds: float = 0.2) -> None:
        self._store = store
        self._patience_seconds = patience_seconds
        self._interval_seconds = interval_seconds
        self._news = asyncio.Condition()
        self._error: Exception | None = None
        self.rows: dict[str, ChainRow] = {}

    async def run(self) -> None:
        """Reads until cancelled; a database that fails is told to whoever waits."""
        while True:
            begun = time.monotonic()
            try:
                async with self._store.begin() as tx:
                    rows = await tx.chains.list(limit=100_000)
                self._error = None
                self.rows = {row.chain_uid: row for row in rows}
            except Exception as error:  # noqa: BLE001 - raised where somebody waits for it
                self._error = error
            async with self._news:
                self._news.notify_all()
            await asyncio.sleep(max(self._interval_seconds, 3 * (time.monotonic() - begun)))

    async def until(self, uids: Iterable[str], test: Callable[[ChainRow], bool], what: str) -> None:
        """Waits until every chain is there and passes. Raises DemoFailed after a while, naming a late one."""
        wanted = list(uids)
        try:
            async with asyncio.timeout(self._patience_seconds), self._news:
                await self._news.wait_for(lambda: not self.missing(wanted, test))
        except TimeoutError:
            late = self.missing(wanted, test)
            row = self.rows.get(late[0])
            stands = f"{row.stage.value}, {row.outcome}, {row.reason} {row.detail or ''}" if row else "not started"
            trouble = f" The database: {self._error}" if self._error else ""
            raise DemoFailed(
                f"{what}: not so after {self._patience_seconds:.0f} s for {len(late)} of {len(wanted)} chains, "
                f"such as {late[0]} ({stands}).{trouble}"
            ) from None

    def missing(self, uids: Iterable[str], test: Callable[[ChainRow], bool]) -> list[str]:
        return [uid for uid in uids if uid not in self.rows or not test(self.rows[uid])]


class World:
    """Everything that a demo touches. Made by `open`; leaving the block closes its connections."""

    def __init__(
        self, environment: Environment, settings: Settings, client: Client, store: Store, bookings: int
    ) -> None:
        self.environment = environment
        self.settings = settings
        self.client = client
        self.store = store
        self.operator = Operator(store=store, client=client, settings=settings)
        self.watch = Watch(store, PATIENCE_SECONDS + bookings * PATIENCE_SECONDS_PER_BOOKING)
        self.calcom = Calcom(settings.calcom_base_url, settings.calcom_api_key.get_secret_value())
        self.stripe = Stripe(settings.stripe_base_url or "", settings.stripe_secret_key.get_secret_value())
        self._stack = AsyncExitStack()

    @classmethod
    async def open(cls, environment: Environment, bookings: int = 0) -> Self:
        """For so many bookings. Raises DemoFailed where one of the companies is the real one: nobody plays there."""
        if not environment.uses_sandbox:
            raise DemoFailed("The demo plays customers and banks: it needs both stand-ins, not Stripe or Cal.com.")
        settings = environment.settings()
        return cls(
            environment, settings, await connect(settings), Store(settings.sqlalchemy_url, pool_size=4), bookings
        )

    async def __aenter__(self) -> Self:
        watching = asyncio.create_task(self.watch.run(), name="watch")

        async def end_watch() -> None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

        self._stack.push_async_callback(self.store.dispose)
        await self._stack.enter_async_context(self.calcom)
        await self._stack.enter_async_context(self.stripe)
        self._stack.push_async_callback(end_watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def order(self, why: str) -> OperatorOrder:
        """An order of the demo's operator."""
        return OperatorOrder(who="demo-operator", why=why)
