"""The script that recovers a job from a dead process.

A job that has not ended is in one of three places: in its queue, popped by a worker, or running in an execution with a
lease.  `RECOVER` checks all three atomically and acts only if none holds the job, so any number of processes may run it
concurrently.
"""

from __future__ import annotations

from app.contract.scripts.transitions import ALLOW_OOM, CHANGED, WAIT_AGAIN

# KEYS: job's hash, its queue, RQ's record, RQ's taken, RQ's running.  ARGV: job id, frames prefix + job id + ':',
# channel, suspected (1 if the previous call returned `suspect`), maximum attempts, time to live in seconds, fields of a
# job whose workers died too often, and of a job with a requested cancellation, as JSON lists.
# -> held: it is queued, or an execution holds a lease
#    suspect: none holds it, which also happens briefly between two steps; call again later
#    unqueued: RQ has no record of it; create one and call again
#    sealed: its end is sealed; remove its input and run FINISH
#    waits: it is queued again
#    cleared: it ended or does not exist; RQ's remaining entries were removed
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
