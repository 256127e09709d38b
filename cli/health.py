"""`billing health`: one command that says what is broken, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cli import output, session
from domain import ids
from domain.chain import ChainStage
from domain.money import format_amount
from domain.ports import OutsideError, RateLimited
from settings import Settings

if TYPE_CHECKING:
    from temporalio.client import Client

CHECK_SECONDS: Final = 12.0
"""Time for one check: longer than Temporal's own time to connect."""

RELAY_LATE: Final = timedelta(minutes=2)
"""An event that is due for longer than this means that no relay runs; its lease is one minute."""


_LISTED: Final = 20
"""Statements and adjustments that are named one by one."""

RESELLERS_TOLD: Final = 5
"""Resellers that are named; `billing reseller list` names all."""

OK: Final = "ok"
ATTENTION: Final = "attention"
BROKEN: Final = "broken"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `to_do` is the runbook's line, empty where nothing is to be done."""

    name: str
    state: str
    """`ok`; `attention`: the system works, a person has something to decide; `broken`."""
    found: str
    to_do: str = ""


class Broken(Exception):
    """What a check found, and what to do about it; empty: the check's own line."""

    state = BROKEN

    def __init__(self, found: str, to_do: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.to_do = to_do


class Attention(Broken):
    """Nothing is broken; a person has something to decide."""

    state = ATTENTION


def health(*, as_json: bool) -> None:
    """Exit code 1 when something is broken."""
    checks = session.run(look)
    if as_json:
        output.print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if any(check.state == BROKEN for check in checks):
        raise session.exit_with(session.BROKEN)


async def look(given: Settings) -> list[Check]:
    """All checks, at the same time, so that a dead part costs its own time only."""
    parts: Sequence[tuple[str, Callable[[Settings], Awaitable[str]], str]] = (
        ("database", _database, "Start PostgreSQL, or correct DATABASE_URL; then run `billing migrate`."),
        ("ledger", _ledger, "Run `billing audit`: it names the entries. Stop settlements until they are explained."),
        ("inbox", _inbox, "Run `billing chains --stuck`, and see that `billing webhooks` runs: it holds the relay."),
        ("chains", _chains, "Run `billing chains --stuck`, then `billing retry UID` or `billing rollback UID`."),
        ("settlements", _settlements, "Run `billing statement RESELLER`: it says for each what to do."),
        ("adjustments", _adjustments, "Another person decides: `billing approve adjustment ID` or `billing reject …`."),
        ("resellers", _resellers, "Run `billing reseller show RESELLER`: it says what to do."),
        ("temporal", _temporal, "Start Temporal, or correct TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE."),
        ("search attributes", _search_attributes, "Run `billing migrate`: without them no chain can start."),
        ("schedules", _schedules, "Run `billing migrate`; unpause a paused one in the Temporal Web UI."),
        ("workers", _workers, "Start `billing worker`: chains wait, nothing is lost."),
        ("webhook app", _webhooks, "Start `billing webhooks`: Stripe repeats, Cal.com does not, the sweep catches up."),
        ("stripe", _stripe, "Correct STRIPE_SECRET_KEY (or STRIPE_BASE_URL), then `billing retry` parked chains."),
        ("cal.com", _calcom, "Correct CALCOM_API_KEY (or CALCOM_BASE_URL), then `billing retry` parked chains."),
    )
    return list(await asyncio.gather(*(_checked(name, check, given, to_do) for name, check, to_do in parts)))


async def _checked(name: str, check: Callable[[Settings], Awaitable[str]], given: Settings, to_do: str) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Check(name, OK, await check(given))
    except Broken as error:
        return Check(name, error.state, error.found, error.to_do or to_do)
    except TimeoutError:
        return Check(name, BROKEN, f"no answer within {CHECK_SECONDS:.0f} s", to_do)
    except Exception as error:  # noqa: BLE001 - a check that cannot be made is a finding, and the others go on
        told = session.explain(error, given) or f"{type(error).__name__}: {error}"
        return Check(name, BROKEN, told.splitlines()[0][:300], to_do)


async def _database(given: Settings) -> str:
    from store import schema_is_current

    async with session.open_store(given) as store:
        await store.ping()
    if not await schema_is_current(given.sqlalchemy_url):
        raise Broken("the schema is not the one that this program was written for", "Run `billing migrate`.")
    return f"{session.place_of(given)}, schema current"


async def _ledger(given: Settings) -> str:
    async with session.open_store(given) as store, store.begin() as tx:
        rows = await tx.ledger.trial_balance()
    for currency in sorted({row.currency for row in rows}):
        debit = sum(row.debit_minor for row in rows if row.currency == currency)
        credit = sum(row.credit_minor for row in rows if row.currency == currency)
        if debit != credit:
            raise Broken(f"{currency}: debits {debit} and credits {credit} minor units differ")
    return f"{len(rows)} accounts, debits equal credits"


async def _resellers(given: Settings) -> str:
    async with session.open_store(given) as store, store.begin() as tx:
        troubles = await tx.resellers.troubles()
        count = len(await tx.resellers.all())
    if troubles:
        told = "; ".join(f"{one.reseller_id}: {one.what}, {one.detail}" for one in troubles[:RESELLERS_TOLD])
        more = f"; and {len(troubles) - RESELLERS_TOLD} more" if len(troubles) > RESELLERS_TOLD else ""
        raise Attention(f"{len(troubles)} need a person: {told}{more}")
    return f"{count}, nobody needs a person"


async def _inbox(given: Settings) -> str:
    from store.rows import InboxStatus

    async with session.open_store(given) as store, store.begin() as tx:
        counts = await tx.inbox.counts()
        stuck = await tx.inbox.stuck(overdue_seconds=RELAY_LATE.total_seconds())
    told = ", ".join(f"{count} {status.value}" for status, count in counts.items() if count) or "empty"
    overdue = [row for row in stuck if row.status is InboxStatus.RECEIVED]
    if overdue:
        raise Broken(f"overdue for delivery: {len(overdue)} ({told})")
    if stuck:
        raise Attention(f"held or not understood: {len(stuck)} ({told})", "Run `billing chains --stuck`.")
    return told


async def _chains(given: Settings) -> str:
    async with session.open_store(given) as store, store.begin() as tx:
        stuck = await tx.chains.list(stuck_only=True, limit=1_000)
    parked: dict[str, int] = {}
    for row in stuck:
        if row.stage is ChainStage.PARKED and row.reason is not None:
            parked[row.reason.value] = parked.get(row.reason.value, 0) + 1
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(parked.items()))
    overdue = len(stuck) - sum(parked.values())
    if overdue:
        rest = f"; parked: {told}" if told else ""
        raise Broken(f"past their deadline: {overdue}{rest}", "See that workers run; `billing chains --stuck`.")
    if parked:
        raise Attention(f"parked: {told}")
    return "none waits for a person"


