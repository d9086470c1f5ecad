"""Tone mapping from HDR to SDR: one lookup table for each transfer function, from its codes to display codes.

Light up to half of diffuse white stays linear; brighter light is rolled off and never clipped, so that faces brighter
than diffuse white keep their shades.  Source: ITU-R BT.2100 (PQ, HLG), BT.2408 (diffuse white).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Table = npt.NDArray[np.uint8]

WHITE_CD_M2 = 203.0  # diffuse white, BT.2408
HLG_PEAK_CD_M2 = 1000.0
HLG_SYSTEM_GAMMA = 1.2
KNEE = 0.5  # of diffuse white
DISPLAY_GAMMA = 2.2
PQ, HLG = 16, 18  # H.273's transfer characteristics codes


def from_pq(code: Floats) -> Floats:
    """Codes 0..1 -> cd/m2.  Source: BT.2100, table 4."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = code ** (1 / m2)
    return np.asarray(10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1))


def from_hlg(code: Floats) -> Floats:
    """Codes 0..1 of greys -> cd/m2 on a display of `HLG_PEAK_CD_M2`.  Source: BT.2100, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return np.asarray(HLG_PEAK_CD_M2 * scene**HLG_SYSTEM_GAMMA)


def rolled_off(light: Floats) -> Floats:
    """Light in units of diffuse white -> 0..1, strictly increasing."""
    room = 1 - KNEE
    return np.asarray(np.where(light <= KNEE, light, 1 - room / (1 + np.maximum(light - KNEE, 0) / room)))


def _table(cd_m2: Floats) -> Table:
    return np.asarray(np.round(255 * rolled_off(cd_m2 / WHITE_CD_M2) ** (1 / DISPLAY_GAMMA)), np.uint8)


_CODES = np.arange(256) / 255
HDR_TABLES: dict[int, Table] = {PQ: _table(from_pq(_CODES)), HLG: _table(from_hlg(_CODES))}
