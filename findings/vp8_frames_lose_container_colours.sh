#!/bin/bash
# FFmpeg's VP8 decoder stamps every frame as limited-range BT.601, whatever the container says.  Matroska's tags reach the
# stream's parameters, and the frames of VP9 in the same container; only those of VP8 contradict them.  Chromium's MediaRecorder
# writes full range and BT.709 into its WebM files, so whoever converts VP8 frames by their own tags, as players of frames do,
# gets recorded calls with too much contrast: a grey of 40 becomes 28.
#
# Guess before: frames carry the colour tags of the container, as they do for VP9.
# Seen with av 18.1.0 (its FFmpeg 8.1): stream of both full range (2), BT.709 (1); frames of VP9 2 and 1, frames of VP8 1
# (limited) and 5 (BT.601).
# Exits 0 while that holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import av
import numpy as np

FULL, BT709, LIMITED, BT601 = 2, 1, 1, 5
grey = np.full((96, 64), 40, np.uint8)  # planes of yuv420p, 64x64
grey[64:] = 128
found = {}
for codec in ("libvpx", "libvpx-vp9"):
    name = f"{codec}.webm"
    with av.open(name, "w") as made:
        stream = made.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = FULL, BT709
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(grey, format="yuv420p")
            frame.color_range, frame.colorspace = FULL, BT709
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
    with av.open(name) as read:
        context = read.streams.video[0].codec_context
        container = int(context.color_range), int(context.colorspace)
        frame = next(read.decode(video=0))
        found[codec] = container, (int(frame.color_range), int(frame.colorspace))
    print(codec, "container", found[codec][0], "frame", found[codec][1])
expected = {"libvpx": ((FULL, BT709), (LIMITED, BT601)), "libvpx-vp9": ((FULL, BT709), (FULL, BT709))}
sys.exit(found != expected)
PYTHON
