"""Operation: health, models, metrics, start and stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.contract import keys, metrics
from app.contract.settings import misspelt
from app.contract.uploads import Space, UploadStore
from app.routes import health
from app.settings import Settings
from tests.service import ROOT
from worker.settings import WorkerSettings

# Of one front end; everything else is of the whole service.
OF_PROCESS = {
    *("mien_build_info", "mien_requests_open", "mien_requests_total", "mien_requests_created"),
    *("mien_request_body_bytes_total", "mien_request_body_bytes_created"),
    *(f"mien_request_seconds_{end}" for end in ("bucket", "count", "sum", "created")),
}
Submit = Callable[..., str]


def test_ready_says_what_is_missing(api: httpx.Client, worker: Any, uploads: Path) -> None:
    """Ready needs Redis, a writable store and a ready worker; 503 names each that is missing."""
    answer = api.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert answer.json()["missing"] == ["worker: none is ready"]
    worker.announce(state="starting")
    assert "starting" in api.get("/health/ready").json()["missing"][0]
    worker.announce()
    ready = api.get("/health/ready")
    assert (ready.status_code, ready.json()["status"], ready.json()["missing"]) == (200, "ready", [])
    (shown,) = ready.json()["workers"]
    assert (shown["bundle"], shown["device"], shown["detector"], shown["state"]) == ("default", "cpu", "yunet", "ready")
    uploads.rmdir()
    uploads.write_text("not a folder")
    assert api.get("/health/ready").json()["uploads"] is False


def test_ready_tells_what_is_nearly_full(make_api: Any, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The front end is not ready before uploads fail or jobs are rejected; reading still works."""
    worker.announce()
    api = make_api(max_upload_bytes=1000)
    assert api.get("/health/ready").status_code == 200
    monkeypatch.setattr(UploadStore, "space", lambda _: Space(999, 10**6))
    answer = make_api(max_upload_bytes=1000).get("/health/ready")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["uploads: the store is nearly full"])
    assert answer.json()["uploads"] is True
    used = worker.redis.info("memory")["used_memory"]
    worker.redis.config_set("maxmemory", round(used / 0.9))
    try:
        assert api.get("/health/ready").json()["missing"] == ["redis: it nears its memory limit, and takes no new jobs"]
    finally:
        worker.redis.config_set("maxmemory", 0)
    assert api.get("/v1/jobs").status_code == 200


