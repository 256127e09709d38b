"""The whole system on one machine: database, Temporal, stand-ins, webhook app and workers as one process tree.

`billing up`, the demo, the end-to-end tests, the benchmark and the chaos drills all start this and nothing else. What
the environment names already (DATABASE_URL, TEMPORAL_ADDRESS, STRIPE_SECRET_KEY, CALCOM_API_KEY) is used as it is.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from local import files, ports
from local.postgres import EmbeddedPostgres
from local.temporal import LocalTemporal
from local.tree import ChildSpec, ProcessTree, Restart, answers, listens
from settings import Settings, documented
from workflows.visibility import SEARCH_ATTRIBUTES

ROOT = Path(__file__).resolve().parent.parent
"""Where `worker.py` lives: children run here, so that a clone works without being installed."""

SANDBOX_STRIPE_KEY = "sk_test_sandbox"
SANDBOX_CALCOM_KEY = "cal_test_sandbox"


@dataclass(frozen=True)
class Wishes:
    """How an environment should be. Ports are wishes: a taken one is replaced, and `say` is told."""

    postgres_port: int = 0
    temporal_port: int = 7233
    ui_port: int = 8233
    webhook_port: int = 8080
    stripe_port: int = 12111
    calcom_port: int = 12112
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings for worker and webhook app beyond the addresses, such as a shorter dunning interval."""
    persistent: bool = True
    """False: Temporal in memory, for tests."""
    stripe_options: tuple[str, ...] = ()
    calcom_options: tuple[str, ...] = ("--rate-limit", "0")
    """The demo plants hundreds of bookings at once, which Cal.com's 120 requests a minute would stretch to minutes."""
    isolated: bool = False
    """True: only DATABASE_URL counts of what the environment variables and a `.env` file say. For what plays with money
    and must not reach anybody's real accounts."""


ANY_PORTS = Wishes(temporal_port=0, ui_port=0, webhook_port=0, stripe_port=0, calcom_port=0, persistent=False)