async def _settlements(given: Settings) -> str:
    """Statements of all months that wait for a person or for the balance at Stripe."""
    async with session.open_store(given) as store, store.begin() as tx:
        rows = await tx.settlements.attention(limit=_LISTED + 1)
    if not rows:
        return "no statement waits"
    told = [
        f"{row.statement_id} {row.reason.value if row.reason else row.status.value}"
        + (f" since {output.when(row.waiting_since)}" if row.waiting_since else "")
        for row in rows[:_LISTED]
    ]
    more = ", and more" if len(rows) > _LISTED else ""
    raise Attention(f"{', '.join(told)}{more}")


async def _adjustments(given: Settings) -> str:
    """Corrections and write-offs that nobody has decided."""
    async with session.open_store(given) as store, store.begin() as tx:
        rows = await tx.settlements.waiting_adjustments()
    if not rows:
        return "none waits for a second person"
    told = [
        f"{one.id} of {one.reseller_id} ({format_amount(one.amount_minor, one.currency)}, by {one.requested_by})"
        for one in rows[:_LISTED]
    ]
    more = f", and {len(rows) - _LISTED} more" if len(rows) > _LISTED else ""
    raise Attention(f"{', '.join(told)}{more}")


async def _client(given: Settings) -> Client:
    from starter.temporal import connect

    return await connect(given)


async def _temporal(given: Settings) -> str:
    client = await _client(given)
    await client.service_client.check_health()
    await client.count_workflows()
    return f"{given.temporal_address}, namespace {given.temporal_namespace}"


