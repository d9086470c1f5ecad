"""Intervals of heartbeats and periodic checks, and the timeouts after which a process counts as dead.

Most are multiples of MIEN_HEARTBEAT_S, the interval of a running job's heartbeat.
"""

from __future__ import annotations

# In heartbeats.
JOB_TTL = 4  # lease of a running job; after it the job is recovered
RECOVERY = 2  # interval of the search for lost jobs
UPKEEP = 12  # interval of the sweep for orphans, and of the check for jobs that no worker takes
UPLOAD, UPLOAD_TTL = 12, 60  # heartbeat interval and timeout of an upload

# In seconds.
WORKER_S, WORKER_TTL_S = 5, 20  # heartbeat interval and timeout of a worker
RQ_WORKER_TTL_S = 30  # time to live of RQ's record of an idle worker
RQ_BUSY_WORKER_TTL_S = 120  # time to live of RQ's record of a busy worker
