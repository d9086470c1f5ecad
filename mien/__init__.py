"""A client of Mien, which labels facial expressions in video.

    import mien

    with mien.Client("http://127.0.0.1:8000") as client:
        for record in client.label("video.mp4"):
            print(record["timestamp_s"], [face["label"] for face in record["faces"]])

`AsyncClient` has the same methods for asyncio, except those that write files.  The command `mien label` labels files.
"""

from mien.client import AsyncClient, Client
from mien.errors import ApiError, JobFailedError, MienError
from mien.types import Batch, Face, Job, Progress, Record

__all__ = [
    "ApiError",
    "AsyncClient",
    "Batch",
    "Client",
    "Face",
    "Job",
    "JobFailedError",
    "MienError",
    "Progress",
    "Record",
]
