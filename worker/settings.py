"""The worker's own settings, from the environment with the prefix `MIEN_`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.contract.settings import SharedSettings
from worker.decode import DecodeLimits

ALL_DEVICES = "cuda:all"


class WorkerSettings(SharedSettings):
    """Settings of a worker process."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+|:all)?)$",
        description=(
            "auto (a GPU where there is one), cpu, cuda:N, or cuda:all for a worker a GPU; a cuda device that is"
            " missing is an error."
        ),
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto",
        description=(
            "Number format of the ensemble; auto: what the hardware computes natively, on a CPU int8 if the bundle has"
            " a graph for it with the labels of fp32, else bf16, else fp32."
        ),
    )
    cuda_graphs: bool = Field(
        True, description="Record a GPU's batches as CUDA graphs; a GPU that cannot is served without by itself."
    )
    detector_model: str | None = Field(
        None,
        description=(
            "The face detector: default (CenterFace and YuNet), yunet, retinaface, centerface, cascade (OpenCV's),"
            " or YuNet's ONNX file."
        ),
    )
    nice: int = Field(
        10, ge=0, le=19, description="Niceness of the worker's process, so that a front end beside it answers first."
    )
    threads: int = Field(0, ge=0, description="CPU threads of the ensemble; 0: one a core.")
    concurrency: int = Field(1, ge=1, le=64, description="Jobs that a worker labels at once.")
    stall_s: float = Field(
        120,
        ge=0,
        description="A worker whose job gets no further for so many seconds hangs, and ends itself; 0: never.",
    )
    idle_release_s: float = Field(
        0, ge=0, description="Give the model's memory back after so many seconds without a job; 0: never."
    )


def decode_limits(settings: SharedSettings) -> DecodeLimits:
    """The limits of one input."""
    return DecodeLimits(settings.max_frames, settings.max_pixels, settings.max_decode_s, settings.max_decode_bytes)
