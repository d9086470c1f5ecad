"""Backbones: one face crop in, one feature vector out.

`ResNet50Caffe` is the VGGFace2 network of the published ensemble, with the parameter names of its checkpoints.
`MobileNetV1Dense` is the backbone of the default bundle, two small networks side by side; `CompactResNet` is the one to
train from scratch.

Sources: Cao et al. 2018, VGGFace2 (arXiv 1710.08092), as converted in `resnet50_ft_dag`; He et al. 2015, Deep
Residual Learning (arXiv 1512.03385); Howard et al. 2017, MobileNets (arXiv 1704.04861).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


class Backbone(nn.Module):
    """(N, C, H, W) float, normalised -> (N, D) float feature; `feature_size` is D."""

    feature_size: int

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError


class ResNet50Caffe(Backbone):
    """Caffe-style ResNet-50: the stride of a stage sits on its first 1x1 convolution and on the projection.

    images: (N, channels, size, size) float32, normalised; published: channels 3, size 224, width 64.
    Returns (N, 32 * width) float32.  `width` and `blocks` shrink it for tests; the published file needs the defaults.
    """

    def __init__(self, channels: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.feature_size = 32 * width
        self.conv1_7x7_s2 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.conv1_7x7_s2_bn = nn.BatchNorm2d(width)
        self.block_names: list[str] = []
        size_in = width
        for stage, count in enumerate(blocks, start=2):
            inner = width * 2 ** (stage - 2)
            for block in range(1, count + 1):
                name = f"conv{stage}_{block}"
                stride = 2 if stage > 2 and block == 1 else 1
                self._add_bottleneck(name, size_in, inner, stride, project=block == 1)
                self.block_names.append(name)
                size_in = 4 * inner

    def _add_bottleneck(self, name: str, size_in: int, inner: int, stride: int, *, project: bool) -> None:
        # Flat module names, as in the published file (`conv2_1_1x1_reduce`, ...), so that keys need no renaming.
        def add(suffix: str, conv: nn.Conv2d) -> None:
            self.add_module(f"{name}_{suffix}", conv)
            self.add_module(f"{name}_{suffix}_bn", nn.BatchNorm2d(conv.out_channels))

        add("1x1_reduce", nn.Conv2d(size_in, inner, 1, stride=stride, bias=False))
        add("3x3", nn.Conv2d(inner, inner, 3, padding=1, bias=False))
        add("1x1_increase", nn.Conv2d(inner, 4 * inner, 1, bias=False))
        if project:
            add("1x1_proj", nn.Conv2d(size_in, 4 * inner, 1, stride=stride, bias=False))

    def _conv_bn(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self._conv_bn("conv1_7x7_s2", images))
        x = F.max_pool2d(x, 3, stride=2, padding=0, ceil_mode=True)
        for name in self.block_names:
            shortcut = self._conv_bn(f"{name}_1x1_proj", x) if hasattr(self, f"{name}_1x1_proj") else x
            y = F.relu(self._conv_bn(f"{name}_1x1_reduce", x))
            y = F.relu(self._conv_bn(f"{name}_3x3", y))
            x = F.relu(shortcut + self._conv_bn(f"{name}_1x1_increase", y))
        # A 224 x 224 input ends as 7 x 7, so the published 7x7 average pool is a global mean.
        return x.mean(dim=(2, 3))  # (N, D)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual; the projection pools before it strides, so that no pixel is dropped."""

    def __init__(self, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size_in, size_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(size_out)
        self.conv2 = nn.Conv2d(size_out, size_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(size_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or size_in != size_out:
            pool = nn.AvgPool2d(stride) if stride != 1 else nn.Identity()
            conv = nn.Conv2d(size_in, size_out, 1, bias=False)
            self.shortcut = nn.Sequential(pool, conv, nn.BatchNorm2d(size_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CompactResNet(Backbone):
    """A residual network for small face crops: a stride-1 3x3 stem, then stages that each halve the size.

    images: (N, channels, size, size) float32, normalised.  Returns (N, widths[-1]) float32.
    """

    def __init__(self, channels: int, stem: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths:
            raise ValueError(f"widths and blocks must have one entry per stage, got {widths} and {blocks}")
        self.feature_size = widths[-1]
        self.stem = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(stem)
        stages: list[nn.Module] = []
        for (size_in, size_out), count in zip(pairwise([stem, *widths]), blocks, strict=True):
            stages.append(_BasicBlock(size_in, size_out, stride=2))
            stages.extend(_BasicBlock(size_out, size_out, stride=1) for _ in range(count - 1))
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem(images)))
        return self.stages(x).mean(dim=(2, 3))  # type: ignore[no-any-return]  # (N, D)


class _SeparableUnit(nn.Module):
    """A depthwise 3x3 convolution, then a pointwise 1x1 convolution."""

    def __init__(self, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(size_in, size_in, 3, stride=stride, padding=1, groups=size_in, bias=False)
        self.depthwise_bn = nn.BatchNorm2d(size_in)
        self.pointwise = nn.Conv2d(size_in, size_out, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(size_out)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.stride > 1 and not x.is_cuda:
            # Stride 1, then subsampling: the same values.  In oneDNN the gradient of a strided depthwise convolution is
            # far slower than one of four times as many positions without a stride.
            x = F.conv2d(x, self.depthwise.weight, padding=1, groups=self.depthwise.groups)
            x = x[:, :, :: self.stride, :: self.stride]
        else:
            x = self.depthwise(x)
        x = F.relu(self.depthwise_bn(x))
        return F.relu(self.pointwise_bn(self.pointwise(x)))


class MobileNetV1(Backbone):
    """MobileNet with ReLU instead of ReLU6: activations on faces rarely reach 6.

    images: (N, channels, size, size) float32, normalised.  They are enlarged to `side` pixels, a multiple of 16, and
    rotated by 180 degrees: the published weights pad a strided convolution at the right and bottom, this network at the
    left and top, so image and kernels are both rotated.  Returns (N, 32 * width) float32.
    """

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        if side % 16:
            raise ValueError(f"side must be a multiple of 16, got {side}")
        self.side = side
        self.feature_size = width * MOBILENET_UNITS[-1][0]
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(width)
        sizes = [width, *(width * multiple for multiple, _ in MOBILENET_UNITS)]
        strides = [stride for _, stride in MOBILENET_UNITS]
        pairs = zip(pairwise(sizes), strides, strict=True)
        self.units = nn.Sequential(*(_SeparableUnit(size_in, out, stride) for (size_in, out), stride in pairs))

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem(turned_and_enlarged(images, self.side))))
        return self.units(x).mean(dim=(2, 3))  # type: ignore[no-any-return]  # (N, D)


class _PointwiseUnit(nn.Module):
    """A 3x3 convolution of each channel on its own, then a 1x1 convolution with bias; no ReLU between or after."""

    def __init__(self, size_in: int, size_out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(size_in, size_in, 3, stride=stride, padding=1, groups=size_in, bias=False)
        self.pointwise = nn.Conv2d(size_in, size_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class _DenseBlock(nn.Module):
    """Halves the size; then each of three units reads the sum of all before it."""

    def __init__(self, first: nn.Module, size: int) -> None:
        super().__init__()
        self.first = first
        self.units = nn.Sequential(*(_PointwiseUnit(size, size, 1) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.first(x))
        for unit in self.units:
            total = total + unit(F.relu(total))
        return F.relu(total)


class DenseFaces(nn.Module):
    """The expression network of face-api.js without its last layer: (N, channels, 112, 112) -> (N, 256).

    The image is turned by 180 degrees, for the reason that `MobileNetV1` gives.  There is no batch-norm: it is used as
    it was published and not trained on.  Source: `FaceFeatureExtractor` of github.com/justadudewhohacks/face-api.js.
    """

    feature_size = 256

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = (32, 64, 128, self.feature_size)
        firsts: list[nn.Module] = [nn.Conv2d(channels, sizes[0], 3, stride=2, padding=1)]
        firsts += [_PointwiseUnit(size_in, out, stride=2) for size_in, out in pairwise(sizes)]
        self.blocks = nn.Sequential(*(_DenseBlock(first, size) for first, size in zip(firsts, sizes, strict=True)))

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(images).mean(dim=(2, 3))  # type: ignore[no-any-return]


class MobileNetV1Dense(Backbone):
    """`MobileNetV1` and `DenseFaces` on the same crop; how sharp the crop is decides how much the second one counts.

    With m and d their features and g = share * sigmoid(gate(m)): (1 - g) * m, g * d and g, one behind the other.  So a
    linear layer on them can weigh the logits of two others by 1 - g and g.

    images: (N, channels, size, size) float32, normalised.  Returns (N, 32 * width + 256 + 1) float32.
    """

    def __init__(self, channels: int, width: int, side: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.mobilenet = MobileNetV1(channels, width, side)
        self.dense = DenseFaces(channels)
        self.gate = nn.Linear(self.mobilenet.feature_size, 1)
        self.feature_size = self.mobilenet.feature_size + self.dense.feature_size + 1

    def forward(self, images: Tensor) -> Tensor:
        own, other = self.mobilenet(images), self.dense(turned_and_lowered(images))
        counts = self.share * torch.sigmoid(self.gate(own))
        return torch.cat([(1 - counts) * own, counts * other, counts], dim=1)


@fx.wrap
def turned_and_enlarged(images: Tensor, side: int, lower: int = 0) -> Tensor:
    """The input of `MobileNetV1`'s first convolution: (N, C, H, W) -> (N, C, side, side), rotated, resized bicubically.

    lower: move the cut down by so many pixels of the result; the last row is repeated.
    Equals `F.interpolate`, computed as two float32 matrix products, which are faster on a CPU.
    """
    if images.shape[2:] == (side, side):  # nothing to interpolate
        turned = images.flip((2, 3))
        if not lower:  # ONNX Runtime would pad by one, see findings/onnxruntime_drops_empty_expand.sh
            return turned
        return torch.cat((turned[:, :, :1].expand(-1, -1, lower, -1), turned[:, :, : side - lower]), dim=2)
    with torch.autocast(images.device.type, enabled=False):
        rows = _enlarging(images.shape[2], side, lower, images.device)
        columns = _enlarging(images.shape[3], side, 0, images.device)
        return (rows @ (images.float() @ columns.T)).to(images.dtype)


def turned_and_lowered(images: Tensor) -> Tensor:
    """What `DenseFaces` sees: (N, C, H, W) -> (N, C, 112, 112), turned, and cut lower by a tenth of the side.

    It was made for crops from the brows to below the chin; ours end at the chin, whose last row is repeated.
    """
    return turned_and_enlarged(images, DENSE_SIDE, DENSE_LOWER)


@cache
def _enlarging(size: int, side: int, lower: int, device: torch.device) -> Tensor:
    """(side, size) float32: the matrix that flips and enlarges a column of pixels, cut `lower` pixels further down."""
    with torch.inference_mode(mode=False):  # training cannot use an inference tensor
        one_each = torch.eye(size, device=device)[None, None]
        upright = F.interpolate(one_each, size=(side, size), mode="bicubic", align_corners=False)[0, 0]
        return upright[(torch.arange(side, device=device) + lower).clamp(max=side - 1)].flip(0)


DENSE_SIDE, DENSE_LOWER = 112, 11


# Channels of each unit as a multiple of the stem's, and its stride.
MOBILENET_UNITS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))

ARCHITECTURES: dict[str, type[Backbone]] = {
    "resnet50_caffe": ResNet50Caffe,
    "compact_resnet": CompactResNet,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v1_dense": MobileNetV1Dense,
}


@torch.no_grad()
def initialise(backbone: Backbone) -> None:
    """He initialisation; the last batch-norm of each compact block is zero, so that blocks start as the identity."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, _BasicBlock):
            nn.init.zeros_(module.bn2.weight)
