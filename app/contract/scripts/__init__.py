"""The Lua scripts that run in Redis, all beside each other."""
