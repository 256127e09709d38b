"""The Cal.com gateway: `domain.ports.CalendarGateway` over API v2, version 2024-08-13 of the bookings.

Where Cal.com's practice differs from its documentation, the practice counts: `updatedAt` may be null and then escapes
`afterUpdatedAt`; a filter by a team without event types is ignored; a deleted organizer has the id "unknown"; an event
type may be null; `totalItems` may count more than the filter matches.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from domain.ids import is_safe
from domain.ports import (
    BookingPage,
    CalBooking,
    NotFound,
    OutsideError,
    Refused,
    SetupError,
)
from gateways.calcom_answers import (
    BookingAnswer,
    ErrorDetail,
    Many,
    One,
    Success,
    TeamEventTypes,
    error_of,
    fields_of,
    read,
)
from gateways.http_errors import of_no_answer, of_status
from gateways.http_pool import HttpPool

API_VERSION: Final = "2024-08-13"
"""Without this header the bookings answer in an older shape."""

DEFAULT_BASE_URL: Final = "https://api.cal.com"
MAX_TAKE: Final = 250
"""Cal.com refuses larger pages."""

MAX_CONNECTIONS: Final = 20
MAX_RESCHEDULINGS: Final = 50
"""How many times a booking is followed to its next uid before it counts as a loop."""

TEAM_CHECK_SECONDS: Final = 600.0
"""How long it is believed that a team has event types."""

_log = logging.getLogger(__name__)

# httpx logs every URL at INFO. A booking's uid in it is enough to cancel that booking.
logging.getLogger("httpx").setLevel(logging.WARNING)


class CalcomGateway:
    """`CalendarGateway` with one keep-alive pool. Make one per process and event loop, `aclose` it at the end.

    `base_url` has no path (`https://api.cal.com`). `timeout_seconds` bounds a whole call, connecting included.
    `transport` replaces the network (tests). Raises ValueError on an impossible key or address.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_seconds: float = 15,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not re.fullmatch(r"[\x21-\x7e]{5,512}", api_key):
            raise ValueError("the Cal.com API key looks like cal_live_...; this is not one")
        address = (base_url or DEFAULT_BASE_URL).rstrip("/")
        if not re.fullmatch(r"https?://[^\s/]+", address):
            raise ValueError("the Cal.com address looks like https://api.cal.com, without a path")
        self._timeout_seconds = timeout_seconds
        self._teams_checked_at: dict[int, float] = {}
        self._address = address
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "cal-api-version": API_VERSION,
            "Accept": "application/json",
        }
        self._http = HttpPool(
            base_url=address,
            timeout_seconds=timeout_seconds,
            max_connections=MAX_CONNECTIONS,
            verify=address.startswith("https:"),
            transport=transport,
        )

    async def aclose(self) -> None:
        """Cuts off calls under way: their outcome is unknown."""
        await self._http.aclose()

    async def get_booking(self, uid: str, *, follow_rescheduled: bool = False) -> CalBooking:
        """The booking of this uid as it is now; with `follow_rescheduled` the one it was rescheduled to in the end.

        A cancelled booking with `rescheduled_to_uid` was moved, not called off.
        """
        seen = {uid}
        booking = await self._get(uid)
        while follow_rescheduled and booking.rescheduled_to_uid:
            uid = booking.rescheduled_to_uid
            if uid in seen or len(seen) > MAX_RESCHEDULINGS:
                raise SetupError("reschedule_loop", "the reschedulings of this booking do not end")
            seen.add(uid)
            booking = await self._get(uid)
        return booking

    async def list_bookings(
        self, *, updated_after: datetime | None = None, skip: int = 0, take: int = 100
    ) -> BookingPage:
        """Bookings changed or made since `updated_after` (aware, inclusive), oldest change first within a page.

        Advance `skip` by `take` while `has_more`. A page may hold up to twice `take`: bookings that were never changed
        have no `updatedAt` and are asked for by their creation. One that cannot be read is logged and left out.
        Raises SetupError (`bad_page`, `bad_time`) on impossible arguments.
        """
        if not 1 <= take <= MAX_TAKE or skip < 0:
            raise SetupError("bad_page", f"take is 1 to {MAX_TAKE}, skip at least 0")
        paging = {"skip": str(skip), "take": str(take)}
        if updated_after is None:
            bookings, has_more = await self._page({**paging, "sortUpdatedAt": "asc"})
            return BookingPage(bookings=tuple(bookings), has_more=has_more)
        if updated_after.tzinfo is None:
            raise SetupError("bad_time", "a time without a zone")
        since = updated_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        changed, more_changed = await self._page({**paging, "afterUpdatedAt": since, "sortUpdatedAt": "asc"})
        created, more_created = await self._page({**paging, "afterCreatedAt": since, "sortCreated": "asc"})
        untouched = [b for b in created if b.updated_at is None]
        merged = sorted((*changed, *untouched), key=lambda b: b.updated_at or b.created_at)
        return BookingPage(bookings=tuple(merged), has_more=more_changed or more_created)

    async def booking_in_team(self, uid: str, team_id: int) -> bool:
        """Whether the booking's event type belongs to the team. False for a uid that this key cannot see.

        Cal.com ignores the filter for a team without event types and would answer yes for every booking: a yes
        counts only for a team that has some. Raises SetupError where the key may not read the team.
        """
        query = {"bookingUid": _checked_uid(uid), "teamId": str(team_id), "take": "1"}
        bookings, _ = await self._page(query)
        if not any(b.uid == uid for b in bookings):
            return False
        return await self._team_has_event_types(team_id)

    async def cancel_booking(self, uid: str, *, reason: str) -> None:
        """Cancelling a cancelled booking is success, and so is cancelling one that was rescheduled away.

        Raises Refused (`cancellation_not_allowed`) where the event type forbids cancelling. `reason` goes to the
        people invited; Cal.com requires one.
        """
        operation = "cancel booking"
        response = await self._call(
            operation, "POST", f"{_path_of(uid)}/cancel", body={"cancellationReason": reason or "Cancelled"}
        )
        if response.is_success:
            read(operation, response, Success, written=True)
            return
        said = error_of(response)
        if response.status_code == 400 and _says_already_cancelled(said.message):
            return
        if response.status_code == 400 and "does not allow cancellation" in said.message.lower():
            raise Refused("cancellation_not_allowed", "the event type does not allow cancellations")
        raise _error(operation, response, said)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def _get(self, uid: str) -> CalBooking:
        operation = "get booking"
        response = await self._call(operation, "GET", _path_of(uid))
        if not response.is_success:
            raise _error(operation, response, error_of(response))
        return read(operation, response, One).data.to_port()

    async def _page(self, query: Mapping[str, str]) -> tuple[list[CalBooking], bool]:
        """The readable bookings of a page, and whether to ask for another. An empty page is the end whatever
        `hasNextPage` says; a short one is not, because Cal.com drops what it could not load."""
        operation = "list bookings"
        response = await self._call(operation, "GET", "/v2/bookings", query=query)
        if not response.is_success:
            raise _error(operation, response, error_of(response))
        page = read(operation, response, Many)
        bookings: list[CalBooking] = []
        problems: list[str] = []
        for item in page.data:
            try:
                bookings.append(BookingAnswer.model_validate(item).to_port())
            except ValidationError as error:
                problems.append(fields_of(error))
                uid = item.get("uid")
                shown = uid if isinstance(uid, str) and is_safe(uid) else "?"
                _log.warning("booking %s in a list of Cal.com cannot be read: %s", shown, problems[-1])
        if problems and not bookings:
            raise SetupError("unexpected_answer", f"{operation}: no booking can be read: {problems[0]}")
        return bookings, page.pagination.hasNextPage and bool(page.data)

    async def _team_has_event_types(self, team_id: int) -> bool:
        checked_at = self._teams_checked_at.get(team_id)
        if checked_at is not None and time.monotonic() - checked_at < TEAM_CHECK_SECONDS:
            return True
        operation = "list event types of a team"
        response = await self._call(operation, "GET", f"/v2/teams/{team_id}/event-types")
        if not response.is_success:
            raise _error(operation, response, error_of(response))
        if not read(operation, response, TeamEventTypes).data:
            return False
        self._teams_checked_at[team_id] = time.monotonic()
        return True

    async def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """The answer, whatever its status. The error raised without one has no cause: httpx's own holds the URL."""
        failed: OutsideError
        headers, content = self._headers, None
        if body is not None:
            headers, content = {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._http.request(method, self._address + path, headers, params=query, content=content)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            failed = of_no_answer(operation, error)
        raise failed


def _checked_uid(uid: str) -> str:
    """A uid that may stand in a URL. Not echoed in the error: it may be anything."""
    if not is_safe(uid) or set(uid) == {"."}:
        raise SetupError("bad_uid", "not a uid of a booking")
    return uid


def _path_of(uid: str) -> str:
    return f"/v2/bookings/{quote(_checked_uid(uid), safe='')}"


def _says_already_cancelled(message: str) -> bool:
    words = message.lower().replace("canceled", "cancelled")
    return "already" in words and "been cancelled" in words


def _error(operation: str, response: httpx.Response, said: ErrorDetail) -> OutsideError:
    error = of_status(operation, response.status_code, response.headers, said.code)
    if isinstance(error, NotFound) and (not said.code or said.message.startswith("Cannot ")):
        return SetupError("route_not_found", f"{operation}: this address has no such route; is it Cal.com's API v2?")
    return error
