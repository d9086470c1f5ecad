"""How `python -m app` fails to start."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def test_a_port_in_use_ends_the_process(redis_url: str, tmp_path: Path) -> None:
    """The process ends with status 1 and says why, instead of waiting for its own connections."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = os.environ | {"MIEN_REDIS_URL": redis_url, "MIEN_UPLOADS": str(tmp_path / "uploads")}
        ended = subprocess.run(
            [sys.executable, "-m", "app", "--port", str(port)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "address already in use" in ended.stderr
