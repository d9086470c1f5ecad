"""Results: pages, streams, events, summary and timeline, while a job runs and after it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from app.contract.colours import LABEL_COLOURS
from app.contract.frames import Face, Frame, frame_record

Submit = Callable[..., str]
LABELS = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")
MEMBERS = ("cnn", "cnn_rnn", "cnn_transformer")


def pages(api: httpx.Client, path: str) -> list[dict[str, Any]]:
    found = []
    following: str | None = path
    while following:
        page = api.get(following).json()
        found += page["frames"]
        following = page["next"]
    return found


@pytest.fixture
def done(submit: Submit, worker: Any, make_frames: Any) -> str:
    """A job of 200 frames, two faces in most, none in every 10th."""
    job_id = submit()
    worker.label(job_id, make_frames(200, faces=2, empty_every=10))
    return job_id


@pytest.mark.parametrize("limit", [1, 63, 64, 65, 100, 128, 199, 200, 201, 5000])
def test_pages_of_any_size_hold_every_frame_once(limit: int, api: httpx.Client, done: str) -> None:
    """With any page size, the pages together are all records in order."""
    if limit == 1:
        frames = pages(api, f"/v1/jobs/{done}/frames?limit=1&from=190")
        assert [frame["frame_index"] for frame in frames] == list(range(190, 200))
        return
    frames = pages(api, f"/v1/jobs/{done}/frames?limit={limit}")
    assert [frame["frame_index"] for frame in frames] == list(range(200))
    assert all(frame["faces"] == [] for frame in frames[::10])
    face = frames[1]["faces"][0]
    assert set(face) == {"track_id", "bbox", "detection_score", "label", "score", "scores"}
    assert set(face["scores"]) == set(LABELS)
    assert sum(face["scores"].values()) == pytest.approx(1)


def test_pages_while_it_runs_equal_those_after(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """Records read while the job runs equal the final ones; `next` is null only at the very end."""
    job_id = submit()
    frames = make_frames(150)
    page = api.get(f"/v1/jobs/{job_id}/frames").json()
    assert (page["frames"], page["complete"]) == ([], False)
    worker.claim(job_id)
    seen = []
    for start in range(0, 150, 64):
        following = page["next"]
        assert following is not None
        worker.append(job_id, frames[start : start + 64])
        page = api.get(following).json()
        seen += page["frames"]
    assert page["next"] is not None
    worker.finish(job_id)
    last = api.get(page["next"]).json()
    assert (last["frames"], last["next"], last["complete"]) == ([], None, True)
    assert seen == pages(api, f"/v1/jobs/{job_id}/frames")
    assert len(seen) == 150


def test_what_a_crashed_execution_wrote_is_not_shown(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """After a restart only the new execution's frames count, and nothing of the old one is left."""
    job_id = submit()
    crashed = worker.claim(job_id)
    worker.append(job_id, make_frames(64))
    crashed.hand_back(charged=True)
    worker.claim(job_id)
    assert api.get(f"/v1/jobs/{job_id}/frames").json()["frames"] == []
    worker.append(job_id, make_frames(10))
    worker.finish(job_id)
    assert len(pages(api, f"/v1/jobs/{job_id}/frames")) == 10
    assert len(worker.redis.keys("mien:frames:*")) == 1
    assert api.get(f"/v1/jobs/{job_id}").json()["attempts"] == 2


def test_members_are_each_members_own(api: httpx.Client, done: str) -> None:
    """`members=true` shows every member's probabilities, on every page and in every format that has them."""
    for frame in pages(api, f"/v1/jobs/{done}/frames?members=true&limit=70"):
        for face in frame["faces"]:
            assert set(face["members"]) == set(MEMBERS)
            assert all(sum(scores.values()) == pytest.approx(1) for scores in face["members"].values())
    line = api.get(f"/v1/jobs/{done}/frames?members=true&format=ndjson&from=1").text.splitlines()[0]
    assert set(json.loads(line)["faces"][0]["members"]) == set(MEMBERS)


