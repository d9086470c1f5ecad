"""The way to Redis of a process that must not end because Redis is away for a while."""

from __future__ import annotations

import time

import redis
from redis.backoff import AbstractBackoff, ExponentialBackoff
from redis.retry import Retry

AT_START = 12  # tries, about half a minute: a wrong address is to be told
LATER = 300  # tries, about ten minutes
FIRST_S, LONGEST_S = 0.1, 2.0  # pauses between them
WAITING_S = 3 * LONGEST_S


class Patience(AbstractBackoff):
    """Pauses between two tries to reach Redis; others can ask whether somebody waits, and end it."""

    def __init__(self) -> None:
        self._tried = -WAITING_S
        self._over = False

    def compute(self, failures: int) -> float:
        """Seconds to wait.  Raises: redis.ConnectionError after `end`."""
        if self._over:
            raise redis.ConnectionError("Redis does not answer, and this process is about to stop")
        self._tried = time.monotonic()
        return min(FIRST_S * 2.0**failures, LONGEST_S)

    @property
    def waiting(self) -> bool:
        """Somebody in this process waits for Redis, or did a moment ago."""
        return time.monotonic() - self._tried < WAITING_S

    def end(self) -> None:
        """Wait no more."""
        self._over = True


def connect(redis_url: str, patience: Patience | None = None) -> redis.Redis:
    """A connection that rides out a restart of Redis, and waits for room where Redis is at its memory limit.

    Raises: redis.RedisError if Redis cannot be reached now.
    """
    with redis.Redis.from_url(redis_url, retry=Retry(ExponentialBackoff(cap=5, base=FIRST_S), AT_START)) as probe:
        probe.ping()
    mended = [redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError]
    return redis.Redis.from_url(redis_url, retry=Retry(patience or Patience(), LATER), retry_on_error=mended)
