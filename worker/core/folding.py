"""Fold batch-norms into convolutions, for networks that run in torch."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@torch.no_grad()
def for_inference(network: nn.Module, images: Tensor) -> fx.GraphModule:
    """A copy in eval mode for inputs like `images`: on their device, in their dtype, channels-last, no batch-norms.

    Equal to the network up to rounding.  Works on any network that `torch.fx` can trace; the backbones and the face
    detectors share it.
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
    folded = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded.to(device=images.device, dtype=images.dtype)  # type: ignore[no-any-return]


def _erase(folded: fx.GraphModule, node: fx.Node) -> None:
    """Replace the node by its input."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    folded.graph.erase_node(node)


def _module(folded: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return folded.get_submodule(str(node.target)) if node.op == "call_module" else None
