"""The command `mien label` as its users type it: mistakes are one line before any work, and Ctrl-C loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.app.conftest import MP4
from tests.listener import Listener
from tests.service import ROOT

if TYPE_CHECKING:
    from tests.app.conftest import MakeApi, MakeFrames
    from tests.manual_worker import ManualWorker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, and a file that is none of the command's business."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(MP4 + name.encode())
    (folder / "notes.txt").write_text("mine")
    return folder


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command, as in a terminal: a shell's background jobs, such as these tests may be, ignore SIGINT."""
    command = [sys.executable, "-W", "error", "-m", "mien", "label", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 (one call)
    )


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    process = start(folder, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.mp4", "x.mp4", "y.mp4"], "error: no such file: x.mp4, y.mp4"),
        (["a.mp4", "--out", "notes.txt"], "error: --out notes.txt is a file: name a folder"),
        (["a.mp4", "../videos/a.mp4"], "error: several videos would be written to a.csv: "),
        (["a.mp4", "--option", "max_faces"], "error: --option max_faces: write NAME=VALUE"),
    ],
)
def test_wrong_usage_is_one_line(api: httpx.Client, folder: Path, words: list[str], said: str) -> None:
    """Exit status 2; nothing is sent or written."""
    status, out, err = run(folder, "--server", str(api.base_url), *words)
    assert (status, out) == (2, "")
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert api.get("/v1/jobs").json()["jobs"] == []
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "b.mp4", "notes.txt"]


def test_an_unknown_format_is_refused(api: httpx.Client, folder: Path) -> None:
    """JSON, too, which comes in pages."""
    for format in ("json", "xls"):
        status, _, err = run(folder, "--server", str(api.base_url), "a.mp4", "--format", format)
        assert status == 2
        assert "'csv', 'ndjson'" in err


def test_a_server_that_cannot_serve_is_one_line(make_api: MakeApi, folder: Path) -> None:
    """None there, a wrong address, another program, a wrong key: exit status 1, at once, and nothing is written."""
    keyed, other = make_api(api_keys="secret"), Listener(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    dead = Listener()
    dead.close()
    try:
        for server, said in (
            (f"http://127.0.0.1:{dead.port}", "cannot be reached: "),
            ("127.0.0.1:8000", "cannot be reached: "),
            ("http://[::1", "cannot be reached: "),
            (f"http://127.0.0.1:{other.port}", "is not a Mien service"),
            (str(keyed.base_url), "API key"),
        ):
            status, out, err = run(folder, "--server", server, "--out", "results", "a.mp4", "b.mp4")
            assert (status, out) == (1, ""), err
            assert err.startswith(f"error: {server}")
            assert said in err
            assert err.count("\n") == 1
    finally:
        other.close()
    assert not (folder / "results").exists()


def test_ctrl_c_ends_it_at_once_and_the_next_run_goes_on(
    api: httpx.Client, folder: Path, worker: ManualWorker, make_frames: MakeFrames
) -> None:
    """What runs at the service goes on; the next run writes its results and sends nothing twice."""
    words = ["--server", str(api.base_url), "--out", "results", "a.mp4", "b.mp4"]
    with start(folder, *words) as process:
        deadline = time.monotonic() + 30
        while len(jobs := api.get("/v1/jobs").json()["jobs"]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # until it waits for them
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 5
    assert (process.returncode, err) == (130, "interrupted; run the same command again to continue\n")
    assert list((folder / "results").iterdir()) == []
    for job in jobs:
        worker.label(job["id"], make_frames(3))
    status, _, err = run(folder, *words)
    assert (status, err.splitlines()[-1]) == (0, "2 videos: 2 labelled (6 frames)")
    assert sorted(path.name for path in (folder / "results").iterdir()) == ["a.csv", "b.csv"]
    assert len(api.get("/v1/jobs").json()["jobs"]) == 2
    status, _, err = run(folder, *words)
    assert (status, err.splitlines()[-1]) == (0, "2 videos: 0 labelled (0 frames), 2 skipped")
