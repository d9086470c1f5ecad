"""The members' heads: backbone features in, logits out.

    cnn               one feature            -> logits
    cnn_rnn           a window of features   -> logits of every frame of the window
    cnn_transformer   a window of features   -> logits of every frame of the window

These are the plain networks: training updates them, and parity is measured against them.  `engine.py` computes the
same values for a stream of frames without repeating work between overlapping windows.

Source: Mao, Fan, Peng 2021, Spatial and Temporal Networks for Facial Expression Recognition in the Wild Videos
(arXiv 2107.05160) and its public code (xinqi-fan/ABAW2021).  Attribute names differ; `model_store` maps the published
checkpoint keys to them.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PositionAxis = Literal["batch", "time"]


class Head(nn.Module):
    """A member's head: (B, T, D) features -> (B, T, K) logits.  temporal: whether a frame's logits use the window."""

    temporal = True


class FrameHead(Head):
    """Member `cnn`: (..., D) features -> (..., K) logits.  The published 1x1 convolution on a pooled feature."""

    temporal = False

    def __init__(self, feature_size: int, labels: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(feature_size, labels)

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(features)  # type: ignore[no-any-return]


class RecurrentHead(Head):
    """Member `cnn_rnn`: (B, T, D) features -> (B, T, K) logits.

    Linear to `embedding`, ReLU, one bidirectional GRU layer with `hidden` units in each direction, ReLU, Linear.
    """

    def __init__(self, feature_size: int, labels: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Linear(feature_size, embedding)
        self.gru = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.classifier = nn.Linear(2 * hidden, labels)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.embed(features))  # (B, T, E)
        if x.is_cuda:  # there autocast runs a GRU in float16, whatever dtype is requested
            with torch.autocast("cuda", enabled=False):
                x, _ = self.gru(x.float())  # (B, T, 2 * hidden)
        else:
            x, _ = self.gru(x)
        return self.classifier(F.relu(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention over time: (B, T, E) -> (B, T, E)."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * size)
        self.proj = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, size = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.heads, size // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, E / heads)
        y = F.scaled_dot_product_attention(query, key, value)
        return self.proj(y.transpose(1, 2).reshape(batch, time, size))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block: (B, T, E) -> (B, T, E)."""

    def __init__(self, size: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        inner = int(size * mlp_ratio)
        self.norm1 = nn.LayerNorm(size, eps=1e-6)
        self.attn = Attention(size, heads)
        self.norm2 = nn.LayerNorm(size, eps=1e-6)
        self.fc1 = nn.Linear(size, inner)
        self.fc2 = nn.Linear(inner, size)

    def feed_forward(self, x: Tensor) -> Tensor:
        """x + MLP(norm(x)): (..., E) -> (..., E)."""
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.feed_forward(x + self.attn(self.norm1(x)))


class TransformerHead(Head):
    """Member `cnn_transformer`: (B, T, D) features -> (B, T, K) logits.

    Linear to `embedding`, sinusoidal position encoding, pre-norm blocks, LayerNorm, Linear.  `position_axis` "batch"
    reproduces the published code, which indexes the table by the batch axis and so, with one window at a time, adds
    row 0 (0, 1, 0, 1, ...) at every time; "time" adds row t at time t.
    """

    def __init__(
        self,
        feature_size: int,
        labels: int,
        embedding: int,
        heads: int,
        depth: int,
        mlp_ratio: float,
        position_axis: PositionAxis,
    ) -> None:
        super().__init__()
        if embedding % heads or embedding % 2:
            raise ValueError(f"embedding {embedding} must be even and a multiple of heads {heads}")
        self.position_axis = position_axis
        self.embed = nn.Linear(feature_size, embedding)
        self.blocks = nn.ModuleList(Block(embedding, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(embedding, eps=1e-6)
        self.classifier = nn.Linear(embedding, labels)

    def positions(self, window: int) -> Tensor:
        """Position encodings (T, E) float32 that are added to the embedded features of one window."""
        table = sinusoid(window, self.embed.out_features).to(self.embed.weight)
        return table if self.position_axis == "time" else table[:1].expand(window, -1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.embed(features) + self.positions(features.shape[1])  # (B, T, E)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.norm(x))  # type: ignore[no-any-return]


def sinusoid(length: int, size: int) -> Tensor:
    """Position table (length, size) float32: sine in even, cosine in odd columns.  Source: arXiv 1706.03762, 3.5."""
    rate = torch.exp(torch.arange(0, size, 2) * (-torch.log(torch.tensor(10000.0)) / size))
    angle = torch.arange(length).unsqueeze(1) * rate  # (length, size / 2)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


# Keyed by the manifest's architecture name; the manifest's sizes are the constructor's arguments.
ARCHITECTURES: dict[str, type[Head]] = {
    "frame": FrameHead,
    "gru": RecurrentHead,
    "transformer": TransformerHead,
}
