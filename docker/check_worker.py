"""Health check of the worker container: exit status 0 while a worker of this host is ready or busy by its heartbeat.

Heartbeats expire by Redis' clock, so this host's clock does not matter.
"""

from __future__ import annotations

import socket
import sys

import redis

from app.contract import keys
from app.contract.settings import SharedSettings
from app.contract.workers import WorkerInfo, host_of

with redis.Redis.from_url(SharedSettings().redis_url, socket_timeout=5, decode_responses=True) as connection:
    names = [str(name) for name in connection.zrange(keys.WORKERS, 0, -1)]
    texts = [connection.get(keys.worker(name)) for name in names if host_of(name) == socket.gethostname()]
states = [WorkerInfo.model_validate_json(str(text)).state for text in texts if text is not None]
print(f"workers of this host: {states or 'none'}")
sys.exit(0 if any(state in {"ready", "busy"} for state in states) else 1)
