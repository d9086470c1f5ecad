"""The process that renders annotated videos, previews and thumbnails.

A child of `worker run`, without CUDA, that ends with its parent.

python -m worker.process.renderer_main
"""

from __future__ import annotations

import sys

import redis

from app.contract import keys
from app.contract.settings import SharedSettings
from app.contract.workers import process_name
from worker.jobs import render_job
from worker.jobs.connection import connect
from worker.jobs.rq_worker import ResidentWorker
from worker.process.logs import configure
from worker.process.orphan_guard import end_with_parent


def main() -> None:
    """Serve the render queue until SIGTERM or the end of the parent."""
    settings = SharedSettings()
    name = f"render-{process_name()}"
    configure(settings, name)
    end_with_parent()
    try:
        connection = connect(settings.redis_url)
    except redis.RedisError as error:
        sys.exit(f"the renderer cannot reach Redis: {error}")
    stop = render_job.stopping.set
    ResidentWorker(keys.RENDER_QUEUE, connection, name, render_job.functions(), stop, settings=settings).serve()


if __name__ == "__main__":
    main()
