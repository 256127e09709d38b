"""State directories of these tests: reachable for every account, with a space in the name, removed at the end."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A directory that an unprivileged account can enter, unlike pytest's own temporary directories."""
    top = Path(tempfile.mkdtemp(prefix="billing-test-"))
    top.chmod(0o755)
    made = top / "state of things"
    made.mkdir()
    yield made
    # Removing a cluster takes longer than most tests, and nothing waits for it.
    threading.Thread(target=shutil.rmtree, args=(top, True)).start()
