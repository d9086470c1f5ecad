"""What people, landmarks and baselines add to the processor time of a job.

    python -m tests.bench.analysis_cost [VIDEO...] [--rounds 5]

Labels each video (without any: the demo's clip, and nine of it side by side, each in its own phase) without options,
with `people` alone and with everything, in turns.  Prints the medians over the rounds of the processor seconds of this
process and of its decoders, from the opened input to the last encoded chunk; the ratio of the least seconds to the
least without options (other processes only add to them); and median and range of the ratios within a round.  Loading
the bundle does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import cv2
import numpy as np

from app.contract import chunks
from app.contract.options import JobOptions
from worker.core.records import Image
from worker.decode.isolated import PROCESS
from worker.demo.clip import make_clip
from worker.inference import serving
from worker.inference.whole import WholeTally
from worker.settings import WorkerSettings, decode_limits

ASKED = {
    "without": JobOptions(),
    "people": JobOptions(people=True),
    "all": JobOptions(people=True, landmarks=True, baseline="auto"),
}
SIDE = 3  # of the grid
FPS = 25
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print a table a video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    settings = WorkerSettings(threads=1)  # threads that wait for work would count as busy
    with tempfile.TemporaryDirectory() as folder, closing(serving.load(settings)) as loaded:
        for path in chosen.videos or [make_clip(Path(folder) / "demo.mp4"), grid(Path(folder))]:
            for options in ASKED.values():  # loads what is loaded lazily
                label(loaded, path, options, settings)
            spent = [
                {name: label(loaded, path, options, settings) for name, options in ASKED.items()}
                for _ in range(chosen.rounds)
            ]
            print(path.name)
            for name in ASKED:
                ratios = [one[name][0] / one["without"][0] for one in spent]
                seconds = statistics.median(one[name][0] for one in spent)
                print(
                    f"  {name:8} {spent[0][name][1]} frames, {spent[0][name][2]} faces, {seconds:6.2f} s,"
                    f" ratio {min(one[name][0] for one in spent) / min(one['without'][0] for one in spent):.3f},"
                    f" a round {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )


def label(loaded: serving.Serving, path: Path, options: JobOptions, settings: WorkerSettings) -> tuple[float, int, int]:
    """Label a video as a job does -> processor seconds, frames, faces."""
    began = processor_s()
    frames = faces = 0
    people = loaded.pipeline.gathering() if options.people else None
    tally = WholeTally(options, loaded.manifest.labels, people)
    with (
        closing(loaded.open_source(path, serving.reading_of(path), options, decode_limits(settings))) as source,
        closing(loaded.pipeline.label(source, serving.label_options(options), None, people)) as labelled,
    ):
        chunk = []
        for frame in tally.seen(serving.contract_frames(labelled, source.info)):
            chunk.append(frame)
            frames, faces = frames + 1, faces + len(frame.faces)
            if len(chunk) == chunks.CHUNK_FRAMES:
                chunks.encode(chunk)
                chunk.clear()
        chunks.encode(chunk)
    tally.whole().encode()
    return processor_s() - began, frames, faces


def processor_s() -> float:
    """Of this process, of the one that forks decoders, and of the decoders that have ended."""
    while len(Path(f"/proc/{PROCESS.pid}/task/{PROCESS.pid}/children").read_text().split()):
        time.sleep(0.01)  # the last one is still being ended
    times = Path(f"/proc/{PROCESS.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return time.process_time() + sum(map(int, times)) / TICKS


def grid(folder: Path) -> Path:
    """Nine of the demo's clip at a third of the size, each begun elsewhere."""
    pictures = list(demo_pictures(folder / "demo.mp4"))
    path = folder / "nine.mp4"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("mpeg4", rate=FPS)
        stream.height, stream.width = (side // 2 * 2 * SIDE for side in pictures[0].shape[:2])
        stream.bit_rate = 8_000_000
        for i in range(len(pictures)):
            shown = [pictures[(i + 17 * k) % len(pictures)] for k in range(SIDE**2)]
            rows = [np.hstack(shown[k : k + SIDE]) for k in range(0, SIDE**2, SIDE)]
            made.mux(stream.encode(av.VideoFrame.from_ndarray(np.vstack(rows), format="rgb24")))
        made.mux(stream.encode())
    return path


def demo_pictures(path: Path) -> Iterator[Image]:
    """Smaller, with even sides."""
    with av.open(str(path)) as video:
        for frame in video.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            height, width = (side // SIDE // 2 * 2 for side in picture.shape[:2])
            yield np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


if __name__ == "__main__":
    main()