def test_misspelt_settings_are_named() -> None:
    """Misspelt settings are found; settings of the other side and of compose do not match."""
    assert misspelt(Settings, ["MIEN_REDIS_ULR", "MIEN_API_KEY", "REDIS_ULR", "MIEN_PORT"]) == {
        "MIEN_REDIS_ULR": "MIEN_REDIS_URL",
        "MIEN_API_KEY": "MIEN_API_KEYS",
    }
    example = re.findall(r"^#?(MIEN_[A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    everything = {f"MIEN_{name.upper()}" for name in {**Settings.model_fields, **WorkerSettings.model_fields}}
    for settings in (Settings, WorkerSettings):
        assert misspelt(settings, everything | set(example)) == {}


def test_ready_without_redis(make_api: Any) -> None:
    """Without Redis the process is live but not ready; other calls are 503 problems."""
    api = make_api(redis_url="redis://127.0.0.1:1/0")
    assert api.get("/health/live").status_code == 200
    answer = api.get("/health/ready")
    assert (answer.status_code, answer.json()["redis"]) == (503, False)
    for path in ("/v1/jobs", "/v1/models", f"/v1/jobs/{'0' * 32}", "/metrics"):
        problem = api.get(path)
        assert (problem.status_code, problem.json()["code"]) == (503, "unavailable")


def test_a_store_that_hangs_holds_one_thread_only(make_api: Any, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often health is asked meanwhile, the store is asked once, and jobs are taken; then it is ready again."""
    asked: list[str] = []
    hangs = threading.Event()

    def check(_: UploadStore) -> None:
        asked.append(threading.current_thread().name)
        assert hangs.wait(60)

    monkeypatch.setattr(UploadStore, "check_writable", check)
    monkeypatch.setattr(health, "PROBE_S", 0.2)
    worker.announce()
    api = make_api()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.get("/health/ready"), range(40)))
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["uploads"] for answer in answers} == {False}
    assert asked == ["store-probe"]
    content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
    assert api.post("/v1/jobs", content=content).status_code == 202
    hangs.set()
    deadline = time.monotonic() + 30
    while api.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline


def test_workers_clocks_do_not_count(api: httpx.Client, worker: Any) -> None:
    """A worker is live as long as its record, independent of its host's clock."""
    worker.announce()
    worker.redis.zadd("mien:workers", {"manual-default": 1})
    assert api.get("/health/ready").status_code == 200
    worker.redis.delete("mien:worker:manual-default")
    assert api.get("/health/ready").status_code == 503


def test_models_are_those_of_live_workers(api: httpx.Client, worker: Any) -> None:
    """Models appear with their workers, and go when no live worker serves them."""
    assert api.get("/v1/models").json() == {"models": []}
    worker.announce()
    worker.announce("other", members=("cnn",))
    models = api.get("/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["default", "other"]
    assert models[0]["device"] == "cpu"
    assert [member["name"] for member in models[1]["members"]] == ["cnn"]
    assert api.get("/v1/models/other").json() == models[1]
    worker.redis.delete("mien:worker:manual-other")
    assert api.get("/v1/models/other").status_code == 404


def test_metrics_count_requests_queues_and_workers(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """The metrics parse, count requests by route, and show what workers added."""
    worker.announce()
    job_id = submit()
    for _ in range(3):
        api.get(f"/v1/jobs/{job_id}")
    api.get("/nowhere")
    metrics.add(worker.redis, {metrics.FRAMES: 64, metrics.stage_seconds("decode"): 0.5, metrics.jobs("failed"): 1})
    metrics.add(worker.redis, {metrics.FRAMES: 36})
    text = api.get("/metrics").text
    samples = values_of(text)
    route = ("route", "/v1/jobs/{job_id}")
    assert samples["mien_requests_total", ("method", "GET"), route, ("status", "200")] == 3
    assert samples["mien_requests_total", ("method", "ANY"), ("route", "none"), ("status", "404")] == 1
    assert samples["mien_queue_jobs", ("queue", "mien-default")] == 1
    assert 0 <= samples["mien_queue_age_seconds", ("queue", "mien-default")] < 60
    assert samples["mien_workers", ("bundle", "default"), ("state", "ready")] == 1
    assert samples["mien_frames_total",] == 100
    assert samples["mien_stage_seconds_total", ("stage", "decode")] == 0.5
    assert samples["mien_jobs_total", ("state", "failed")] == 1
    assert job_id not in text


def values_of(text: str) -> dict[Any, float]:
    """Value of each sample by its name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_front_ends_tell_the_same_of_the_service(make_api: Any, worker: Any, submit: Submit, api: httpx.Client) -> None:
    """What is of the whole service is the same on each and no metric of a process; requests are counted where they
    came; so sums of the one and maxima of the other count nothing twice."""
    other = make_api()
    worker.announce()
    submit()

    passing = {"mien_queue_age_seconds", "mien_redis_memory_bytes", "mien_store_free_bytes"}

    def told(client: httpx.Client, of_process: bool) -> dict[Any, float]:
        found = values_of(client.get("/metrics").text)
        return {
            key: value for key, value in found.items() if (key[0] in OF_PROCESS) == of_process and key[0] not in passing
        }

    assert told(api, False) == told(other, False)
    posted = ("mien_requests_total", ("method", "POST"), ("route", "/v1/jobs"), ("status", "202"))
    assert told(api, True)[posted] == 1
    assert posted not in told(other, True)


def test_metrics_of_jobs_workers_and_room(
    make_api: Any, worker: Any, submit: Submit, make_frames: Any, api: httpx.Client
) -> None:
    """Waits, first records, runs and failures are counted once; slots, load, GPU, space and webhooks are gauges."""
    worker.announce(slots=4, jobs_running=1, frames_done=77, gpu_memory_total_bytes=8, gpu_utilisation=0.5)
    first, second, third = submit(), submit(), submit()
    worker.label(first, make_frames(70))
    worker.claim(second)
    worker.finish(second, "failed", error={"code": "undecodable_input", "detail": "x"})
    assert api.post(f"/v1/jobs/{third}/cancel").status_code == 202
    submit()
    worker.redis.zadd(keys.WEBHOOKS, {"a": worker.redis.time()[0] - 30, "b": worker.redis.time()[0] + 60})
    found = values_of(api.get("/metrics").text)
    for name, number in (("job_wait", 2), ("first_record", 1), ("job_run", 2)):
        assert found[f"mien_{name}_seconds_count",] == number
        assert found[f"mien_{name}_seconds_bucket", ("le", "+Inf")] == number
        assert found[f"mien_{name}_seconds_bucket", ("le", "60")] == number
        assert 0 <= found[f"mien_{name}_seconds_sum",] < 60
    assert {state: found["mien_jobs_total", ("state", state)] for state in ("succeeded", "failed", "canceled")} == {
        "succeeded": 1,
        "failed": 1,
        "canceled": 1,
    }
    assert found["mien_job_failures_total", ("code", "undecodable_input")] == 1
    queue = ("queue", "mien-default")
    shown = [found[f"mien_{name}", queue] for name in ("queue_jobs", "queue_jobs_running", "queue_slots", "load_ratio")]
    assert shown == [1, 1, 4, 0.5]
    at = ("worker", "manual-default")
    assert found["mien_worker_frames_total", at] == 77
    assert found["mien_gpu_utilisation_ratio", ("device", "cpu"), at] == 0.5
    assert found["mien_gpu_memory_bytes", ("device", "cpu"), at] == 8
    assert 25 < found["mien_webhook_lag_seconds",] < 60
    assert found["mien_webhooks_waiting",] == 2
    assert 0 < found["mien_store_free_bytes",] <= found["mien_store_size_bytes",]
    assert found["mien_redis_memory_bytes",] > 0


def test_load_counts_one_slot_where_there_is_none(api: httpx.Client, submit: Submit) -> None:
    """So that a service can be scaled from nothing."""
    submit()
    submit()
    assert values_of(api.get("/metrics").text)["mien_load_ratio", ("queue", "mien-default")] == 2


def test_a_job_names_its_worker(api: httpx.Client, submit: Submit, worker: Any) -> None:
    """From when it is taken; no more when it waits again."""
    job_id = submit()
    assert api.get(f"/v1/jobs/{job_id}").json()["worker"] is None
    execution = worker.claim(job_id)
    assert api.get(f"/v1/jobs/{job_id}").json()["worker"] == "manual-default"
    execution.hand_back()
    assert api.get(f"/v1/jobs/{job_id}").json()["worker"] is None


def test_help_lists_every_setting() -> None:
    """`python -m app --help` names every setting of the front end."""
    command = [sys.executable, "-m", "app", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in Settings.model_fields:
        assert f"MIEN_{name.upper()}" in shown


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--port", "x"], {}), (["--nonsense"], {}), ([], {"MIEN_PORT": "70000"}), (["--host", "0.0.0.0"], {})],
)
def test_bad_usage_is_2(arguments: list[str], environment: dict[str, str]) -> None:
    """Bad usage ends with 2 and a line on stderr, without a traceback."""
    command = [sys.executable, "-m", "app", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert ended.returncode == 2
    assert ended.stderr.strip()
    assert "Traceback" not in ended.stderr


def test_the_front_end_imports_no_model_code() -> None:
    """Neither torch, numpy, cv2 nor the worker is imported with the front end."""
    code = (
        "import sys, app.main, app.__main__, app.background.__main__; "
        "print(sorted({'torch', 'numpy', 'cv2', 'av', 'worker', 'model_store'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_sigterm_ends_streams_and_the_child(redis_url: str, uploads: Path) -> None:
    """Asked to stop, the command ends its event streams and long polls, its child, and itself, in seconds, with 0."""
    environment = {
        **os.environ,
        "MIEN_REDIS_URL": redis_url,
        "MIEN_UPLOADS": str(uploads),
        "MIEN_LOG_JSON": "true",
    }
    command = [sys.executable, "-m", "app", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        base = ""
        for line in server.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                base = found[0]
                break
        (child,) = _children(server.pid)
        content = b"\x00\x00\x00\x18ftypisom" + bytes(500)
        job_id = httpx.post(f"{base}/v1/jobs", content=content).json()["id"]
        ended: list[float] = []

        def listen(path: str) -> None:
            httpx.get(f"{base}/v1/jobs/{job_id}{path}", timeout=60)
            ended.append(time.monotonic())

        threads = [threading.Thread(target=listen, args=(path,)) for path in ("/events", "?wait=50")]
        for thread in threads:
            thread.start()
        time.sleep(1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
        server.stderr.read()
        for thread in threads:
            thread.join(5)
    assert len(ended) == 2
    assert not Path(f"/proc/{child}").exists()


def _children(parent: int) -> list[int]:
    deadline = time.monotonic() + 10
    while True:
        lists = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
        if found := " ".join(lists).split():
            return [int(pid) for pid in found]
        assert time.monotonic() < deadline
        time.sleep(0.05)
