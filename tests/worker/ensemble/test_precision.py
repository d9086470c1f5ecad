"""The number format: what `auto` means on each processor and for each bundle, and what is refused."""

from __future__ import annotations

import pytest

from worker.core import cuda, devices
from worker.ensemble.precision import Precision, PrecisionError, choose_precision

OLD, VNNI, BF16 = frozenset({"avx2"}), frozenset({"avx2", "avx_vnni"}), frozenset({"avx512_bf16", "avx512_vnni"})


@pytest.mark.parametrize(
    ("flags", "int8", "expected"),
    [
        (OLD, True, "fp32"),
        (VNNI, True, "int8"),
        (VNNI, False, "fp32"),
        (BF16, True, "int8"),
        (BF16, False, "bf16"),
        (frozenset({"avx512_bf16"}), True, "bf16"),
        (frozenset(), True, "fp32"),
    ],
)
def test_auto_on_a_cpu(monkeypatch: pytest.MonkeyPatch, flags: frozenset[str], int8: bool, expected: str) -> None:
    """int8 needs both, a processor that does not saturate and a bundle whose labels it keeps."""
    monkeypatch.setattr(devices, "cpu_flags", lambda: flags)
    assert choose_precision("auto", "cpu", int8=int8) == expected


@pytest.mark.parametrize(
    ("wanted", "flags", "says"), [("fp16", BF16, "fp16 needs a GPU"), ("int8", OLD, "int8 needs a processor with VNNI")]
)
def test_what_a_cpu_cannot_do(
    monkeypatch: pytest.MonkeyPatch, wanted: Precision, flags: frozenset[str], says: str
) -> None:
    """One sentence that names what to choose instead."""
    monkeypatch.setattr(devices, "cpu_flags", lambda: flags)
    with pytest.raises(PrecisionError, match=says):
        choose_precision(wanted, "cpu", int8=True)


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also int8 of a bundle that loses labels, and bf16 that a processor emulates."""
    monkeypatch.setattr(devices, "cpu_flags", lambda: VNNI)
    for wanted in ("fp32", "bf16", "int8"):
        assert choose_precision(wanted, "cpu", int8=False) == wanted


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu(monkeypatch: pytest.MonkeyPatch, native: bool, expected: str) -> None:
    """It has no int8; bf16 where it has the instructions."""
    monkeypatch.setattr(cuda, "has_bf16", lambda device: native)
    assert choose_precision("auto", "cuda:0", int8=True) == expected
    assert choose_precision("fp16", "cuda:0", int8=True) == "fp16"
    with pytest.raises(PrecisionError, match="int8 is for CPUs"):
        choose_precision("int8", "cuda:0", int8=True)
    if not native:
        with pytest.raises(PrecisionError, match="cuda:0 has no bf16"):
            choose_precision("bf16", "cuda:0", int8=False)
