"""The GPU side of Mien: the pipeline from a video to its labels, the worker that runs it, and its training.

OpenCV reads these variables when it is loaded, so they are set here, before any module of ours can load it.
"""

import os

# Containers and protocols are allow-listed, so that a playlist or a concat script in disguise can neither read another
# file nor reach a host.  Not a default that the environment may widen: inputs come from strangers.
os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = (
    "protocol_whitelist;file|format_whitelist;mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,gif"
)
# A still image with more pixels is refused before memory is allocated for it.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", os.environ.get("MIEN_MAX_PIXELS", "33000000"))
# FFmpeg's complaints go to stderr without a job's id; what matters of them is said in the job's error.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
