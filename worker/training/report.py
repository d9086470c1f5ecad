"""A report of `evaluate` as text for people."""

from __future__ import annotations

from typing import Any

COLUMNS = ("accuracy", "macro_f1", "challenge_metric", "ece")


def as_text(report: dict[str, Any]) -> str:
    """A table of the ensemble and its members, and one of the labels, for each annotation."""
    lines = [str(report["data"])]
    for name, result in report["results"].items():
        lines += ["", f"{name}, {result['n']} rows", f"{'':18}" + "".join(f"{column:>18}" for column in COLUMNS)]
        for who, metrics in [("ensemble", result["ensemble"]), *result["members"].items()]:
            lines.append(f"{who:18}" + "".join(f"{metrics[column]:18.4f}" for column in COLUMNS))
        lines += ["", f"{'':18}" + "".join(f"{c:>18}" for c in ("precision", "recall", "f1", "support"))]
        for label, found in result["ensemble"]["per_class"].items():
            numbers = "".join(f"{found[c]:18.4f}" for c in ("precision", "recall", "f1"))
            lines.append(f"{label:18}{numbers}{found['support']:18d}")
    return "\n".join(lines)
