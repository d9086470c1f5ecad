"""Files for other tools, read back by the libraries that their users use."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tgt
from pympi.Elan import Eaf

from app.contract.exports import ExportFormat, MissingLibraryError, check, export
from app.contract.exports.content import Content
from app.contract.exports.openface import COLUMNS
from app.contract.frames import Face, Frame, Looks
from app.contract.segments import Smoothing

LABELS = ("Neutral", "Happiness", "Sadness & <co>")
POINTS = ((10.0, 10.0), (20.0, 10.0), (15.0, 15.0), (11.0, 20.0), (19.0, 20.0))
ABOUT = {"job_id": "a" * 32, "model": "default", "created_at": "2026-11-27T23:00:00+00:00"}
FPS = 25


def face(track: int, label: int, score: float = 0.8, person: int | None = None) -> Face:
    low = (1 - score) / 2
    scores = tuple(score if k == label else low for k in range(3))
    change = tuple(round(s - 0.3, 3) for s in scores)
    looks = Looks(POINTS, (20.0, -10.0, 5.0), 0.3)
    return Face(track, (1.5, 2, 30, 40), 0.9, scores, (), looks, person, change)


@pytest.fixture
def frames() -> list[Frame]:
    """Person 0 smiles for a second and comes back after a cut as another track, unsure; person 1 is sad throughout."""
    rows = []
    for i in range(150):
        own = face(0, 1 if 25 <= i < 50 else 0, 0.8, 0) if i < 100 else face(2, 0, 0.36, 0)
        rows.append(Frame(i, i / FPS, () if i == 149 else (own, face(1, 2, 0.8, 1))))
    return rows


def written(frames: list[Frame], format: ExportFormat, **content: Any) -> bytes:
    return b"".join(export(frames, format, Content(LABELS, about=ABOUT, **content)))


def test_parquet_in_pyarrow_and_pandas(frames: list[Frame]) -> None:
    """Typed columns, a row a face, nulls for a frame without one; job and model in the metadata."""
    data = written(frames, "parquet", landmarks=True, late=("person_id", "change"))
    file = pq.ParquetFile(io.BytesIO(data))
    metadata = {key.decode(): value.decode() for key, value in file.schema_arrow.metadata.items()}
    assert (metadata["mien.job_id"], metadata["mien.model"]) == ("a" * 32, "default")
    assert json.loads(metadata["mien.labels"]) == list(LABELS)
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    assert (kinds["frame_index"], kinds["timestamp_s"], kinds["label"]) == ("int64", "double", "string")
    assert (kinds["track_id"], kinds["person_id"], kinds["Happiness"]) == ("int32", "int32", "float")
    table = pd.read_parquet(io.BytesIO(data))
    assert len(table) == 2 * 149 + 1
    assert table["timestamp_s"].tolist()[:3] == [0, 0, 1 / FPS]
    assert table["label"].iloc[50] == "Happiness"
    assert table["nose_x"].iloc[0] == 15
    assert table["change_Happiness"].iloc[50] == pytest.approx(0.5)
    assert table.iloc[-1].drop(["frame_index", "timestamp_s"]).isna().all()


def test_csv_and_parquet_have_the_same_rows(frames: list[Frame]) -> None:
    """They are one table."""
    options: dict[str, Any] = {"landmarks": True, "late": ("person_id", "change")}
    csv = pd.read_csv(io.BytesIO(written(frames, "csv", **options)))
    parquet = pd.read_parquet(io.BytesIO(written(frames, "parquet", **options)))
    assert list(csv) == list(parquet)
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False, rtol=1e-6)


def test_eaf_in_pympi(frames: list[Frame], tmp_path: Path) -> None:
    """A tier a person with their segments, over the cut; labels are whole, whatever is in them."""
    path = tmp_path / "a.eaf"
    path.write_bytes(written(frames, "eaf"))
    eaf = Eaf(str(path))
    assert set(eaf.get_tier_names()) == {"Person 0", "Person 1"}
    assert eaf.get_annotation_data_for_tier("Person 0") == [
        (0, 1000, "Neutral"),
        (1000, 2000, "Happiness"),
        (2000, 4000, "Neutral"),
        (4000, 5960, "Neutral?"),
    ]
    assert eaf.get_annotation_data_for_tier("Person 1") == [(0, 5960, "Sadness & <co>")]


def test_textgrid_in_tgt(frames: list[Frame], tmp_path: Path) -> None:
    """Tiers that cover the whole; without people a tier a track."""
    path = tmp_path / "a.TextGrid"
    plain = [Frame(f.frame_index, f.timestamp_s, tuple(face(x.track_id, 1) for x in f.faces)) for f in frames]
    path.write_bytes(written(plain, "textgrid"))
    grid = tgt.io.read_textgrid(str(path), include_empty_intervals=True)
    assert grid.get_tier_names() == ["Face 0", "Face 1", "Face 2"]
    for tier in grid:
        assert (tier.start_time, tier.end_time) == (0, 6)
    late = grid.get_tier_by_name("Face 2").intervals
    assert [(i.start_time, i.end_time, i.text) for i in late] == [(0, 4, ""), (4, 5.96, "Happiness"), (5.96, 6, "")]
    path.write_bytes(written([], "textgrid"))
    assert b"tiers? <absent>" in path.read_bytes()


@pytest.mark.parametrize("format", ["eaf", "textgrid"])
def test_people_who_have_names_have_tiers(frames: list[Frame], tmp_path: Path, format: ExportFormat) -> None:
    """A name is the tier's, first and over all of its tracks, whatever is in it; where two of them meet, one counts."""
    name = 'Ana "A" <&>'
    path = tmp_path / "a"
    path.write_bytes(written(frames, format, names={2: name, 1: name}))
    expected = {
        name: [(0, 5960, "Sadness & <co>")],
        "Person 0": [(0, 1000, "Neutral"), (1000, 2000, "Happiness"), (2000, 4000, "Neutral")],
    }
    if format == "eaf":
        eaf = Eaf(str(path))
        assert {tier: eaf.get_annotation_data_for_tier(tier) for tier in eaf.get_tier_names()} == expected
    else:
        grid = tgt.io.read_textgrid(str(path))
        found = {
            tier.name.replace('""', '"'): [(round(i.start_time * 1000), round(i.end_time * 1000), i.text) for i in tier]
            for tier in grid
        }
        assert found == expected
        assert next(iter(found)) == name


