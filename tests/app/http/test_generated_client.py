"""A client that openapi-python-client generates from the service's own document submits, follows, reads and lists."""

from __future__ import annotations

import inspect
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.app.conftest import MP4

if TYPE_CHECKING:
    from tests.app.conftest import MakeFrames
    from tests.manual_worker import ManualWorker


Call = Callable[..., Any]


class Generated:
    """The generated package.  call: an operation's function; model: a class of its data."""

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self.client = import_module(f"{name}.client").Client(base_url=url, raise_on_unexpected_status=True)
        self.file: Call = import_module(f"{name}.types").File

    def call(self, tag: str, operation: str, **arguments: Any) -> Any:
        """What the operation answers, as the generated code reads it."""
        module = import_module(f"{self._name}.api.{tag}.{operation}")
        return module.sync(client=self.client, **arguments)

    def model(self, name: str) -> Any:
        return getattr(import_module(f"{self._name}.models"), name)


@pytest.fixture
def generated(api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Generated]:
    """A client generated from the document that the service gives."""
    name = "generated_client"
    document = tmp_path / "openapi.json"
    document.write_bytes(api.get("/openapi.json").content)
    scripts = Path(sys.executable).parent
    command = [str(scripts / "openapi-python-client"), "generate", "--path", str(document), "--meta", "none"]
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}  # it formats with ruff
    subprocess.run(
        [*command, "--output-path", str(tmp_path / name)], check=True, capture_output=True, env=environment, timeout=120
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = Generated(name, str(api.base_url))
    with made.client:
        yield made
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_a_generated_client_submits_follows_and_reads(
    generated: Generated, worker: ManualWorker, make_frames: MakeFrames
) -> None:
    """A form with defaults, a form with lists, the same option in query and form; then polls, pages and the list."""
    form = generated.model("SubmitJobFilesBody")

    def submit(options: dict[str, Any], **query: Any) -> Any:
        body = form(file=generated.file(payload=io.BytesIO(MP4), file_name="a.mp4"), **options)
        return generated.call("jobs", "submit_job", body=body, **query)

    plain = submit({})
    assert plain.options.max_faces == 10
    chosen = submit({"max_faces": 3, "members": ["cnn", "cnn_rnn"], "keep_input": True}, max_faces=3, sample_fps=5.0)
    assert chosen.options.to_dict() | {"max_faces": 3, "sample_fps": 5, "keep_input": True} == chosen.options.to_dict()
    assert chosen.options.members == ["cnn", "cnn_rnn"]
    mismatch = submit({"max_faces": 3}, max_faces=4)
    assert (mismatch.status, mismatch.code, mismatch.field) == (422, "invalid_option", "max_faces")

    worker.label(plain.id, make_frames(70))
    job = generated.call("jobs", "get_job", job_id=plain.id, wait=30)
    assert job.state == "succeeded"
    assert job.links.timeline.endswith(f"/v1/jobs/{job.id}/timeline.svg")
    page = generated.call("results", "get_frames", job_id=plain.id, from_=40, limit=500)
    assert [frame.frame_index for frame in page.frames] == list(range(40, 70))
    assert page.frames[0].faces[0].scores["Neutral"] > 0

    first = generated.call("jobs", "list_jobs", limit=1)
    cursor = httpx.URL(first.next_).params["cursor"]
    second = generated.call("jobs", "list_jobs", limit=1, cursor=cursor)
    assert [job.id for job in (*first.jobs, *second.jobs)] == [chosen.id, plain.id]
    assert generated.call("health", "get_readiness").redis


def test_every_operation_is_read_by_the_generated_client(
    api: httpx.Client, generated: Generated, worker: ManualWorker, make_frames: MakeFrames
) -> None:
    """Of an ended job: each operation's function sends what it needs and understands the answer."""
    worker.announce()
    source = generated.model("SubmitJobFilesBody")(
        file=generated.file(payload=io.BytesIO(MP4), file_name="a.mp4"), batch="pilot", people=True, keep_input=True
    )
    job = generated.call("jobs", "submit_job", body=source)
    worker.label(job.id, make_frames(70, empty_every=3))
    upload = api.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"}).headers["location"]
    given: dict[str, Any] = {
        "job_id": job.id,
        "name": "pilot",
        "upload_id": upload.rsplit("/", 1)[-1],
        "tus_resumable": "1.0.0",
        "upload_offset": "0",
        "upload_length": "5",
        "wait": 0,
    }
    folder = Path(import_module(f"{generated._name}.api").__path__[0])
    calls = {path.stem: path.parent.name for path in folder.glob("*/[a-z]*.py") if path.stem != "submit_job"}
    document = api.get("/openapi.json").json()
    named = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    # A tus client sends bytes: the generator does not know their content type.
    assert {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name) for name in named} == {
        *calls,
        "submit_job",
        "append_upload",
    }
    generated.client.raise_on_unexpected_status = False  # at media types that the generator does not know, such as SVG
    last = {"cancel_job", "delete_job", "delete_batch", "delete_upload"}
    statuses: dict[str, int] = {}
    for call in sorted(calls, key=lambda call: (call in last, call)):
        function = import_module(f"{generated._name}.api.{calls[call]}.{call}").sync_detailed
        wanted = inspect.signature(function).parameters
        arguments = {name: value for name, value in given.items() if name in wanted}
        if call == "get_model":
            arguments["name"] = "default"
        if call == "patch_job":
            arguments["body"] = generated.model("NamingPatch")(name="Take 3")
        statuses[call] = int(function(client=generated.client, **arguments).status_code)
    assert {call: status for call, status in statuses.items() if status >= 300} == {
        "cancel_job": 409,
        "delete_job": 404,
    }
