"""Networks made fast for inference: batch-norm folded into convolutions, and on a CPU each convolution computed in one
oneDNN call with the addition and the ReLU that follow it.

Works on any network of convolutions that `torch.fx` can trace, so the backbones and the face detector share it.  The
calls are those that PyTorch's own compiler emits for a CPU (`torch._inductor.fx_passes.mkldnn_fusion`); made here by
hand they need no C++ compiler on the machine that serves, and no minutes of compiling.
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
SHAPE = "shape"  # of a node's result, in its `meta`
FEW = 2  # images that tell the shapes of a batch
POOLS = frozenset({F.max_pool2d, F.avg_pool2d, torch.max_pool2d})


class FusedConv(nn.Module):
    """A convolution with bias; `relu` and, in `forward`, an addition before it.

    images: (N, C, H, W), best channels-last.  The weight is laid out for the shape it was made with; other shapes work.
    """

    def __init__(self, conv: nn.Conv2d, shape: torch.Size, *, relu: bool) -> None:
        super().__init__()
        if isinstance(conv.padding, str):
            raise TypeError(f"padding {conv.padding!r} of a convolution must be given in numbers")
        self._unary = "relu" if relu else "none"
        self._geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        # Plain attributes: oneDNN's own layout can be neither copied nor moved as parameters are.
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach(), *self._geometry, list(shape))

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        """other: of the output's shape, added before the ReLU and overwritten with the result."""
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
    """Whether this machine has fused convolutions for tensors of this kind."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def fold(network: nn.Module) -> fx.GraphModule:
    """A copy in eval mode in which every batch-norm is part of the convolution before it; equal up to rounding.

    Its convolutions' weights are channels-last.
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
    """A copy of the network for inputs like `images`, (N, C, H, W), N as large as batches usually are: on their device,
    in their precision, folded, and fused where `can_fuse`.  The weights are channels-last; inputs had better be, too.
    """
    ready = fold(network).to(device=images.device, dtype=images.dtype)
    return _fused(ready, images) if can_fuse(images.device, images.dtype) else ready


class _Shapes(fx.Interpreter):
    """Notes the shape of each node's result.  torch's `ShapeProp` would import SymPy, for half a second."""

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
        raise TypeError(f"{node} is no convolution")
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
    """What the addition adds to the convolution, if it is a tensor of its own that nobody reads afterwards."""
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
    """Let what the node was given take its place."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    folded.graph.erase_node(node)


def _module(folded: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return folded.get_submodule(str(node.target)) if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_relu(folded: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(_module(folded, node), nn.ReLU) or (node.op == "call_function" and node.target in RELUS)
