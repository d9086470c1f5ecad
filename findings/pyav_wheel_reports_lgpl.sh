#!/bin/bash
# FFmpeg in the wheel of PyAV reports the licence "LGPL version 3 or later", and its configuration has no --enable-gpl.  Yet the
# same libavcodec is linked against libx264 and libx265, which are under the GPL and which FFmpeg's own configure refuses
# without --enable-gpl.  A licence check that asks the library, as compliance tools do, gets an answer that says too little.
#
# Guess before: avcodec_license() names the GPL where x264 is linked.
# Seen with av 18.1.0 on x86-64 Linux: avcodec_license() "LGPL version 3 or later"; libavcodec needs libx264 and libx265; the
# encoders libx264 and libx265 open.
# Exits 0 while that holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 pyelftools==0.33
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import ctypes
import sys
from fractions import Fraction
from pathlib import Path

import av
from elftools.elf.elffile import ELFFile

(library,) = (Path(av.__file__).parent.parent / "av.libs").glob("libavcodec-*")
avcodec = ctypes.CDLL(str(library))
avcodec.avcodec_license.restype = avcodec.avcodec_configuration.restype = ctypes.c_char_p
licence, options = avcodec.avcodec_license().decode(), avcodec.avcodec_configuration().decode()
with library.open("rb") as file:
    needed = [tag.needed for tag in ELFFile(file).get_section_by_name(".dynamic").iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
gpl = [name for name in needed if name.startswith(("libx264", "libx265"))]
for name in ("libx264", "libx265"):
    encoder = av.CodecContext.create(name, "w")
    encoder.width = encoder.height = 128
    encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", 25, Fraction(1, 25)
    encoder.open()
print(f"avcodec_license(): {licence}; --enable-gpl: {'--enable-gpl' in options}; linked: {gpl}")
sys.exit(not (licence.startswith("LGPL") and "--enable-gpl" not in options and len(gpl) == 2))
PYTHON
