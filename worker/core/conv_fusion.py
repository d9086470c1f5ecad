"""Optimise networks for inference: fold batch-norm into convolutions and, on a CPU, compute each convolution with the
addition and ReLU after it in one oneDNN call.

Works on any convolutional network that `torch.fx` can trace; the backbones and the face detectors share it.  The calls
are those that PyTorch's compiler emits for a CPU (`torch._inductor.fx_passes.mkldnn_fusion`).  Called directly, they
need neither a C++ compiler on the serving machine nor minutes of compilation.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ADDITIONS = frozenset({operator.add, operator.iadd, torch.add})
RELUS = frozenset({F.relu, torch.relu})
SHAPE = "shape"  # key in a node's `meta`: the shape of its result
FEW = 2  # images run to record shapes
POOLS = frozenset({F.max_pool2d, F.avg_pool2d, torch.max_pool2d})


class FusedConv(nn.Module):
    """A convolution with bias, an optional addition (`forward`'s `other`) and an optional ReLU.

    images: (N, C, H, W), fastest in channels-last.  The weight's layout is optimised for `shape`; other shapes work.
    """

    def __init__(self, conv: nn.Conv2d, shape: torch.Size, *, relu: bool) -> None:
        super().__init__()
        if isinstance(conv.padding, str):
            raise TypeError(f"padding {conv.padding!r} of a convolution must be given in numbers")
        self._unary = "relu" if relu else "none"
        self._geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        # Plain attributes: a tensor in oneDNN's layout can be neither copied nor moved like a parameter.
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self._geometry, list(shape))

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        """other: output-shaped tensor that is added before the ReLU and overwritten with the result."""
        if other is None:
            result = torch.ops.mkldnn._convolution_pointwise(
                images, self._weight, self._bias, *self._geometry, self._unary, [], ""
            )
        else:
            unary = None if self._unary == "none" else self._unary
            result = torch.ops.mkldnn._convolution_pointwise_.binary(
                other, images, self._weight, self._bias, *self._geometry, "add", 1.0, unary, [], ""
            )
        return result  # type: ignore[no-any-return]


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN offers fused convolutions for this device and dtype."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def fold(network: nn.Module) -> fx.GraphModule:
    """A copy in eval mode with every batch-norm folded into the convolution before it; equal up to rounding.

    Convolution weights are channels-last.
    """
    folded = fx.symbolic_trace(copy.deepcopy(network).eval())
    for node in list(folded.graph.nodes):
        module = _module(folded, node)
        if isinstance(module, nn.BatchNorm2d):
            source = node.all_input_nodes[0]
            conv = _module(folded, source)
            if isinstance(conv, nn.Conv2d) and len(source.users) == 1:
                folded.set_submodule(str(source.target), fuse_conv_bn_eval(conv, module))
                _erase(folded, node)
        elif isinstance(module, nn.Identity):
            _erase(folded, node)
    folded.recompile()
    folded.delete_all_unused_submodules()
    # PyTorch's stubs lack this overload of `Module.to`.
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.no_grad()
def for_inference(network: nn.Module, images: Tensor) -> fx.GraphModule:
    """A copy of the network for inputs like `images`: on their device, in their dtype, folded, and fused if `can_fuse`.

    images: (N, C, H, W), N the usual batch size.  Weights are channels-last; inputs should be channels-last, too.
    """
    ready = fold(network).to(device=images.device, dtype=images.dtype)
    return _fused(ready, images) if can_fuse(images.device, images.dtype) else ready


class _Shapes(fx.Interpreter):
    """Records the shape of each node's result.  torch's `ShapeProp` would import SymPy, which takes half a second."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            n.meta[SHAPE] = result.shape
        return result


def _fused(folded: fx.GraphModule, images: Tensor) -> fx.GraphModule:
    _Shapes(folded).run(images[:FEW])
    for node in list(folded.graph.nodes):
        if isinstance(_module(folded, node), nn.Conv2d):
            _fuse_one(folded, node, len(images))
    folded.graph.lint()
    folded.recompile()
    folded.delete_all_unused_submodules()
    return folded


def _fuse_one(folded: fx.GraphModule, node: fx.Node, batch: int) -> None:
    conv = _module(folded, node)
    source = node.all_input_nodes[0]
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{node} is not a convolution")
    last, other = node, None
    if (addition := _only_user(last)) is not None and addition.target in ADDITIONS:
        other = _overwritable(folded, addition, node)
        last = addition if other is not None else last
    relu = _only_user(last)
    if relu is not None and _is_relu(folded, relu):
        last = relu
    path = f"{node.target}_fused"
    shape = torch.Size([batch, *source.meta[SHAPE][1:]])
    fused = FusedConv(conv, shape, relu=last is relu)
    folded.add_submodule(path, fused)
    with folded.graph.inserting_before(last):
        call = folded.graph.call_module(path, (source,) if other is None else (source, other))
    call.meta = last.meta
    last.replace_all_uses_with(call)
    for used in dict.fromkeys((last, addition if other is not None else node, node)):
        if used is not None:
            folded.graph.erase_node(used)


def _overwritable(folded: fx.GraphModule, addition: fx.Node, conv: fx.Node) -> fx.Node | None:
    """The addition's other operand if it may be overwritten: it owns its memory and has no later reader."""
    others = [node for node in addition.all_input_nodes if node is not conv]
    if len(others) != 1:
        return None
    other = others[0]
    module = _module(folded, other)
    fresh = isinstance(module, nn.Conv2d | FusedConv | nn.ReLU | nn.AvgPool2d | nn.MaxPool2d)
    fresh = fresh or (other.op == "call_function" and other.target in ADDITIONS | RELUS | POOLS)
    order = {node: position for position, node in enumerate(folded.graph.nodes)}
    last_use = max(order[user] for user in other.users)
    same_shape = other.meta[SHAPE] == conv.meta[SHAPE]
    return other if fresh and same_shape and last_use == order[addition] else None


def _erase(folded: fx.GraphModule, node: fx.Node) -> None:
    """Replace the node by its input."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    folded.graph.erase_node(node)


def _module(folded: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return folded.get_submodule(str(node.target)) if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_relu(folded: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(_module(folded, node), nn.ReLU) or (node.op == "call_function" and node.target in RELUS)
