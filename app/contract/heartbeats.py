"""How often somebody says that it lives or looks after others, and after how long a silence it counts as dead.

Most are multiples of MIEN_HEARTBEAT_S, the pace at which a worker says that a job runs.
"""

from __future__ import annotations

# In heartbeats.
JOB_TTL = 4  # a job whose worker is silent for so long is taken up again
RECOVERY = 2  # from one look after lost jobs to the next
UPKEEP = 12  # likewise for what nothing points to, and for jobs that no worker takes
UPLOAD, UPLOAD_TTL = 12, 60  # an upload says so, and counts as dead

# In seconds.
WORKER_S, WORKER_TTL_S = 5, 20  # a worker says what it serves, and counts as dead
RQ_WORKER_TTL_S = 30  # RQ's own record of an idle worker, whose socket timeout RQ makes of it, too
RQ_BUSY_WORKER_TTL_S = 120  # and of one that runs jobs
