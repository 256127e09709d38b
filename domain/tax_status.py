"""A reseller's tax status by day: what a month's credit note shows is what held on the month's last day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from domain.model import Country, Frozen, Id, UtcDatetime


class TaxStatus(Frozen):
    """One line of a reseller's tax statuses. None is ever changed: a correction is a later line."""

    sequence: int
    """n-th of the reseller, from 1."""
    valid_from: date | None
    """First day (Berlin) for which it counts. None: his first one, which counts for all the past."""
    small_business: bool
    country: Country
    vat_id: str | None
    tax_status_from: date | None
    """First day on which `small_business` was shown to hold; None: not shown."""
    proof: str | None
    recorded_at: UtcDatetime
    recorded_by: Id


def in_force(statuses: Sequence[TaxStatus], day: date) -> TaxStatus | None:
    """The status of a day: of those that count by then, the youngest; of two for the same day, the one recorded last.

    None only where there is no status at all.
    """
    counting = [one for one in statuses if one.valid_from is None or one.valid_from <= day]
    return max(counting, key=lambda one: (one.valid_from or date.min, one.sequence), default=None)
