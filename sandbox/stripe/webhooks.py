"""Events and webhook endpoints: the routes. Delivery itself is in ``delivery``."""

from __future__ import annotations

import re
from typing import Any

from sandbox.stripe.context import API_VERSION, Context, Route, new_id
from sandbox.stripe.errors import JsonObject, malformed
from sandbox.stripe.forms import EXPAND, METADATA, PAGE, RANGE, array, flag, merge_metadata, text
from sandbox.stripe.rendering import page, render

_EVENT_TYPE = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_UNDELIVERED = "id IN (SELECT event_id FROM deliveries WHERE state != 'delivered')"


def endpoint(ctx: Context, url: str, events: list[str], *, connect: bool) -> JsonObject:
    """Stores an endpoint. With ``connect`` it hears of connected accounts only, without it of the platform only."""
    body: JsonObject = {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": None,
        "created": ctx.now,
        "description": None,
        "enabled_events": events,
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
        "_connect": connect,
        "_secret": new_id("whsec", 32),
    }
    return ctx.create("webhook_endpoint", body)


def ensure_endpoints(ctx: Context, url: str, secret: str) -> None:
    """The two endpoints of the command line (platform and connected accounts): made once, then kept in step.

    Another address on a later start moves them, so that what was not delivered goes to where the listener is now.
    """
    known = [body for body in ctx.store.select("webhook_endpoint", ctx.platform) if body.get("_command_line")]
    for connect in (False, True):
        same = [body for body in known if body["_connect"] == connect]
        for body in same or [endpoint(ctx, url, ["*"], connect=connect)]:
            body.update(url=url, _secret=secret, _command_line=True)
            ctx.store.save(body)


def _create(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    _check_url(params["url"])
    _check_events(params["enabled_events"])
    body = endpoint(ctx, params["url"], params["enabled_events"], connect=params.get("connect", False))
    body["description"] = params.get("description")
    body["metadata"] = merge_metadata({}, params.get("metadata"))
    ctx.store.save(body)
    return {**render(ctx, body), "secret": body["_secret"]}


def _check_events(names: list[str]) -> None:
    if not names:
        raise malformed("Invalid array: enabled_events", param="enabled_events")
    for index, name in enumerate(names):
        if name != "*" and not _EVENT_TYPE.fullmatch(name):
            raise malformed(f"Invalid enabled_events[{index}]: {name}", param=f"enabled_events[{index}]")


def _check_url(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        message = "Invalid URL: An explicit scheme (such as https) must be provided."
        raise malformed(message, param="url", code="url_invalid")


def _retrieve(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("webhook_endpoint", ids[0], param="webhook_endpoint"), params.get("expand"))


def _update(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("webhook_endpoint", ids[0], param="webhook_endpoint")
    if "url" in params:
        _check_url(params["url"])
    if "enabled_events" in params:
        _check_events(params["enabled_events"])
    for name in ("description", "enabled_events", "url"):
        if name in params:
            body[name] = params[name]
    if "disabled" in params:
        body["status"] = "disabled" if params["disabled"] else "enabled"
    body["metadata"] = merge_metadata(body["metadata"], params.get("metadata"))
    ctx.store.save(body)
    return render(ctx, body, params.get("expand"))


def _list(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return page(ctx, "webhook_endpoint", "/v1/webhook_endpoints", params)


def _delete(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    body = ctx.fetch("webhook_endpoint", ids[0], param="webhook_endpoint")
    ctx.store.remove(body["id"])
    ctx.store.connection.execute("DELETE FROM deliveries WHERE endpoint_id=?", (body["id"],))
    return {"id": body["id"], "object": "webhook_endpoint", "deleted": True}


def _retrieve_event(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    return render(ctx, ctx.fetch("event", ids[0]), params.get("expand"))


def _list_events(ctx: Context, ids: tuple[str, ...], params: dict[str, Any]) -> JsonObject:
    """``delivery_success=false``: some endpoint has not taken it; ``true``: every endpoint has (or none listens)."""
    clauses: list[str] = []
    arguments: list[Any] = []
    if "delivery_success" in params:
        clauses.append(f"NOT {_UNDELIVERED}" if params["delivery_success"] else _UNDELIVERED)
    if "types" in params and "type" in params:
        raise malformed("You may only specify one of these parameters: type, types.", param="types")
    wanted = params.get("types") or ([params["type"]] if "type" in params else [])
    if wanted:
        clauses.append("(" + " OR ".join("type GLOB ?" for _ in wanted) + ")")
        arguments.extend(wanted)
    return page(ctx, "event", "/v1/events", params, where=" AND ".join(clauses), arguments=tuple(arguments))


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/webhook_endpoints",
        {
            "connect": flag(),
            "description": text(clearable=True),
            "enabled_events": array(required=True),
            "expand": EXPAND,
            "metadata": METADATA,
            "url": text(required=True),
        },
        _create,
    ),
    ("GET", "/v1/webhook_endpoints", PAGE, _list),
    ("GET", "/v1/webhook_endpoints/*", {"expand": EXPAND}, _retrieve),
    (
        "POST",
        "/v1/webhook_endpoints/*",
        {
            "description": text(clearable=True),
            "disabled": flag(),
            "enabled_events": array(),
            "expand": EXPAND,
            "metadata": METADATA,
            "url": text(),
        },
        _update,
    ),
    ("DELETE", "/v1/webhook_endpoints/*", {}, _delete),
    (
        "GET",
        "/v1/events",
        {**PAGE, "created": RANGE, "delivery_success": flag(), "type": text(), "types": array()},
        _list_events,
    ),
    ("GET", "/v1/events/*", {"expand": EXPAND}, _retrieve_event),
]
