"""A service with one job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.worker.jobs.rig import Rig


@pytest.fixture
def rig(redis_url: str, tmp_path: Path) -> Iterator[Rig]:
    """See `Rig`."""
    with redis.Redis.from_url(redis_url) as connection:
        rig = Rig(connection, tmp_path)
        yield rig
        rig.registration.close()
