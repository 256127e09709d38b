"""Health check of a container: exit code 0 when an address answers 2xx. Needs nothing but the standard library."""

from __future__ import annotations

import sys
import urllib.request

TIMEOUT_SECONDS = 4.0


def main(arguments: list[str]) -> int:
    """0: answered 2xx; 1: no answer or another one, printed for `docker inspect`; 2: wrong arguments."""
    if len(arguments) != 1 or not arguments[0].startswith("http://127.0.0.1:"):
        sys.stderr.write("usage: python -m deploy.check_http http://127.0.0.1:PORT/PATH\n")
        return 2
    try:
        # A proxy in the environment must not answer for this container.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(arguments[0], timeout=TIMEOUT_SECONDS):
            return 0
    except OSError as error:
        body = error.read(500).decode("utf-8", "replace") if hasattr(error, "read") else ""
        sys.stderr.write(f"{arguments[0]}: {error} {body}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
