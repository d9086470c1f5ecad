"""Named keys in a file: let in by their hash, rotated and withdrawn without a restart; jobs belong to the name."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.admin.__main__ import app as admin
from app.http import keyring
from app.http.keyring import KeyFileError, Keyring, read_keys

CONTENT = b"\x00\x00\x00\x18ftypisom" + bytes(500)


def line(name: str, key: str) -> str:
    return f"{name} {sha256(key.encode()).hexdigest()}\n"


def posted(api: httpx.Client, key: str) -> httpx.Response:
    return api.post("/v1/jobs", content=CONTENT, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clients' keys; changes are seen at once."""
    monkeypatch.setattr(keyring, "LOOK_S", 0)
    path = tmp_path / "keys"
    path.write_text("# clients\n\n" + line("alice", "old") + line("bob", "secret").strip() + "  # of the lab\n")
    return path


def test_jobs_belong_to_the_name_through_a_rotation(make_api: Any, file: Path) -> None:
    """While both keys are in the file both see the same jobs; the old one is out when its line is; bob sees none."""
    api = make_api(api_keys_file=str(file))
    job_id = posted(api, "old").json()["id"]
    with file.open("a") as lines:
        lines.write(line("alice", "new"))
    for key, status in (("old", 200), ("new", 200), ("secret", 404), ("wrong", 401), ("", 401)):
        assert api.get(f"/v1/jobs/{job_id}", headers={"X-API-Key": key}).status_code == status, key
    file.write_text(line("alice", "new"))
    for key, status in (("old", 401), ("new", 200), ("secret", 401)):
        assert api.get(f"/v1/jobs/{job_id}", headers={"X-API-Key": key}).status_code == status, key


def test_keys_of_both_kinds(make_api: Any, file: Path) -> None:
    """Keys of MIEN_API_KEYS continue to work and own their jobs."""
    api = make_api(api_keys_file=str(file), api_keys=("plain",))
    assert [posted(api, key).status_code for key in ("plain", "old", "none")] == [202, 202, 401]
    assert len(api.get("/v1/jobs", headers={"X-API-Key": "plain"}).json()["jobs"]) == 1


def test_a_damaged_file_changes_nothing(file: Path) -> None:
    """Former keys stay valid; the log line does not quote the file."""
    ring = Keyring(str(file))
    file.write_text("alice: secret-in-clear\n")
    assert ring.name_of(b"old") == "alice"
    file.unlink()
    assert (ring.name_of(b"old"), ring.name_of(b"other")) == ("alice", None)
    file.write_text(line("carol", "hers"))
    assert (ring.name_of(b"old"), ring.name_of(b"hers")) == (None, "carol")


@pytest.mark.parametrize("text", ["", "# none\n", "alice secret\n", "alice " + "A" * 64, "a b c\n"])
def test_what_is_no_key_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(KeyFileError) as error:
        read_keys(str(path))
    assert "secret" not in str(error.value)


def test_the_command_makes_a_line(tmp_path: Path) -> None:
    """`app.admin key` prints the line for the file; the key goes elsewhere."""
    made = CliRunner().invoke(admin, ["key", "alice"])
    path = tmp_path / "keys"
    path.write_text(made.stdout)
    key = made.stderr.split()[-1]
    assert key not in made.stdout
    assert Keyring(str(path)).name_of(key.encode()) == "alice"


def test_a_start_without_the_file_is_bad_usage(tmp_path: Path) -> None:
    """One line and status 2, instead of a service without valid keys."""
    environment = {**os.environ, "MIEN_API_KEYS_FILE": str(tmp_path / "none"), "MIEN_UPLOADS": str(tmp_path / "u")}
    command = [sys.executable, "-m", "app", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
