"""Run a face detection network in torch, on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from worker.core.cuda import on_device, out_of_memory
from worker.core.folding import for_inference
from worker.faces.modules import MODULES
from worker.faces.networks import NETWORKS
from worker.faces.networks.cells import Array
from worker.faces.running import Weights

NO_MEMORY = "the device has no memory to look for faces; free some of it"


class OnGpu:
    """See `Running`."""

    def __init__(self, weights: Weights, device: str) -> None:
        self.kind = NETWORKS[weights.kind]
        network = MODULES[weights.kind]()
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.tensors.items()})
        self._device = torch.device(device)
        example = torch.zeros((1, 3, 64, 64), device=device).contiguous(memory_format=torch.channels_last)
        self._network: nn.Module = for_inference(network.requires_grad_(requires_grad=False), example)
        # cuDNN caches plans per thread: with a thread for each job, every job would build all of them again.
        self._thread = ThreadPoolExecutor(1, "detector")  # ends with this object

    def maps(self, pixels: npt.NDArray[np.uint8]) -> Sequence[Array]:
        """See `Running`."""
        return self._thread.submit(self._maps, pixels).result()

    @torch.inference_mode()
    def _maps(self, pixels: npt.NDArray[np.uint8]) -> Sequence[Array]:
        with out_of_memory(NO_MEMORY), on_device(self._device), torch.autocast(self._device.type, torch.float16):
            frames = torch.from_numpy(pixels).to(self._device, non_blocking=True)
            found = self._network(frames.permute(0, 3, 1, 2).float())
            return [each.float().cpu().numpy() for each in found]
