"""The API reference and the OpenAPI document say the same, and what they say is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import httpx
import jsonschema_rs
import pytest

from app.contract.exports import MEDIA_TYPES
from app.contract.jobs import Job
from app.contract.naming import Naming
from app.contract.options import JobOptions
from app.contract.sources import Source
from app.http import errors
from app.http.openapi_document import EXAMPLES
from app.main import create_app
from app.settings import Settings
from model_store.manifest import BackboneSpec
from model_store.members import MEMBERS

REFERENCE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
FIELDS = {*JobOptions.model_fields, *Naming.model_fields, *Source.model_fields}  # of a submission
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def table(first_heading: str) -> list[list[str]]:
    """Rows of the reference's table whose first heading is this."""
    found = re.search(rf"^\| {first_heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", REFERENCE, re.MULTILINE)
    assert found is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].strip().split("\n")]


def example(first_field: str) -> dict[str, Any]:
    """The reference's example that begins with this field."""
    found = re.search(rf"```json\n(\{{\"{first_field}\".*?)```", REFERENCE, re.DOTALL)
    assert found is not None
    value: dict[str, Any] = json.loads(found[1])
    return value


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path.replace("{job_id}", "{id}")): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def test_every_call_has_a_name_of_its_own() -> None:
    """Generated clients name their functions by it."""
    names = [operation["operationId"] for operation in operations().values()]
    assert len(set(names)) == len(names)
    assert {name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name)} == set()
    assert {"submitJob", "listJobs", "getJob", "cancelJob", "deleteJob", "getFrames"} <= set(names)


def test_what_an_operation_refuses_by_a_pattern_is_in_the_document() -> None:
    """`cursor` and `Idempotency-Key`, of which not every text is one."""
    given = {p["name"]: p["schema"] for call in ("GET", "POST") for p in operations()[call, "/v1/jobs"]["parameters"]}
    for name, good, bad in (
        ("cursor", f"1764280000000.{'a1' * 16}", "garbage"),
        ("Idempotency-Key", "9b2d!", "with space"),
    ):
        pattern = given[name]["pattern"]
        assert re.fullmatch(pattern, good)
        assert not re.fullmatch(pattern, bad)


def test_every_call_is_documented_and_no_other() -> None:
    """The reference's calls are exactly the document's."""
    listed = {tuple(row[0].strip("`").split(" ")) for row in table("call")}
    assert listed == set(operations())


def parameters(call: tuple[str, str], place: str) -> set[str]:
    return {given["name"] for given in operations()[call].get("parameters", []) if given["in"] == place}


def test_every_parameter_is_documented_and_no_other() -> None:
    """Each `?name=` of a call is a query parameter of its operation and no other is; headers are named somewhere."""
    for cell, meaning, *_ in table("call"):
        method, path = cell.strip("`").split(" ")
        options = FIELDS if (method, path) == ("POST", "/v1/jobs") else set()
        assert set(re.findall(r"`\?([\w.]+)=", meaning)) == parameters((method, path), "query") - options, cell
        assert all(f"`{name}" in REFERENCE for name in parameters((method, path), "header"))


# The rows of the table of answers, and the schemas that they list.
ANSWERS = {
    "page of frames": {"FramePage"},
    "problem": {"Problem"},
    "list of jobs": {"JobList"},
    "`error` of a job": {"JobError"},
    "summary": {"Summary"},
    "left out": {"LeftOutFaces"},
    "part": {"PartSummary", "TrackSummary", "PersonSummary"},
    "share": {"LabelShare"},
    "segment": {"Segment"},
    "batch": {"Batch"},
    "links of a batch": {"BatchLinks"},
    "events of a label": {"Events"},
    "peak": {"Peak"},
    "moment": {"Moment"},
    "appearance": {"Appearance"},
    "best frame of a person": {"BestFrameOf"},
    "transition": {"Transition"},
    "trust": {"Trust"},
    "reaction": {"Reaction"},
    "pose": {"PoseRecord"},
    "list of models": {"ModelList"},
    "model": {"Model"},
    "member": {"MemberInfo"},
    "prior of a model": {"PriorInfo"},
    "worker": {"WorkerInfo"},
    "resumable upload": {"UploadView"},
    "readiness": {"Ready"},
    "liveness": {"Live"},
    "video or picture that is being rendered": {"Rendering"},
}
# Shown otherwise: as examples, in the table of options, in the text on `hume`.
ELSEWHERE = {
    *("Job", "InputInfo", "Progress", "Links", "ModelRef", "FrameRecord", "FaceRecord"),
    *("JobOptions", "NamingPatch", "PersonNote", "HumeSource", "Submission"),
}


def test_every_field_of_the_answers_is_documented_and_no_other() -> None:
    """Each answer's row has the fields of its schemas, and every schema of the document has a row or an example."""
    rows = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in table("answer")}
    assert set(rows) == set(ANSWERS)
    for answer, names in ANSWERS.items():
        assert rows[answer] == {field for name in names for field in SCHEMAS[name]["properties"]}, answer
    assert set(SCHEMAS) == ELSEWHERE | {name for names in ANSWERS.values() for name in names}


