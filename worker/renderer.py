"""The process that draws annotated videos (`python -m worker.renderer`): a child of `worker run` without CUDA.

It ends with its parent, however that ends.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from app.contract import keys
from app.contract.settings import SharedSettings
from worker.logs import configure
from worker.resident import ResidentWorker, run_until_stopped

PARENT_CHECK_S = 1.0


def main() -> None:
    """Draw until SIGTERM, or until the parent is gone."""
    settings = SharedSettings()
    configure(settings)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    retry = Retry(ExponentialBackoff(cap=5, base=0.1), retries=12)
    connection = redis.Redis.from_url(settings.redis_url, retry=retry, retry_on_error=[redis.ConnectionError])
    name = f"render-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    run_until_stopped(ResidentWorker(keys.RENDER_QUEUE, connection, name, on_stop=lambda: None))


if __name__ == "__main__":
    main()
