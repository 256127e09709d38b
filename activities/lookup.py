"""When to look for an effect before sending it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio import activity

KEY_LIFETIME = timedelta(hours=23)
"""Stripe may forget an idempotency key after 24 h and would repeat the effect: past this age we look before we send."""


def look_first(begun_at: datetime) -> bool:
    """Whether the effect of a row begun at `begun_at` may exist, although the same key would not tell.

    True on every retry as well: Stripe stores the answer 500 under the key and repeats it for a day, also where the
    effect happened.
    """
    return activity.info().attempt > 1 or datetime.now(UTC) - begun_at > KEY_LIFETIME