@pytest.mark.parametrize(
    "query", ["from=-1", "from=x", "limit=0", "limit=5001", "members=perhaps", "format=xml", "from=1e3"]
)
def test_bad_queries_name_the_parameter(query: str, api: httpx.Client, done: str) -> None:
    """Each wrong parameter is 422 and named."""
    answer = api.get(f"/v1/jobs/{done}/frames?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, query.split("=", maxsplit=1)[0])


def test_beyond_the_end_there_is_nothing(api: httpx.Client, done: str) -> None:
    """A page after the last frame of an ended job is empty and has no next."""
    page = api.get(f"/v1/jobs/{done}/frames?from=1000000000").json()
    assert (page["frames"], page["next"]) == ([], None)


def test_text_formats_hold_what_json_holds(api: httpx.Client, done: str) -> None:
    """NDJSON and CSV have a row for every frame or face of the JSON, the same values, chosen either way."""
    frames = pages(api, f"/v1/jobs/{done}/frames")
    ndjson = api.get(f"/v1/jobs/{done}/frames", headers={"Accept": "application/x-ndjson"})
    assert ndjson.headers["content-type"] == "application/x-ndjson"
    assert ndjson.headers["mien-complete"] == "true"
    assert [json.loads(line) for line in ndjson.text.splitlines()] == frames
    answer = api.get(f"/v1/jobs/{done}/frames?format=csv&from=10")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    flat = [(frame, face) for frame in frames[10:] for face in frame["faces"] or [None]]
    assert len(rows) == len(flat)
    for row, (frame, face) in zip(rows, flat, strict=True):
        assert int(row["frame_index"]) == frame["frame_index"]
        assert float(row["timestamp_s"]) == frame["timestamp_s"]
        if face is None:
            assert {row[name] for name in ("track_id", "x", "label", "score", *LABELS)} == {""}
        else:
            assert (row["label"], float(row["score"])) == (face["label"], face["score"])
            assert [float(row[name]) for name in ("x", "y", "width", "height")] == face["bbox"]
            assert {name: float(row[name]) for name in LABELS} == face["scores"]


def test_vtt_is_in_order_and_covers_the_faces(api: httpx.Client, done: str) -> None:
    """WebVTT cues are in order, never overlap, and name the faces with their labels."""
    text = api.get(f"/v1/jobs/{done}/frames", headers={"Accept": "text/vtt, */*;q=0.1"}).text
    assert text.startswith("WEBVTT\n\n")
    cues = re.findall(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})\n((?:<v .*\n?)+)", text)
    spans = [
        (int(a) * 3600 + int(b) * 60 + float(c), int(d) * 3600 + int(e) * 60 + float(f)) for a, b, c, d, e, f, _ in cues
    ]
    assert len(spans) == text.count("-->") >= 20
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert all(cue[-1].strip().count("<v Face ") == 2 for cue in cues)


