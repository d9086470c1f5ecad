"""Eight hosts on one machine: Redis with ACL and TLS, S3, two front ends, nginx before them, three workers.

Each is a network namespace with a name and an address of its own on the switch.  Clocks of two workers are wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from tests.model_store.conftest import tiny_fields, write_tiny
from tests.service import ROOT, Client, no_settings, redis_rights
from worker.demo.processes import Process

HERE = "10.77.0.1"
REDIS, S3, PROXY = "redis", "s3", "proxy"
FRONTS = ("front-1", "front-2")
WORKERS = ("worker-1", "worker-2", "worker-3")
ADDRESSES = {host: f"10.77.0.{number}" for number, host in enumerate((REDIS, S3, PROXY, *FRONTS, *WORKERS), 2)}
CLOCK_AHEAD_S = {WORKERS[1]: -300, WORKERS[2]: 300}
KEY = "a-key-of-the-tests"
START_S = 240
# A host has its name, too, since workers tell it.
NAMED = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')

Traffic = dict[str, int]


class Lab:
    """The hosts while they run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.figures: dict[str, Any] = {}
        self._stack = stack
        for host in ADDRESSES:
            subprocess.run(["ip", "netns", "add", namespace(host)], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", namespace(host)], check=False)
        ports = [HERE, *(f"{address}={namespace(host)}" for host, address in ADDRESSES.items())]
        command = [sys.executable, "-m", "tests.hosts.switch", *ports]
        piped = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._switch = stack.enter_context(piped)
        stack.callback(self._switch.terminate)
        assert self._switch.stdout is not None
        assert self._switch.stdout.readline() == "ready\n"
        self.environment = self._settings()
        self.processes: dict[str, Process] = {}
        self._start_services()

    def net(self, *hosts: str, **conditions: object) -> None:
        """Change the network of hosts."""
        for host in hosts:
            self._tell({"host": ADDRESSES[host], **conditions})

    def traffic(self) -> Traffic:
        """The bytes that each host has sent and received until now."""
        counted = self._tell({})
        return {host: sum(counted[address]) for host, address in ADDRESSES.items()}

    @contextmanager
    def cut(self, host: str, seconds: float) -> Iterator[None]:
        """Cut a host off for so long, or until the block ends if that is later."""
        self.net(host, cut=True)
        ends = time.monotonic() + seconds
        try:
            yield
            time.sleep(max(ends - time.monotonic(), 0))
        finally:
            self.net(host, cut=False)

    def start(self, host: str, *command: str, **settings: str) -> Process:
        """A process on a host."""
        with no_settings():
            inside = ["ip", "netns", "exec", namespace(host), *NAMED, host, *command]
            process = Process(f"{host}-{len(self.processes)}", inside, self.environment | settings, self.folder)
        self._stack.callback(process.stop)
        self.processes[host] = process
        return process

    def start_front(self, host: str) -> Process:
        """A front end."""
        return self.start(host, sys.executable, "-m", "app", MIEN_HOST=ADDRESSES[host], MIEN_PORT="8000")

    def start_worker(self, host: str) -> Process:
        """A worker that takes its time for each frame, so that there is time to do something to it."""
        ahead_s = CLOCK_AHEAD_S.get(host)
        clock = {} if ahead_s is None else {"LD_PRELOAD": str(self._clock()), "CLOCK_AHEAD_S": str(ahead_s)}
        return self.start(host, sys.executable, "-m", "tests.faults.launch", str(self.folder), **clock)

    def client(self) -> httpx.Client:
        """Through the proxy, as clients come."""
        trust = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        address = f"https://{ADDRESSES[PROXY]}/mien"
        return httpx.Client(base_url=address, headers={"X-API-Key": KEY}, verify=trust, timeout=90, trust_env=False)

    def front(self, host: str, path: str) -> httpx.Response:
        """What a front end answers to its operator."""
        return httpx.get(f"http://{ADDRESSES[host]}:8000{path}", trust_env=False, timeout=30)

    def wait_ready(self) -> None:
        """Until all workers are ready, as the first front end sees it."""
        deadline = time.monotonic() + START_S
        ready = 0
        while ready < len(WORKERS):
            assert time.monotonic() < deadline, "\n".join(process.tail() for process in self.processes.values())
            for process in self.processes.values():
                process.check()
            try:
                workers = self.front(FRONTS[0], "/health/ready").json()["workers"]
                ready = sum(worker["state"] in {"ready", "busy"} for worker in workers)
            except httpx.TransportError:
                pass
            time.sleep(0.5)

    def figure(self, name: str, **values: Any) -> None:
        """Note what was measured, and print it."""
        self.figures[name] = values
        print(f"\n{name}: {json.dumps(values)}", flush=True)

    def _tell(self, command: dict[str, object]) -> dict[str, list[int]]:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.write(json.dumps(command) + "\n")
        self._switch.stdin.flush()
        answer: dict[str, list[int]] = json.loads(self._switch.stdout.readline())
        return answer

    def _clock(self) -> Path:
        library = self.folder / "clock.so"
        if not library.exists():
            command = ["cc", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).parent / "clock.c")]
            subprocess.run(command, check=True)
        return library

    def _settings(self) -> dict[str, str]:
        names = ",".join(f"IP:{ADDRESSES[host]}" for host in (REDIS, PROXY))
        made = ["-keyout", str(self.folder / "key.pem"), "-out", str(self.folder / "cert.pem")]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mien"]
        subprocess.run([*command, "-addext", f"subjectAltName={names}", *made], check=True, capture_output=True)
        bundle = self.folder / "tiny"
        bundle.mkdir()
        write_tiny(bundle, tiny_fields())
        return {
            "MIEN_REDIS_URL": f"rediss://mien:password@{ADDRESSES[REDIS]}:6379/0?ssl_ca_certs={self.folder}/cert.pem",
            "MIEN_UPLOADS": "s3://mien/uploads",
            "MIEN_API_KEYS": KEY,
            "MIEN_PUBLIC_URL": f"https://{ADDRESSES[PROXY]}/mien",
            "MIEN_TRUSTED_PROXIES": ADDRESSES[PROXY],
            "MIEN_BUNDLE": str(bundle),  # it labels badly, and leaves the processors to all these hosts
            "MIEN_DETECTOR_MODEL": "yunet",
            "MIEN_DEVICE": "cpu",
            "MIEN_THREADS": "1",
            "AWS_ENDPOINT_URL_S3": f"http://{ADDRESSES[S3]}:9000",
            "AWS_ACCESS_KEY_ID": "mien",
            "AWS_SECRET_ACCESS_KEY": "mien-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(ROOT),
        }

    def _start_services(self) -> None:
        tls = ["--port", "0", "--tls-port", "6379", "--tls-auth-clients", "no"]
        tls += ["--tls-cert-file", f"{self.folder}/cert.pem", "--tls-key-file", f"{self.folder}/key.pem"]
        tls += ["--tls-ca-cert-file", f"{self.folder}/cert.pem", "--bind", ADDRESSES[REDIS], "--dir", str(self.folder)]
        acl = ["--user", "mien", "on", ">password", *redis_rights(), "--user", "default", "off"]
        self.start(REDIS, "redis-server", *tls, "--save", "", "--appendonly", "yes", *acl)
        self.start(S3, sys.executable, "-m", "moto.server", "-H", ADDRESSES[S3], "-p", "9000")
        self._make_bucket()
        for host in FRONTS:
            self.start_front(host)
        servers = " ".join(f"server {ADDRESSES[host]}:8000 max_fails=2 fail_timeout=5s;" for host in FRONTS)
        text = (ROOT / "docker" / "nginx.conf").read_text()
        for found, here in (
            ("server app:8000 max_fails=2 fail_timeout=5s;", servers),
            ("/etc/nginx/tls", str(self.folder)),
        ):
            assert found in text, found
            text = text.replace(found, here)
        (self.folder / "nginx.conf").write_text(f"user root;\npid {self.folder}/nginx.pid;\n{text}")
        self.start(PROXY, "nginx", "-c", f"{self.folder}/nginx.conf", "-e", "stderr", "-g", "daemon off;")
        for host in WORKERS:
            self.start_worker(host)

    def _make_bucket(self) -> None:
        endpoint = self.environment["AWS_ENDPOINT_URL_S3"]
        deadline = time.monotonic() + START_S
        while True:
            try:
                httpx.get(endpoint, trust_env=False)
                break
            except httpx.TransportError:
                self.processes[S3].check()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        secrets = {"key": "mien", "secret": "mien-secret"}
        fsspec.filesystem("s3", endpoint_url=endpoint, **secrets).mkdir("mien")


def namespace(host: str) -> str:
    """The network namespace of a host."""
    return f"mien-{host}"


@contextmanager
def running(folder: Path) -> Iterator[tuple[Lab, Client]]:
    """The hosts, ready, and a client that comes through the proxy; skipped where something is missing."""
    if os.getuid() != 0:
        pytest.skip("network namespaces take root")
    missing = [name for name in ("ip", "cc", "nginx", "openssl", "redis-server") if not shutil.which(name)]
    if missing or not Path("/dev/net/tun").exists():
        pytest.skip(
            f"missing: {missing or '/dev/net/tun'} (Debian: gcc iproute2 libc6-dev nginx-light openssl redis-server)"
        )
    pytest.importorskip("moto", reason="pip install moto[server]")
    pytest.importorskip("s3fs", reason="pip install s3fs")
    with ExitStack() as stack:
        lab = Lab(folder, stack)
        lab.wait_ready()
        yield lab, Client(stack.enter_context(lab.client()))
