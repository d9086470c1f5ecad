"""The heartbeat script of a process that fetches a job's input."""

from __future__ import annotations

from app.contract import keys
from app.contract.scripts.transitions import CHANGED

# KEYS[1]: the job's hash.  ARGV: job id, channel, progress as JSON, lease in seconds.
# -> ok | gone if the job no longer waits for its input
PROGRESS = (
    CHANGED
    + f"""
local job = redis.call('HMGET', KEYS[1], 'state', 'stage')
if job[1] ~= 'queued' or job[2] ~= 'fetching' then return 'gone' end
redis.call('HSET', KEYS[1], 'progress', ARGV[3])
redis.call('ZADD', '{keys.FETCHES}', redis.call('TIME')[1] + ARGV[4], ARGV[1])
changed(ARGV[2])
return 'ok'
"""
)
