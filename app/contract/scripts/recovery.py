"""The script that takes a job from an execution whose process is dead.

A job that has not ended is in one of three places: it waits in its queue, a worker has just popped it, or an execution
runs it, which its worker says again and again.  `RECOVER` is asked about a job that does not wait, looks at all three
in one step, and acts only where nobody has the job: so any number of processes may ask at once.
"""

from __future__ import annotations

from app.contract.scripts.transitions import ALLOW_OOM, CHANGED, WAIT_AGAIN

# KEYS: job's hash, its queue, RQ's record, RQ's taken, RQ's running.  ARGV: job id, frames prefix + job id + ':',
# channel, suspected (1 where the last answer was `suspect`), most attempts, time to live in seconds, fields of a job
# whose worker died too often, and of one that was to be cancelled, as JSON lists.
# -> held: it waits, or an execution lives
#    suspect: nobody has it; that may be a moment between two steps, so ask again in a while
#    unqueued: RQ has no record of it; make one and ask again
#    sealed: its end is settled; remove its input and run FINISH
#    waits: it is in its queue again
#    cleared: it ended or is gone; what RQ still had of it went
RECOVER = (
    ALLOW_OOM
    + CHANGED
    + WAIT_AGAIN
    + """
local id, now = ARGV[1], tonumber(redis.call('TIME')[1])
local dead = {}
local entries = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
for i = 1, #entries, 2 do
  if string.sub(entries[i], 1, #id + 1) == id .. ':' then
    if tonumber(entries[i + 1]) > now then return 'held' end
    dead[#dead + 1] = entries[i]
  end
end
if redis.call('LPOS', KEYS[2], id) then return 'held' end
if #dead == 0 and ARGV[4] ~= '1' then return 'suspect' end

local function clear()
  for _, entry in ipairs(dead) do redis.call('ZREM', KEYS[5], entry) end
  redis.call('LREM', KEYS[4], 0, id)
end

local job = redis.call('HMGET', KEYS[1], 'state', 'execution', 'sealed', 'attempts', 'cancel_requested')
if job[1] ~= 'queued' and job[1] ~= 'running' then
  clear()
  redis.call('DEL', KEYS[3])
  return 'cleared'
end
if job[3] then return 'sealed' end
local ending = job[5] == 'true' and ARGV[8] or tonumber(job[4] or 0) >= tonumber(ARGV[5]) and ARGV[7]
if job[1] == 'running' and ending then
  redis.call('HSET', KEYS[1], 'sealed', 'recovery', 'ending_ttl_s', ARGV[6], 'ending', ending)
  return 'sealed'
end
if redis.call('EXISTS', KEYS[3]) == 0 then return 'unqueued' end
clear()
wait_again(id, job[2] or '', ARGV[2], ARGV[3], 'LPUSH')
return 'waits'
"""
)
