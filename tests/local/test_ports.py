"""Ports: the wanted one when it is free, another one and a sentence when it is not."""

import socket
from collections.abc import Iterator

import pytest

from local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        server.listen(8)
        yield server.getsockname()[1]


def test_a_free_port_is_taken_as_wanted_and_nothing_is_said() -> None:
    said: list[str] = []
    wanted = ports.any_free()
    assert ports.choose(wanted, what="the test", say=said.append) == wanted
    assert said == []


def test_a_taken_port_is_replaced_and_the_user_is_told_both_numbers(taken: int) -> None:
    said: list[str] = []
    chosen = ports.choose(taken, what="the Web UI", say=said.append)
    assert chosen != taken
    assert ports.is_free(chosen)
    assert said == [f"Port {taken} is taken, so the Web UI listens on {chosen}."]


def test_a_wildcard_listener_takes_the_loopback_port_too() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen(1)
        assert not ports.is_free(server.getsockname()[1])


def test_a_port_promised_to_another_is_not_given_twice() -> None:
    wanted = ports.any_free()
    assert ports.choose(wanted, what="the test", exclude={wanted}) != wanted


def test_a_port_in_time_wait_is_free(taken: int) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((ports.LOOPBACK, 0))
        server.listen(1)
        port = server.getsockname()[1]
        client = socket.create_connection((ports.LOOPBACK, port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    assert ports.is_free(port)


def test_zero_means_any_and_nonsense_is_refused() -> None:
    assert ports.choose(0, what="the test") > 0
    with pytest.raises(ValueError, match="70000 is not a port"):
        ports.choose(70_000, what="the test")


def test_the_neighbours_end_at_the_last_port() -> None:
    chosen = ports.choose(65_535, what="the test", exclude={65_535})
    assert 0 < chosen < 65_535
