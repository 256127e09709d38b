"""Record the histories of the stories anew: `.venv/bin/python -m tests.replay.record [--as WORD] [NAME …]`.

Starts the whole system, lives each story of `stories.py` and writes `histories/NAME.json`, or `NAME-WORD.json`. Write
over a file only when chains that were started before the change cannot be running any more. A change that is guarded,
by `workflow.patched` or by an option that the chain was started with, gets files of its own, so that both ways stay
tested.

What belongs to the machine (process ids, host names, stack traces) is struck out; personal data is never in a history.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.replay.stories import STORIES
from tests.support.desk import desk

HISTORIES = Path(__file__).with_name("histories")
MACHINE = {"identity": "worker", "stackTrace": "", "requestId": "", "buildId": "recorded"}


def scrubbed(value: Any) -> Any:
    """A history without what belongs to the machine that it was recorded on."""
    if isinstance(value, list):
        return [scrubbed(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, one in value.items():
        if key == "name" and value.get("kind") == "TASK_QUEUE_KIND_STICKY":
            found[key] = "sticky"
        elif key in MACHINE:
            found[key] = MACHINE[key]
        else:
            found[key] = scrubbed(one)
    return found


async def record(names: list[str], word: str | None = None) -> None:
    """Live the named stories, or all, one after the other, and write their histories."""
    wanted = [story for story in STORIES if not names or story.__name__ in names]
    top = Path(tempfile.mkdtemp(prefix="billing-record-"))
    top.chmod(0o755)
    try:
        async with desk(top / "state") as system:
            for story in wanted:
                workflow_id = await story(system)
                history = await system.client.get_workflow_handle(workflow_id).fetch_history()
                document = {"workflow_id": workflow_id, "history": scrubbed(json.loads(history.to_json()))}
                name = story.__name__ if word is None else f"{story.__name__}-{word}"
                path = HISTORIES / f"{name}.json"
                path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
                print(f"{path.name}: {len(history.events)} events")
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    HISTORIES.mkdir(exist_ok=True)
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--as", dest="word", help="recorded beside what there is, as NAME-WORD.json")
    arguments.add_argument("names", nargs="*", metavar="NAME")
    given = arguments.parse_args()
    asyncio.run(record(given.names, given.word))
    sys.stdout.flush()
    # The Temporal client can crash the interpreter at exit.
    os._exit(0)
