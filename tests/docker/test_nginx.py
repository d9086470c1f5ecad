"""docker/nginx.conf as it stands, by Debian's nginx in front of the API: uploads, prefix, events, TLS."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.service import ROOT, Service, serving
from tests.waiting import until
from worker.demo.processes import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.long]

UPLOAD_BYTES = 500 * 10**6
PIECE = bytes(2**20)
HEAD = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"


def certificate(folder: Path, name: str) -> None:
    """A key and a certificate for a name and for loopback."""
    alternatives = f"subjectAltName=DNS:{name},IP:127.0.0.1"
    made = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-addext", alternatives, *made], check=True, capture_output=True)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, httpx.Client]]:
    """The API behind nginx, and a client that trusts the test's certificate."""
    program = shutil.which("nginx")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed (Debian: apt-get install nginx-light openssl)")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    certificate(folder, "localhost")
    public = f"https://localhost:{port}/mien"
    limits = {"MIEN_MAX_UPLOAD_BYTES": str(2**30), "MIEN_PUBLIC_URL": public}
    with serving(folder, **limits) as service:
        service.wait_live()
        text = (ROOT / "docker" / "nginx.conf").read_text()
        for found, here in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("example.org;", "localhost;"),
            ("/etc/nginx/tls", str(folder)),
            ("server app:8000", f"server {service.url.removeprefix('http://')}"),
        ):
            assert found in text, found
            text = text.replace(found, here)
        file = folder / "nginx.conf"
        file.write_text(f"user {'root' if os.getuid() == 0 else 'nobody'};\npid {folder}/nginx.pid;\n{text}")
        service.start("nginx", program, "-c", str(file), "-e", "stderr", "-g", "daemon off;")
        trust = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        with httpx.Client(base_url=public, verify=trust, timeout=120, trust_env=False) as client:
            until(lambda: answers(client))
            yield service, client


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/jobs").status_code == 200
    except httpx.TransportError:
        return False


def test_a_large_upload(proxied: tuple[Service, httpx.Client]) -> None:
    """500 MB arrive whole, and go through as they come: the store has a part of them before they are all sent."""
    service, client = proxied
    digest, stored_meanwhile = sha256(), 0

    def body() -> Iterator[bytes]:
        nonlocal stored_meanwhile
        sent = 0
        while sent < UPLOAD_BYTES:
            piece = (HEAD + PIECE if sent == 0 else PIECE)[: UPLOAD_BYTES - sent]
            digest.update(piece)
            sent += len(piece)
            yield piece
            if sent > 0.9 * UPLOAD_BYTES and not stored_meanwhile:
                parts = [path for path in service.uploads.rglob("*.part") if path.is_file()]
                stored_meanwhile = sum(path.stat().st_size for path in parts)

    headers = {"Content-Type": "video/mp4", "Content-Length": str(UPLOAD_BYTES)}
    answer = client.post("/v1/jobs", content=body(), headers=headers)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert (job["input"]["bytes"], job["input"]["sha256"]) == (UPLOAD_BYTES, digest.hexdigest())
    assert stored_meanwhile > 0.5 * UPLOAD_BYTES
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204


def test_the_prefix(proxied: tuple[Service, httpx.Client]) -> None:
    """Links lead through the proxy, and the page with all that it loads is there; what is for operators is not."""
    _, client = proxied
    answer = client.post("/v1/jobs", content=HEAD + bytes(1000))
    job = answer.json()
    assert answer.headers["location"].startswith(("/mien/v1/jobs/", f"{client.base_url}v1/jobs/"))
    for link in ("self", "frames"):
        assert client.get(str(httpx.URL(str(client.base_url)).join(job["links"][link]))).status_code == 200
    page = client.get("/")
    assert page.status_code == 200
    base = httpx.URL(str(client.base_url))
    for part in ("static/page/main.js", "docs", "openapi.json"):
        assert client.get(base.join(part)).status_code == 200
    for part in ("metrics", "health/ready", "health/live"):
        assert client.get(f"/{part}").status_code == 404
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204


def test_events_come_as_they_happen(proxied: tuple[Service, httpx.Client]) -> None:
    """The first event is there at once, and the end when the job is cancelled; then the stream closes."""
    _, client = proxied
    job_id = client.post("/v1/jobs", content=HEAD + bytes(1000)).json()["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept-Encoding": "identity"}) as stream:
        lines = stream.iter_lines()
        began = time.monotonic()
        assert next(line for line in lines if line.startswith("event:")) == "event: progress"
        assert time.monotonic() - began < 10
        assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
        rest = list(lines)
    assert "event: canceled" in rest
    assert [json.loads(line[5:])["state"] for line in rest if line.startswith("data:")][-1] == "canceled"
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
