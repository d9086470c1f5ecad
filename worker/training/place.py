"""The device of a training, its rank among `torchrun`'s processes, and seeds that are independent of both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from worker.training.errors import TrainingError

RENDEZVOUS_TIMEOUT = timedelta(minutes=30)  # rank 0 validates while the others wait


@dataclass(frozen=True)
class Place:
    """device; rank of this process among `world` that train together."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """True in the only process that writes files and output."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model for training; with several processes, their gradients are averaged."""
        if self.world == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)

    def any(self, flag: bool) -> bool:
        """True in every process if it is true in one."""
        return flag if self.world == 1 else bool(self._reduced(float(flag), dist.ReduceOp.MAX))

    def from_first(self, value: float) -> float:
        """The first process's value, in every process."""
        return value if self.world == 1 else self._reduced(value if self.first else 0.0, dist.ReduceOp.SUM)

    def wait(self) -> None:
        """Wait for every process."""
        if self.world > 1:
            dist.barrier()

    def _reduced(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op=how)
        return float(tensor.item())


def find_place(device: str) -> Place:
    """Join `torchrun`'s processes, if any, and choose the device.

    device: `auto`, `cpu`, `cuda` or `cuda:1`; under torchrun each process takes the GPU of its local rank.

    Raises: TrainingError if a CUDA device is named and missing.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise TrainingError(f"no device {device!r}: name auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise TrainingError(f"device {device!r} was requested, but torch finds no CUDA device")
        chosen = torch.device("cuda", local if world > 1 else chosen.index or 0)
        if chosen.index >= torch.cuda.device_count():
            raise TrainingError(f"device {chosen} was requested; there are {torch.cuda.device_count()} CUDA devices")
        torch.cuda.set_device(chosen)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=RENDEZVOUS_TIMEOUT)
    return Place(chosen, rank, world)


def leave(place: Place) -> None:
    """Leave `torchrun`'s processes."""
    if place.world > 1 and dist.is_initialized():
        dist.destroy_process_group()


def generator(*parts: int) -> torch.Generator:
    """A generator seeded by these integers only, so that a resumed training draws the same numbers."""
    state = np.random.SeedSequence(parts).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def shares_of(batch: Tensor, place: Place) -> Tensor:
    """This process's rows of a batch whose size is a multiple of the processes' number."""
    return batch[place.rank :: place.world]
