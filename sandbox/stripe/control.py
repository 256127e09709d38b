"""The control API below ``/_sandbox/``: time, faults, and what banks, customers and reviewers do. JSON in, JSON out.

=======  =====================================  ==============================================================
GET      health                                 platform account, present time
POST     clock                                  ``{"advance_seconds": n}``; runs everything that became due
GET/POST/DELETE  faults, DELETE faults/{id}     see ``faults.Fault``
GET/POST/DELETE  log                            requests since the start; POST ``{"enabled": bool}``
GET      stats                                  objects per kind and status, calls executed per route, replays
GET/POST webhooks                               see ``delivery.DeliveryMode``
POST     balance                                ``{"amount_minor", "currency", "account"}``: money from outside
POST     payment_intents/{id}/settle            ``{"succeeds", "failure_code"}``: the bank's answer to a debit
POST     payment_intents/{id}/authenticate      ``{"succeeds": bool}``: the customer's answer to 3-D Secure
POST     payment_methods/{id}                   ``{"behaves_as": "pm_card_…"}``: a saved card changes its luck
POST     accounts/{id}                          ``{"state": submitted|active|restricted|rejected|deauthorized}``
POST     disputes                               ``{"charge" or "payment_intent", "amount_minor", "status", "reason"}``
POST     disputes/{id}                          ``{"status": …}``
POST     refunds/{id}                           ``{"status": succeeded|failed|canceled, "reason"}``
POST     payouts/{id}                           ``{"status": in_transit|paid|failed|canceled, "failure_code"}``
POST     reset                                  forgets everything
GET      authenticate/{id}, onboarding/{token}  the pages a customer or reseller is sent to; they consent at once
=======  =====================================  ==============================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.stripe import accounts, balance, catalog, charging, disputes, jobs, refunds, transfers
from sandbox.stripe.context import Context, new_id
from sandbox.stripe.delivery import DeliveryMode
from sandbox.stripe.errors import ApiError, JsonObject, invalid, missing_object
from sandbox.stripe.faults import Fault
from sandbox.stripe.rendering import render
from sandbox.stripe.requests import Answer
from sandbox.stripe.store import dumps

if TYPE_CHECKING:
    from sandbox.stripe.app import Sandbox


Model = TypeVar("Model", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Advance(_Body):
    advance_seconds: int = Field(ge=0)


class LogSwitch(_Body):
    enabled: bool


class TopUp(_Body):
    amount_minor: int
    currency: str = "eur"
    account: str | None = None


class Settle(_Body):
    succeeds: bool | None = None
    failure_code: str | None = None


class Authenticate(_Body):
    succeeds: bool = True


class Behaviour(_Body):
    behaves_as: str


class AccountState(_Body):
    state: Literal["submitted", "active", "restricted", "rejected", "deauthorized"]
    capability: str | None = None


class NewDispute(_Body):
    charge: str | None = None
    payment_intent: str | None = None
    amount_minor: int | None = Field(default=None, gt=0)
    status: Literal["needs_response", "warning_needs_response"] = "needs_response"
    reason: str = "fraudulent"


class DisputeStatus(_Body):
    status: Literal["needs_response", "under_review", "won", "lost", "warning_under_review", "warning_closed"]


class RefundStatus(_Body):
    status: Literal["succeeded", "failed", "canceled"]
    reason: Literal["lost_or_stolen_card", "expired_or_canceled_card", "unknown"] = "lost_or_stolen_card"


class PayoutStatus(_Body):
    status: Literal["in_transit", "paid", "failed", "canceled"]
    failure_code: str = "account_closed"


class Control:
    """Answers the control API. Every action is one transaction."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._actions: dict[tuple[str, ...], Callable[[str, bytes], Any]] = {
            ("GET", "health"): self._health,
            ("POST", "clock"): self._clock,
            ("GET", "clock"): self._health,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._remove_faults,
            ("DELETE", "faults", "*"): self._remove_faults,
            ("GET", "log"): self._log,
            ("POST", "log"): self._switch_log,
            ("DELETE", "log"): self._clear_log,
            ("GET", "stats"): self._stats,
            ("GET", "webhooks"): self._webhooks,
            ("POST", "webhooks"): self._set_webhooks,
            ("POST", "balance"): self._top_up,
            ("POST", "payment_intents", "*", "settle"): self._settle,
            ("POST", "payment_intents", "*", "authenticate"): self._authenticate,
            ("POST", "payment_methods", "*"): self._behave,
            ("POST", "accounts", "*"): self._account,
            ("POST", "disputes"): self._dispute,
            ("POST", "disputes", "*"): self._change_dispute,
            ("POST", "refunds", "*"): self._change_refund,
            ("POST", "payouts", "*"): self._change_payout,
            ("POST", "reset"): self._reset,
            ("GET", "authenticate", "*"): self._authentication_page,
            ("GET", "onboarding", "*"): self._onboarding_page,
        }

    async def handle(self, method: str, path: str, body: bytes) -> Answer:
        """Routes and answers; problems come back as ``{"error": {"message": …}}``."""
        parts = path.split("/")[2:]
        for pattern in ((method, *parts), (method, *(["*" if i == 1 else p for i, p in enumerate(parts)]))):
            action = self._actions.get(pattern)
            if action is not None:
                return self._act(action, parts[1] if len(parts) > 1 else "", body)
        return _answer(404, {"error": {"message": f"the sandbox has no {method} {path}"}})

    def _act(self, action: Callable[[str, bytes], Any], identity: str, body: bytes) -> Answer:
        try:
            result = action(identity, body)
        except ValidationError as problem:
            told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors())
            return _answer(400, {"error": {"message": told}})
        except ApiError as problem:
            return _answer(problem.status, problem.body)
        self._sandbox.changed()
        return result if isinstance(result, Answer) else _answer(200, result)

    def _on(self, kind: str, identity: str) -> tuple[Context, JsonObject]:
        """The object and a view of the account it lives in."""
        place = self._sandbox.store.place(identity)
        body = self._sandbox.store.find(identity, kind)
        if place is None or body is None:
            raise missing_object(kind, identity, param="id", in_path=True)
        return self._sandbox.api.context(account=place[2]), body

    def _health(self, identity: str, body: bytes) -> JsonObject:
        sandbox = self._sandbox
        return {"status": "ok", "account": sandbox.api.platform, "now": sandbox.clock.now()}

    def _clock(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(Advance, body)
        with self._sandbox.store.transaction():
            self._sandbox.clock.advance(wanted.advance_seconds)
        return {"now": self._sandbox.clock.now(), "jobs_run": jobs.run_due(self._sandbox.api.context())}

    def _list_faults(self, identity: str, body: bytes) -> list[JsonObject]:
        return [fault.model_dump() for fault in self._sandbox.faults.all()]

    def _add_fault(self, identity: str, body: bytes) -> JsonObject:
        fault = _read(Fault, body)
        with self._sandbox.store.transaction():
            return self._sandbox.faults.add(fault).model_dump()

    def _remove_faults(self, identity: str, body: bytes) -> JsonObject:
        with self._sandbox.store.transaction():
            self._sandbox.faults.remove(int(identity) if identity.isdigit() else None)
        return {"removed": True}

    def _log(self, identity: str, body: bytes) -> list[JsonObject]:
        return [
            {**entry, "response": json.loads(entry["response"]) if entry["response"] else None}
            for entry in self._sandbox.log
        ]

    def _switch_log(self, identity: str, body: bytes) -> JsonObject:
        self._sandbox.log_enabled = _read(LogSwitch, body).enabled
        return {"enabled": self._sandbox.log_enabled}

    def _clear_log(self, identity: str, body: bytes) -> JsonObject:
        self._sandbox.log.clear()
        return {"cleared": True}

    def _stats(self, identity: str, body: bytes) -> JsonObject:
        store, api = self._sandbox.store, self._sandbox.api
        waiting = dict(store.connection.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall())
        return {
            "objects": store.counts(),
            "executed": api.executed,
            "replayed": api.replayed,
            "deliveries": waiting,
        }

    def _webhooks(self, identity: str, body: bytes) -> JsonObject:
        return self._sandbox.deliverer.mode.model_dump()

    def _set_webhooks(self, identity: str, body: bytes) -> JsonObject:
        mode = _read(DeliveryMode, body)
        with self._sandbox.store.transaction():
            self._sandbox.deliverer.set_mode(mode)
            if not mode.paused:
                self._sandbox.store.connection.execute(
                    "UPDATE deliveries SET next_attempt_at=? WHERE state='waiting'", (time.time(),)
                )
        return mode.model_dump()

    def _top_up(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(TopUp, body)
        ctx = self._sandbox.api.context(account=wanted.account)
        kind = "topup" if wanted.amount_minor >= 0 else "adjustment"
        with self._sandbox.store.transaction():
            if wanted.account is not None:
                accounts.accessible(ctx, wanted.account)
            entry = balance.post(ctx, kind, "topup", wanted.amount_minor, wanted.currency, new_id("tu"))
        return render(ctx, entry)

    def _settle(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(Settle, body)
        ctx, intent = self._on("payment_intent", identity)
        if intent["status"] != "processing":
            raise invalid(f"The PaymentIntent is not waiting for a bank: its status is {intent['status']}.")
        with self._sandbox.store.transaction():
            return render(ctx, charging.settle_debit(ctx, intent, wanted.succeeds, wanted.failure_code))

    def _authenticate(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(Authenticate, body)
        ctx, intent = self._on("payment_intent", identity)
        with self._sandbox.store.transaction():
            return render(ctx, charging.authenticate(ctx, intent, wanted.succeeds))

    def _behave(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(Behaviour, body)
        ctx, method = self._on("payment_method", identity)
        known = catalog.find(wanted.behaves_as)
        if known is None or known.type != method["type"]:
            raise missing_object(
                "test PaymentMethod of this type", wanted.behaves_as, param="behaves_as", in_path=False
            )
        with self._sandbox.store.transaction():
            method["_token"] = wanted.behaves_as
            ctx.store.save(method)
        return render(ctx, method)

    def _account(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(AccountState, body)
        ctx, account = self._on("account", identity)
        with self._sandbox.store.transaction():
            return render(ctx, accounts.set_state(ctx, account, wanted.state, wanted.capability))

    def _dispute(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(NewDispute, body)
        charge_id = wanted.charge
        if charge_id is None:
            _, intent = self._on("payment_intent", wanted.payment_intent or "")
            charge_id = intent["latest_charge"] or ""
        ctx, charge = self._on("charge", charge_id)
        with self._sandbox.store.transaction():
            opened = disputes.open_dispute(
                ctx, charge, amount=wanted.amount_minor, status=wanted.status, reason=wanted.reason
            )
            return render(ctx, opened)

    def _change_dispute(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(DisputeStatus, body)
        ctx, dispute = self._on("dispute", identity)
        with self._sandbox.store.transaction():
            return render(ctx, disputes.change_status(ctx, dispute, wanted.status))

    def _change_refund(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(RefundStatus, body)
        ctx, refund = self._on("refund", identity)
        with self._sandbox.store.transaction():
            return render(ctx, refunds.change_status(ctx, refund, wanted.status, wanted.reason))

    def _change_payout(self, identity: str, body: bytes) -> JsonObject:
        wanted = _read(PayoutStatus, body)
        ctx, payout = self._on("payout", identity)
        with self._sandbox.store.transaction():
            return render(ctx, transfers.change_payout(ctx, payout, wanted.status, wanted.failure_code))

    def _reset(self, identity: str, body: bytes) -> JsonObject:
        self._sandbox.reset()
        return {"reset": True}

    def _authentication_page(self, identity: str, body: bytes) -> Answer:
        ctx, intent = self._on("payment_intent", identity)
        action = intent["next_action"] or {}
        target = action.get("redirect_to_url", {}).get("return_url")
        with self._sandbox.store.transaction():
            charging.authenticate(ctx, intent, True)
        return _redirect(target)

    def _onboarding_page(self, identity: str, body: bytes) -> Answer:
        ctx, link = self._on("account_link", identity)
        if link.get("_opened") or link["created"] + accounts.LINK_LIFETIME_SECONDS < ctx.now:
            return _redirect(link["refresh_url"])
        account = accounts.accessible(ctx, link["account"])
        with self._sandbox.store.transaction():
            link["_opened"] = True
            ctx.store.save(link)
            accounts.set_state(ctx, account, "active")
        return _redirect(link["return_url"])


def _read(model: type[Model], body: bytes) -> Model:
    return model.model_validate_json(body or b"{}")


def _redirect(target: str | None) -> Answer:
    if target is None:
        return _answer(200, {"done": True})
    return Answer(303, b"", {"location": target})


def _answer(status: int, result: Any) -> Answer:
    return Answer(status, dumps(result).encode(), {"content-type": "application/json"})
