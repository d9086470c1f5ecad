"""The job's state machine as Lua scripts, which both sides run in Redis: each transition is atomic.

    queued -> running -> succeeded | failed | canceled        queued -> canceled        running -> queued

Fencing: `CLAIM` assigns a queued job to one execution, and only `HAND_BACK` and `recovery.RECOVER` queue it again.
Scripts of any other execution change nothing and return `lost`, so a crashed or late execution never writes into the
results of its successor.

A job ends in two steps, because its input is removed before the end is visible: `SEAL` records the outcome, which is
then final whichever process finishes; `FINISH` makes it visible.

The scripts are idempotent: a connection may fail after Redis ran one, and a retry changes nothing and returns the same.
All but `APPEND` also run at Redis' memory limit (`allow-oom`, Redis 7.0): they are small, or free memory.

Every script returns one word.  KEYS[1] is always the job's hash.  ARGV's `fields` are field, value pairs of the hash.
"""

from __future__ import annotations

from app.contract import keys, metrics
from app.contract.renditions import RENDITIONS

_RENDITION_KEYS = ", ".join(f"'{kind.key('@')}'" for kind in RENDITIONS)  # the job id replaces the @
WEBHOOK_TTL_S = 3 * 86_400  # longer than all delivery attempts
ALLOW_OOM = "#!lua flags=allow-oom\n"

# After a change that clients can see: increment the revision and notify waiting requests.
CHANGED = """
local function changed(channel)
  redis.call('PUBLISH', channel, redis.call('HINCRBY', KEYS[1], 'revision', 1))
end
"""

# After the end of a job: count it and its owner's frames; start the time to live of its record and of its
# Idempotency-Key; remove it from the open jobs; and make its webhook, if any, due in the same step, so that it survives
# a crash of this process.
ENDED = f"""
local function ended(ttl_s)
  local job = redis.call('HMGET', KEYS[1], 'callback', 'id', 'state', 'finished_at', 'request_id', 'idempotency',
    'name', 'metadata', 'error', 'owner', 'progress')
  redis.call('HINCRBYFLOAT', '{keys.METRICS}', '{metrics.jobs("")}' .. job[3], 1)
  if job[3] == 'failed' and job[9] then
    redis.call('HINCRBYFLOAT', '{keys.METRICS}', '{metrics.failures("")}' .. cjson.decode(job[9])['code'], 1)
  end
  if job[10] and job[10] ~= '' and job[11] then
    local used = '{keys.QUOTA}' .. job[10] .. ':' .. math.floor(redis.call('TIME')[1] / 86400)
    redis.call('HINCRBY', used, 'frames', cjson.decode(job[11])['frames_done'])
    redis.call('EXPIRE', used, {keys.QUOTA_TTL_S})
  end
  redis.call('EXPIRE', KEYS[1], ttl_s)
  if job[6] and job[6] ~= '' then redis.call('EXPIRE', job[6], ttl_s) end
  redis.call('HDEL', '{keys.OPEN}', job[2] or '')
  redis.call('ZREM', '{keys.FETCHES}', job[2] or '')
  redis.call('HDEL', KEYS[1], 'stage')
  if not job[1] or job[1] == '' then return end
  local webhook = '{keys.webhook("")}' .. job[2]
  redis.call('HSET', webhook, 'url', job[1], 'state', job[3], 'finished_at', job[4] or '', 'request_id', job[5] or '',
    'attempts', 0, 'name', job[7] or '', 'metadata', job[8] or '{{}}')
  redis.call('EXPIRE', webhook, {WEBHOOK_TTL_S})
  redis.call('ZADD', '{keys.WEBHOOKS}', redis.call('TIME')[1], job[2])
end
"""

# Queue a job again, first or last, and delete its partial results.  KEYS[2]: its queue, KEYS[3]: RQ's record.
WAIT_AGAIN = """
local function wait_again(id, execution, frames, channel, push)
  redis.call('DEL', frames .. execution, frames .. execution .. ':whole')
  redis.call('HSET', KEYS[1], 'state', 'queued', 'execution', '')
  redis.call('HDEL', KEYS[1], 'progress', 'worker')
  redis.call('HSET', KEYS[3], 'status', 'queued')
  redis.call('LREM', KEYS[2], 0, id)
  redis.call(push, KEYS[2], id)
  changed(channel)
end
"""