def test_every_field_of_frames_is_documented_and_no_other() -> None:
    """The examples of a record and of `hume` have the fields of their schemas."""
    frame = example("frame_index")
    assert set(frame) == set(SCHEMAS["FrameRecord"]["properties"])
    assert set(frame["faces"][0]) == set(SCHEMAS["FaceRecord"]["properties"])
    assert all(f'"{name}"' in REFERENCE for name in SCHEMAS["HumeSource"]["properties"])


def test_the_public_contract_is_kept() -> None:
    """If the project's contract is beside the checkout: its calls and options are those of the document."""
    contract = Path(__file__).parents[4] / "shared" / "API.md"
    if not contract.is_file():
        pytest.skip("the contract is not beside the checkout")
    text = contract.read_text()
    tables = re.findall(r"^\| (?:call|option) \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    calls, options = ([row.split("|")[1] for row in rows.strip().split("\n")] for rows in tables)
    named = {tuple(name.split(" ")) for cell in calls for name in re.findall(r"`((?:GET|POST|DELETE) [^`]+)`", cell)}
    pages = {("GET", path) for path in ("/", "/docs", "/openapi.json")}
    assert named - pages <= set(operations())
    paths = {path for cell in calls for path in re.findall(r"(/[^`, ]*)", cell)}
    assert paths - {path for _, path in pages} <= {path for _, path in operations()}
    fixed = {name for cell in options for name in re.findall(r"`(\w+)`", cell)}
    coming = re.search(r"^Job options: (.*?)\. Face fields", text, re.MULTILINE | re.DOTALL)
    assert coming is not None
    assert fixed <= set(JobOptions.model_fields) <= fixed | set(re.findall(r"`(\w+)`", coming[1]))


def test_every_option_is_documented_and_no_other() -> None:
    """Options in the reference, in the form, in the query and in the code are the same, with the same defaults."""
    rows = {row[0].strip("`"): row[1].strip("`") for row in table("option")}
    submit = operations()["POST", "/v1/jobs"]
    form = submit["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    query = {parameter["name"] for parameter in submit["parameters"] if parameter["in"] == "query"}
    assert set(rows) == FIELDS == query == set(form) - {"file", "frames"}
    for name, option in JobOptions.model_fields.items():
        default, shown = option.default, rows[name]
        if default is not None:
            assert shown == (str(default).lower() if isinstance(default, bool) else str(default))


def test_every_field_of_the_job_is_documented_and_no_other() -> None:
    """The reference's example of a job has the fields of the schema, nested ones too."""
    job = example("id")
    assert set(job) == set(Job.model_fields) == set(SCHEMAS["Job"]["properties"])
    for field, schema in {"input": "InputInfo", "progress": "Progress", "links": "Links", "model": "ModelRef"}.items():
        assert set(job[field]) == set(SCHEMAS[schema]["properties"])
    assert all(f"`{state}`" in REFERENCE for state in SCHEMAS["Job"]["properties"]["state"]["enum"])


def test_every_problem_is_documented_and_no_other() -> None:
    """The reference's codes and statuses are those of the error classes."""
    kinds = {(kind.code, kind.status) for kind in errors.ProblemError.__subclasses__()}
    assert {(row[0].strip("`"), int(row[1])) for row in table("code")} == kinds
    assert {row[0].strip("`") for row in table("format")} == {*MEDIA_TYPES, "hume"}


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


def test_examples_show_members_that_there_can_be() -> None:
    """The example of a bundle has members as they are described, each with a backbone that manifests know."""
    backbones = {spec.model_fields["architecture"].default for spec in get_args(get_args(BackboneSpec)[0])}
    members = EXAMPLES["Model"]["members"]
    for member in members:
        kind = MEMBERS[member["name"]]
        assert (member["title"], member["short"], member["note"]) == (kind.title, kind.short, kind.note)
        assert member["head"] == kind.architecture
    assert {member["backbone"] for member in members} <= backbones


def test_json_submissions_are_described(api: httpx.Client) -> None:
    """A Submission may have every option, and the service accepts them all; without a source it is none."""
    schema = jsonschema_rs.validator_for({**SCHEMAS["Submission"], "components": {"schemas": SCHEMAS}})
    defaults = json.loads(JobOptions().model_dump_json(exclude_none=True))
    whole = defaults | {
        "members": ["cnn"],
        "metadata": {"subject": "P07"},
        "batch": "pilot",
        "name": "a",
        "baseline": "2-5",
    }
    assert set(SCHEMAS["Submission"]["properties"]) == FIELDS
    assert schema.is_valid(whole | {"upload": "0" * 32})
    assert api.post("/v1/jobs", json=whole | {"upload": "0" * 32}).json()["field"] == "upload"  # there is none
    assert not schema.is_valid(whole)
    assert not schema.is_valid({"url": "ftp://example.org/a.mp4"})
    assert not schema.is_valid({"url": "https://example.org/a.mp4", "max_face": 3})
