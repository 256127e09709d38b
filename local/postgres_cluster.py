"""Making, repairing and launching a PostgreSQL cluster with its own programs, as the account that owns it."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from local import files, ports, processes
from local.postgres_home import Account, Binaries, Home, PostgresError, clean_environment

# Sized for a laptop that also runs everything else. Durability is never traded for speed: a demo that loses
# acknowledged commits after a crash would prove nothing.
SETTINGS = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "logging_collector": "off",
    "password_encryption": "scram-sha-256",
    "cluster_name": "billing",
}


def initialise(account: Account, binaries: Binaries, home: Home, user: str, password: str) -> None:
    """Make a new cluster whose superuser is `user`; every connection will need the password.

    It is made beside its final place and renamed, so that a half-made one is never mistaken for data.
    """
    unfinished = home.directory / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    handover = home.directory / f"handover-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(handover, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{password}\n")
        if not account.is_self:
            os.chown(unfinished, account.uid, account.gid)
            os.chown(handover, account.uid, account.gid)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else []
        command = [
            binaries.path("initdb"),
            f"--pgdata={unfinished}",
            f"--username={user}",
            f"--pwfile={handover}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            *locale,
        ]
        _run(account, command)
    finally:
        handover.unlink(missing_ok=True)
    unfinished.rename(home.data)


def replace_password(account: Account, binaries: Binaries, home: Home, user: str, password: str) -> None:
    """Set a new password without knowing the old one, in single-user mode. The server must be down.

    `password` must contain nothing that SQL would have to quote.
    """
    settings = _options({"wal_level": "minimal", "max_wal_senders": "0"})
    command = [binaries.path("postgres"), "--single", "-D", str(home.data), *settings, "postgres"]
    _run(account, command, f"ALTER ROLE {user} PASSWORD '{password}'\n")


def spawn(
    account: Account, binaries: Binaries, home: Home, port: int, log_path: Path
) -> tuple[subprocess.Popen[bytes], int]:
    """Launch the server in a session of its own; returns it and where its messages begin in the log (bytes)."""
    with files.open_log(log_path) as log:
        offset = log.seek(0, os.SEEK_END)
        started = subprocess.Popen(
            [binaries.path("postgres"), "-D", str(home.data), *_options({**SETTINGS, "port": str(port)})],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=clean_environment(),
            umask=0o077,
            start_new_session=True,
            **account.popen_arguments(),  # type: ignore[call-overload]
        )
    return started, offset


def _options(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _run(account: Account, command: list[str], given: str = "") -> None:
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
        umask=0o077,
        env=clean_environment(),
        **account.popen_arguments(),  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        program = Path(command[0]).name
        raise PostgresError(f"{program} failed ({processes.signal_name(done.returncode)}): {done.stderr.strip()}")
