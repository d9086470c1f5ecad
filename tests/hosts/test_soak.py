"""A quarter of an hour of jobs while hosts are cut off at random: none is lost, and no process grows.

Last of `make test-hosts`; SOAK_S says how many seconds.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.bench.soak import FEW, FLAT, SAMPLE_S, Sample, thirds, usage
from tests.hosts.conftest import SHORT
from tests.hosts.lab import FRONTS, REDIS, S3, WORKERS

if TYPE_CHECKING:
    from tests.hosts.conftest import Hosts

SECONDS = float(os.environ.get("SOAK_S", "900"))
pytestmark = [pytest.mark.hosts, pytest.mark.timeout(SECONDS + 900)]

EVERY_S = 2.0  # a job
CUT_S, APART_S = (2.0, 30.0), (5.0, 20.0)
MOST_ATTEMPTS = 3


def test_flat(hosts: Hosts) -> None:
    """Every job succeeds with each record once; memory, threads and descriptors of all processes stay."""
    chance = random.Random(1)
    over = threading.Event()
    samples: list[Sample] = []
    cuts: Counter[str] = Counter()
    jobs: list[str] = []

    def cut_off() -> None:
        while not over.wait(chance.uniform(*APART_S)):
            host = chance.choice((REDIS, S3, *FRONTS, *WORKERS))
            cuts[host] += 1
            with hosts.lab.cut(host, chance.uniform(*CUT_S)):
                pass

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            samples.append({host: usage(hosts.lab.processes[host]) for host in (*FRONTS, *WORKERS)})

    threads = [threading.Thread(target=target) for target in (cut_off, sample)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    refused: Counter[str] = Counter()
    while time.monotonic() - began < SECONDS:
        jobs.append(submitted(hosts, str(len(jobs)), refused))
        time.sleep(EVERY_S)
    over.set()
    for thread in threads:
        thread.join()
    done = hosts.succeeded(jobs, SHORT, MOST_ATTEMPTS)
    grown = {f"{host} {what}": thirds(samples, host, what) for host in samples[0] for what in samples[0][host]}
    hosts.lab.figure(
        f"{SECONDS:.0f} s of cuts at random",
        jobs=len(set(jobs)),
        lost=0,
        refused_and_sent_again=refused,
        cuts=cuts,
        jobs_by_attempts=Counter(str(job["attempts"]) for job in done),
        first_and_last_third={name: [round(first), round(last)] for name, (first, last) in grown.items()},
    )
    for name, (first, last) in grown.items():
        assert last <= (first * (1 + FLAT) if name.endswith("rss_kb") else first + FEW), name


def submitted(hosts: Hosts, key: str, refused: Counter[str]) -> str:
    """The id of a job that is sent until it is taken, once."""
    while True:
        try:
            headers = {"Idempotency-Key": key, "Content-Type": "video/mp4"}
            answer = hosts.api.http.post("/v1/jobs", content=hosts.short, headers=headers, timeout=30)
            if answer.status_code == httpx.codes.ACCEPTED:
                return str(answer.json()["id"])
            refused[str(answer.status_code)] += 1
        except httpx.TransportError as error:
            refused[type(error).__name__] += 1
        time.sleep(1)
