"""What labels is loaded quickly."""

from __future__ import annotations

import subprocess
import sys

LOADING = """
import sys
from worker.inference import serving
from worker.settings import WorkerSettings

loaded = serving.load(WorkerSettings(device="cpu", bundle="default"))
loaded.pipeline.engine.close()
print(*{module.partition(".")[0] for module in sys.modules})
"""


def test_a_gpu_needs_no_openvino() -> None:
    """Its modules load neither it nor, before a device is chosen, torch."""
    for modules, absent in (
        ("worker.inference.serving", {"openvino", "torch"}),
        ("worker.inference.serving, worker.inference.torch_loading", {"openvino"}),
    ):
        code = f"import sys, {modules}; print(*sys.modules)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert not absent & set(ended.stdout.split())


def test_what_others_need_is_not_loaded() -> None:
    """FFmpeg and photographs are the decoding process's; torch, for a GPU, takes half of the time to start."""
    ended = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, timeout=120, check=True)
    found = set(ended.stdout.split())
    assert "openvino" in found
    assert not found & {"torch", "av", "PIL", "pi_heif", "sympy", "scipy", "onnx", "pandas", "matplotlib"}
