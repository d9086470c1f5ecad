"""A Redis connection that retries with backoff, for processes that must survive an outage of Redis."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import redis
import structlog
from redis.backoff import AbstractBackoff
from redis.retry import Retry

from worker.errors import CommandError

AT_START = 18  # attempts, about half a minute, so that a wrong address is reported
LATER = 300  # attempts, about ten minutes
FIRST_S, LONGEST_S = 0.1, 2.0  # backoff
WAITING_S = 6.0  # longer than from one attempt to the next
PROBE_S = 1.0  # timeout of an address that does not respond, at the start, so that it is reported soon ...
CONNECT_S = 2.0  # ... and later, when a packet may have been lost
FIRST_WORD_S = 4.0  # between the first log line of an outage and the next; doubles each time

log = structlog.get_logger(__name__)


def address_of(redis_url: str) -> str:
    """The address without user and password, for messages."""
    parts = urlsplit(redis_url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


class Patience(AbstractBackoff):
    """Backoff between attempts to reach Redis; logs an outage with a backoff of its own.

    Other threads can query whether one waits, and end the retries.
    """

    def __init__(self, address: str = "") -> None:
        self._address = address
        self._tried = -WAITING_S
        self._since = self._next_word = 0.0
        self._over = False

    def __deepcopy__(self, memo: object) -> Patience:
        """Itself: redis-py copies it for each connection, but an outage is one for the whole process."""
        return self

    def compute(self, failures: int) -> float:
        """Seconds to wait before the next attempt.  Raises: redis.ConnectionError after `end`."""
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
        """Whether a thread of this process waits for Redis, or did within `WAITING_S`."""
        return time.monotonic() - self._tried < WAITING_S

    def end(self) -> None:
        """End all retries."""
        self._over = True


def reach(redis_url: str, patience: Patience | None = None) -> None:
    """Wait until Redis answers.  Raises: redis.RedisError if it does not within about half a minute."""
    retry = Retry(patience or Patience(address_of(redis_url)), AT_START)
    with redis.Redis.from_url(redis_url, socket_connect_timeout=PROBE_S, retry=retry) as probe:
        probe.ping()


def await_redis(redis_url: str) -> None:
    """The same for a command, before it loads what takes long.  Raises: CommandError."""
    try:
        reach(redis_url)
    except redis.RedisError as error:
        raise CommandError(str(error)) from None


def connect(redis_url: str, patience: Patience | None = None) -> redis.Redis:
    """A connection that retries through a restart of Redis and while Redis is at its memory limit.

    Raises: redis.RedisError if Redis cannot be reached now.
    """
    patience = patience or Patience(address_of(redis_url))
    reach(redis_url, patience)
    mended = [redis.ConnectionError, redis.TimeoutError, redis.exceptions.OutOfMemoryError]
    return redis.Redis.from_url(
        redis_url, socket_connect_timeout=CONNECT_S, retry=Retry(patience, LATER), retry_on_error=mended
    )
