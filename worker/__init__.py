"""The GPU side of Mien: the pipeline from a video to its labels, the worker that runs it, and its training.

OpenCV reads these environment variables at import, so they are set here, before any module imports it.
"""

import os

# OpenCV rejects a still image with more pixels before it allocates memory.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", os.environ.get("MIEN_MAX_PIXELS", "33000000"))
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
