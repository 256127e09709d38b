"""deploy/bootstrap-bench with a stand-in for uv: the benchmark runs whether or not its peers can be installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

UV = """#!/bin/sh
echo "$1 $2" >> calls
[ "$1" = venv ] && mkdir -p .venv-bench
exit {code}
"""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "deploy").mkdir()
        (folder / ".venv/bin").mkdir(parents=True)
        for name in ("deploy/bootstrap-bench", "requirements-bench.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        self.program("python", "#!/bin/sh\necho 3.11\n")

    def program(self, name: str, text: str) -> None:
        (self.folder / ".venv/bin" / name).write_text(text, encoding="utf-8")
        (self.folder / ".venv/bin" / name).chmod(0o755)

    def run(self, *, uv_code: int = 0) -> subprocess.CompletedProcess[str]:
        self.program("uv", UV.format(code=uv_code))
        (self.folder / "calls").write_text("", encoding="utf-8")
        command = ["sh", str(self.folder / "deploy/bootstrap-bench")]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    @property
    def called(self) -> list[str]:
        return (self.folder / "calls").read_text(encoding="utf-8").splitlines()

    @property
    def installed(self) -> bool:
        return (self.folder / ".venv-bench/.bootstrapped").exists()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_first_run_installs_and_the_second_does_nothing(machine: Machine) -> None:
    first = machine.run()
    assert (first.returncode, first.stderr) == (0, "")
    assert machine.called == ["venv --quiet", "pip sync", "pip install"]
    assert machine.installed
    second = machine.run()
    assert (second.returncode, second.stdout, machine.called) == (0, "", [])


def test_a_changed_lock_is_installed(machine: Machine) -> None:
    machine.run()
    with (machine.folder / "requirements-bench.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    machine.run()
    assert machine.called == ["venv --quiet", "pip sync", "pip install"]


def test_without_the_network_the_benchmark_goes_on_and_says_so(machine: Machine) -> None:
    answer = machine.run(uv_code=1)
    assert answer.returncode == 0
    assert "reported as absent" in answer.stderr
    assert not machine.installed


def test_a_failed_install_leaves_no_half_of_an_old_one(machine: Machine) -> None:
    machine.run()
    (machine.folder / "pyproject.toml").write_text("", encoding="utf-8")
    machine.run(uv_code=1)
    assert not machine.installed
