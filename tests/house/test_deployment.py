"""Properties of the images and the compose file that can be checked without a container engine."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from app.settings import Settings
from tests.service import no_settings
from worker.demo.processes import free_port
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("redis", "app", "worker", "worker-cpu")
MONITORING = ("prometheus", "grafana")
# Where Redis and the store are and what is listened on is compose's own; with keys required nobody is anonymous.
FIXED = {"MIEN_REDIS_URL", "MIEN_UPLOADS", "MIEN_HOST", "MIEN_PORT", "MIEN_ALLOW_ANONYMOUS"}
OWN_DEFAULTS = {"MIEN_DEVICE", "MIEN_LOG_JSON", "MIEN_TRUSTED_PROXIES", "MIEN_DETECTOR_MODEL"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_redis_neither_forgets_nor_evicts(compose: dict[str, Any]) -> None:
    """Queue and results survive a crash, and a full Redis rejects writes instead of evicting jobs."""
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--appendfsync everysec" in command
    assert "--maxmemory-policy noeviction" in command
    assert "redis:/data" in compose["services"]["redis"]["volumes"]


def test_the_redis_of_compose_has_one_user_with_the_rights_of_the_file(compose: dict[str, Any], tmp_path: Path) -> None:
    """The unchanged command starts a Redis whose only user `mien` has exactly the rights that the service needs."""
    service, port = compose["services"]["redis"], free_port()
    (rights,) = [volume for volume in service["volumes"] if volume.startswith("./docker/")]
    source, target, _ = rights.split(":")
    shell, option, command = service["command"]
    command = command.replace("$$", "$").replace("/tmp/", f"{tmp_path}/").replace(target, str(ROOT / source))
    environment = {**os.environ, "REDIS_PASSWORD": "a secret", "REDIS_MAXMEMORY": "64mb"}
    with subprocess.Popen(
        [shell, option, f"{command} --port {port} --bind 127.0.0.1"], cwd=tmp_path, env=environment, stdout=DEVNULL
    ) as server:
        try:
            user = redis.Redis(port=port, username="mien", password="a secret", retry=Retry(ConstantBackoff(0.1), 100))
            assert user.set("mien:key", 1)
            for forbidden in (user.config_get, user.flushall, lambda: user.set("other", 1)):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    forbidden()
            with pytest.raises(redis.exceptions.AuthenticationError):
                redis.Redis(port=port).ping()
        finally:
            server.terminate()


def test_redis_is_private(compose: dict[str, Any]) -> None:
    """Redis is on the internal network only, publishes no port and has a password that must be given."""
    service = compose["services"]["redis"]
    assert "ports" not in service
    assert service["networks"] == ["internal"]
    assert compose["networks"]["internal"]["internal"] is True
    assert ":?" in service["environment"]["REDIS_PASSWORD"]


def test_workers_are_out_of_reach(compose: dict[str, Any]) -> None:
    """No worker publishes a port or reaches the internet."""
    for name in ("worker", "worker-cpu"):
        assert "ports" not in compose["services"][name]
        assert compose["services"][name]["networks"] == ["internal"]


@pytest.mark.parametrize("name", [*SERVICES, *MONITORING])
def test_service_is_hardened(compose: dict[str, Any], name: str) -> None:
    """Read-only, without capabilities or new privileges, with a health check, restarted."""
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES[1:])
def test_service_waits_for_a_healthy_redis(compose: dict[str, Any], name: str) -> None:
    """API and workers start after Redis is healthy, and share the uploads."""
    assert compose["services"][name]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert "uploads:/data/uploads" in compose["services"][name]["volumes"]


@pytest.mark.parametrize("name", MONITORING)
def test_monitoring_is_asked_for_and_mounts_what_there_is(compose: dict[str, Any], name: str) -> None:
    """A profile of its own; every file that it mounts is there, and what it publishes is on loopback."""
    service = compose["services"][name]
    assert service["profiles"] == ["monitoring"]
    mounted = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("./")]
    assert mounted
    assert all((ROOT / path).exists() for path in mounted)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_gpu_is_reserved_for_the_default_worker_only(compose: dict[str, Any]) -> None:
    """The worker reserves an NVIDIA GPU and names it; the CPU worker is a profile that needs none."""
    gpu, cpu = compose["services"]["worker"], compose["services"]["worker-cpu"]
    device = gpu["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert "cuda" in gpu["environment"]["MIEN_DEVICE"]
    assert cpu["profiles"] == ["cpu"]
    assert "deploy" not in cpu
    assert cpu["environment"]["MIEN_DEVICE"] == "cpu"


def test_variables_of_compose_are_in_the_example(compose: dict[str, Any]) -> None:
    """Every variable that the compose files read is in .env.example."""
    texts = (ROOT / "docker-compose.yml").read_text() + (ROOT / "docker/several-hosts.yml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{(MIEN_[A-Z0-9_]+)", texts))
    shown = set(re.findall(r"^#?(MIEN_[A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == shown


def test_every_setting_reaches_its_container(compose: dict[str, Any]) -> None:
    """All settings of API and worker can be set in .env, except those that compose itself defines."""
    api, worker = compose["services"]["app"]["environment"], compose["services"]["worker"]["environment"]
    for settings, environment in ((Settings, api), (WorkerSettings, worker)):
        for name, field in settings.model_fields.items():
            variable = f"MIEN_{name.upper()}"
            if variable in FIXED:
                continue
            given = re.fullmatch(r"\$\{" + variable + r"(?::-(.*)|:\?.*)\}", str(environment[variable]))
            assert given, variable
            if variable not in OWN_DEFAULTS and given[1] is not None:
                with no_settings():
                    assert settings.model_validate({name: given[1]}) == settings.model_validate({}), variable
            assert field.description


def test_several_hosts_add_to_compose(compose: dict[str, Any]) -> None:
    """The overriding file names services and networks that there are, and settings that these know."""
    more = yaml.safe_load((ROOT / "docker/several-hosts.yml").read_text())
    for name, service in more["services"].items():
        assert name in compose["services"]
        assert set(service.get("networks", ())) <= set(compose["networks"])
        shared = {variable for variable in service.get("environment", ()) if variable.startswith("MIEN_")}
        assert shared <= set(compose["services"][name]["environment"])


def test_the_gpu_image_is_for_the_cuda_of_the_pinned_torch() -> None:
    """Otherwise a driver that only suits one of them appears as a missing GPU."""
    base = re.search(r"^ARG WORKER_BASE=nvidia/cuda:(\d+)\.", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    torch = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert base is not None
    assert torch is not None
    assert (torch[1], base[1]) == ("2.13.0", "13"), "look up which CUDA the new wheel brings, and set both here"


def test_front_end_of_compose_may_serve(compose: dict[str, Any]) -> None:
    """The API accepts compose's settings: keys are required, since it listens on all addresses."""
    environment = compose["services"]["app"]["environment"]
    assert ":?" in environment["MIEN_API_KEYS"]
    known = {f"MIEN_{name.upper()}" for name in Settings.model_fields}
    assert set(environment) <= known


@pytest.mark.parametrize("target", ["app", "worker"])
def test_image_runs_as_nobody_special(target: str) -> None:
    """Each image ends as a user without privileges, with a health check whose file it has."""
    text = (ROOT / "Dockerfile").read_text()
    stage = re.search(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    assert stage is not None
    assert "USER 10001:10001" in stage[1]
    check = re.search(r'HEALTHCHECK .*"(/opt/docker/(\S+\.py))"', stage[1])
    assert check is not None
    assert f"COPY docker/{check[2]} {check[1]}" in stage[1]
    assert (ROOT / "docker" / check[2]).is_file()


def test_front_end_image_has_no_worker() -> None:
    """The front end's image is built from the front end alone."""
    text = (ROOT / "Dockerfile").read_text()
    stage = text[text.index("AS app-build") : text.index("FROM ${WORKER_BASE}")]
    assert "torch" not in stage
    assert "COPY app ./app" in stage
    assert not re.search(r"COPY .*(worker|model_store)", stage)
