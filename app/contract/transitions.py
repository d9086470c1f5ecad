"""The job's state machine, as the Lua scripts that both sides run in Redis: each change is one atomic step.

    queued -> running -> succeeded | failed | canceled        queued -> canceled

Fencing: `claim` gives a job to one execution; `append` and `finish` of any other execution change nothing and say
`lost`.  So what a crashed or late execution writes is never mixed with what its successor writes.

Every script returns one word.  KEYS[1] is always the job's hash.  ARGV's `fields` are field, value pairs of the hash.
"""

from __future__ import annotations

from app.contract import keys

WEBHOOK_TTL_S = 3 * 86_400  # longer than the last attempt to deliver takes

# A change that clients can see: raise the revision and wake those who wait.
_CHANGED = """
local function changed(channel)
  redis.call('PUBLISH', channel, redis.call('HINCRBY', KEYS[1], 'revision', 1))
end
"""

# A job ended: if it has a callback, its webhook is due from now on, whatever becomes of the process that ended it.
_ENDED = f"""
local function ended()
  local job = redis.call('HMGET', KEYS[1], 'callback', 'id', 'state', 'finished_at', 'request_id')
  if not job[1] or job[1] == '' then return end
  local webhook = '{keys.webhook("")}' .. job[2]
  redis.call('HSET', webhook, 'url', job[1], 'state', job[3], 'finished_at', job[4] or '', 'request_id', job[5] or '',
    'attempts', 0)
  redis.call('EXPIRE', webhook, {WEBHOOK_TTL_S})
  redis.call('ZADD', '{keys.WEBHOOKS}', redis.call('TIME')[1], job[2])
end
"""

# ARGV: execution, now, frames prefix + job id + ':', channel, fields...
# -> claimed | gone | cancel | succeeded | failed | canceled
CLAIM = (
    _CHANGED
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state ~= 'queued' and state ~= 'running' then return state end
local former = redis.call('HGET', KEYS[1], 'execution')
if former and former ~= '' and former ~= ARGV[1] then redis.call('DEL', ARGV[3] .. former) end
redis.call('HSET', KEYS[1], 'state', 'running', 'execution', ARGV[1], 'warnings', '[]')
redis.call('HSETNX', KEYS[1], 'started_at', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
changed(ARGV[4])
if redis.call('HGET', KEYS[1], 'cancel_requested') == 'true' then return 'cancel' end
return 'claimed'
"""
)

# KEYS[2]: frames.  ARGV: execution, channel, chunk ('' for none), fields...  -> ok | cancel | lost
APPEND = (
    _CHANGED
    + """
if redis.call('HGET', KEYS[1], 'execution') ~= ARGV[1] then return 'lost' end
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 'lost' end
if ARGV[3] ~= '' then redis.call('RPUSH', KEYS[2], ARGV[3]) end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
changed(ARGV[2])
if redis.call('HGET', KEYS[1], 'cancel_requested') == 'true' then return 'cancel' end
return 'ok'
"""
)

# KEYS[2]: frames.  ARGV: execution, channel, time to live in seconds, fields (state among them)...  -> ok | lost
FINISH = (
    _CHANGED
    + _ENDED
    + """
if redis.call('HGET', KEYS[1], 'execution') ~= ARGV[1] then return 'lost' end
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 'lost' end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
ended()
changed(ARGV[2])
return 'ok'
"""
)

# ARGV: channel, time to live in seconds, fields for a job that never started (state among them)...
# -> canceled | requested | gone | succeeded | failed
CANCEL = (
    _CHANGED
    + _ENDED
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state == 'queued' then
  for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  ended()
elseif state == 'running' then
  redis.call('HSET', KEYS[1], 'cancel_requested', 'true')
else
  return state
end
changed(ARGV[1])
return state == 'queued' and 'canceled' or 'requested'
"""
)

# Fail a job that no execution will finish (its worker died too often).  ARGV: channel, time to live, fields...
# -> ok | gone | succeeded | failed | canceled
ABANDON = (
    _CHANGED
    + _ENDED
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 'gone' end
if state ~= 'queued' and state ~= 'running' then return state end
redis.call('HSET', KEYS[1], 'execution', '')
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
ended()
changed(ARGV[1])
return 'ok'
"""
)

# Forget a job, its results and all that hangs on it, in one step.  KEYS[2]: its owner's jobs.  ARGV: channel, frames
# prefix + job id + ':', job id.  -> ok | gone
FORGET = f"""
local job = redis.call('HMGET', KEYS[1], 'execution', 'idempotency')
if job[1] then redis.call('DEL', ARGV[2] .. job[1]) end
if job[2] and job[2] ~= '' then redis.call('DEL', job[2]) end
redis.call('ZREM', KEYS[2], ARGV[3])
redis.call('ZREM', '{keys.WEBHOOKS}', ARGV[3])
redis.call('DEL', '{keys.webhook("")}' .. ARGV[3], '{keys.render("")}' .. ARGV[3])
if redis.call('DEL', KEYS[1]) == 0 then return 'gone' end
redis.call('PUBLISH', ARGV[1], -1)
return 'ok'
"""

# Give a running job back, as its worker stops: it waits again, its results so far go, and no attempt is charged.
# ARGV: execution, frames prefix + job id + ':', channel.  -> ok | lost
HAND_BACK = (
    _CHANGED
    + """
if redis.call('HGET', KEYS[1], 'execution') ~= ARGV[1] then return 'lost' end
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 'lost' end
redis.call('DEL', ARGV[2] .. ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'queued', 'execution', '')
redis.call('HINCRBY', KEYS[1], 'attempts', -1)
redis.call('HDEL', KEYS[1], 'progress')
changed(ARGV[3])
return 'ok'
"""
)
