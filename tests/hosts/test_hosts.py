"""Hosts that are cut off from each other: no job is lost, no record is there twice, and few attempts are charged.

`make test-hosts` runs this, as root; it prints its figures.  See `lab` for the hosts, `switch` for the network.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest

from app.contract.workers import host_of
from tests.hosts.conftest import LONG, SHORT
from tests.hosts.lab import ADDRESSES, CLOCK_AHEAD_S, FRONTS, REDIS, S3, WORKERS, Lab, namespace
from tests.waiting import until

if TYPE_CHECKING:
    from tests.hosts.conftest import Hosts

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]

JOBS = 100
LEASE_S = 20


def test_a_hundred_jobs(hosts: Hosts) -> None:
    """All are labelled at the first attempt, by all workers, also by those whose clocks are five minutes off."""
    lab, api = hosts.lab, hosts.api
    before, began = lab.traffic(), time.monotonic()
    jobs = [api.submit(hosts.short)["id"] for _ in range(JOBS)]
    done = [hosts.ended(job_id) for job_id in jobs]
    seconds, after = time.monotonic() - began, lab.traffic()
    for job in done:
        hosts.check(job, SHORT)
    by_host = Counter(host_of(job["worker"]) for job in done)
    assert set(by_host) == set(WORKERS)
    lab.figure(
        f"{JOBS} jobs",
        seconds=round(seconds, 1),
        jobs_by_worker=by_host,
        clocks_ahead_s=CLOCK_AHEAD_S,
        lost=0,
        video_bytes=len(hosts.short),
        bytes_sent_and_received_a_video={host: round((after[host] - before[host]) / JOBS) for host in after},
    )


@pytest.mark.parametrize("seconds", [5, 30, 120])
def test_a_worker_is_cut_off(hosts: Hosts, seconds: int) -> None:
    """Its job goes on there, or elsewhere for one charged attempt; it comes back and takes jobs again."""
    lab, api = hosts.lab, hosts.api
    jobs = [api.submit(hosts.long)["id"] for _ in range(4)]
    host = host_of(api.running(jobs[0])["worker"])
    began = time.monotonic()
    with lab.cut(host, seconds):
        if seconds > LEASE_S:
            hosts.ended(jobs[0])
            took_s = time.monotonic() - began
    back = time.monotonic()
    if seconds < LEASE_S:
        hosts.ended(jobs[0])
        took_s = time.monotonic() - began
    done = hosts.succeeded(jobs, LONG, attempts=1 if seconds < LEASE_S else 2)
    until(lambda: takes_jobs(hosts, host), 120)
    lab.figure(
        f"a worker cut off for {seconds} s",
        its_job_ended_after_s=round(took_s, 1),
        attempts=[job["attempts"] for job in done],
        takes_jobs_again_after_s=round(time.monotonic() - back, 1),
        lost=0,
    )


def takes_jobs(hosts: Hosts, host: str) -> bool:
    """Whether the worker of a host is among those that do some short jobs."""
    jobs = [hosts.api.submit(hosts.long, end_s=0.2)["id"] for _ in range(2 * len(WORKERS))]
    return host in {host_of(hosts.ended(job_id)["worker"]) for job_id in jobs}


def test_redis_is_cut_off(hosts: Hosts) -> None:
    """Requests fail meanwhile, and work goes on afterwards: nothing is lost."""
    lab, api = hosts.lab, hosts.api
    jobs = [api.submit(hosts.long)["id"] for _ in range(6)]
    api.running(jobs[0])
    with lab.cut(REDIS, 30):
        assert lab.front(FRONTS[0], "/health/ready").status_code == 503
    back = time.monotonic()
    until(lambda: lab.front(FRONTS[0], "/health/ready").status_code == 200)
    ready_s = time.monotonic() - back
    done = hosts.succeeded(jobs, LONG, attempts=2)
    lab.figure(
        "Redis cut off for 30 s",
        ready_after_s=round(ready_s, 1),
        all_ended_after_s=round(time.monotonic() - back, 1),
        attempts=[job["attempts"] for job in done],
        lost=0,
    )


def test_slow_storage(hosts: Hosts) -> None:
    """100 ms each way and 1 % of the packets lost: jobs take longer and succeed at the first attempt."""
    seconds = {}
    for name, slow in (("near", {}), ("100 ms, 1 % lost", {"delay_s": 0.1, "loss": 0.01})):
        hosts.lab.net(S3, **slow)
        seconds[name] = some_jobs(hosts)
    hosts.lab.net(S3, delay_s=0.0, loss=0.0)
    hosts.lab.figure("20 jobs, S3 far away", seconds=seconds)


def test_storage_is_cut_off(hosts: Hosts) -> None:
    """For a minute: jobs whose input could not be read are tried again, and none is lost."""
    lab, api = hosts.lab, hosts.api
    jobs = [api.submit(hosts.long)["id"] for _ in range(12)]
    with lab.cut(S3, 60):
        began = time.monotonic()
        answer = api.http.post("/v1/jobs", content=hosts.short)
        refused_s = time.monotonic() - began
    assert answer.status_code == 503
    back = time.monotonic()
    done = hosts.succeeded(jobs, LONG, attempts=3)
    lab.figure(
        "S3 cut off for 60 s",
        upload_refused_after_s=round(refused_s, 1),
        all_ended_after_s=round(time.monotonic() - back, 1),
        attempts=[job["attempts"] for job in done],
        lost=0,
    )


def test_a_front_end_is_killed_during_an_upload(hosts: Hosts) -> None:
    """The client is told, and its second try with the same key makes the one job, by the other front end."""
    lab, api, video = hosts.lab, hosts.api, hosts.short
    killed: list[str] = []

    def slowly() -> Iterator[bytes]:
        yield video[: len(video) // 2]
        host = until(lambda: uploading(lab), 30)
        killed.append(host)
        for process_id in pids(host):
            os.kill(int(process_id), signal.SIGKILL)
        yield video[len(video) // 2 :]

    headers = {"Idempotency-Key": "once", "Content-Type": "video/mp4", "Content-Length": str(len(video))}
    try:
        status = api.http.post("/v1/jobs", content=slowly(), headers=headers).status_code
    except httpx.TransportError:
        status = 502
    assert killed
    assert status >= 500
    began = time.monotonic()
    answer = api.http.post("/v1/jobs", content=video, headers=headers)
    took_s = time.monotonic() - began
    assert answer.status_code == 202, answer.text
    hosts.check(hosts.ended(answer.json()["id"]), SHORT)
    made = [job for job in api.http.get("/v1/jobs").json()["jobs"] if job["input"]["bytes"] == len(video)]
    assert made[0]["id"] == answer.json()["id"]
    lab.start_front(killed[0])
    until(lambda: lives(lab, killed[0]))
    lab.figure(
        "a front end killed in mid-upload", client_was_told=status, again_accepted_after_s=round(took_s, 2), lost=0
    )


def uploading(lab: Lab) -> str:
    """The front end that has an upload, if any: a request is open there beside the one that asks."""
    for host in FRONTS:
        text = lab.front(host, "/metrics").text
        (line,) = [line for line in text.splitlines() if line.startswith("mien_requests_open ")]
        if float(line.split()[1]) > 1:
            return host
    return ""


def pids(host: str) -> list[str]:
    """Processes of a host."""
    command = ["ip", "netns", "pids", namespace(host)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def lives(lab: Lab, host: str) -> bool:
    """Whether a front end answers."""
    try:
        return lab.front(host, "/health/live").status_code == 200
    except httpx.TransportError:
        return False


def test_fifty_milliseconds_between_all(hosts: Hosts) -> None:
    """Hosts far apart label as before; a job costs some round trips more."""
    seconds = {}
    for name, delay_s in (("near", 0.0), ("50 ms each way", 0.025)):
        hosts.lab.net(*ADDRESSES, delay_s=delay_s)  # of both hosts of a connection
        seconds[name] = some_jobs(hosts)
    hosts.lab.net(*ADDRESSES, delay_s=0.0)
    hosts.lab.figure("20 jobs, all far apart", seconds=seconds)


def some_jobs(hosts: Hosts) -> float:
    """Seconds that 20 jobs take; all succeed at once."""
    began = time.monotonic()
    done = [hosts.ended(job_id) for job_id in [hosts.api.submit(hosts.short)["id"] for _ in range(20)]]
    took_s = round(time.monotonic() - began, 1)
    for job in done:
        hosts.check(job, SHORT)
    return took_s


def test_nothing_is_left(hosts: Hosts) -> None:
    """After all this no job is open and no worker was lost."""
    for job in hosts.api.http.get("/v1/jobs", params={"limit": 1000}).json()["jobs"]:
        assert job["state"] == "succeeded", job
    for host in WORKERS:
        hosts.lab.processes[host].check()
