"""Scripts of resumable uploads.  If several requests send data of one upload, only the last one may write (fencing)."""

from __future__ import annotations

# Make a request the writer.  KEYS[1]: the upload's hash.  ARGV: the request's token, its offset.
# -> ok | gone, or the upload's offset if it differs
BEGIN = """
local offset = redis.call('HGET', KEYS[1], 'offset')
if not offset then return 'gone' end
if offset ~= ARGV[2] then return offset end
redis.call('HSET', KEYS[1], 'writer', ARGV[1])
return 'ok'
"""

# Record a stored piece.  KEYS[1]: the upload's hash.  ARGV: token, start of the piece, offset after it.
# -> ok | lost (another request is the writer)
ADVANCE = """
if redis.call('HGET', KEYS[1], 'writer') ~= ARGV[1] then return 'lost' end
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'piece:' .. ARGV[2], ARGV[1])
return 'ok'
"""
