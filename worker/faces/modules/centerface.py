"""CenterFace as a torch module; `worker.faces.networks.centerface` tells its source."""

from __future__ import annotations

from torch import Tensor, nn

# (input, hidden, output channels, stride) of each inverted residual block, grouped by output map.
BLOCKS = (
    ((16, 96, 24, 2), (24, 144, 24, 1)),
    ((24, 144, 32, 2), (32, 192, 32, 1), (32, 192, 32, 1)),
    (
        (32, 192, 64, 2),
        (64, 384, 64, 1),
        (64, 384, 64, 1),
        (64, 384, 64, 1),
        (64, 384, 96, 1),
        (96, 576, 96, 1),
        (96, 576, 96, 1),
    ),
    ((96, 576, 160, 2), (160, 960, 160, 1), (160, 960, 160, 1), (160, 960, 320, 1)),
)
NECK = 24


class CenterFaceNet(nn.Module):
    """Pixels (B, 3, H, W) float RGB in 0..255 -> one map (B, 15, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _conv(3, 32, 3, stride=2), nn.ReLU(), _conv(32, 32, 3, groups=32), nn.ReLU(), _conv(32, 16, 1)
        )
        self.stages = nn.ModuleList(nn.Sequential(*(_Inverted(*sizes) for sizes in stage)) for stage in BLOCKS)
        outs = [stage[-1][2] for stage in BLOCKS]
        self.lateral = nn.ModuleList(nn.Sequential(_conv(width, NECK, 1), nn.ReLU()) for width in outs)
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(NECK, NECK, 2, 2), nn.ReLU()) for _ in range(len(outs) - 1)
        )
        self.head = nn.Sequential(_conv(NECK, NECK, 3), nn.ReLU(), _conv(NECK, 15, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        x = self.stem(pixels)
        laterals = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            laterals.append(lateral(x))
        x = laterals.pop()
        for up in reversed(self.up):
            x = up(x) + laterals.pop()
        return (self.head(x),)


class _Inverted(nn.Module):
    """Inverted residual: expansion, depthwise convolution, projection; with a shortcut if shapes match."""

    def __init__(self, before: int, hidden: int, after: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(before, hidden, 1),
            nn.ReLU(),
            _conv(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.ReLU(),
            _conv(hidden, after, 1),
        )
        self._adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self._adds else out


def _conv(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups)
