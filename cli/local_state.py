"""Settings of a `billing up` that runs on this machine, so that `billing show` in another terminal just works."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).resolve().parent.parent

ANSWER_SECONDS: Final = 0.5
"""The server is on this machine: it answers at once or is not there."""

WHERE: Final = ("DATABASE_URL", "TEMPORAL_ADDRESS")
"""Settings that say which system is meant. Given otherwise in the environment, the file is left alone as a whole: a
mixture would send orders meant for one system to another."""


def env_file() -> Path | None:
    """The settings file of a local run, in this folder or in the checkout; None: there is none that we may trust."""
    for folder in (Path.cwd(), ROOT):
        path = folder / ".billing" / "env"
        try:
            stat = path.stat()
        except OSError:
            continue
        # Anybody who can write this file could point our orders, and our secrets, to a place of his own.
        if stat.st_uid in (os.geteuid(), 0) and not stat.st_mode & 0o022 and os.access(path, os.R_OK):
            return path
    return None


def read(path: Path) -> dict[str, str]:
    """`KEY=value` lines as they are; empty lines and comments are skipped."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def is_running(settings: Mapping[str, str]) -> bool:
    """Whether something listens where the file says the database is. A file outlives a run that was killed."""
    address = urlsplit(settings.get("DATABASE_URL", ""))
    if not address.hostname:
        return False
    try:
        with socket.create_connection((address.hostname, address.port or 5432), timeout=ANSWER_SECONDS):
            return True
    except OSError:
        return False


def adopt(environment: MutableMapping[str, str] | None = None) -> Path | None:
    """Takes what the environment does not say from a running local system; returns the file that was used."""
    environment = os.environ if environment is None else environment
    path = env_file()
    if path is None:
        return None
    found = read(path)
    if any(name in environment and environment[name] != found.get(name) for name in WHERE) or not is_running(found):
        return None
    for name, value in found.items():
        environment.setdefault(name, value)
    return path