def seconds(clock: tuple[str, ...]) -> float:
    hours, minutes, rest = clock
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_accept_that_names_nothing_is_406(api: httpx.Client, done: str) -> None:
    """A client that accepts none of the formats gets 406; browsers get JSON."""
    answer = api.get(f"/v1/jobs/{done}/frames", headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    browser = api.get(f"/v1/jobs/{done}/frames", headers={"Accept": "text/html,application/xml;q=0.9,*/*;q=0.8"})
    assert browser.headers["content-type"] == "application/json"


def test_frames_have_etags(api: httpx.Client, done: str) -> None:
    """A page that has not changed is 304."""
    first = api.get(f"/v1/jobs/{done}/frames?limit=5")
    again = api.get(f"/v1/jobs/{done}/frames?limit=5", headers={"If-None-Match": f'"x", W/{first.headers["etag"]}'})
    assert again.status_code == 304


def test_hume_shape(api: httpx.Client, done: str) -> None:
    """`format=hume` has Hume's nesting, one group per track, and a link to the next page."""
    answer = api.get(f"/v1/jobs/{done}/frames?format=hume&limit=150")
    (source,) = answer.json()
    (file,) = source["results"]["predictions"]
    groups = file["models"]["face"]["grouped_predictions"]
    assert [group["id"] for group in groups] == ["face_0", "face_1"]
    prediction = groups[0]["predictions"][0]
    assert {"frame", "time", "prob", "box", "emotions"} <= set(prediction)
    assert set(prediction["box"]) == {"x", "y", "w", "h"}
    assert {emotion["name"] for emotion in prediction["emotions"]} == set(LABELS)
    following = re.fullmatch(r'<(.*)>; rel="next"', answer.headers["link"])
    assert following is not None
    rest = api.get(following[1])
    frames = [
        p["frame"]
        for g in rest.json()[0]["results"]["predictions"][0]["models"]["face"]["grouped_predictions"]
        for p in g["predictions"]
    ]
    assert min(frames) == 151
    assert "link" not in rest.headers


def test_summary_adds_up(api: httpx.Client, done: str) -> None:
    """Shares add to one, segments to the frames' time, and counts to the number of frames."""
    summary = api.get(f"/v1/jobs/{done}/summary").json()
    assert (summary["frames"], summary["frames_with_faces"], summary["frames_without_faces"]) == (200, 180, 20)
    assert [track["track_id"] for track in summary["tracks"]] == [0, 1]
    for part in (summary["video"], *summary["tracks"]):
        assert part["frames"] == 180
        assert sum(label["share"] for label in part["labels"].values()) == pytest.approx(1, abs=1e-3)
        assert sum(s["end_s"] - s["start_s"] for s in part["segments"]) == pytest.approx(180 / 25, abs=0.01)
        assert all(0 < segment["mean_score"] <= 1 for segment in part["segments"])
    first = summary["tracks"][0]["segments"][0]
    assert (first["start_s"], first["label"]) == (0.04, "Neutral")
    assert first["end_s"] == pytest.approx(0.4)


def test_summary_of_nothing(api: httpx.Client, submit: Submit, worker: Any, make_frames: Any) -> None:
    """A job without faces, or without frames yet, has a summary and a timeline too."""
    job_id = submit()
    for path in ("summary", "timeline.svg"):
        assert api.get(f"/v1/jobs/{job_id}/{path}").status_code == 200
    worker.label(job_id, make_frames(20, faces=0))
    summary = api.get(f"/v1/jobs/{job_id}/summary").json()
    assert (summary["frames_without_faces"], summary["tracks"], summary["video"]["segments"]) == (20, [], [])
    assert "no faces" in api.get(f"/v1/jobs/{job_id}/timeline.svg").text


def test_timeline_is_a_picture(api: httpx.Client, done: str) -> None:
    """The timeline is well-formed SVG with a lane a track and every label's colour."""
    answer = api.get(f"/v1/jobs/{done}/timeline.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    root = ElementTree.fromstring(answer.text)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Face 0", "Face 1", *LABELS} <= set(texts)
    fills = {element.get("fill") for element in root.iter("{http://www.w3.org/2000/svg}polygon")}
    assert fills == set(LABEL_COLOURS.values())


def events(lines: Iterator[str]) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """Events of a stream: name, id, data."""
    name, event_id = "", None
    for line in lines:
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "id":
            event_id = value
        elif key == "data":
            yield name, event_id, json.loads(value)
            event_id = None


def test_an_event_stream_that_is_cut_has_every_frame_once(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """Cut after every event and resumed with Last-Event-ID, the stream still has each frame exactly once."""
    job_id = submit()
    frames = make_frames(64 * 9 + 5)

    def work() -> None:
        worker.claim(job_id)
        for start in range(0, len(frames), 64):
            worker.append(job_id, frames[start : start + 64])
        worker.finish(job_id)

    thread = threading.Thread(target=work)
    seen: list[dict[str, Any]] = []
    last_id = ""
    ended = ""
    connections = 0
    while not ended:
        connections += 1
        headers = {"Last-Event-ID": last_id} if last_id else {}
        with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            if connections == 1:
                thread.start()
            for name, event_id, data in events(stream.iter_lines()):
                if name == "frames":
                    assert data["from"] == len(seen)
                    seen += data["frames"]
                    last_id = event_id or ""
                    break
                if name != "progress":
                    ended = name
                    assert data["state"] == name
    thread.join()
    assert ended == "succeeded"
    assert connections > 2
    assert [frame["frame_index"] for frame in seen] == list(range(len(frames)))
    assert seen[7] == frame_record(frames[7], LABELS)


@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled"])
def test_event_stream_of_an_ended_job_closes(
    state: str, api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """An ended job's stream sends its frames and the final event, and closes."""
    job_id = submit()
    worker.label(job_id, make_frames(10), state)
    with api.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        names = [name for name, _, _ in events(stream.iter_lines())]
    assert names == ["progress", "frames", state]


def test_event_stream_is_compressed_for_those_who_take_it(
    api: httpx.Client, submit: Submit, worker: Any, make_frames: Any
) -> None:
    """The same events, a fraction of the bytes; never where gzip is not asked for, or refused."""
    job_id = submit()
    worker.label(job_id, make_frames(300))
    found = {}
    for accepted in ("identity", "gzip;q=0", "br, GZIP"):
        path = f"/v1/jobs/{job_id}/events?members=true"
        with api.stream("GET", path, headers={"Accept-Encoding": accepted}) as stream:
            assert stream.headers["vary"] == "Accept-Encoding"
            assert (stream.headers.get("content-encoding") == "gzip") == (accepted == "br, GZIP")
            found[accepted] = (list(events(stream.iter_lines())), stream.num_bytes_downloaded)
    assert found["identity"][0] == found["gzip;q=0"][0] == found["br, GZIP"][0]
    assert 3 * found["br, GZIP"][1] < found["identity"][1]


def test_event_stream_ends_when_the_job_is_removed(api: httpx.Client, submit: Submit) -> None:
    """Removing a job closes its streams."""
    job_id = submit()
    with api.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        coming = events(stream.iter_lines())
        assert next(coming)[0] == "progress"
        assert httpx.delete(f"{api.base_url}/v1/jobs/{job_id}").status_code == 204
        # Whether the stream sees the cancellation before the removal is a matter of time.
        assert {name for name, _, _ in coming} <= {"progress", "canceled"}


def test_segments_captions_and_lanes_are_smoothed_as_the_job_or_the_read_says(
    api: httpx.Client, submit: Submit, worker: Any
) -> None:
    """A flicker of two frames is a segment of its own only with smooth_s=0; records keep every score."""
    labels = [0] * 50 + [1, 1] + [0] * 50
    frames = [
        Frame(i, i / 25, (Face(0, (0, 0, 40, 40), 0.9, tuple(0.34 if k == best else 0.11 for k in range(7))),))
        for i, best in enumerate(labels)
    ]
    smooth, raw = submit(), submit(smooth_s="0")
    for job_id in (smooth, raw):
        worker.label(job_id, frames)
    found = {}
    for job_id, query in ((smooth, ""), (smooth, "?smooth_s=0&unsure_below=0.3"), (raw, "")):
        summary = api.get(f"/v1/jobs/{job_id}/summary{query}").json()
        (track,) = summary["tracks"]
        assert track["segments"] == summary["video"]["segments"]
        cues = api.get(f"/v1/jobs/{job_id}/frames{query}", headers={"Accept": "text/vtt"}).text
        lane = api.get(f"/v1/jobs/{job_id}/timeline.svg{query}").text
        found[job_id, query] = (len(track["segments"]), track["segments"][0]["unsure"], cues.count("-->"), lane)
        assert ("(unsure)" in cues) == track["segments"][0]["unsure"]
    assert found[smooth, ""][:3] == (1, True, 1)
    assert found[smooth, "?smooth_s=0&unsure_below=0.3"][:3] == (3, False, 3)
    assert found[raw, ""][:3] == (3, True, 3)
    assert found[smooth, ""][3] != found[raw, ""][3] == found[smooth, "?smooth_s=0&unsure_below=0.3"][3]
    assert pages(api, f"/v1/jobs/{smooth}/frames") == pages(api, f"/v1/jobs/{raw}/frames")
    for path in ("frames", "summary", "timeline.svg"):
        answer = api.get(f"/v1/jobs/{smooth}/{path}?smooth_s=-1")
        assert (answer.status_code, answer.json()["field"]) == (422, "smooth_s")
