"""deploy/bootstrap with stand-ins for Python and uv: what it says and does, without the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "sed", "cksum", "dirname", "id", "head", "cat", "rm", "mkdir", "pwd", "chmod", "cp")

UV = """#!/bin/sh
if [ "$1" = --version ]; then echo "uv {version}"; exit; fi
echo "uv $1 $2" >> "$CALLS"
"""

PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv")
    echo "create" >> "$CALLS"
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip")
    [ "$3" = --version ] && exit
    echo "pip $3" >> "$CALLS"
    cp "$FAKE_UV" "$(dirname "$0")/uv" ;;
"-c import ensurepip, venv") exit {ensurepip} ;;
"-c import sys; print(sys.prefix)") cd "$(dirname "$0")/.." && pwd ;;
*) exec "{real}" "$@" ;;
esac
"""


class Machine:
    """A folder with the files that the bootstrap reads, and a PATH that holds only what the test puts there."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "a folder"
        self.bin = tmp_path / "bin"
        self.calls = tmp_path / "calls"
        self.bin.mkdir()
        (self.folder / "deploy").mkdir(parents=True)
        shutil.copy(ROOT / "deploy/bootstrap", self.folder / "deploy/bootstrap")
        for name in ("requirements.lock", "requirements-bootstrap.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.folder / name)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found
            (self.bin / tool).symlink_to(found)
        version = (ROOT / "requirements-bootstrap.lock").read_text(encoding="utf-8").split("uv==")[1].split(" ")[0]
        self.fake_uv = tmp_path / "uv"
        self.fake_uv.write_text(UV.format(version=version), encoding="utf-8")
        self.fake_uv.chmod(0o755)

    def python(self, name: str, *, ensurepip: bool = True) -> None:
        """Puts a Python on the PATH that makes a pretended virtual environment."""
        script = PYTHON.format(real=sys.executable, ensurepip=0 if ensurepip else 1)
        (self.bin / name).write_text(script, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def run(self, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs the bootstrap; `calls` starts empty."""
        self.calls.write_text("", encoding="utf-8")
        return subprocess.run(
            [str(self.bin / "sh"), str(self.folder / "deploy/bootstrap")],
            env={"PATH": str(self.bin), "CALLS": str(self.calls), "FAKE_UV": str(self.fake_uv), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def called(self) -> list[str]:
        return self.calls.read_text(encoding="utf-8").splitlines()


FULL = ["create", "pip install", "uv pip sync", "uv pip install"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_run_builds_and_the_second_does_nothing(machine: Machine) -> None:
    machine.python("python3")
    first = machine.run()
    assert first.returncode == 0, first.stderr
    assert machine.called() == FULL
    second = machine.run()
    assert second.returncode == 0
    assert (machine.called(), second.stdout) == ([], "")


def test_a_changed_lock_is_installed_without_a_new_venv(machine: Machine) -> None:
    machine.python("python3")
    machine.run()
    with (machine.folder / "requirements.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert machine.run().returncode == 0
    assert machine.called() == ["uv pip sync", "uv pip install"]


def test_a_moved_folder_gets_a_new_venv(machine: Machine, tmp_path: Path) -> None:
    machine.python("python3")
    machine.run()
    machine.folder = machine.folder.rename(tmp_path / "elsewhere")
    assert machine.run().returncode == 0
    assert machine.called() == FULL


def test_a_broken_install_is_repaired_by_the_next_run(machine: Machine) -> None:
    machine.python("python3")
    good = machine.fake_uv.read_text(encoding="utf-8")
    machine.fake_uv.write_text(good + "exit 1\n", encoding="utf-8")
    assert machine.run().returncode != 0
    (machine.folder / ".venv/bin/uv").write_text(good, encoding="utf-8")
    assert machine.run().returncode == 0
    assert machine.called() == ["uv pip sync", "uv pip install"]


def test_no_python_is_said(machine: Machine) -> None:
    answer = machine.run()
    assert answer.returncode == 1
    assert "Python 3.11 or newer is needed" in answer.stderr
    assert "apt-get install python3 python3-venv" in answer.stderr
    assert not (machine.folder / ".venv").exists()


def test_a_launcher_without_an_interpreter_is_passed_over(machine: Machine) -> None:
    """Version managers leave such names on the PATH."""
    (machine.bin / "python3.13").write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    (machine.bin / "python3.13").chmod(0o755)
    machine.python("python3")
    answer = machine.run()
    assert answer.returncode == 0, answer.stderr
    assert machine.called() == FULL


def test_a_missing_venv_module_names_the_package(machine: Machine) -> None:
    machine.python("python3", ensurepip=False)
    answer = machine.run()
    assert answer.returncode == 1
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in answer.stderr


def test_a_wrong_choice_of_python_is_said(machine: Machine) -> None:
    machine.python("python3")
    answer = machine.run(PYTHON="/nonexistent/python")
    assert answer.returncode == 1
    assert "PYTHON=/nonexistent/python is not a Python 3.11 or newer" in answer.stderr


def make(*arguments: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60, env=env
    ).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_passes_keep_on() -> None:
    assert "cli demo --keep" in make("-n", "demo", "KEEP=1")
    assert "--keep" not in make("-n", "demo")
    assert "--keep" not in make("-n", "demo", "KEEP=0")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_test_runs_every_check() -> None:
    steps = make("-n", "test")
    for word in ("ruff format --check", "ruff check", "mypy --strict", "lint-imports", "pytest"):
        assert word in steps
    for target in ("demo", "test", "bench", "chaos", "lock", "clean"):
        assert f"make {target} " in make("help")


def test_ci_runs_make_test_only() -> None:
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)
