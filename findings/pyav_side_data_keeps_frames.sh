#!/bin/bash
# In PyAV, a frame whose side data was read once lives until Python's cycle collector runs: the frame holds the container of
# its side data, and that holds the frame.  A reader that looks at `frame.side_data` of each picture, for a display matrix
# say, holds dozens of decoded pictures that it has long let go of.
#
# Guess before: side data is a view that the frame makes when asked; a frame that nobody holds is freed at once.
# Seen with av 18.1.0: after 100 pictures the collector finds 0 unreachable objects, and over 100 where side data was read;
# the process' peak memory is higher by the size of the pictures.
# Exits 0 while that holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 av==18.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import gc
import resource
import sys

import av
import numpy as np

COUNT = 100
with av.open("clip.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
    for _ in range(COUNT):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((720, 1280, 3), np.uint8), "rgb24")))
    container.mux(stream.encode(None))


def unreachable(read):
    gc.collect()
    gc.disable()
    frames = 0
    with av.open("clip.mp4") as container:
        for frame in container.decode(video=0):
            frames += 1
            if read:
                len(frame.side_data)
        del frame
    found = gc.collect()
    gc.enable()
    return frames, found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


plain, asked = unreachable(read=False), unreachable(read=True)
print(f"frames, unreachable objects, peak MiB: without side data {plain}, with {asked}")
sys.exit(not (plain[0] == asked[0] == COUNT and plain[1] < 10 and asked[1] >= COUNT and asked[2] > plain[2] + 50))
PYTHON
