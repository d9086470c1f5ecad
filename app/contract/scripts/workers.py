"""Scripts with which a worker says that it and its jobs live, and counts what it does."""

from __future__ import annotations

# A worker lives.  By the clock of Redis, which all hosts share; drops the names of workers that ended without a word.
# Makes the bundle known again where Redis has lost it.  Also done where Redis is at its memory limit: front ends are to
# know who lives.
# KEYS: what the worker says, all workers, all bundles, whether it is drained.
# ARGV: name, information, its time to live in seconds, and, once it is known, its bundle's name and information.
# -> whether it is drained
WORKER_BEAT = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])
if ARGV[4] then redis.call('HSETNX', KEYS[3], ARGV[4], ARGV[5]) end
return redis.call('EXISTS', KEYS[4])
"""

# An execution lives.  KEYS: RQ's running, the execution's record, RQ's record of the worker.  ARGV: entry in the first,
# time to live in seconds, of the third.  By the clock of Redis, which all hosts share; done also at the memory limit.
EXECUTION_BEAT = """#!lua flags=allow-oom
redis.call('ZADD', KEYS[1], 'XX', redis.call('TIME')[1] + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[3])
return 1
"""

# Add to counters.  KEYS[1]: the hash.  ARGV: field, amount...
# Small, and therefore also done where Redis is at its memory limit.
ADD = """#!lua flags=allow-oom
for i = 1, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
"""
