"""``python -m sandbox.stripe``: runs the stand-in until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from sandbox.stripe.app import Sandbox
from sandbox.stripe.settings import Settings

_BACKLOG = 256


class _Server(uvicorn.Server):
    """uvicorn that says when it answers, and leaves signals alone (it would raise them again after a clean stop)."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Sets ``ready`` once requests are answered."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the process's handlers alone."""
        yield


def parse(argv: Sequence[str] | None = None) -> Settings:
    """The command line as settings."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.stripe", description="A local stand-in for Stripe.")
    add = parser.add_argument
    add("--port", type=int, default=0, help="0 (default) picks a free one")
    add("--host", default="127.0.0.1")
    add("--data-dir", type=Path, required=True, help="where the state is kept")
    add("--port-file", type=Path, help="the port is written here once requests are answered")
    add("--webhook-url", help="every event is posted here, with --webhook-secret")
    add("--webhook-secret", help="whsec_…")
    add("--webhook-retry-seconds", type=float, default=Settings.webhook_retry_seconds, help="first pause, then doubled")
    add("--available-after-seconds", type=int, default=0, help="until a charge's money is available (default: at once)")
    add("--sepa-after-seconds", type=int, default=Settings.sepa_after_seconds, help="until a bank answers; -1: never")
    add("--refund-change-after-seconds", type=int, default=Settings.refund_change_after_seconds)
    add("--payout-after-seconds", type=int, default=Settings.payout_after_seconds)
    add("--search-delay-seconds", type=int, default=Settings.search_delay_seconds)
    add("--rate-per-second", type=int, help="requests a second before 429 (default: no limit)")
    add("--endpoint-rate-per-second", type=int, help="the same for each route")
    add("--log-size", type=int, default=Settings.log_size, help="requests that /_sandbox/log remembers")
    given = vars(parser.parse_args(argv))
    if (given["webhook_url"] is None) != (given["webhook_secret"] is None):
        parser.error("--webhook-url and --webhook-secret belong together")
    if given["sepa_after_seconds"] < 0:
        given["sepa_after_seconds"] = None
    return Settings(**given)


async def serve(settings: Settings) -> None:
    """Binds, announces the address on stdout, answers until told to stop."""
    # The protocol is named because asyncio switches Nagle's algorithm off only then: it costs 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.listen(_BACKLOG)
    port = listener.getsockname()[1]
    sandbox = Sandbox(settings)
    sandbox.api.base_url = f"http://{settings.host}:{port}"
    config = uvicorn.Config(
        sandbox,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    await sandbox.start()
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.wait({running, asyncio.create_task(server.ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if settings.port_file is not None:
        fresh = settings.port_file.with_name(settings.port_file.name + ".new")
        fresh.write_text(f"{port}\n")
        os.replace(fresh, settings.port_file)
    print(f"stripe sandbox listening on {sandbox.api.base_url}", flush=True)
    await running
    await sandbox.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 after a clean stop, 1 if the port is taken or the data directory cannot be used."""
    settings = parse(argv)
    try:
        asyncio.run(serve(settings))
    except OSError as error:
        print(f"stripe sandbox: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
