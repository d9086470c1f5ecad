"""The heads for streams: the same numbers as the plain heads at the window's centre."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from worker.ensemble.members import FrameHead, PositionAxis, RecurrentHead, TransformerHead
from worker.ensemble.streaming import stream_head

FEATURES, LABELS, FRAMES = 12, 5, 30


def grown(head: nn.Module) -> nn.Module:
    """Weights three times as large, so that attention and gates are far from even."""
    for parameter in head.parameters():
        parameter.data.mul_(3)
    return head.eval()


def centres(head: nn.Module, features: Tensor, windows: Tensor) -> Tensor:
    """The plain head, one window at a time: (W, K) logits of each window's centre."""
    middle = windows.shape[1] // 2
    return torch.cat([head(features[window].unsqueeze(0))[:, middle] for window in windows])


def compare(head: FrameHead | RecurrentHead | TransformerHead, window: int, seed: int) -> None:
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(FRAMES, FEATURES, generator=generator)
        windows = torch.randint(0, FRAMES, (20, window), generator=generator)
        windows[0] = torch.arange(window)
        windows[1] = 0  # a clip of one frame
        stream = stream_head(head, window).eval()
        expected = centres(head, features, windows)
        found = stream.decode(stream.encode(features), windows)
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [1, 3, 9, 15])
@pytest.mark.parametrize("seed", [0, 1])
def test_frame_head(window: int, seed: int) -> None:
    """Member `cnn` is its head at the centre, whatever surrounds it."""
    torch.manual_seed(seed)
    head = FrameHead(FEATURES, LABELS)
    grown(head)
    compare(head, window, seed)


@pytest.mark.parametrize("window", [1, 3, 9, 15])
@pytest.mark.parametrize(("embedding", "hidden"), [(8, 4), (5, 7), (16, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_recurrent_head(window: int, embedding: int, hidden: int, seed: int) -> None:
    """Five steps in both directions give what PyTorch's GRU gives at the centre of nine."""
    torch.manual_seed(seed)
    head = RecurrentHead(FEATURES, LABELS, embedding, hidden)
    grown(head)
    compare(head, window, seed)


@pytest.mark.parametrize("axis", ["time", "batch"])
@pytest.mark.parametrize("window", [1, 3, 9])
@pytest.mark.parametrize(("embedding", "heads", "depth", "ratio"), [(8, 2, 1, 4.0), (12, 3, 2, 1.5), (6, 1, 3, 2.0)])
@pytest.mark.parametrize("seed", [0, 1])
def test_transformer_head(
    axis: PositionAxis, window: int, embedding: int, heads: int, depth: int, ratio: float, seed: int
) -> None:
    """Sharing the first block and leaving out what the centre does not need changes nothing, for both position axes."""
    torch.manual_seed(seed)
    head = TransformerHead(FEATURES, LABELS, embedding, heads, depth, ratio, axis)
    grown(head)
    compare(head, window, seed)


def test_the_place_in_the_window_matters_on_the_time_axis_only() -> None:
    """Reversing a window changes the centre's answer with positions in time and leaves it with those of the batch."""
    windows = torch.arange(9)[None]
    features = torch.randn(9, FEATURES, generator=torch.Generator().manual_seed(0))
    differences = []
    axes: tuple[PositionAxis, ...] = ("time", "batch")
    for axis in axes:
        torch.manual_seed(0)
        head = TransformerHead(FEATURES, LABELS, 8, 2, 2, 2.0, axis)
        grown(head)
        with torch.inference_mode():
            stream = stream_head(head, 9)
            states = stream.encode(features)
            differences.append(
                float((stream.decode(states, windows) - stream.decode(states, windows.flip(1))).abs().max())
            )
    assert differences[0] > 0.1
    assert differences[1] < 1e-4
