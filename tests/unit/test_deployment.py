"""docker-compose.yml and the Dockerfile name only commands, settings and images that exist."""

from __future__ import annotations

import re
import subprocess
import sys
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
