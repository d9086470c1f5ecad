"""The worked example of docs/analysis.md runs as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from app.contract.frames import Face, Frame
from app.contract.whole import BestFrame, Whole, log_odds

PAGE = (Path(__file__).parents[3] / "docs" / "analysis.md").read_text()
CALM = (0.7, *[0.05] * 6)
SMILE = (0.2, 0.02, 0.02, 0.02, 0.7, 0.02, 0.02)
FPS = 25


def test_who_smiled_when(api: httpx.Client, submit: Callable[..., str], worker: Any) -> None:
    """One person smiles at 2 s, another half a second later; a cut makes a new track of the first."""

    def faces(i: int) -> tuple[Face, ...]:
        first = 0 if i < 150 else 2
        shown = ((first, 50 <= i < 75), (1, 62 <= i < 100))
        return tuple(Face(track, (0, 0, 60, 60), 0.9, SMILE if smiles else CALM) for track, smiles in shown)

    job_id = submit(people="true", baseline="auto", keep_input="true")
    worker.claim(job_id)
    for start in range(0, 200, 64):
        worker.append(job_id, [Frame(i, i / FPS, faces(i)) for i in range(start, min(start + 64, 200))])
    neutral = tuple(log_odds(p) for p in CALM)
    best = {0: BestFrame(10, 0.4, 0), 1: BestFrame(12, 0.48, 1)}
    whole = Whole({0: 0, 1: 1, 2: 0}, best, dict.fromkeys(range(3), neutral))
    worker.finish(job_id, whole=whole.encode())
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1].replace("http://127.0.0.1:8000", str(api.base_url)), names)
    assert names["smiles"](job_id) == [
        "Person 0 smiled 1 time, 12 % of the time; at 2.0 s by 3.8 above their neutral face",
        "Person 1 smiled 1 time, 18 % of the time; at 2.5 s by 3.8 above their neutral face",
        "Person 1 smiled within a second after person 0, 1 time",
    ]
    names["api"].close()