# Fence: whether an execution still owns the job.  -> nil, or the reason why not
_MINE = """
local function not_mine(execution)
  local job = redis.call('HMGET', KEYS[1], 'state', 'execution', 'sealed')
  if not job[1] then return 'gone' end
  if job[2] ~= execution or job[1] ~= 'running' or (job[3] and job[3] ~= execution) then return 'lost' end
end
"""

# ARGV: execution, now, channel, fields...  -> claimed | gone | running | succeeded | failed | canceled
CLAIM = (
    ALLOW_OOM
    + CHANGED
    + """
local job = redis.call('HMGET', KEYS[1], 'state', 'execution')
if not job[1] then return 'gone' end
if job[1] ~= 'queued' and not (job[1] == 'running' and job[2] == ARGV[1]) then return job[1] end
if job[1] == 'queued' then
  redis.call('HSET', KEYS[1], 'state', 'running', 'execution', ARGV[1], 'warnings', '[]')
  redis.call('HSETNX', KEYS[1], 'started_at', ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'attempts', 1)
  for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  changed(ARGV[3])
end
return 'claimed'
"""
)

# KEYS[2]: frames.  ARGV: execution, channel, chunk ('' for none), number of chunks written before, fields...
# -> ok | cancel | lost | gone | full
APPEND = (
    CHANGED
    + _MINE
    + """
local why = not_mine(ARGV[1])
if why then return why end
if ARGV[3] ~= '' and redis.call('LLEN', KEYS[2]) == tonumber(ARGV[4]) then
  local pushed = redis.pcall('RPUSH', KEYS[2], ARGV[3])
  if type(pushed) == 'table' and pushed.err then return 'full' end
end
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
changed(ARGV[2])
if redis.call('HGET', KEYS[1], 'cancel_requested') == 'true' then return 'cancel' end
return 'ok'
"""
)

# Record the outcome of a running job.  ARGV: execution, time to live in seconds, fields (including state) as a JSON
# list of strings, the encoded `Whole` ('' for none).  KEYS[2]: the key of the `Whole`.  -> ok | lost | gone
SEAL = (
    ALLOW_OOM
    + _MINE
    + """
local why = not_mine(ARGV[1])
if why then return why end
redis.call('HSET', KEYS[1], 'sealed', ARGV[1], 'ending_ttl_s', ARGV[2], 'ending', ARGV[3])
if ARGV[4] ~= '' then redis.call('SET', KEYS[2], ARGV[4]) end
return 'ok'
"""
)

# End a sealed job.  KEYS[2]: frames.  ARGV: execution, channel.  -> ok | lost | gone
FINISH = (
    ALLOW_OOM
    + CHANGED
    + ENDED
    + """
local job = redis.call('HMGET', KEYS[1], 'state', 'execution', 'ending', 'ending_ttl_s')
if not job[1] then return 'gone' end
if job[2] ~= ARGV[1] then return 'lost' end
if job[1] ~= 'running' then return 'ok' end
if not job[3] then return 'lost' end
local fields = cjson.decode(job[3])
for i = 1, #fields, 2 do redis.call('HSET', KEYS[1], fields[i], fields[i + 1]) end
redis.call('HDEL', KEYS[1], 'sealed', 'ending', 'ending_ttl_s')
redis.call('EXPIRE', KEYS[2], job[4])
redis.call('EXPIRE', KEYS[2] .. ':whole', job[4])
ended(job[4])
changed(ARGV[2])
return 'ok'
"""
)

