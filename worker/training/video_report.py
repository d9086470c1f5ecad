"""How good a bundle is on labelled videos: what `evaluate --layout clips` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from app.contract.options import JobOptions
from worker.decode import DecodeLimits
from worker.inference import serving
from worker.training.errors import DataError
from worker.training.journal import Journal
from worker.training.judging import Following, Labelled, Seen, Steadiness, faces_of_clip, faces_of_person, label_videos
from worker.training.metrics import measure
from worker.training.report import as_text as crops_as_text
from worker.training.video_index import UNLABELLED
from worker.training.whole_videos import AnnotatedVideo, Clip, Video

SINGLE = ("war", "uar", "macro_f1", "ece")
FAILED_SHOWN = 20

Report = dict[str, Any]


def evaluate_videos(
    loaded: serving.Serving,
    name: str,
    given: list[Video] | list[AnnotatedVideo],
    options: JobOptions,
    limits: DecodeLimits,
    journal: Journal,
    at_once: int,
) -> Report:
    """The report of `evaluate --json` on labelled videos.  name: of the data.  at_once: see `label_videos`.

    Raises: DataError where nothing could be judged; NoPriorError.
    """
    labels, chosen = loaded.manifest.labels, serving.label_options(options)
    members, prior = loaded.pipeline.members(chosen), loaded.pipeline.prior(chosen)
    if annotated := [video for video in given if isinstance(video, AnnotatedVideo)]:
        found = frames_report(label_videos(loaded, annotated, options, limits, journal, at_once), labels, members)
        results = {"annotations": found}
        judged = found["n"]
    else:
        tally = ClipTally(labels, members)
        videos = [video for video in given if isinstance(video, Video)]
        for labelled in label_videos(loaded, videos, options, limits, journal, at_once):
            tally.add(labelled)
        found = tally.report()
        results = {"clips": found}
        judged = len(found["clips"])
    if not judged:
        why = _failure(found["failed"][0]) if found["failed"] else "no labelled frame shows the face"
        raise DataError(f"nothing of {name} could be judged; {why}")
    bundle = f"{loaded.manifest.name} {loaded.manifest.version}"
    return {"data": name, "bundle": bundle, "prior": prior, "results": results}


class ClipTally:
    """Clips, one after the other; `report` sums them up.  members: names, in the bundle's order."""

    def __init__(self, labels: Sequence[str], members: Sequence[str]) -> None:
        self._labels, self._members = labels, members
        self._scores: list[np.ndarray] = []  # (1 + M, K) mean scores of each labelled clip, the ensemble's first
        self._truth: list[int] = []
        self._rows: list[Report] = []
        self._failed: list[Report] = []
        self._steadiness, self._of_unlabelled = Steadiness(), Steadiness()
        self._following = Following()
        self._frames = self._empty_frames = self._unlabelled = 0

    def add(self, labelled: Labelled[Video]) -> None:
        """One video's clips."""
        seen = labelled.seen
        if seen is None:
            for clip in labelled.video.clips:
                self._fail(clip, labelled.why)
            return
        truth, said = (np.full(len(seen.times), UNLABELLED) for _ in range(2))
        for clip in labelled.video.clips:
            frames, faces = faces_of_clip(seen, clip)
            truth[frames] = clip.label
            said[seen.frame[faces]] = seen.fused[faces].argmax(axis=1)
            self._frames += len(frames)
            self._empty_frames += int((~np.isin(frames, seen.frame)).sum())
            if len(faces):
                self._judge(clip, seen, faces)
            else:
                self._fail(clip, "no face was found" if len(frames) else "it has no frame from start_s to end_s")
        self._following.add(truth, said)

    def report(self) -> Report:
        """All of them.  `n`: labelled clips with a face."""
        truth = np.array(self._truth, np.int64)
        scores = np.array(self._scores).reshape(len(truth), 1 + len(self._members), len(self._labels))
        return {
            "n": len(truth),
            **_measured(scores[:, 0], truth, self._labels),
            "label_changes_per_s": self._steadiness.a_second,
            "unlabelled": {"n": self._unlabelled, "label_changes_per_s": self._of_unlabelled.a_second},
            "changes": self._following.figures(),
            "frames": self._frames,
            "share_without_face": self._empty_frames / self._frames if self._frames else None,
            "members": {
                name: {key: value for key, value in found.items() if key in SINGLE}
                for k, name in enumerate(self._members, start=1)
                for found in [_measured(scores[:, k], truth, self._labels)]
            },
            "failed": self._failed,
            "clips": self._rows,
        }

    def _judge(self, clip: Clip, seen: Seen, faces: np.ndarray) -> None:
        fused, own = seen.fused[faces], seen.members[:, faces]  # (P, K), (M, P, K)
        means = np.concatenate([fused.mean(axis=0)[None], own.mean(axis=1)]).astype(np.float64)
        if clip.label == UNLABELLED:
            self._unlabelled += 1
        else:
            self._scores.append(means)
            self._truth.append(clip.label)
        steadiness = Steadiness()
        for tally in (steadiness, self._steadiness, *([self._of_unlabelled] if clip.label == UNLABELLED else [])):
            tally.add(seen.times[seen.frame[faces]], seen.track[faces], fused.argmax(axis=1))
        self._rows.append(
            {
                "line": clip.line,
                "path": clip.name,
                "label": None if clip.label == UNLABELLED else self._labels[clip.label],
                "predicted": self._labels[int(means[0].argmax())],
                "scores": dict(zip(self._labels, means[0].round(4).tolist(), strict=True)),
                "faces": len(faces),
                "label_changes": steadiness.changes,
                "seconds": round(steadiness.seconds, 3),
            }
        )

    def _fail(self, clip: Clip, why: str) -> None:
        self._failed.append({"line": clip.line, "path": clip.name, "why": why})


