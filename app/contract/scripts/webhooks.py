"""Scripts of the courier: lease due webhooks, and schedule retries."""

from __future__ import annotations

# Lease due webhooks.  KEYS[1]: the sorted set.  ARGV: lease in seconds, maximum number.  -> job ids
TAKE = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, job in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], job) end
return due
"""

# Schedule a retry, or delete the webhook if its job was deleted meanwhile.  KEYS: its hash, the sorted set.  ARGV: job
# id, backoff in seconds, attempts to add.
TRY_AGAIN = """#!lua flags=allow-oom
if redis.call('HEXISTS', KEYS[1], 'url') == 0 then
  redis.call('DEL', KEYS[1])
  return redis.call('ZREM', KEYS[2], ARGV[1])
end
redis.call('HINCRBY', KEYS[1], 'attempts', ARGV[3])
return redis.call('ZADD', KEYS[2], redis.call('TIME')[1] + ARGV[2], ARGV[1])
"""
