"""The benchmark's peers: none is dropped, and one that cannot run says why."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import peers
from bench.peers.floor import Floor
from bench.peers.service import Service, serve
from bench.subjects import Absent, Subject
from local.environment import ANY_PORTS, Environment


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    """Not started: enough to make subjects."""
    environment = Environment(tmp_path, ANY_PORTS, say=lambda _: None)
    environment.env = {
        "DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/nowhere",
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
        "STRIPE_SECRET_KEY": "sk_test_example",
        "STRIPE_WEBHOOK_SECRET": "whsec_example",
        "CALCOM_API_KEY": "cal_test_example",
        "CALCOM_WEBHOOK_SECRET": "example-secret",
    }
    return environment


def without_packages(_: str) -> None:
    return None


async def test_a_peer_without_its_package_is_absent_and_not_dropped(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_spec", without_packages)
    subjects = {subject.name: subject for subject in peers.all_peers(env)}
    assert list(subjects) == [peer.name for peer in peers.PEERS]
    for name, package in (("DBOS", "dbos"), ("Celery with Redis", "celery")):
        with pytest.raises(Absent, match=f"the package {package} is not installed"):
            await subjects[name].start()
        with pytest.raises(RuntimeError, match="did not start"):
            await subjects[name].chain("uid")
        await subjects[name].stop()


def test_the_floor_comes_first_and_needs_nothing(env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", without_packages)
    assert isinstance(peers.all_peers(env)[0], Floor)


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.module)
def test_the_table_names_a_peer_as_it_names_itself(env: Environment, peer: peers.Peer) -> None:
    if peer.package is not None and find_spec(peer.package) is None:
        pytest.skip(f"{peer.package} is not installed")
    subject: Subject = peers.make(peer, env)
    assert subject.name == peer.name


class _Echo(Service):
    """This very module as a peer: it runs the chain `good`, and fails every other."""

    name = "echo"

    def __init__(self, env: Environment) -> None:
        super().__init__(env, "tests.bench.test_peers")


async def test_a_peers_process_runs_chains_and_tells_its_errors(env: Environment) -> None:
    with env:
        echo = _Echo(env)
        await echo.start()
        try:
            await echo.chain("good")
            with pytest.raises(RuntimeError, match=r"bad: .*no such chain"):
                await echo.chain("bad")
            hanging = asyncio.create_task(echo.chain("hangs"))
            await echo.chain("good")
            env.tree.kill(echo.processes[0])
            with pytest.raises(RuntimeError, match="ended before the chain"):
                await hanging
        finally:
            await echo.stop()
        await echo.stop()


async def test_a_peer_that_does_not_come_up_is_absent(env: Environment) -> None:
    class Broken(Service):
        def __init__(self, env: Environment) -> None:
            super().__init__(env, "bench.peers.no_such_module")

    with env:
        broken = Broken(env)
        with pytest.raises(Absent, match="No module named"):
            await broken.start()
        await broken.stop()


async def _run(uid: str) -> None:
    if uid == "hangs":
        await asyncio.sleep(60)
    if uid != "good":
        raise ValueError(f"no such chain:\n{uid}")


if __name__ == "__main__":
    asyncio.run(serve(_run))
