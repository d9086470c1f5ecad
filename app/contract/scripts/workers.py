"""Scripts of workers: heartbeats of worker and jobs, and counters."""

from __future__ import annotations

# Heartbeat of a worker, by Redis' clock, which all hosts share.  Removes the names of dead workers and publishes the
# bundle again if Redis lost it.  Also runs at the memory limit, since front ends need it.
# KEYS: the worker's record, all workers, all bundles, the worker's drain flag.
# ARGV: name, record, its time to live in seconds, and, once known, its bundle's name and record.
# -> whether the worker is drained
WORKER_BEAT = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
if ARGV[4] then redis.call('HSETNX', KEYS[3], ARGV[4], ARGV[5]) end
return redis.call('EXISTS', KEYS[4])
"""

# Heartbeat of an execution, by Redis' clock; extends its lease.  Also runs at the memory limit.
# KEYS: RQ's running, the execution's record, RQ's record of the worker.  ARGV: entry in the first, time to live in
# seconds, that of the third.
EXECUTION_BEAT = """#!lua flags=allow-oom
redis.call('ZADD', KEYS[1], 'XX', redis.call('TIME')[1] + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[3])
return 1
"""

# Add to counters.  KEYS[1]: the hash.  ARGV: field, amount...
# Small, so it also runs at Redis' memory limit.
ADD = """#!lua flags=allow-oom
for i = 1, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
"""
