"""For PyTorch: frames as tensors, and rings that feed a training."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "torch":
        raise
    raise ModuleNotFoundError(
        'shmring.torch needs PyTorch: pip install "shmring[torch]"', name="torch"
    ) from None

from shmring.torch._dataset import RingDataset
from shmring.torch._loader import BatchTimeout, RingLoader
from shmring.torch._team import WorkerDied
from shmring.torch._tensor import as_tensor

__all__ = ["as_tensor", "RingDataset", "RingLoader", "BatchTimeout", "WorkerDied"]
