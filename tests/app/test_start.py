"""How `python -m app` fails to start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_port_in_use_ends_the_process(redis_url: str, tmp_path: Path) -> None:
    """The process ends with status 1 and the reason, instead of waiting for its own connections."""
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


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MIEN_REDIS_URL", "localhost:6379/secret", "must start with redis://, rediss:// or unix://"),
        ("MIEN_UPLOADS", "/dev/null/uploads", "Not a directory"),
        ("MIEN_UPLOADS", "nothing://bucket", "Protocol not known"),
        ("MIEN_MAX_FRAMES", "many", "valid integer"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(name: str, value: str, says: str) -> None:
    """Bad usage ends the process with status 2; what is shown of a URL with a password is not the URL."""
    ended = subprocess.run(
        [sys.executable, "-m", "app", "--port", "0"],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(name)
    assert says in ended.stderr
    assert "secret" not in ended.stderr
