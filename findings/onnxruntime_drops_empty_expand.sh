#!/bin/bash
# ONNX Runtime's optimiser removes an Expand that makes a column of one into a column of none.  Expand follows
# broadcasting, in which 1 and 0 give 0, and ONNX Runtime computes that where the Expand is the last node.  Where another
# node follows, the optimiser treats the Expand as one that changes nothing.  A padding whose width is a setting, in torch
# `x[:, :1].expand(-1, width)` joined to x, therefore adds one column when the width is 0, without an error.
#
# Guess before: an optimiser may miss a chance, and never changes what a model computes.
# Seen with onnxruntime 1.32.0, onnx 1.23.2: widths 0, 1, 2 give 3, 4, 5 columns by ONNX's reference evaluator and without
# optimisation; with it (the default) 4, 4, 5.
# Exits 0 while that holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper
from onnx.reference import ReferenceEvaluator

given = np.array([[5.0, 6.0, 7.0]], np.float32)
levels = onnxruntime.GraphOptimizationLevel


def padded(width):
    """Joins the first column, `width` times, and x."""
    constants = {"start": [0], "end": [1], "axis": [1], "shape": [1, width]}
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["x", "start", "end", "axis"], ["first"]),
            helper.make_node("Expand", ["first", "shape"], ["padding"]),
            helper.make_node("Concat", ["padding", "x"], ["y"], axis=1),
        ],
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None])],
        [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model, full_check=True)
    return model


def columns(model, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": given})[0].shape[1]


models = [padded(width) for width in (0, 1, 2)]
reference = [ReferenceEvaluator(model).run(None, {"x": given})[0].shape[1] for model in models]
plain = [columns(model, levels.ORT_DISABLE_ALL) for model in models]
optimised = [columns(model, levels.ORT_ENABLE_ALL) for model in models]
print(f"columns for widths 0, 1, 2: reference {reference}, not optimised {plain}, optimised {optimised}")
sys.exit(not (reference == plain == [3, 4, 5] and optimised == [4, 4, 5]))
PYTHON
