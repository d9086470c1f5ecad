"""The GPU side of Mien: the pipeline from a video to its labels, the worker that runs it, and its training.

Libraries read at import what is set here, before any module imports them.
"""

import os
import sys

# OpenCV rejects a still image with more pixels before it allocates memory.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", os.environ.get("MIEN_MAX_PIXELS", "33000000"))
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
# Importing openvino sends a usage event to a server on the Internet, unless this package is missing: see
# findings/openvino_reports_its_import.sh.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
