"""Command line of the Cal.com sandbox."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.calcom.app import run


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.calcom", description="A local stand-in for Cal.com.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the state is kept; made if missing")
    parser.add_argument("--webhook-url", help="sends every webhook there")
    parser.add_argument("--webhook-secret", help="signs them; without it they carry the words no-secret-provided")
    parser.add_argument("--port-file", type=Path, help="the port is written there once the server listens")
    parser.add_argument(
        "--rate-limit", type=int, default=120, help="requests in 60 s for each key, then blocked for 60 s; 0: off"
    )
    options = parser.parse_args(arguments)
    if options.webhook_secret and not options.webhook_url:
        parser.error("--webhook-secret needs --webhook-url")
    return options


def main(arguments: list[str] | None = None) -> int:
    """0 after a signal; 1 where the port is taken or the folder is not writable; 2 for wrong arguments."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        run(
            port=options.port,
            host=options.host,
            data_dir=options.data_dir,
            port_file=options.port_file,
            limit=options.rate_limit,
            webhook=(options.webhook_url, options.webhook_secret) if options.webhook_url else None,
        )
    except OSError as error:
        print(f"calcom sandbox cannot start on port {options.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
