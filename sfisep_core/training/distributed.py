"""The processes of a run: who this one is, and what they compute together.

A launcher (`sfisep train --gpus N`, torchrun, or a SLURM job that calls it) starts one process per
GPU and tells each its place in environment variables. Without them a run is one process.
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
from sfisep_core.pretrained.native import first_line
from sfisep_core.wording import counted

# Groups are kept until the process ends: the destructor of a group on CPUs waits, with Python's
# lock, for a thread that may be waiting for this lock to release a tensor of the last reduction.
_GROUPS: list[Any] = []


class PeerLostError(TrainingError):
    """Another process of the run has died; a launcher starts all of them again."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: Number of this one, from 0.
        world_size: How many there are.
        device: Where this one computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Give the model whose backward pass takes the mean of gradients over all processes.

        Batch norms on GPUs then share their statistics over all processes; PyTorch cannot do that
        on CPUs, where every process normalises its own examples.
        """
        if self.world_size == 1:
            return model
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(
            model,
            device_ids=[self.device] if on_gpu else None,
            # The last residual convolution of a published mask network leads nowhere.
            find_unused_parameters=True,
        )

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients in this process while the block runs; the next backward adds them."""
        if isinstance(network, DistributedDataParallel):
            return network.no_sync()
        return nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all processes, in place; return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
        return tensor

    def maximum(self, tensor: Tensor) -> Tensor:
        """Take the maximum of a tensor over all processes, in place; return it."""
        if self.world_size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor


def launched() -> bool:
    """Tell whether a launcher has started this process as one of several."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def rank() -> int:
    """Give the number of this process among those of the run."""
    return int(os.environ["RANK"]) if launched() else 0


def restarts() -> int:
    """Give the number of times that the launcher has restarted the processes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Join the other processes of the run for as long as the block lasts.

    Args:
        device: As `find_device` takes it. Of several processes on GPUs each takes the one of its
            number on the machine.

    Yields:
        The processes.

    Raises:
        ConfigError: The device is not there.
        PeerLostError: Another process died while the block ran.
    """
    if not launched():
        yield Processes(0, 1, find_device(device))
        return
    found = find_device(device)
    if found.type == "cuda":
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if local_rank >= torch.cuda.device_count():
            msg = (
                f"process {local_rank} of this machine: expected a GPU of its own, found "
                f"{counted(torch.cuda.device_count(), 'CUDA GPU')}: start fewer processes"
            )
            raise ConfigError(msg)
        found = torch.device("cuda", local_rank)
        torch.cuda.set_device(found)
    store, number, count = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if found.type == "cuda" else "gloo",
        # The launcher's store outlives a restart, with the addresses of processes that are gone.
        store=PrefixStore(f"attempt-{restarts()}", store),
        rank=number,
        world_size=count,
    )
    _GROUPS.append(dist.group.WORLD)
    try:
        yield Processes(number, count, found)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        msg = f"training process {number} of {count}: lost another one: {first_line(error)}"
        raise PeerLostError(msg) from error
    finally:
        dist.destroy_process_group()
