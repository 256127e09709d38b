"""Other ways to run the same chain, each as its own documentation would write it; `all_peers` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bench.subjects import Absent, Subject

if TYPE_CHECKING:
    from local.environment import Environment


@dataclass(frozen=True)
class Peer:
    """Where a subject is found, and the package without which it cannot run."""

    name: str
    module: str
    subject: str
    package: str | None = None


PEERS = (
    Peer("floor: plain asyncio", "bench.peers.floor", "Floor"),
    Peer("state machine: rows and a poller", "bench.peers.state_machine", "StateMachine"),
    Peer("DBOS", "bench.peers.dbos_chain", "DbosChain", "dbos"),
    Peer("Celery with Redis", "bench.peers.celery_chain", "CeleryChain", "celery"),
)


class Missing:
    """Stands for a peer whose package is not installed."""

    def __init__(self, peer: Peer) -> None:
        self.name = peer.name
        self._package = peer.package

    async def start(self) -> None:
        raise Absent(f"the package {self._package} is not installed (it is one of requirements-bench.lock)")

    async def chain(self, uid: str) -> None:
        raise RuntimeError(f"{self.name} did not start, so {uid} cannot run")

    async def stop(self) -> None:
        """Nothing was started."""


def all_peers(env: Environment) -> list[Subject]:
    """Every peer, the floor first. Not started yet; one that cannot run says so when it is."""
    return [make(peer, env) for peer in PEERS]


def make(peer: Peer, env: Environment) -> Subject:
    if peer.package is not None and find_spec(peer.package) is None:
        return Missing(peer)
    subject: Subject = getattr(import_module(peer.module), peer.subject)(env)
    return subject
