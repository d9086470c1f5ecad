"""The networks of a loaded ensemble and its reference computation.

`Ensemble.window_probabilities` is the reference for parity: one window in, the probabilities of its centre out.
`engine.py` computes the same for streams, without repeating work.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worker.ensemble.backbones import Backbone
from worker.ensemble.engine import Ensembled
from worker.ensemble.fusion import Prior
from worker.ensemble.members import Head


class Normalise(nn.Module):
    """(N, H, W, C) uint8 pixels in 0..255 -> (N, C, H, W) float32: (pixel * scale - mean) / std.

    The result keeps the input's memory order, channels-last, so that no copy is made.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, scale: float, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        mean_, std_ = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self.register_buffer("gain", (scale / std_).float().view(1, -1, 1, 1))
        self.register_buffer("offset", (-mean_ / std_).float().view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).to(self.gain.dtype) * self.gain + self.offset


class Member(nn.Module):
    """A member's head with its configuration in the ensemble.

    backbone: key of the backbone whose features it reads.  temperature: divides its logits.  weight: its weight in the
    fusion, before the weights of the members in use are normalised to sum 1.
    """

    def __init__(self, name: str, backbone: str, head: Head, temperature: float, weight: float) -> None:
        super().__init__()
        self.name = name
        self.backbone = backbone
        self.head = head
        self.temperature = temperature
        self.weight = weight

    @property
    def temporal(self) -> bool:
        """Whether the member reads a window of features rather than one frame's."""
        return self.head.temporal


@dataclass(frozen=True)
class Ensemble:
    """labels: K names.  window: in frames.  backbones: by key; equal weights share one key.  members: in the manifest's
    order.  prior: the label frequencies, None if unknown."""

    labels: tuple[str, ...]
    window: int
    normalise: Normalise
    backbones: dict[str, Backbone]
    members: tuple[Member, ...]
    prior: Prior | None = None

    @property
    def described(self) -> Ensembled:
        """What the engine knows of it."""
        weights = {member.name: member.weight for member in self.members}
        return Ensembled(self.labels, self.window, weights, self.prior)

    def modules(self) -> list[nn.Module]:
        """Every network, for moving to a device or switching to eval mode."""
        return [self.normalise, *self.backbones.values(), *self.members]

    @torch.inference_mode()
    def window_probabilities(self, crops: Tensor) -> dict[str, Tensor]:
        """One window as in the published code: every frame passes through every member's backbone.

        crops: (T, H, W, C) uint8, T the window.  Returns {member: (K,) float32 probabilities of the centre frame}.
        """
        centre = self.window // 2
        probabilities = {}
        for member in self.members:
            seen = crops if member.temporal else crops[centre : centre + 1]
            images = self.normalise(seen).contiguous()  # NCHW in memory, as in the published code
            features = self.backbones[member.backbone](images)  # (T, D)
            logits = member.head(features.unsqueeze(0))[0]  # (T, K)
            logits = logits[centre if member.temporal else 0]
            probabilities[member.name] = torch.softmax(logits.float() / member.temperature, dim=-1)
        return probabilities


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors as a bundle stores them: without the counters of batches, which only training reads."""
    return {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
