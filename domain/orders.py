"""What becomes of a person's order that cannot be carried out."""

from __future__ import annotations


class NotAllowed(Exception):
    """Nothing was done. `str()` says why, for the person who ordered it."""
