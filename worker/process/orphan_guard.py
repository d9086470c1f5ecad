"""Child processes that end with their parent, however that ends."""

from __future__ import annotations

import os
import signal
import threading
import time

CHECK_S = 1.0


def end_with_parent() -> None:
    """From now on this process gets SIGTERM when its parent is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
