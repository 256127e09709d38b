"""What tests ask of the two stand-ins: plant bookings, change them as people do, disturb, count."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx

ORGANIZERS_FROM = 10_000
"""Every planted booking gets an organizer of its own: Cal.com refuses two bookings of one at the same time."""

ATTENDEE = {"name": "Erika Beispiel", "email": "erika.beispiel@example.com"}
"""Planted personal data: must never be seen in Temporal."""


class _Http:
    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._client = httpx.AsyncClient(base_url=url, headers=dict(headers), timeout=20, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def post(self, path: str, body: Any = None) -> Any:
        answer = await self._client.post(path, json=body if body is not None else {})
        assert answer.status_code < 300, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    async def get(self, path: str) -> Any:
        answer = await self._client.get(path)
        assert answer.status_code < 300, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    async def delete(self, path: str) -> None:
        answer = await self._client.delete(path)
        assert answer.status_code < 300, f"{path}: {answer.status_code} {answer.text[:500]}"


class CalcomDesk(_Http):
    """Cal.com from the organizers' and attendees' side."""

    def __init__(self, url: str, api_key: str) -> None:
        super().__init__(url, {"Authorization": f"Bearer {api_key}", "cal-api-version": "2024-08-13"})
        self._numbers = itertools.count(1)

    async def event_types(self, event_type_ids: Mapping[int, bool], *, team_id: int | None = None) -> None:
        """Make event types of an hour; the value says whether a booking needs the organizer's confirmation."""
        await self.post(
            "/_sandbox/catalogue",
            {
                "event_types": [
                    {
                        "id": number,
                        "slug": f"event-{number}",
                        "title": f"Event {number}",
                        "requires_confirmation": asks,
                        "team_id": team_id,
                    }
                    for number, asks in event_type_ids.items()
                ]
            },
        )

    def booking(
        self,
        event_type_id: int,
        *,
        start_at: datetime,
        minutes: int = 60,
        created_at: datetime | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """One booking for `plant`. It was made an hour before its start or an hour ago, whichever is earlier."""
        made = created_at or min(start_at, datetime.now(UTC)) - timedelta(hours=1)
        return {
            "start": start_at.isoformat(),
            "length_minutes": minutes,
            "event_type_id": event_type_id,
            "attendee": ATTENDEE,
            "created_at": made.isoformat(),
            "organizer_id": ORGANIZERS_FROM + next(self._numbers),
            "webhook": False,
            **more,
        }

    async def plant(self, *bookings: dict[str, Any]) -> list[str]:
        """Store bookings, with an organizer each; returns their uids."""
        organizers = [
            {
                "id": one["organizer_id"],
                "name": f"Organizer {one['organizer_id']}",
                "email": f"organizer-{one['organizer_id']}@example.com",
                "username": f"organizer-{one['organizer_id']}",
            }
            for one in bookings
        ]
        await self.post("/_sandbox/catalogue", {"organizers": organizers})
        answer = await self.post("/_sandbox/bookings", {"bookings": list(bookings)})
        return [one["uid"] for one in answer["bookings"]]

    async def cancel(self, uid: str) -> None:
        await self.post(f"/v2/bookings/{uid}/cancel", {"cancellationReason": "plans changed"})

    async def confirm(self, uid: str) -> None:
        await self.post(f"/v2/bookings/{uid}/confirm")

    async def decline(self, uid: str) -> None:
        await self.post(f"/v2/bookings/{uid}/decline", {"reason": "no room"})

    async def mark_absent(self, uid: str) -> None:
        body = {"attendees": [{"email": ATTENDEE["email"], "absent": True}]}
        await self.post(f"/v2/bookings/{uid}/mark-absent", body)

    async def reschedule(self, uid: str, start_at: datetime) -> str:
        """Move a booking into the future; returns its new uid."""
        body = {"start": start_at.isoformat(), "reschedulingReason": "another day"}
        return str((await self.post(f"/v2/bookings/{uid}/reschedule", body))["data"]["uid"])


class StripeDesk(_Http):
    """Stripe from the banks', customers' and reviewers' side."""

    def __init__(self, url: str, secret_key: str) -> None:
        super().__init__(url, {"Authorization": f"Bearer {secret_key}"})

    async def fault(self, kind: str, *, path: str, body: str = "", times: int = 1, **more: Any) -> int:
        """Disturb POST requests whose path and body match; returns the fault's number."""
        wanted = {"kind": kind, "path_regex": path, "body_regex": body, "times": times, **more}
        return int((await self.post("/_sandbox/faults", wanted))["id"])

    async def hits(self, fault_id: int) -> int:
        """How often a fault struck."""
        return next(int(one["hits"]) for one in await self.get("/_sandbox/faults") if one["id"] == fault_id)

    async def executed(self) -> dict[str, int]:
        """Objects by kind and status: what happened at Stripe, however often it was asked for."""
        objects = (await self.get("/_sandbox/stats"))["objects"]
        return {
            f"{kind}.{status}".removesuffix(".all"): count
            for kind, counts in objects.items()
            for status, count in counts.items()
        }

    async def pause_webhooks(self) -> None:
        await self.post("/_sandbox/webhooks", {"paused": True})

    async def behave(self, payment_method_id: str, behaves_as: str) -> None:
        await self.post(f"/_sandbox/payment_methods/{payment_method_id}", {"behaves_as": behaves_as})

    async def authenticate(self, payment_intent_id: str, payment_method_id: str) -> None:
        """The customer confirms the same payment himself, and his bank lets it pass."""
        form = {"payment_method": payment_method_id}
        answer = await self._client.post(f"/v1/payment_intents/{payment_intent_id}/confirm", data=form)
        assert answer.status_code == 200, answer.text[:500]
        assert answer.json()["status"] == "requires_action"
        await self.post(f"/_sandbox/payment_intents/{payment_intent_id}/authenticate", {"succeeds": True})

    async def account(self, account_id: str, state: str) -> None:
        await self.post(f"/_sandbox/accounts/{account_id}", {"state": state})

    async def dispute(self, payment_intent_id: str) -> str:
        return str((await self.post("/_sandbox/disputes", {"payment_intent": payment_intent_id}))["id"])

    async def close_dispute(self, dispute_id: str, status: str) -> None:
        await self.post(f"/_sandbox/disputes/{dispute_id}", {"status": status})