# ARGV: channel, time to live in seconds, fields for a job that never started (including state)...
# -> canceled | requested | gone | succeeded | failed
CANCEL = (
    ALLOW_OOM
    + CHANGED
    + ENDED
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state == 'queued' then
  for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  ended(ARGV[2])
elseif state == 'running' then
  redis.call('HSET', KEYS[1], 'cancel_requested', 'true')
else
  return state
end
changed(ARGV[1])
return state == 'queued' and 'canceled' or 'requested'
"""
)

# Delete a job, its results and all keys that belong to it.  KEYS[2]: its owner's jobs, KEYS[3]: its batch, if any.
# ARGV: channel, frames prefix + job id + ':', job id.  -> ok | gone
FORGET = f"""{ALLOW_OOM}
local job = redis.call('HMGET', KEYS[1], 'execution', 'idempotency')
if job[1] then redis.call('DEL', ARGV[2] .. job[1], ARGV[2] .. job[1] .. '{keys.WHOLE}') end
if job[2] and job[2] ~= '' then redis.call('DEL', job[2]) end
for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[3]) end
redis.call('ZREM', '{keys.WEBHOOKS}', ARGV[3])
redis.call('HDEL', '{keys.OPEN}', ARGV[3])
redis.call('ZREM', '{keys.FETCHES}', ARGV[3])
redis.call('DEL', '{keys.webhook("")}' .. ARGV[3])
for _, key in ipairs({{{_RENDITION_KEYS}}}) do redis.call('DEL', (string.gsub(key, '@', ARGV[3]))) end
if redis.call('DEL', KEYS[1]) == 0 then return 'gone' end
redis.call('PUBLISH', ARGV[1], -1)
return 'ok'
"""

# Put an ended job back at the front of its queue, as if it had never been claimed.  KEYS[2]: its queue, KEYS[3]: RQ's
# record.  ARGV: job id, frames prefix + job id + ':', channel, name of its queue.
# -> ok | gone | queued | running
REOPEN = (
    ALLOW_OOM
    + CHANGED
    + WAIT_AGAIN
    + f"""
local job = redis.call('HMGET', KEYS[1], 'state', 'execution', 'idempotency')
if not job[1] then return 'gone' end
if job[1] == 'queued' or job[1] == 'running' then return job[1] end
redis.call('HDEL', KEYS[1], 'finished_at', 'started_at', 'error', 'sealed', 'ending', 'ending_ttl_s',
  'cancel_requested')
redis.call('HSET', KEYS[1], 'attempts', 0)
redis.call('PERSIST', KEYS[1])
if job[3] and job[3] ~= '' then redis.call('PERSIST', job[3]) end
redis.call('HSET', '{keys.OPEN}', ARGV[1], ARGV[4])
wait_again(ARGV[1], job[2] or '', ARGV[2], ARGV[3], 'LPUSH')
return 'ok'
"""
)

# Hand a job back to its queue.  KEYS[2]: its queue, KEYS[3]: RQ's record.  ARGV: execution ('' if not claimed yet), job
# id, frames prefix + job id + ':', channel, `charged` if the execution counts as an attempt, time to live in seconds,
# fields of a cancelled job as a JSON list (with a requested cancellation the job is not queued; recovery ends it),
# `last` to queue it behind others.
# -> ok | canceled | lost | gone
HAND_BACK = (
    ALLOW_OOM
    + CHANGED
    + WAIT_AGAIN
    + """
local job = redis.call('HMGET', KEYS[1], 'state', 'execution', 'sealed', 'cancel_requested')
if not job[1] then return 'gone' end
if job[1] == 'running' and job[2] == ARGV[1] and not job[3] then
  if job[4] == 'true' then
    redis.call('HSET', KEYS[1], 'sealed', ARGV[1], 'ending_ttl_s', ARGV[6], 'ending', ARGV[7])
    redis.call('DEL', KEYS[3])
    return 'canceled'
  end
  if ARGV[5] ~= 'charged' then redis.call('HINCRBY', KEYS[1], 'attempts', -1) end
elseif job[1] ~= 'queued' or ARGV[1] ~= '' then
  return 'lost'
end
wait_again(ARGV[2], ARGV[1], ARGV[3], ARGV[4], ARGV[8] == 'last' and 'RPUSH' or 'LPUSH')
return 'ok'
"""
)
