"""docker-compose.yml and the Dockerfile, checked without an engine: schema, pins, settings, health."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import documented

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PRODUCT = ("migrate", "worker", "webhooks")
SANDBOX = ("stripe-sandbox", "calcom-sandbox")
NAMES = {name for name, *_ in documented()}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

EXACT = re.compile(r"^[a-z0-9./-]+:\d+\.\d+(\.\d+)?(-slim)?$")


def test_it_is_valid_by_the_compose_schema() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    answer = subprocess.run(
        [*checker, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_schema_check_can_fail(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text("services: {worker: {imagine: this}}\n", encoding="utf-8")
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    answer = subprocess.run([*checker, str(wrong)], capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode != 0


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned_by_an_exact_version(service: str) -> None:
    assert EXACT.match(SERVICES[service]["image"])


def test_base_images_are_pinned_by_an_exact_version() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, flags=re.MULTILINE))
    assert bases
    assert all(EXACT.match(base) for base in bases if base not in stages)


@pytest.mark.parametrize("service", PRODUCT)
def test_every_setting_reaches_the_service(service: str) -> None:
    given = SERVICES[service]
    assert given["env_file"] == [{"path": ".env", "required": True}]
    assert given["environment"].keys() <= NAMES, "a misspelt setting would be ignored silently"
    assert given["environment"]["TEMPORAL_ADDRESS"] == "temporal:7233"
    assert "@postgres:5432/billing" in given["environment"]["DATABASE_URL"]


@pytest.mark.parametrize("service", SANDBOX)
def test_the_sandbox_knows_no_secret_but_its_own(service: str) -> None:
    given = SERVICES[service]
    assert given["profiles"] == ["sandbox"]
    assert not given["env_file"]
    assert not given["environment"]


def test_the_worker_scales() -> None:
    assert not {"container_name", "ports", "hostname"} & SERVICES["worker"].keys()


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "migrate"])
def test_what_keeps_running_has_a_health_check_and_comes_back(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[service]["restart"] == "unless-stopped"


def test_nothing_starts_before_the_migration_is_done() -> None:
    ready = {"condition": "service_healthy"}
    assert SERVICES["migrate"]["depends_on"] == {"postgres": ready, "temporal": ready}
    for service in ("worker", "webhooks"):
        assert SERVICES[service]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_only_this_host_sees_the_published_ports_unless_told_otherwise() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(re.match(r"^\$\{[A-Z_]+:-127\.0\.0\.1:\d+\}:\d+$", port) for port in published)


def test_every_variable_is_explained() -> None:
    for name in set(re.findall(r"\$\{([A-Z_]+)", TEXT)):
        assert re.search(rf"^(# )?{name}=", ENV_EXAMPLE, flags=re.MULTILINE), f"{name} is missing in .env.example"


@pytest.mark.parametrize("service", SERVICES)
def test_no_secret_stands_in_the_file(service: str) -> None:
    for name, value in SERVICES[service].get("environment", {}).items():
        if any(word in name for word in ("PASSWORD", "PWD", "SECRET", "KEY", "URL")):
            assert "${" in value


def test_mounted_files_exist() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    for mount in mounts:
        source = mount.split(":")[0]
        assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("service", SANDBOX)
def test_the_sandbox_understands_its_command(service: str) -> None:
    command = SERVICES[service]["command"]
    answer = subprocess.run(
        [sys.executable, *command[1:3], "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    for flag in command[3:]:
        assert flag.split("=")[0] in answer.stdout


def test_copied_files_exist_and_reach_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source
        for line in re.findall(r"^COPY ([^-].*)$", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {name.split(".")[0] for name in pyproject["tool"]["setuptools"]["packages"]} <= copied
    assert {f"{module}.py" for module in pyproject["tool"]["setuptools"]["py-modules"]} <= copied


def test_the_images_run_as_an_ordinary_user() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    for stage in ("AS sandbox", "AS product"):
        assert any(stage in text and "\nUSER 10001:10001\n" in text for text in stages)
