"""`worker bench --against`: two builds in turns, the ratio of their figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.commands import bench
from worker.evaluation import against

FAKE = """
import json, os, sys
rounds = os.path.join(os.path.dirname(__file__), "..", "rounds")
turn = os.path.getsize(rounds) if os.path.exists(rounds) else 0
if sys.argv[1] == "label":
    print("{}")
else:
    open(rounds, "a").write("x")
    open(os.environ["ORDER"], "a").write("NAME ")
    print(json.dumps({"ensemble_fps": RATE * (turn + 1), "mode": "x", "pipeline": {"fps": RATE, "peak_rss_bytes": 10}}))
"""


def build(folder: Path, rate: float, code: str = FAKE) -> Path:
    """A checkout whose `worker` reports that rate, twice as fast in its second run, and so on."""
    (folder / "worker").mkdir(parents=True)
    (folder / "worker" / "__init__.py").touch()
    (folder / "worker" / "__main__.py").write_text(code.replace("RATE", str(rate)).replace("NAME", folder.name))
    return folder


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORDER", str(tmp_path / "order"))
    monkeypatch.setattr(against, "HERE", build(tmp_path / "ours", 30))
    return tmp_path / "order"


def test_builds_run_in_turns_and_ratios_are_of_a_turn(order: Path, tmp_path: Path) -> None:
    """Which one is first alternates; the ratio does not see that both grew faster from turn to turn."""
    theirs = build(tmp_path / "theirs", 20)
    found = against.compare(theirs, 3, ["--crops", "18"], tmp_path / "clip.mp4")
    assert order.read_text().split() == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert set(found) == {"ensemble_fps", "pipeline.fps", "pipeline.peak_rss_bytes", "first_record_s"}
    assert found["ensemble_fps"] == against.Comparison(40, 60, 1.5, 1.5, 1.5)
    assert found["pipeline.peak_rss_bytes"].ratio == 1
    assert found["first_record_s"].theirs > 0


@pytest.mark.usefixtures("order")
def test_a_build_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    """The last line of what it printed, and where."""
    theirs = build(tmp_path / "theirs", 1, "import sys; sys.exit('error: no bundle is called x')")
    with pytest.raises(against.BuildError, match=r"worker bench.*theirs: error: no bundle is called x"):
        against.compare(theirs, 1, [], None)


@pytest.mark.usefixtures("order")
def test_the_command(tmp_path: Path) -> None:
    """A table, JSON, or one line about what is no checkout."""
    import typer

    app = typer.Typer()
    app.command()(bench.command)
    theirs = str(build(tmp_path / "theirs", 15))
    table = CliRunner().invoke(app, ["--against", theirs, "--turns", "1"])
    assert "2.00 (2.00 to 2.00)" in table.stdout
    printed = json.loads(CliRunner().invoke(app, ["--against", theirs, "--turns", "1", "--json"]).stdout)
    assert printed["pipeline.fps"] == {"theirs": 15, "ours": 30, "ratio": 2, "lowest": 2, "highest": 2}
    wrong = CliRunner().invoke(app, ["--against", sys.prefix])
    assert "no checkout" in str(wrong.exception)