def test_openface_in_pandas(frames: list[Frame]) -> None:
    """OpenFace's own columns, in its order and units, then the labels; what is not measured is missing."""
    table = pd.read_csv(io.BytesIO(written(frames, "openface", landmarks=True)))
    assert list(table) == [*COLUMNS, *LABELS]
    # The sections that readers cut the table into.
    assert len(COLUMNS) == 5 + 8 + 280 + 6 + 340 + 40 + 35
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["frame"], first["face_id"], first["timestamp"], first["success"]) == (1, 0, 0, 1)
    assert first["pose_Ry"] == pytest.approx(-math.radians(20), abs=1e-4)
    assert first["pose_Rx"] == pytest.approx(math.radians(10), abs=1e-4)
    assert (first["x_30"], first["y_54"]) == (15, 20)
    assert math.isnan(first["AU12_r"])
    assert first["Neutral"] == pytest.approx(0.8)
    assert (last["frame"], last["success"], last["confidence"]) == (150, 0, 0)


def test_srt_has_numbered_cues_in_order(frames: list[Frame]) -> None:
    """The cues of WebVTT, in SubRip's manner."""
    text = written(frames, "srt").decode()
    cues = re.findall(r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+\n.+)\n\n", text)
    assert [int(number) for number, *_ in cues] == [1, 2, 3, 4]
    assert cues[1][1:3] == ("00:00:01,000", "00:00:02,000")
    assert cues[1][3] == "Face 0: Happiness 0.80\nFace 1: Sadness & <co> 0.80"
    assert cues[3][3].splitlines()[1] == "Face 2: Neutral 0.36 (unsure)"
    assert written(frames, "vtt").decode().count("-->") == 4


@pytest.mark.parametrize("format", ["srt", "parquet", "eaf", "openface", "textgrid"])
def test_no_frames_are_a_file_too(format: ExportFormat, tmp_path: Path) -> None:
    """Of a job without frames each format is a valid file."""
    data = written([], format)
    if format == "parquet":
        assert pq.read_table(io.BytesIO(data)).num_rows == 0
    elif format == "eaf":
        (tmp_path / "a.eaf").write_bytes(data)
        assert list(Eaf(str(tmp_path / "a.eaf")).get_tier_names()) == []
    elif format == "openface":
        assert len(pd.read_csv(io.BytesIO(data))) == 0


@pytest.mark.long
@pytest.mark.parametrize("format", ["srt", "parquet", "eaf", "openface", "textgrid"])
def test_a_long_job_passes_with_flat_memory(format: ExportFormat) -> None:
    """For 100,000 frames only seconds of frames, a row group, or the segments are buffered."""

    def lively() -> Iterator[Frame]:
        for i in range(100_000):
            yield Frame(i, i / FPS, (face(0, i // 30 % 3),))

    tracemalloc.start()
    size = sum(map(len, export(lively(), format, Content(LABELS, smoothing=Smoothing()))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{format}: {size / 2**20:.1f} MiB, peak {peak / 2**20:.1f} MiB")
    assert size > 2**16
    assert peak < 8 * 2**20


def test_over_http_with_name_and_type(
    api: httpx.Client, submit: Callable[..., str], worker: Any, make_frames: Any
) -> None:
    """Each format streams with its media type and a file name that its program knows."""
    job_id = submit()
    worker.label(job_id, make_frames(80, faces=2))
    for format, kind, name in (
        ("parquet", "application/vnd.apache.parquet", ".parquet"),
        ("eaf", "text/x-eaf+xml; charset=utf-8", ".eaf"),
        ("textgrid", "text/plain; charset=utf-8", ".TextGrid"),
        ("openface", "text/csv; charset=utf-8", ".openface.csv"),
        ("srt", "application/x-subrip; charset=utf-8", ".srt"),
    ):
        answer = api.get(f"/v1/jobs/{job_id}/frames?format={format}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert f'{name}"' in answer.headers["content-disposition"]
    table = pq.read_table(io.BytesIO(api.get(f"/v1/jobs/{job_id}/frames?format=parquet").content))
    assert table.num_rows == 160
    assert table.schema.metadata[b"mien.job_id"] == job_id.encode()


def test_a_missing_library_is_told(
    api: httpx.Client, submit: Callable[..., str], worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra the format is 406 with the reason; other formats work."""
    job_id = submit()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingLibraryError, match="exports"):
        check("parquet")
    answer = api.get(f"/v1/jobs/{job_id}/frames?format=parquet")
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert "pyarrow" in answer.json()["detail"]
    assert api.get(f"/v1/jobs/{job_id}/frames?format=eaf").status_code == 200
