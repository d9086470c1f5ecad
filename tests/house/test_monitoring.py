"""Dashboard and alerts ask for metrics that there are, count nothing twice, and do what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.contract.jobs import ErrorCode
from app.contract.uploads import Space
from app.contract.workers import WorkerState
from app.metrics import fleet
from app.metrics.requests import RequestMetrics

MONITORING = Path(__file__).resolve().parents[2] / "docker" / "monitoring"
OF_PROCESS = re.compile(r"mien_(request|build)\w*")
PROMTOOL = (
    ["check", "rules", "alerts.yml"],
    ["check", "config", "prometheus.yml"],
    ["test", "rules", "alerts_test.yml"],
)


def asked() -> dict[str, str]:
    """Every expression, by what it is for."""
    rules = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    found = {rule["alert"]: rule["expr"] for rule in rules}
    return found | {f"{p['title']} {t['refId']}": t["expr"] for p in panels for t in p["targets"]}


@pytest.fixture(scope="module")
def there() -> set[str]:
    """Names of all samples that a front end can tell."""
    families: list[Any] = [*RequestMetrics().registry.collect()]
    families += fleet._queues({}) + fleet._workers([]) + fleet._counters({}) + fleet._histograms({})
    families += fleet._room({"used_memory": 1, "maxmemory": 1}, Space(1, 1))
    families += fleet._webhooks(0, 0.0)
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {f"{family.name}{end}" for family in families for end in ends.get(family.type, ("",))}


@pytest.mark.parametrize("purpose", asked())
def test_what_is_asked_for_exists(there: set[str], purpose: str) -> None:
    """Every metric of an expression is one that `/metrics` has."""
    names = set(re.findall(r"mien_\w+", asked()[purpose]))
    assert names <= there
    assert names or asked()[purpose].startswith("up")


@pytest.mark.parametrize("purpose", asked())
def test_front_ends_are_not_added_up(purpose: str) -> None:
    """Metrics of the whole service count once, also if several front ends are scraped."""
    expression = asked()[purpose]
    for found in re.finditer(r"mien_\w+", expression):
        if OF_PROCESS.fullmatch(found[0]) or found[0] == "mien_workers_by_release":  # whose count by version is a count
            continue
        before = expression[: found.start()]
        assert re.search(r"max without \(instance\) \((?:rate\(|increase\()?$", before), (found[0], before)


def test_labels_of_alerts_exist() -> None:
    """States and codes that alerts select are the contract's."""
    text = " ".join(asked().values())
    states = set(WorkerState.__args__)  # type: ignore[attr-defined]
    codes = set(ErrorCode.__args__)  # type: ignore[attr-defined]
    for label, known in (("state", states), ("code", codes)):
        for values in re.findall(label + r'=~"([^"]+)"', text):
            assert set(values.split("|")) <= known


@pytest.mark.parametrize("arguments", PROMTOOL, ids=" ".join)
def test_promtool(arguments: list[str]) -> None:
    """Prometheus takes rules and configuration, and each alert comes when it should and not before."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    ended = subprocess.run([program, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
