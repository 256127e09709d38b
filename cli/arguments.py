"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

By = Annotated[str, typer.Option("--by", help="Who orders it: your login, in any case. Recorded in the audit log.")]
Why = Annotated[str, typer.Option("--why", help="Why. Recorded in the audit log.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of tables: amounts in minor units, times in UTC.")]
