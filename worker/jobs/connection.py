"""The way to Redis of a process that must not end because Redis is away for a while."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import redis
import structlog
from redis.backoff import AbstractBackoff
from redis.retry import Retry

from worker.errors import CommandError

AT_START = 18  # tries, about half a minute: a wrong address is to be told
LATER = 300  # tries, about ten minutes
FIRST_S, LONGEST_S = 0.1, 2.0  # pauses between them
WAITING_S = 3 * LONGEST_S
CONNECT_S = 1.5  # where nobody answers, not even with a refusal
FIRST_WORD_S = 4.0  # between the first line about an absence and the next; doubles each time

log = structlog.get_logger(__name__)


def address_of(redis_url: str) -> str:
    """Where it is, without user and password."""
    parts = urlsplit(redis_url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


class Patience(AbstractBackoff):
    """Pauses between two tries to reach Redis, which are logged with growing pauses of their own.

    Others can ask whether somebody waits, and end it.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._tried = -WAITING_S
        self._since = self._next_word = 0.0
        self._over = False

    def compute(self, failures: int) -> float:
        """Seconds to wait.  Raises: redis.ConnectionError after `end`."""
        if self._over:
            raise redis.ConnectionError("Redis does not answer, and this process is about to stop")
        now = time.monotonic()
        if not self.waiting:
            self._since = self._next_word = now
        self._tried = now
        if now >= self._next_word:
            away_s = now - self._since
            self._next_word = now + max(FIRST_WORD_S, away_s)
            log.warning("redis_away", address=self._address, seconds=round(away_s))
        return min(FIRST_S * 2.0**failures, LONGEST_S)

    @property
    def waiting(self) -> bool:
        """Somebody in this process waits for Redis, or did a moment ago."""
        return time.monotonic() - self._tried < WAITING_S

    def end(self) -> None:
        """Wait no more."""
        self._over = True


def reach(redis_url: str, patience: Patience | None = None) -> None:
    """Wait until Redis answers.  Raises: redis.RedisError if it does not within about half a minute."""
    retry = Retry(patience or Patience(address_of(redis_url)), AT_START)
    with redis.Redis.from_url(redis_url, socket_connect_timeout=CONNECT_S, retry=retry) as probe:
        probe.ping()


def await_redis(redis_url: str) -> None:
    """The same for a command, before it loads what takes long.  Raises: CommandError."""
    try:
        reach(redis_url)
    except redis.RedisError as error:
        raise CommandError(str(error)) from None


def connect(redis_url: str, patience: Patience | None = None) -> redis.Redis:
    """A connection that rides out a restart of Redis, and waits for room where Redis is at its memory limit.

    Raises: redis.RedisError if Redis cannot be reached now.
    """
    patience = patience or Patience(address_of(redis_url))
    reach(redis_url, patience)
    mended = [redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError]
    return redis.Redis.from_url(redis_url, retry=Retry(patience, LATER), retry_on_error=mended)
