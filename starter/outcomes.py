"""What can become of an event that is delivered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivered:
    """Done, or nothing to do. `note` says which, for the log."""

    note: str


@dataclass(frozen=True, slots=True)
class Held:
    """Only a person can decide; `reason` is the sentence that he reads. Nothing was done."""

    reason: str


Outcome = Delivered | Held


class NotYet(Exception):
    """The event's object is not known here (yet): try again later. `str()` says what is missing."""
