"""The two addresses that resellers' browsers open: one leads to a fresh link at Stripe, the other thanks.

A link at Stripe opens once and lives for minutes; Stripe sends the browser back here where it is spent. So the address
with a token is what a reseller is given: it works until he can be paid. Who has it acts for the reseller, as with any
link that a bank or Stripe mails; it is stored in PostgreSQL only, and nothing here writes it to a log.
"""

from __future__ import annotations

import re
from html import escape
from typing import Final

import structlog
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from starter.onboarding import NoLink, Onboarding
from starter.orders import OrderRefused
from store.database import Store

log = structlog.get_logger("onboarding")

_TOKEN: Final = re.compile(r"^[A-Za-z0-9_-]{20,64}\Z")
_HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}

UNKNOWN: Final = "This address is not valid, or no longer. Please ask for a new link."
FINISHED: Final = "Thank you, there is nothing left to fill in."
NOT_RUNNING: Final = "This link is not in use at the moment. Please ask for a new one."
TOO_SOON: Final = "One moment, please: reload this page in a few seconds."
UNAVAILABLE: Final = "This does not work at the moment. Please try again in a few minutes."
DONE: Final = "Thank you. Stripe checks what you entered; you will hear from us only if something is missing."


class OnboardingPages:
    """GET only, without any input but the token."""

    def __init__(self, *, store: Store, onboarding: Onboarding) -> None:
        self._store = store
        self._onboarding = onboarding

    def add_to(self, app: FastAPI) -> None:
        # The fixed address goes first: otherwise it would be taken for a token.
        app.add_api_route("/onboarding/done", self.done, methods=["GET"], response_model=None)
        app.add_api_route("/onboarding/{token}", self.enter, methods=["GET"], response_model=None)

    async def done(self) -> Response:
        return _page(200, DONE)

    async def enter(self, token: str) -> Response:
        """303 to a fresh link; else a page that says what to do. Never a 500."""
        try:
            return await self._enter(token)
        except Exception as error:  # noqa: BLE001 - a browser needs a page, whatever is broken
            log.error("onboarding_link_failed", error=type(error).__name__)
            return _page(503, UNAVAILABLE)

    async def _enter(self, token: str) -> Response:
        if not _TOKEN.match(token):
            return _page(404, UNKNOWN)
        async with self._store.begin() as tx:
            link = await tx.resellers.link_of_token(token)
            if link is None:
                return _page(404, UNKNOWN)
            reseller = await tx.resellers.get(link.reseller_id)
            onboarding = await tx.resellers.onboarding(link.reseller_id)
        if reseller.stripe_account_id != link.account_id:
            return _page(404, UNKNOWN)
        if reseller.transfers_active and reseller.payouts_enabled:
            return _page(200, FINISHED)
        if onboarding is None or onboarding.finished_at is not None:
            return _page(409, NOT_RUNNING)
        try:
            fresh = await self._onboarding.renew(link.reseller_id)
        except NoLink as error:
            return _page(429, TOO_SOON) if error.is_early else _page(409, NOT_RUNNING)
        except OrderRefused as error:
            log.warning("onboarding_link_refused", reseller=link.reseller_id, reason=str(error))
            return _page(503, UNAVAILABLE)
        if fresh.url is None:
            return _page(409, NOT_RUNNING)
        log.info("onboarding_link_renewed", reseller=link.reseller_id, sequence=fresh.sequence)
        return RedirectResponse(fresh.url, 303, _HEADERS)


def _page(status_code: int, words: str) -> Response:
    headers = {**_HEADERS, **({"Retry-After": "5"} if status_code in (429, 503) else {})}
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Onboarding</title>'
    body = f"{head}<p>{escape(words)}</p></html>"
    return HTMLResponse(body, status_code, headers)
