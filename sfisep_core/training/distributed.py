"""The processes of a run: rank of this one, and collective operations.

A launcher (`sfisep train --gpus N`, torchrun, or a SLURM job that calls it) starts one process per
GPU and passes its rank in environment variables. Without them a run has one process.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from sfisep_core.devices import find_device
from sfisep_core.errors import ConfigError, TrainingError
from sfisep_core.pretrained.model_files import first_line
from sfisep_core.wording import counted

# Groups are kept until the process ends: the destructor of a CPU group holds the GIL while it waits
# for a thread that may itself need the GIL to release a tensor of the last reduction.
_GROUPS: list[Any] = []


class PeerLostError(TrainingError):
    """Another process of the run has died; a launcher starts all of them again."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: Index of this process, from 0.
        world_size: Number of processes.
        device: Device of this process.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return a model whose backward pass averages gradients over all processes.

        Batch norms on GPUs then use statistics over all processes. PyTorch does not support this on
        CPUs, where every process normalises its own examples.
        """
        if self.world_size == 1:
            return model
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if on_gpu else None,
            # The last residual convolution of a published mask network is not used.
            find_unused_parameters=True,
        )

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Do not reduce gradients within the block; the next backward pass reduces them."""
        if isinstance(network, DistributedDataParallel):
            return network.no_sync()
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes in place; return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def maximum(self, tensor: Tensor) -> Tensor:
        """Compute the maximum of a tensor over all processes in place; return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor


def launched() -> bool:
    """Tell whether a launcher has started this process as one of several."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def rank() -> int:
    """Return the rank of this process."""
    return int(os.environ["RANK"]) if launched() else 0


def restarts() -> int:
    """Return how often the launcher has restarted the processes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the process group of the run for the duration of the block.

    Args:
        device: See `find_device`. With several processes on GPUs each uses the GPU of its local
            rank.

    Yields:
        The processes.

    Raises:
        ConfigError: The device is not available.
        PeerLostError: Another process died during the block.
    """
    if not launched():
        yield Processes(0, 1, find_device(device))
        return
    own_device = find_device(device)
    if own_device.type == "cuda":
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            msg = (
                f"process {local_rank} of this machine: expected a GPU of its own, found "
                f"{counted(torch.cuda.device_count(), 'CUDA GPU')}: start fewer processes"
            )
            raise ConfigError(msg)
        own_device = torch.device("cuda", local_rank)
        torch.cuda.set_device(own_device)
    store, number, count = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if own_device.type == "cuda" else "gloo",
        # The launcher's store survives a restart, with addresses of processes that no longer exist.
        store=PrefixStore(f"attempt-{restarts()}", store),
        rank=number,
        world_size=count,
    )
    _GROUPS.append(dist.group.WORLD)
    try:
        yield Processes(number, count, own_device)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        msg = f"training process {number} of {count}: lost another one: {first_line(error)}"
        raise PeerLostError(msg) from error
    finally:
        dist.destroy_process_group()