class Environment:
    """Start in the order of the methods' use: `start()`, then `start_webhooks()` and `start_worker()`.

    Leaving the `with` block ends every process that it started. `addresses` maps what was started to where it is.
    """

    def __init__(self, state_dir: Path, wishes: Wishes | None = None, *, say: Callable[[str], object] = print) -> None:
        self.state_dir = Path(state_dir).absolute()
        self.wishes = wishes or Wishes()
        self.addresses: dict[str, str] = {}
        self.env: dict[str, str] = {}
        self.ui_url = ""
        self._say = say
        self._tree = ProcessTree(self.state_dir)
        self._workers = 0

    def __enter__(self) -> Self:
        self._tree.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tree.__exit__(kind, error, trace)

    @property
    def tree(self) -> ProcessTree:
        return self._tree

    @property
    def uses_sandbox(self) -> bool:
        """Whether both companies are stand-ins, so that the demo may play with them."""
        return "stripe sandbox" in self.addresses and "cal.com sandbox" in self.addresses

    def settings(self) -> Settings:
        """The settings that worker and webhook app were started with."""
        return Settings(_env_file=None, **{name.lower(): value for name, value in self.env.items()})  # type: ignore[arg-type]

    def start(self) -> None:
        """Database, Temporal and the stand-ins; afterwards `env` holds every setting."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        webhook_port = ports.choose(self.wishes.webhook_port, what="the webhook app", say=self._say)
        webhooks = f"http://{ports.LOOPBACK}:{webhook_port}"
        self.env = {
            **(_defaults() if self.wishes.isolated else {}),
            "DATABASE_URL": os.environ.get("DATABASE_URL") or self._start_postgres(),
            "WEBHOOK_PORT": str(webhook_port),
            "STRIPE_WEBHOOK_SECRET": self._given("STRIPE_WEBHOOK_SECRET") or f"whsec_{secrets.token_hex(16)}",
            "CALCOM_WEBHOOK_SECRET": self._given("CALCOM_WEBHOOK_SECRET") or secrets.token_hex(16),
        }
        self.addresses["webhook app"] = webhooks
        self.addresses["database"] = self.env["DATABASE_URL"].rsplit("@", 1)[-1]
        self._reach_temporal()
        self._reach_stripe(webhooks)
        self._reach_calcom(webhooks)
        self.env.update(self.wishes.settings)

    def start_webhooks(self) -> None:
        """The webhook app with its relay; ready when it answers `/healthz`."""
        self._start("webhooks", [sys.executable, "-m", "cli.main", "webhooks"], answers(self.webhook_url + "/healthz"))

    def start_worker(self) -> str:
        """One more worker process; returns its name for `tree.kill` and `tree.restart`."""
        self._workers += 1
        name = f"worker-{self._workers}"
        self._start(name, [sys.executable, "worker.py"], None)
        return name

    @property
    def webhook_url(self) -> str:
        return self.addresses["webhook app"]

    def write_env_file(self, folder: Path | None = None) -> Path:
        """All settings as KEY=value lines that only the owner can read, for `billing` in another terminal.

        Named `env`, in the state directory or in `folder`. What was there before is replaced.
        """
        path = (folder or self.state_dir) / "env"
        files.write_whole(path, "".join(f"{name}={value}\n" for name, value in self.env.items()))
        return path

    # --- parts ---

    def _given(self, name: str) -> str | None:
        return None if self.wishes.isolated else os.environ.get(name)

    def _start_postgres(self) -> str:
        server = EmbeddedPostgres(self.state_dir, self.wishes.postgres_port, say=self._say)
        return self._tree.start_service("postgres", server)

    def _reach_temporal(self) -> None:
        given = self._given("TEMPORAL_ADDRESS")
        if given:
            self.env["TEMPORAL_ADDRESS"] = self.addresses["temporal"] = given
            self.env["TEMPORAL_NAMESPACE"] = os.environ.get("TEMPORAL_NAMESPACE", "default")
            return
        server = LocalTemporal(
            self.state_dir,
            port=self.wishes.temporal_port,
            ui_port=self.wishes.ui_port,
            search_attributes=SEARCH_ATTRIBUTES,
            persistent=self.wishes.persistent,
            say=self._say,
        )
        self.env["TEMPORAL_ADDRESS"] = self.addresses["temporal"] = self._tree.start_service("temporal", server)
        self.ui_url = self.addresses["temporal web ui"] = server.ui_url

    def _reach_stripe(self, webhooks: str) -> None:
        given = self._given("STRIPE_SECRET_KEY")
        if given:
            self.env["STRIPE_SECRET_KEY"] = given
            return
        port = ports.choose(self.wishes.stripe_port, what="the Stripe stand-in", say=self._say)
        target = ["--webhook-url", f"{webhooks}/webhooks/stripe", "--webhook-secret", self.env["STRIPE_WEBHOOK_SECRET"]]
        url = self._start_sandbox("stripe", port, [*target, *self.wishes.stripe_options])
        self.env.update(STRIPE_SECRET_KEY=SANDBOX_STRIPE_KEY, STRIPE_BASE_URL=url)
        self.addresses["stripe sandbox"] = url

    def _reach_calcom(self, webhooks: str) -> None:
        given = self._given("CALCOM_API_KEY")
        if given:
            self.env["CALCOM_API_KEY"] = given
            return
        port = ports.choose(self.wishes.calcom_port, what="the Cal.com stand-in", say=self._say)
        target = ["--webhook-url", f"{webhooks}/webhooks/calcom", "--webhook-secret", self.env["CALCOM_WEBHOOK_SECRET"]]
        url = self._start_sandbox("calcom", port, [*target, *self.wishes.calcom_options])
        self.env.update(CALCOM_API_KEY=SANDBOX_CALCOM_KEY, CALCOM_BASE_URL=url)
        self.addresses["cal.com sandbox"] = url

    def _start_sandbox(self, name: str, port: int, options: list[str]) -> str:
        data = self.state_dir / f"sandbox-{name}"
        command = [sys.executable, "-m", f"sandbox.{name}", "--port", str(port), "--data-dir", str(data), *options]
        self._start(f"sandbox-{name}", command, listens(port))
        return f"http://{ports.LOOPBACK}:{port}"

    def _start(self, name: str, command: list[str], ready: Callable[[], bool] | None) -> None:
        self._tree.start(
            ChildSpec(
                name=name,
                command=command,
                env={**self.env, "PYTHONUNBUFFERED": "1"},
                cwd=ROOT,
                ready=ready,
                restart=Restart.ON_CRASH,
            )
        )


def _defaults() -> dict[str, str]:
    """Every setting's own default, said aloud, so that children don't find another one in their environment."""
    return {
        **{name: default for name, _, default, _ in documented() if default not in ("", "required")},
        "TEMPORAL_API_KEY": "",
    }
