"""State directories of these tests: reachable for every account, with a space in the name, removed at the end."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def fast_place() -> str | None:
    """Memory where there is plenty: making and removing a database cluster on disk takes longer than a test."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2_000_000_000:
        return str(memory)
    return None


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A directory that an unprivileged account can enter, unlike pytest's own temporary directories."""
    top = Path(tempfile.mkdtemp(prefix="billing-test-", dir=fast_place()))
    top.chmod(0o755)
    made = top / "state of things"
    made.mkdir()
    yield made
    shutil.rmtree(top, ignore_errors=True)
