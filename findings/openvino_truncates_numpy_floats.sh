#!/bin/bash
# An arithmetic operator of an OpenVINO node takes a NumPy float32 scalar as an integer.  `node * np.float32(2.9)`
# multiplies by the int64 constant 2, `node * np.float32(0.5)` by 0: on an int64 node silently, on a float32 node with an
# error about element types.  A Python float or np.float64 becomes float64 and raises on both; a NumPy array without
# dimensions, or the function opset.multiply with the same scalar, keeps value and type.
#
# Guess before: a float32 scalar beside a float32 node becomes a float32 constant, as NumPy and PyTorch do.
# Seen with openvino 2026.4.1 and numpy 2.4.6 on Linux: 10 * 2.9 is 20, and 10 * 0.5 is 0; float32 nodes raise.
# Exits 0 while that holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

sys.modules["openvino_telemetry"] = None
import numpy as np
import openvino as ov
from openvino import opset15 as opset


def product(kind, by, function=None):
    """Ten times `by` through a graph, or the error's class."""
    given = opset.parameter([1], kind)
    try:
        node = function(given, by) if function else given * by
    except RuntimeError as error:
        return type(error).__name__
    return ov.compile_model(ov.Model([node], [given]), "CPU")([np.array([10], kind)])[0].item()


for by in (np.float32(2.9), np.float32(0.5), 0.5, np.array(0.5, np.float32)):
    print(repr(by), "int64", product(np.int64, by), "float32", product(np.float32, by))
assert product(np.int64, np.float32(2.9)) == 20
assert product(np.int64, np.float32(0.5)) == 0
assert product(np.float32, np.float32(0.5)) == "RuntimeError"
assert product(np.int64, 0.5) == "RuntimeError"
assert product(np.float32, np.array(0.5, np.float32)) == 5
assert product(np.float32, np.float32(0.5), opset.multiply) == 5
PYTHON
