"""The API reference and the OpenAPI document say the same, and what they say is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import errors
from app.contract.jobs import Job
from app.contract.options import JobOptions
from app.main import create_app
from app.settings import Settings

REFERENCE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def table(first_heading: str) -> list[list[str]]:
    """Rows of the reference's table whose first heading is this."""
    found = re.search(rf"^\| {first_heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", REFERENCE, re.MULTILINE)
    assert found is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].strip().split("\n")]


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path.replace("{job_id}", "{id}")): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def test_every_call_is_documented_and_no_other() -> None:
    """The reference's calls are exactly the document's."""
    listed = {tuple(row[0].strip("`").split(" ")) for row in table("call")}
    assert listed == set(operations())


def test_query_parameters_that_the_reference_names_exist() -> None:
    """Each `?name=` of a call is a parameter of its operation."""
    for cell, meaning, *_ in table("call"):
        method, path = cell.strip("`").split(" ")
        known = {parameter["name"] for parameter in operations()[method, path].get("parameters", [])}
        assert set(re.findall(r"`\?(\w+)=", meaning)) <= known


def test_every_option_is_documented_and_no_other() -> None:
    """Options in the reference, in the form, in the query and in the code are the same, with the same defaults."""
    rows = {row[0].strip("`"): row[1].strip("`") for row in table("option")}
    submit = operations()["POST", "/v1/jobs"]
    form = submit["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    query = {parameter["name"] for parameter in submit["parameters"] if parameter["in"] == "query"}
    assert set(rows) == set(JobOptions.model_fields) == query == set(form) - {"file", "frames"}
    for name, shown in rows.items():
        default = JobOptions.model_fields[name].default
        if default is not None:
            assert shown == (str(default).lower() if isinstance(default, bool) else str(default))


def test_every_field_of_the_job_is_documented_and_no_other() -> None:
    """The reference's example of a job has the fields of the schema, nested ones too."""
    found = re.search(r"^    (\{\"id\": .*?\]?\}\})$", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found is not None
    example = json.loads(found[1].replace('"options": {...}', '"options": {}'))
    assert set(example) == set(Job.model_fields) == set(SCHEMAS["Job"]["properties"])
    for field, schema in {"input": "InputInfo", "progress": "Progress", "links": "Links", "model": "ModelRef"}.items():
        assert set(example[field]) == set(SCHEMAS[schema]["properties"])
    assert set(example["state"].split("|")) == set(SCHEMAS["Job"]["properties"]["state"]["enum"])


def test_every_problem_is_documented_and_no_other() -> None:
    """The reference's codes and statuses are those of the error classes."""
    kinds = {kind.code: kind.status for kind in errors.ProblemError.__subclasses__()}
    assert {row[0].strip("`"): int(row[1]) for row in table("code")} == kinds
    assert {row[0].strip("`") for row in table("format")} == {"json", "ndjson", "csv", "vtt", "hume"}


@pytest.mark.parametrize("call", operations(), ids=" ".join)
def test_every_call_has_examples_of_its_answers(call: tuple[str, str]) -> None:
    """Each JSON answer has an example, each problem one for every code, and each call a summary."""
    operation = operations()[call]
    assert operation["summary"]
    for status, response in operation["responses"].items():
        assert response["description"]
        for media, content in response.get("content", {}).items():
            if media == errors.MEDIA_TYPE:
                codes = {example["value"]["code"] for example in content["examples"].values()}
                assert codes == {
                    kind.code for kind in errors.ProblemError.__subclasses__() if kind.status == int(status)
                }
            elif media == "application/json":
                first = content["schema"].get("anyOf", [content["schema"]])[0]
                name = first["$ref"].rpartition("/")[2]
                assert set(SCHEMAS[name].get("required", [])) <= set(content["example"])


def test_the_client_in_the_reference_works(api: httpx.Client, worker: Any, make_frames: Any, tmp_path: Path) -> None:
    """The Python client of the reference submits, waits and reads as it stands."""
    found = re.search(r"```python\n(.*?)```", REFERENCE, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1].replace("http://127.0.0.1:8000", str(api.base_url)), names)
    video = tmp_path / "a.mp4"
    video.write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(500))
    job_id = names["submit"](str(video), sample_fps="5")
    worker.label(job_id, make_frames(70))
    assert names["wait"](job_id)["options"]["sample_fps"] == 5
    assert [frame["frame_index"] for frame in names["frames"](job_id)] == list(range(70))
    names["api"].close()
