"""Prometheus figures of the webhook app and its relay. Labels are bounded: names chosen by a sender become `other`."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from starter import routing

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One registry per app, so that two apps in one process (tests, the demo) do not share figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._received = Counter(
            "billing_webhooks_received",
            "Webhook requests by sender, event type (`other`: not in the routing table) and answer",
            ["source", "type", "outcome"],
            registry=self.registry,
        )
        self._delivered = Counter(
            "billing_events_handled",
            "Tries to deliver an inbox row: delivered, held (a person decides), later (tried again), stuck (given up)",
            ["source", "result"],
            registry=self.registry,
        )
        self._inbox = Gauge(
            "billing_inbox_rows",
            "Rows of the inbox by status; `received` is the backlog, `stuck` and `held` need a person",
            ["status"],
            registry=self.registry,
        )
        self._inbox_readable = Gauge(
            "billing_inbox_readable",
            "1: the inbox could be counted for this scrape; 0: it could not",
            registry=self.registry,
        )

    def received(self, source: str, event_type: str | None, outcome: str) -> None:
        """Counts one request; `event_type` is None where the body was not read or not understood."""
        known = event_type is not None and routing.is_known(source, event_type)
        self._received.labels(source, event_type if known else "other", outcome).inc()

    def handled(self, source: str, result: str) -> None:
        self._delivered.labels(source, result).inc()

    def inbox(self, counts: Mapping[str, int] | None) -> None:
        """Sets the rows by status; None: the database did not answer, so old figures are taken out."""
        self._inbox.clear()
        self._inbox_readable.set(0 if counts is None else 1)
        for status, rows in (counts or {}).items():
            self._inbox.labels(status).set(rows)

    def render(self) -> bytes:
        """Prometheus's text format."""
        return generate_latest(self.registry)
