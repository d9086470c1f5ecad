"""The process that draws annotated videos (`python -m worker.renderer`): a child of `worker run` without CUDA.

It ends with its parent, however that ends.
"""

from __future__ import annotations

import sys

import redis

from app.contract import keys
from app.contract.settings import SharedSettings
from worker import render
from worker.connection import connect
from worker.logs import configure
from worker.parent import end_with_parent
from worker.resident import ResidentWorker, process_name


def main() -> None:
    """Draw until SIGTERM, or until the parent is gone."""
    settings = SharedSettings()
    configure(settings)
    end_with_parent()
    try:
        connection = connect(settings.redis_url)
    except redis.RedisError as error:
        sys.exit(f"the renderer cannot reach Redis: {error}")
    name = f"render-{process_name()}"
    ResidentWorker(keys.RENDER_QUEUE, connection, name, render.stopping.set, settings=settings).serve()


if __name__ == "__main__":
    main()
