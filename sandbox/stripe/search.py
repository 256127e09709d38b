"""Stripe's search language over stored objects: ``metadata["booking"]:"abc" AND status:"succeeded"``.

An object is found only once the index delay has passed since it was created; what is then shown is its present state.
"""

from __future__ import annotations

import re
from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.errors import JsonObject, malformed
from sandbox.stripe.rendering import DEFAULT_PAGE, MAX_PAGE, render

_CLAUSE = re.compile(
    r"""\s*(?P<minus>-)?(?P<field>metadata\[(?:"(?P<key>[^"]+)"|'(?P<key2>[^']+)')\]|[a-z_]+)
        \s*(?P<operator>:|~|>=|<=|>|<|=)\s*
        (?:"(?P<text>(?:[^"\\]|\\.)*)"|'(?P<text2>[^']*)'|(?P<number>-?\d+)|(?P<null>null))\s*""",
    re.VERBOSE,
)
_JOINT = re.compile(r"(AND|OR|and|or)\b|(?=\S)")
_FIELDS = {
    "payment_intent": {"amount", "created", "currency", "customer", "status"},
    "charge": {"amount", "created", "currency", "customer", "status", "disputed", "refunded"},
}
_NUMERIC = {"amount", "created"}


def _compile(kind: str, query: str) -> tuple[str, tuple[Any, ...]]:
    clauses: list[str] = []
    values: list[Any] = []
    joints: set[str] = set()
    at = 0
    while at < len(query):
        if clauses:
            joint = _JOINT.match(query, at)
            if joint is None:
                break
            joints.add((joint.group(1) or "AND").upper())
            at = joint.end()
        found = _CLAUSE.match(query, at)
        if found is None:
            raise malformed(f"We were unable to parse your search query near position {at}.", param="query")
        sql, value = _clause(kind, found)
        clauses.append(sql)
        values.extend(value)
        at = found.end()
    if not clauses or len(joints) > 1:
        raise malformed("A search query needs clauses joined by AND or by OR, not by both.", param="query")
    return f" {joints.pop() if joints else 'AND'} ".join(clauses), tuple(values)


def _clause(kind: str, found: re.Match[str]) -> tuple[str, list[Any]]:
    key = found["key"] or found["key2"]
    name = found["field"]
    if key is None and name not in _FIELDS[kind]:
        raise malformed(f"Field `{name}` is an unsupported search field for this resource.", param="query")
    if key is not None and '"' in key:
        raise malformed("Metadata keys with quotes cannot be searched.", param="query")
    path = "'$.metadata.\"' || ? || '\"'" if key is not None else f"'$.{name}'"
    column = f"json_extract(body, {path})"
    values: list[Any] = [key] if key is not None else []
    text = found["text"] if found["text"] is not None else found["text2"]
    operator = found["operator"]
    if found["null"] is not None:
        sql = f"{column} IS NULL"
    elif operator == "~":
        sql = f"instr(lower({column}), lower(?)) > 0"
        values.append(_unescape(text or ""))
    elif operator == ":" or operator == "=":
        sql = f"{column} = ?"
        values.append(_whole(found["number"] or text) if name in _NUMERIC else _unescape(text or found["number"] or ""))
    elif name in _NUMERIC:
        sql = f"{column} {operator} ?"
        values.append(_whole(found["number"] or text))
    else:
        raise malformed(f"Field `{name}` does not support the operator {operator}.", param="query")
    return (f"NOT coalesce({sql}, 0)" if found["minus"] else sql), values


def _whole(text: str | None) -> int:
    if text is None or not re.fullmatch(r"-?\d{1,18}", text):
        raise malformed("A numeric search field needs a whole number.", param="query")
    return int(text)


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def search(ctx: Context, kind: str, url: str, params: dict[str, Any]) -> JsonObject:
    """One page of results, newest first; ``next_page`` goes into ``page`` of the next call."""
    limit = params.get("limit", DEFAULT_PAGE)
    if limit > MAX_PAGE:
        raise malformed(f"Invalid integer: {limit} is greater than {MAX_PAGE}", param="limit")
    token = params.get("page")
    if token is not None and not token.isdigit():
        raise malformed("Invalid page token.", param="page")
    where, arguments = _compile(kind, params["query"])
    found = ctx.store.select(
        kind,
        ctx.account,
        created={"lte": ctx.now - ctx.settings.search_delay_seconds},
        before=int(token) if token else None,
        limit=limit + 1,
        where=where,
        arguments=arguments,
    )
    shown = found[:limit]
    has_more = len(found) > limit
    place = ctx.store.place(shown[-1]["id"]) if has_more else None
    prefix = "data."
    inner = [path.removeprefix(prefix) for path in params.get("expand") or () if path.startswith(prefix)]
    return {
        "object": "search_result",
        "url": url,
        "has_more": has_more,
        "data": [render(ctx, body, inner) for body in shown],
        "next_page": str(place[0]) if place else None,
    }
