"""Health check of the worker container: exit status 0 while this host's worker says in Redis that it takes jobs."""

from __future__ import annotations

import socket
import sys
import time

import redis

from app.contract import keys
from app.contract.settings import SharedSettings
from app.contract.workers import WORKER_TTL_S, WorkerInfo

connection = redis.Redis.from_url(SharedSettings().redis_url, socket_timeout=5, decode_responses=True)
names = [str(name) for name in connection.zrangebyscore(keys.WORKERS, time.time() - WORKER_TTL_S, "+inf")]
own = [name for name in names if socket.gethostname() in name]
texts = [connection.get(keys.worker(name)) for name in own]
states = [WorkerInfo.model_validate_json(str(text)).state for text in texts if text is not None]
print(f"workers of this host: {states or 'none'}")
sys.exit(0 if any(state in {"ready", "busy"} for state in states) else 1)
