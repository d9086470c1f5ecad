"""For schemathesis: bodies and parts of these media types are files that can be labelled, or any bytes.

`FUZZ_MEDIA` names the folder of the files.
"""

from __future__ import annotations

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

FOLDER = Path(os.environ["FUZZ_MEDIA"])

for media, name in (("video/mp4", "clip.mp4"), ("image/png", "picture.png")):
    schemathesis.openapi.media_type(media, st.one_of(st.just((FOLDER / name).read_bytes()), st.binary(max_size=2048)))

schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(max_size=64))