def frames_report(items: Iterable[Labelled[AnnotatedVideo]], labels: Sequence[str], members: Sequence[str]) -> Report:
    """Videos with a label a frame.  `n`: labelled frames in which the person's face was found; they alone count."""
    scores, truths, failed = [], [], []
    steadiness, following = Steadiness(), Following()
    frames = 0
    for item in items:
        seen, video = item.seen, item.video
        if seen is None:
            failed.append({"path": video.name, "why": item.why})
            continue
        known = np.append(video.labels, UNLABELLED)
        truth = known[np.minimum(seen.index, len(video.labels))]
        faces = faces_of_person(seen, video.side)
        said = np.full(len(seen.times), UNLABELLED)
        said[seen.frame[faces]] = seen.fused[faces].argmax(axis=1)
        steadiness.add(seen.times[seen.frame[faces]], seen.track[faces], said[seen.frame[faces]])
        following.add(truth, said)
        frames += int((truth != UNLABELLED).sum())
        scored = faces[truth[seen.frame[faces]] != UNLABELLED]
        truths.append(truth[seen.frame[scored]])
        scores.append(np.concatenate([seen.fused[scored][None], seen.members[:, scored]]))  # (1 + M, P, K)
    truth = np.concatenate([np.empty(0, np.int64), *truths])
    found = np.concatenate([np.empty((1 + len(members), 0, len(labels)), np.float32), *scores], axis=1)
    measured = [measure(part, truth, labels) for part in found] if len(truth) else []
    return {
        "n": len(truth),
        "ensemble": measured[0] if measured else None,
        "members": dict(zip(members, measured[1:], strict=True)) if measured else {},
        "label_changes_per_s": steadiness.a_second,
        "changes": following.figures(),
        "frames": frames,
        "share_without_face": 1 - len(truth) / frames if frames else None,
        "failed": failed,
    }


def as_text(report: Report) -> str:
    """Tables of labels and of steadiness, and what was not judged, for people."""
    head = f"{report['bundle']}, prior {report['prior'] if report['prior'] is not None else 'of its own'}"
    results = report["results"]
    if "clips" in results:
        return "\n".join([report["data"], head, *_clip_lines(results["clips"]), *_video_lines(results["clips"])])
    return "\n".join([crops_as_text(report), "", head, *_video_lines(results["annotations"])])


def _video_lines(result: Report) -> list[str]:
    """Further figures of videos: flicker, changes, frames without faces, failures."""
    changes = result["changes"]
    lines = ["", f"{'label changes a second':34}{_shown(result['label_changes_per_s'])}"]
    if "unlabelled" in result:
        name = f"  of {result['unlabelled']['n']} clips without a label"
        lines.append(f"{name:34}{_shown(result['unlabelled']['label_changes_per_s'])}")
    lines.append(f"{'frames without the face':34}{_shown(result['share_without_face'])} of {result['frames']}")
    if changes["n"]:
        lines.append(
            f"{changes['n']} changes of the annotated label: {changes['early']} early, {changes['followed']} followed "
            f"(median {_shown(changes['median_frames'])}, 95th percentile {_shown(changes['p95_frames'])} frames), "
            f"{changes['missed']} missed"
        )
    failed = result["failed"]
    if failed:
        lines += ["", f"not judged: {len(failed)}"]
        lines += [f"  {_failure(row)}" for row in failed[:FAILED_SHOWN]]
        lines += ["  ..."] * (len(failed) > FAILED_SHOWN)
    return lines


def _clip_lines(result: Report) -> list[str]:
    """A table of the ensemble and its members, and one of the labels with the confusion."""
    lines = ["", f"{result['n']} labelled clips", f"{'':18}" + "".join(f"{key:>12}" for key in SINGLE)]
    for who, found in [("ensemble", result), *result["members"].items()]:
        lines.append(f"{who:18}" + "".join(f"{_shown(found[key]):>12}" for key in SINGLE))
    if result["n"]:
        columns = [label[:9] for label in result["per_class"]]
        lines += ["", f"{'':18}{'clips':>6}{'recall':>8}  predicted: " + "".join(f"{c:>10}" for c in columns)]
        for (label, found), row in zip(result["per_class"].items(), result["confusion"], strict=True):
            counts = "".join(f"{count or '.':>10}" for count in row)
            lines.append(f"{label:18}{found['support']:6d}{found['recall']:8.3f}  {'':11}{counts}")
    return lines


def _measured(scores: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> Report:
    """Scores (N, K).  Means over labels include only labels that a clip has: a corpus may lack Surprise."""
    if not len(truth):
        return dict.fromkeys((*SINGLE, "per_class", "confusion"))
    found = measure(scores, truth, labels)
    there = [of_label for of_label in found["per_class"].values() if of_label["support"]]
    return {
        "war": found["accuracy"],
        "uar": float(np.mean([of_label["recall"] for of_label in there])),
        "macro_f1": float(np.mean([of_label["f1"] for of_label in there])),
        "ece": found["ece"],
        "per_class": found["per_class"],
        "confusion": found["confusion"],
    }


def _failure(row: Report) -> str:
    place = f"line {row['line']}, " if "line" in row else ""
    return f"{place}{row['path']}: {row['why']}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
