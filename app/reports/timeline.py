"""The timeline, a picture of the scores over time: a lane for each track, a band for each label, as high as its score.

A lane has at most `COLUMNS` means, so the size does not grow with the video.  A lane stores only columns with its face,
since a crowd has thousands of short tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from app.contract.colours import colours
from app.contract.frames import Frame
from app.contract.segments import Smoothing, shown

COLUMNS = 240
MAX_LANES = 24  # the longest tracks
WIDTH, LANE, GAP, LEFT, TOP, LEGEND = 960, 72, 14, 72, 16, 44  # px

Lane = dict[int, list[float]]  # column -> number of frames, then the sum of their scores for each label


def draw(frames: Iterable[Frame], labels: Sequence[str], start_s: float, end_s: float, smoothing: Smoothing) -> str:
    """The timeline of smoothed scores as SVG.  start_s, end_s: times of the first and the last frame."""
    span = max(end_s - start_s, 1e-6)
    lanes: dict[int, Lane] = {}
    for seen in shown(frames, smoothing):
        frame = seen.frame
        column = min(max(int((frame.timestamp_s - start_s) / span * COLUMNS), 0), COLUMNS - 1)
        for face, scores in zip(frame.faces, seen.scores, strict=True):
            sums = lanes.setdefault(face.track_id, {}).setdefault(column, [0.0] * (1 + len(labels)))
            sums[0] += 1
            for k, score in enumerate(scores, 1):
                sums[k] += score
    longest = sorted(lanes, key=lambda track: -sum(sums[0] for sums in lanes[track].values()))[:MAX_LANES]
    lanes_shown = sorted(longest)
    height = TOP + max(len(lanes_shown), 1) * (LANE + GAP) + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-family="sans-serif" font-size="12"><title>Expressions over time</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    ]
    for place, track in enumerate(lanes_shown):
        parts += _lane(track, lanes[track], labels, TOP + place * (LANE + GAP))
    if not lanes_shown:
        parts.append(f'<text x="{LEFT}" y="{TOP + LANE // 2}" fill="#444444">no faces</text>')
    if left_out := len(lanes) - len(lanes_shown):
        text = f"and {left_out} more {'face' if left_out == 1 else 'faces'}, seen for less long"
        parts.append(f'<text x="{WIDTH - 8}" y="{TOP - 4}" text-anchor="end" fill="#444444">{text}</text>')
    bottom = height - LEGEND
    parts += _axis(start_s, end_s, bottom + 10)
    parts += _legend(labels, bottom + 32)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _lane(track: int, lane: Lane, labels: Sequence[str], top: int) -> list[str]:
    """Stacked bands; adjacent columns with the face form one shape, gaps stay empty."""
    by_label = colours(labels)
    middle = top + LANE // 2
    parts = [
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end" dominant-baseline="middle" fill="#222222">'
        f"Face {track}</text>",
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 8}" height="{LANE}" fill="#f4f4f4"/>',
    ]
    for run in _runs(lane):
        floor = [0.0] * len(run)
        for k, label in enumerate(labels):
            ceiling = [low + lane[c][1 + k] / lane[c][0] for low, c in zip(floor, run, strict=True)]
            upper = [_points(c, top, value) for c, value in zip(run, ceiling, strict=True)]
            lower = [_points(c, top, value) for c, value in zip(run, floor, strict=True)]
            outline = [p for pair in upper for p in pair] + [p for pair in reversed(lower) for p in reversed(pair)]
            points = " ".join(outline)
            parts.append(
                f'<polygon fill="{by_label[label]}" points="{points}"><title>{escape(label)}</title></polygon>'
            )
            floor = ceiling
    return parts


def _runs(lane: Lane) -> list[list[int]]:
    """Runs of adjacent columns with the face."""
    runs: list[list[int]] = []
    for column in sorted(lane):
        if runs and runs[-1][-1] == column - 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs


def _x(column: float) -> str:
    return f"{LEFT + column / COLUMNS * (WIDTH - LEFT - 8):.1f}"


def _points(column: int, top: int, value: float) -> tuple[str, str]:
    """Left and right end of a column's edge; value 0 is the lane's bottom."""
    y = f"{top + LANE * (1 - min(value, 1.0)):.1f}"
    return f"{_x(column)},{y}", f"{_x(column + 1)},{y}"


def _axis(start_s: float, end_s: float, y: int) -> list[str]:
    ticks = 8
    times = [start_s + (end_s - start_s) * tick / ticks for tick in range(ticks + 1)]
    anchors = ["start", *["middle"] * (ticks - 1), "end"]
    return [
        f'<text x="{_x(COLUMNS * tick / ticks)}" y="{y}" text-anchor="{anchors[tick]}" fill="#444">{time:.1f} s</text>'
        for tick, time in enumerate(times)
    ]


def _legend(labels: Sequence[str], y: int) -> list[str]:
    by_label = colours(labels)
    step = (WIDTH - LEFT - 8) / max(len(labels), 1)
    parts = []
    for k, label in enumerate(labels):
        x = LEFT + k * step
        parts.append(f'<rect x="{x:.1f}" y="{y - 10}" width="12" height="12" fill="{by_label[label]}"/>')
        parts.append(f'<text x="{x + 16:.1f}" y="{y}" fill="#222222">{escape(label)}</text>')
    return parts
