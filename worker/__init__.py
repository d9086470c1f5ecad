"""The GPU side of Mien: the pipeline from a video to its labels, the worker that runs it, and its training.

OpenCV reads these variables when it is loaded, so they are set here, before any module of ours can load it.
"""

import os

# A still image with more pixels is refused before memory is allocated for it.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", os.environ.get("MIEN_MAX_PIXELS", "33000000"))
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
