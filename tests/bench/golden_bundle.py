"""A bundle of the published size whose weights are the golden ones, for `worker bench`.

    python tests/bench/golden_bundle.py FOLDER
    python -m worker bench --bundle FOLDER --video clip.mp4 --json

The weights are those of tests/golden/fill.py, written as the published code writes its checkpoints and imported.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

FILL = Path(__file__).resolve().parent.parent / "golden" / "fill.py"
MEMBERS = ("cnn", "cnn_rnn", "cnn_transformer")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    spec = spec_from_file_location("fill", FILL)
    if spec is None or spec.loader is None:
        raise SystemExit(f"no {FILL}")
    golden = module_from_spec(spec)
    spec.loader.exec_module(golden)
    with tempfile.TemporaryDirectory() as name:
        files = {member: Path(name) / f"{member}.pth" for member in MEMBERS}
        for member, path in files.items():
            state = {key: torch.from_numpy(value) for key, value in golden.fill(member).items()}
            torch.save({"args": argparse.Namespace(), "model": state, "optimizer": {}, "epoch": 1}, path)
        named = [part for member in MEMBERS for part in (f"--{member.replace('_', '-')}", str(files[member]))]
        command = [sys.executable, "-m", "worker", "import", *named, "--name", "golden", "--out", str(folder)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
