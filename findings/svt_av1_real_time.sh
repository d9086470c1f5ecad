#!/bin/bash
# Encoding AV1 by the SVT-AV1 in PyAV's wheel makes the calling thread real-time: SCHED_FIFO with priority 99, the highest
# there is, where the process may do so (as root, as in most containers).  It stays so after the encoder is closed, and
# every process that this thread starts inherits it.  A Python program that wrote one AV1 file then starves whatever shares
# its processors: two such test runners on two cores let nothing else run for minutes.
#
# Guess before: an encoder may set the priority of threads of its own; the caller's is the caller's.
# Seen with av 18.1.0: SCHED_OTHER before, SCHED_FIFO 99 afterwards, also in a child; by libx264, SCHED_OTHER throughout.
# Exits 0 while that holds; 2 where the process may not become real-time, so that nothing can be seen.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 av==18.1.0
cd "$folder"
SVT_LOG=1 "$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys

import av
import numpy as np

NAMES = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO"}


def scheduling():
    return NAMES.get(os.sched_getscheduler(0)), os.sched_getparam(0).sched_priority


def encode(codec, options):
    with av.open(f"{codec}.mp4", "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))


try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
except PermissionError:
    print("this process may not become real-time; run as root")
    sys.exit(2)
before = scheduling()
encode("libx264", {})
after_x264 = scheduling()
encode("libsvtav1", {"preset": "12"})
after_svt = scheduling()
program = "import os; print(os.sched_getscheduler(0) == os.SCHED_FIFO, os.sched_getparam(0).sched_priority)"
child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
print(f"before {before}, after libx264 {after_x264}, after libsvtav1 {after_svt}, its child: {child}")
ordinary = ("SCHED_OTHER", 0)
sys.exit(not (before == after_x264 == ordinary and after_svt == ("SCHED_FIFO", 99) and child == "True 99"))
PYTHON
