"""Scripts of the courier: what is due, and what is to be tried again."""

from __future__ import annotations

# Take what is due and lease it: KEYS[1] the sorted set; ARGV: lease in seconds, most.  -> job ids
TAKE = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, job in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[1], job) end
return due
"""

# Have a webhook tried again, unless its job was removed meanwhile: then nothing of it is left.  KEYS: its hash, the
# sorted set; ARGV: job id, pause in seconds, attempts made since.
TRY_AGAIN = """#!lua flags=allow-oom
if redis.call('HEXISTS', KEYS[1], 'url') == 0 then
  redis.call('DEL', KEYS[1])
  return redis.call('ZREM', KEYS[2], ARGV[1])
end
redis.call('HINCRBY', KEYS[1], 'attempts', ARGV[3])
return redis.call('ZADD', KEYS[2], redis.call('TIME')[1] + ARGV[2], ARGV[1])
"""
