"""Who gives orders, and what becomes of an order that cannot be carried out."""

from __future__ import annotations

import unicodedata
from typing import Final

RESERVED: Final = frozenset({"preview", "schedule", "unknown", "workflow"})
"""Names under which the system itself is recorded: whoever took one could approve what he asked for as himself."""


class NotAllowed(Exception):
    """Nothing was done. `str()` says why, for the person who ordered it."""


def person(name: str) -> str:
    """A person's login in the one spelling in which it is recorded and compared.

    Case, width and compatibility forms, invisible characters and surplus spaces do not make another person. May be
    empty.
    """
    visible = "".join(one for one in name if unicodedata.category(one) not in ("Cc", "Cf") or one.isspace())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return " ".join(folded.split())
