"""A fourth member: its network, its description and its place in the recipe; everything else follows from these."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import httpx
import pytest
import redis
import torch
from torch import Tensor, nn

from app.contract import keys
from app.settings import Settings
from model_store.bundle import load_bundle
from model_store.members import MEMBERS, HeadSpec, MemberKind
from tests.app.conftest import serving as front_end
from worker.commands import evaluate, label, train
from worker.ensemble import members
from worker.jobs.registration import model_info
from worker.training.recipes import HeadSettings
from worker.training.stills import LABELS, read_stills


class MeanSpec(HeadSpec):
    """A classifier on the mean of a window's features."""

    architecture: Literal["mean"] = "mean"
    width: int = 4


class MeanHead(members.Head):
    """(B, T, D) features -> (B, T, K) logits, the same at every time."""

    def __init__(self, feature_size: int, labels: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(feature_size, width)
        self.classifier = nn.Linear(width, labels)

    def forward(self, features: Tensor) -> Tensor:
        seen = self.classifier(torch.relu(self.embed(features).mean(dim=1, keepdim=True)))
        return seen.expand(-1, features.shape[1], -1)  # type: ignore[no-any-return]


@pytest.fixture
def fourth(monkeypatch: pytest.MonkeyPatch) -> str:
    """All that a fourth member needs -> its name."""
    specs = HeadSettings.specs
    monkeypatch.setitem(members.ARCHITECTURES, "mean", MeanHead)
    monkeypatch.setitem(MEMBERS, "cnn_mean", MemberKind("cnn_mean", MeanSpec, "CNN-Mean", "Mean", "averages them"))
    monkeypatch.setattr(HeadSettings, "specs", lambda self: {**specs(self), "cnn_mean": MeanSpec()})
    return "cnn_mean"


@pytest.fixture
def trained(
    fourth: str, tmp_path: Path, write_stills: Callable[[Path, int, int], Path], miniature: list[str]
) -> tuple[Path, Path]:
    """A bundle with four members, and labelled stills that it was not trained on."""
    write_stills(tmp_path / "faces_train.npz", 70, 1)
    valid = write_stills(tmp_path / "faces_valid.npz", 35, 2)
    bundle = tmp_path / "four"
    threads = torch.get_num_threads()
    train.command(data=tmp_path, out=bundle, settings=miniature, run_dir=tmp_path / "run", device="cpu")
    torch.set_num_threads(threads)
    return bundle, valid


def test_a_fourth_member_is_trained_measured_exported_and_shown(
    fourth: str,
    trained: tuple[Path, Path],
    tmp_path: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is in the bundle and the card, in metrics, JSON and CSV, and in what the page asks for."""
    bundle, valid = trained
    manifest = load_bundle(bundle).manifest
    assert [member.name for member in manifest.members] == ["cnn", "cnn_rnn", "cnn_transformer", fourth]
    assert fourth in (bundle / "README.md").read_text()
    assert all(fourth in m.members for m in manifest.measurements if m.labels == "ferplus")

    capsys.readouterr()
    evaluate.command(bundle=str(bundle), data=valid, json_=True)
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report["results"]["ferplus"]["members"][fourth]["accuracy"] <= 1

    clip = tmp_path / "clip"
    clip.mkdir()
    for index, image in enumerate(read_stills(valid).images[:12]):
        cv2.imwrite(str(clip / f"{index:02d}.png"), image)
    monkeypatch.setenv("MIEN_BUNDLE", str(bundle))
    monkeypatch.setenv("MIEN_DEVICE", "cpu")
    texts = {}
    for form in ("json", "csv"):
        label.command([clip], faces="cropped", format=form, members=True)
        texts[form] = capsys.readouterr().out
    frames = json.loads(texts["json"])["frames"]
    own = [frame["faces"][0]["members"][fourth] for frame in frames]
    assert len(own) == 12
    assert all(sum(scores.values()) == pytest.approx(1) for scores in own)
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert [{name: float(row[f"{fourth}_{name}"]) for name in LABELS} for row in rows] == own

    with redis.Redis.from_url(redis_url) as connection:
        info = model_info(manifest, "mien-four")
        connection.hset(keys.MODELS, info.name, info.model_dump_json())
    uploads = str(tmp_path / "uploads")
    with front_end(Settings(redis_url=redis_url, uploads=uploads)) as url, httpx.Client(base_url=url) as api:
        shown = {member["name"]: member for member in api.get("/page/members").json()}
        assert shown[fourth] == {"name": fourth, "title": "CNN-Mean", "short": "Mean", "note": "averages them"}
        accepted = api.post("/v1/jobs", content=b"GIF89a" + bytes(100), params={"model": "four", "members": fourth})
        assert accepted.status_code == 202, accepted.text
        refused = api.post("/v1/jobs", content=b"GIF89a" + bytes(100), params={"model": "four", "members": "cnn_max"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")