async def _search_attributes(given: Settings) -> str:
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest

    from workflows.visibility import SEARCH_ATTRIBUTES

    client = await _client(given)
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=given.temporal_namespace)
    )
    missing = sorted(SEARCH_ATTRIBUTES.keys() - answer.custom_attributes.keys())
    if missing:
        raise Broken(f"missing: {', '.join(missing)}")
    return f"all {len(SEARCH_ATTRIBUTES)} registered"


async def _schedules(given: Settings) -> str:
    from temporalio.service import RPCError, RPCStatusCode

    client = await _client(given)
    told = []
    for schedule_id in (ids.SCHEDULE_SETTLEMENT, ids.SCHEDULE_SWEEP):
        try:
            described = await client.get_schedule_handle(schedule_id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise Broken(f"schedule {schedule_id} does not exist", "Run `billing migrate`.") from None
        if described.schedule.state.paused:
            note = described.schedule.state.note or "no note"
            raise Broken(f"schedule {schedule_id} is paused ({note})", "Unpause it in the Temporal Web UI when done.")
        upcoming = described.info.next_action_times
        told.append(f"{schedule_id} next {output.when(upcoming[0]) if upcoming else 'never'}")
    return "; ".join(told)


async def _workers(given: Settings) -> str:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    client = await _client(given)
    recent = datetime.now(UTC) - timedelta(minutes=2)
    alive: set[str] = set()
    for queue, kind in (
        (ids.TASK_QUEUE_CHAIN, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
        (ids.TASK_QUEUE_CHAIN, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
        (ids.TASK_QUEUE_STRIPE, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    ):
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=given.temporal_namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            )
        )
        pollers = {one.identity for one in answer.pollers if one.last_access_time.ToDatetime(UTC) > recent}
        if not pollers:
            raise Broken(f"nobody works on the task queue {queue}")
        alive |= pollers
    return f"{len(alive)} at work"


async def _webhooks(given: Settings) -> str:
    import httpx

    host = "127.0.0.1" if given.webhook_host in ("0.0.0.0", "::") else given.webhook_host  # noqa: S104 - compared
    url = f"http://{host}:{given.webhook_port}/readyz"
    try:
        async with httpx.AsyncClient(timeout=CHECK_SECONDS - 2, trust_env=False) as client:
            answer = await client.get(url)
    except httpx.HTTPError as error:
        raise Broken(f"{url} does not answer ({type(error).__name__})") from None
    if answer.status_code != 200:
        raise Broken(
            f"{url} says {answer.status_code}: {answer.text[:200]}", "See the checks of database and temporal."
        )
    return f"{url} is ready"


async def _stripe(given: Settings) -> str:
    from gateways.stripe import StripeGateway

    gateway = StripeGateway(
        secret_key=given.stripe_secret_key.get_secret_value(),
        base_url=given.stripe_base_url,
        timeout_seconds=given.http_timeout_seconds,
    )
    place = given.stripe_base_url or "Stripe"
    try:
        await gateway.available_balance_minor("EUR")
    except RateLimited:
        return f"{place} answers, and asks to slow down"
    except OutsideError as error:
        raise Broken(f"{place}: {error}") from None
    finally:
        await gateway.aclose()
    return f"{place} accepts the key"


async def _calcom(given: Settings) -> str:
    from gateways.calcom import CalcomGateway

    gateway = CalcomGateway(
        api_key=given.calcom_api_key.get_secret_value(),
        base_url=given.calcom_base_url,
        timeout_seconds=given.http_timeout_seconds,
    )
    try:
        await gateway.list_bookings(take=1)
    except RateLimited:
        return f"{given.calcom_base_url} answers, and asks to slow down"
    except OutsideError as error:
        raise Broken(f"{given.calcom_base_url}: {error}") from None
    finally:
        await gateway.aclose()
    return f"{given.calcom_base_url} accepts the key"


def _print(checks: list[Check]) -> None:
    console = output.console()
    marks = {OK: "ok", ATTENTION: "look", BROKEN: "BROKEN"}
    console.print(
        output.table("Health", ("", "part", "found"), ((marks[one.state], one.name, one.found) for one in checks))
    )
    for one in checks:
        if one.state != OK:
            console.print(f"→ {one.name}: {one.to_do}", soft_wrap=True)
    broken = sum(one.state == BROKEN for one in checks)
    console.print(f"{broken} of {len(checks)} parts are broken." if broken else "Nothing is broken.")
