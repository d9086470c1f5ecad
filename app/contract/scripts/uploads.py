"""Scripts of resumable uploads.  Of several requests that send one upload's bytes, the last that came may write."""

from __future__ import annotations

# A request begins to send.  KEYS[1]: the upload's hash.  ARGV: the request's token, the offset that it begins at.
# -> ok | gone, or the offset that the upload has
BEGIN = """
local offset = redis.call('HGET', KEYS[1], 'offset')
if not offset then return 'gone' end
if offset ~= ARGV[2] then return offset end
redis.call('HSET', KEYS[1], 'writer', ARGV[1])
return 'ok'
"""

# A piece is stored.  KEYS[1]: the upload's hash.  ARGV: token, where the piece begins, offset after it.
# -> ok | lost to another request
ADVANCE = """
if redis.call('HGET', KEYS[1], 'writer') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'piece:' .. ARGV[2], ARGV[1])
return 'ok'
"""
