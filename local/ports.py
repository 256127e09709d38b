"""Free ports on the loopback interface: the wanted one, or another, and the user is told."""

import socket
from collections.abc import Callable, Collection

LOOPBACK = "127.0.0.1"
NEIGHBOURS = 10  # how many ports above the wanted one are tried before any free one is taken


class NoFreePort(RuntimeError):
    """The system had no port to give."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """True when a server could listen on `port` now. Nothing is reserved: bind soon, and be ready to choose again.

    A port that only waits for old connections to fade (TIME_WAIT) counts as free, because servers bind it all the same.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    # A wildcard listener does not stop a bind to the loopback address on every system, but it does answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(0.5)
        return caller.connect_ex((host, port)) != 0


def any_free(host: str = LOOPBACK, exclude: Collection[int] = ()) -> int:
    """A port that the system says is free and that is not in `exclude`."""
    for _ in range(50):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in exclude:
            return port
    raise NoFreePort(f"No free port on {host}: are too many servers or connections open?")


def choose(
    wanted: int,
    *,
    what: str,
    exclude: Collection[int] = (),
    say: Callable[[str], object] | None = None,
    host: str = LOOPBACK,
) -> int:
    """The wanted port, else one of its neighbours, else any free one; `wanted` 0 means any.

    `what` names the server in the sentence that goes to `say` when the wanted port is taken. `exclude` holds ports that
    are promised to others but not bound yet.
    """
    if not 0 <= wanted <= 65_535:
        raise ValueError(f"{wanted} is not a port; use 1 to 65535, or 0 for any")
    if wanted == 0:
        return any_free(host, exclude)
    for port in range(wanted, min(wanted + NEIGHBOURS, 65_536)):
        if port not in exclude and is_free(port, host):
            chosen = port
            break
    else:
        chosen = any_free(host, exclude)
    tell(wanted, chosen, what=what, say=say)
    return chosen


def tell(wanted: int, chosen: int, *, what: str, say: Callable[[str], object] | None) -> None:
    """Say that another port than the wanted one is in use, if it is so."""
    if wanted not in (0, chosen) and say is not None:
        say(f"Port {wanted} is taken, so {what} listens on {chosen}.")
