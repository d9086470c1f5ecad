"""Loading of a bundle into PyTorch, for a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from model_store.bundle import load_bundle
from worker.core import cuda
from worker.core.devices import DeviceFailedError, OutOfDeviceMemoryError, first_line
from worker.ensemble.passes import GraphError, frame_pass
from worker.ensemble.precision import Precision
from worker.ensemble.torch_runtime import TorchRuntime
from worker.errors import StartAgainError
from worker.inference.bundles import build_ensemble
from worker.inference.specs import crop_shape


def open_torch_runtime(folder: Path, device: str, precision: Precision, *, graphs: bool) -> TorchRuntime:
    """The bundle's ensemble on a device.  graphs: whether to try CUDA graphs.

    Raises: BundleError, OutOfDeviceMemoryError, GraphError.
    """
    bundle = load_bundle(folder)
    shape, make_pass = crop_shape(bundle.manifest.input), partial(frame_pass, graphs=graphs)
    return TorchRuntime(build_ensemble(bundle), shape, torch.device(device), precision, make_pass)


@contextmanager
def explained(device: str) -> Iterator[None]:
    """Prepare the device, make it the thread's own inside the block, and say in one sentence why it fails.

    Raises: DeviceFailedError, StartAgainError.
    """
    cuda.prepare(device)
    try:
        with cuda.on_device(device):
            yield
    except (torch.OutOfMemoryError, OutOfDeviceMemoryError):
        raise DeviceFailedError(f"{device} has no memory for the bundle; free some of it") from None
    except torch.AcceleratorError as error:
        raise DeviceFailedError(f"{device} fails: {first_line(error)}") from None
    except GraphError as error:
        raise StartAgainError(str(error), {"MIEN_CUDA_GRAPHS": "false"}) from error
