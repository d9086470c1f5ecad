"""Scripts of requests to the front end."""

from __future__ import annotations

from app.contract import keys
from app.contract.naming import MAX_METADATA
from app.contract.priorities import INTERACTIVE, TURNS
from app.contract.scripts.transitions import ALLOW_OOM, CHANGED

# Rate limit with bursts of up to a minute's worth (generic cell rate algorithm); the key holds the theoretical arrival
# time in milliseconds.  ARGV: milliseconds for each request, milliseconds of burst.  -> 0, or milliseconds to wait.
RATE = """#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local used = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + tonumber(ARGV[1])
local wait = math.ceil(used - now - tonumber(ARGV[2]))
if wait > 0 then return wait end
redis.call('SET', KEYS[1], used, 'PX', math.ceil(used - now) + 1)
return 0
"""

# KEYS[1]: an idempotency key's hash.  ARGV: fingerprint, job id, lease in seconds.  -> claimed, or fingerprint and job.
CLAIM_KEY = """
local former = redis.call('HMGET', KEYS[1], 'fingerprint', 'job')
if former[1] then return former end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'job', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 'claimed'
"""

# A job and how many jobs run before it (as `priorities.jobs_before`), consistent and in one round trip, for the most
# frequent request.
# KEYS[1]: the job's hash.  -> its fields and values, then its position or nothing.
LOOK = f"""
local fields = redis.call('HGETALL', KEYS[1])
local waits = redis.call('HMGET', KEYS[1], 'state', 'queue', 'id')
if waits[1] ~= 'queued' then return {{fields, false}} end
local queue = '{keys.rq_queue("")}' .. waits[2]
local position = redis.call('LPOS', queue, waits[3])
if not position then return {{fields, false}} end
local ending, first = '{INTERACTIVE}', string.sub(queue, 1, -{len(INTERACTIVE) + 1})
if queue == first .. ending then
  return {{fields, position + math.min(redis.call('LLEN', first), math.floor(position / {TURNS}))}}
end
return {{fields, position + math.min(redis.call('LLEN', queue .. ending), {TURNS} * (position + 1))}}
"""

# Change a job's name, metadata and persons.  KEYS[1]: the job's hash.  ARGV: channel, a JSON Merge Patch of `name` and
# `metadata`, the hash field `persons` ('' keeps it).  -> ok | gone | full (too much metadata, nothing changed)
RENAME = (
    ALLOW_OOM
    + CHANGED
    + f"""
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
local patch = cjson.decode(ARGV[2])
local metadata, count = cjson.decode(redis.call('HGET', KEYS[1], 'metadata') or '{{}}'), 0
if patch.metadata == cjson.null then metadata = {{}} end
for key, value in pairs(type(patch.metadata) == 'table' and patch.metadata or {{}}) do
  if value == cjson.null then value = nil end
  metadata[key] = value
end
for _ in pairs(metadata) do count = count + 1 end
if count > {MAX_METADATA} then return 'full' end
redis.call('HSET', KEYS[1], 'metadata', cjson.encode(metadata))
if patch.name == cjson.null then
  redis.call('HDEL', KEYS[1], 'name')
elseif patch.name then
  redis.call('HSET', KEYS[1], 'name', patch.name)
end
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'persons', ARGV[3]) end
changed(ARGV[1])
return 'ok'
"""
)
