"""The scripts report a missing program in one line instead of failing later."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def find(what: str, path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script that looks for a program where only what lies in `path` is installed."""
    script = str(ROOT / ".make" / f"find_{what}.sh")
    environment = {"PATH": str(path), **variables}
    return subprocess.run(["/bin/sh", script], env=environment, capture_output=True, text=True, check=False)


def programs(folder: Path, *names: str) -> Path:
    """A folder with these programs of the system."""
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def fake(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_redis_by_url_needs_no_program(tmp_path: Path) -> None:
    """With MIEN_REDIS_URL no program is searched."""
    done = find("redis", tmp_path, MIEN_REDIS_URL="redis://example.org")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_redis_on_the_path_is_enough(tmp_path: Path) -> None:
    """With a redis-server program nothing is installed."""
    done = find("redis", programs(tmp_path, "redis-server"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_old_redis_is_one_clear_line(tmp_path: Path) -> None:
    """The scripts that change jobs need Redis 7."""
    fake(tmp_path, "redis-server", "echo 'Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64'")
    done = find("redis", tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "older than 7.0" in line


def test_missing_redis_is_one_clear_line(tmp_path: Path) -> None:
    """Without Redis and the right to install it, the error names the package."""
    fake(tmp_path, "id", "echo 1000")
    done = find("redis", tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "redis-server" in done.stderr
    assert "MIEN_REDIS_URL" in done.stderr


def test_root_installs_redis_from_the_distribution(tmp_path: Path) -> None:
    """As root the package is installed, and then found."""
    fake(tmp_path, "id", "echo 0")
    fake(
        tmp_path,
        "apt-get",
        f'[ "$1" = update ] || {{ : > {tmp_path}/redis-server; {shutil.which("chmod")} +x {tmp_path}/redis-server; }}',
    )
    done = find("redis", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Installing redis-server" in done.stdout


def test_missing_chromium_is_a_note(tmp_path: Path) -> None:
    """Without Chromium the other tests run, and a note names the skipped ones."""
    fake(tmp_path, "id", "echo 1000")
    done = find("chromium", tmp_path)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert "skipped" in done.stderr


def test_chromium_is_found_or_installed(tmp_path: Path) -> None:
    """One that is there is enough; as root it is installed from the distribution, and failing to is no error."""
    fake(tmp_path, "id", "echo 0")
    fake(tmp_path, "apt-get", "exit 1")
    failed = find("chromium", tmp_path)
    assert failed.returncode == 0
    assert "Installing chromium" in failed.stdout
    assert "skipped" in failed.stderr
    fake(tmp_path, "chromium-browser", "")
    found = find("chromium", tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_continuous_integration_runs_make_test() -> None:
    """CI and developers run the same thing, and CI's script can be executed."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"
