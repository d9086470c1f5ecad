"""The process that draws annotated videos (`python -m worker.renderer`): a child of `worker run` without CUDA.

It ends with its parent, however that ends.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from app.contract import keys
from app.contract.settings import SharedSettings
from worker.logs import configure
from worker.resident import ResidentWorker, connect, process_name, run_until_stopped

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
    connection = connect(settings.redis_url)
    name = f"render-{process_name()}"
    run_until_stopped(ResidentWorker(keys.RENDER_QUEUE, connection, name, on_stop=lambda: None))


if __name__ == "__main__":
    main()
