"""Read training examples ahead of time, in worker processes."""

import atexit
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sfisep_core.audio.resample import sinc_fits
from sfisep_core.audio.torchaudio_check import check_torchaudio
from sfisep_core.data.datasets import StemDataset
from sfisep_core.data.mixing import RawBatch, draw_example
from sfisep_core.data.mixing_config import MixingConfig
from sfisep_core.data.shared_memory import (
    SHARED_MEMORY,
    SHARED_MEMORY_ADVICE,
    check_shared_memory,
    share_batch,
)
from sfisep_core.errors import ConfigError, SfisepError, TrainingError
from sfisep_core.foundation.interrupts import ctrl_c_blocked
from sfisep_core.foundation.parents import when_parent_ends
from sfisep_core.foundation.temporary_folders import claim_folder_of_sockets

# Micro-batches that each worker reads ahead of the current one.
_PREFETCH = 2
# The current micro-batch, and the one being transferred.
_IN_USE = 2


class MicroBatches(Dataset[RawBatch | SfisepError]):
    """The micro-batches of one process in order, each a pure function of its index.

    Arguments as for `ExampleLoader`.
    """

    def __init__(
        self,
        dataset: StemDataset,
        sources: Sequence[str],
        config: MixingConfig,
        *,
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        accumulation: int,
        rank: int,
        world_size: int,
    ) -> None:
        self._dataset, self._sources, self._config = dataset, sources, config
        self._seed, self._first_step, self._steps = seed, first_step, steps
        self._batch_size = batch_size
        self._size = batch_size // (world_size * accumulation)
        self._accumulation, self._rank, self._world_size = accumulation, rank, world_size

    def __len__(self) -> int:
        """Return the number of micro-batches of all steps."""
        return max(0, self._steps - self._first_step) * self._accumulation

    def __getitem__(self, number: int) -> RawBatch | SfisepError:
        """Read a micro-batch; return an error instead of raising it.

        DataLoader would wrap it, and the message would be a traceback.
        """
        step, part = divmod(number, self._accumulation)
        first = (part * self._world_size + self._rank) * self._size
        try:
            return RawBatch.stack(
                [
                    draw_example(
                        self._dataset,
                        self._sources,
                        self._config,
                        seed=self._seed,
                        step=self._first_step + step,
                        example=example,
                        batch_size=self._batch_size,
                    )
                    for example in range(first, first + self._size)
                ]
            )
        except SfisepError as error:
            return error


class ExampleLoader:
    """Yields the micro-batches of a training process in order, from its first step on.

    Micro-batch a of process r contains the examples (a * world_size + r) * b to that plus b - 1 of
    its step, with b = batch_size / (world_size * accumulation). Hence the examples of a step do not
    depend on the number of processes, micro-batches or workers, or on restarts.

    Workers are started when iteration starts and live until `close`; a loader serves one run. They
    are forked from a server process that has only loaded this module: a fork of the training
    process could inherit a lock held by one of its threads (CUDA's, NCCL's), and spawned workers
    would each have to load torch. As usual with such processes, a script that trains with workers
    needs `if __name__ == "__main__":`.

    Args:
        dataset: Where excerpts come from.
        sources: Order of the source axis.
        config: How to draw.
        seed: Seed of the run, 0 or more.
        first_step: Index of the first step, 0 or more.
        steps: Index of the step to end before.
        batch_size: Examples of a step over all processes and micro-batches.
        accumulation: Micro-batches of a step in each process.
        rank: Index of this process.
        world_size: Number of training processes.
        workers: Number of worker processes; 0 reads in this process when a batch is requested.
        pin_memory: Copy batches to page-locked memory, for asynchronous copies to a GPU.

    Attributes:
        dataset: Where excerpts come from.

    Raises:
        ConfigError: The batch cannot be divided this way, or signals cannot be resampled between
            two of the rates.
    """

    def __init__(
        self,
        dataset: StemDataset,
        sources: Sequence[str],
        config: MixingConfig,
        *,
        seed: int,
        first_step: int,
        steps: int,
        batch_size: int,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if batch_size % (world_size * accumulation):
            msg = (
                f"training setting batch_size: expected a multiple of {world_size * accumulation} "
                f"({world_size} processes x accumulation {accumulation}), got {batch_size}"
            )
            raise ConfigError(msg)
        pairs = sorted(config.resampled_pairs(dataset.sample_rate))
        if any(orig_rate != target_rate for orig_rate, target_rate in pairs):
            check_torchaudio(
                f"training at {', '.join(map(str, config.sample_rates))} Hz and at the speeds "
                f"{', '.join(map(str, config.speeds))}, with data at {dataset.sample_rate} Hz,",
                instead=f"set mixing.sample_rates to [{dataset.sample_rate}], and "
                "mixing.speed_probability and mixing.lowpass_probability to 0",
            )
        for orig_rate, target_rate in pairs:
            if not sinc_fits(orig_rate=orig_rate, target_rate=target_rate):
                msg = (
                    f"training setting mixing.sample_rates: cannot resample from {orig_rate} Hz "
                    f"to {target_rate} Hz (data at {dataset.sample_rate} Hz, mixing.speeds "
                    f"{list(config.speeds)}): choose rates that have a large common divisor"
                )
                raise ConfigError(msg)
        self.dataset, self.sources = dataset, tuple(sources)
        if workers:
            size = batch_size // (world_size * accumulation)
            check_shared_memory(
                size * self._example_bytes(config),
                batches=workers * _PREFETCH + _IN_USE,
                workers=workers,
            )
        self._micro_batches = MicroBatches(
            dataset,
            self.sources,
            config,
            seed=seed,
            first_step=first_step,
            steps=steps,
            batch_size=batch_size,
            accumulation=accumulation,
            rank=rank,
            world_size=world_size,
        )
        self._workers, self._pin_memory = workers, pin_memory
        self._running: Any = None

    def __len__(self) -> int:
        """Return the number of micro-batches of all steps of this process."""
        return len(self._micro_batches)

    def __iter__(self) -> Iterator[RawBatch]:
        """Yield the micro-batches of all steps.

        Raises:
            AudioFileError: A file cannot be read.
            DatasetError: A file is shorter than stated in the manifest.
            TrainingError: A worker has died.
        """
        read = self._read_here if self._workers == 0 else self._read_ahead
        try:
            for batch in read():
                if isinstance(batch, SfisepError):
                    raise batch
                yield batch
        finally:
            self.close()

    def _example_bytes(self, config: MixingConfig) -> int:
        """Return the size of the samples of an example in bytes."""
        frames = round(config.stored_seconds * self.dataset.sample_rate)
        channels = max(track.channels for track in self.dataset.tracks)
        return len(self.sources) * channels * frames * np.dtype(np.float32).itemsize

    def close(self) -> None:
        """End the workers, and discard what they have read."""
        atexit.unregister(self.close)
        running, self._running = self._running, None
        if running is not None:
            # DataLoader does this when its iterator is released, but a traceback may keep it alive.
            running._shutdown_workers()

    def _read_here(self) -> Iterator[RawBatch | SfisepError]:
        for number in range(len(self)):
            batch = self._micro_batches[number]
            if self._pin_memory and isinstance(batch, RawBatch):
                batch = batch.pin_memory()
            yield batch

    def _read_ahead(self) -> Iterator[RawBatch | SfisepError]:
        with _without_advice():
            loader = DataLoader(
                self._micro_batches,
                batch_size=None,
                collate_fn=share_batch,
                num_workers=self._workers,
                pin_memory=self._pin_memory,
                prefetch_factor=_PREFETCH,
                multiprocessing_context=_worker_context(),
                worker_init_fn=_start_worker,
                # Not used, but without it the global generator would be changed.
                generator=torch.Generator(),
            )
        # Before Python's exit handler, which would wait for the workers forever.
        atexit.register(self.close)
        try:
            with _without_advice():
                self._running = iter(loader)
            for _ in range(len(self)):
                yield next(self._running)
        except (RuntimeError, OSError, EOFError) as error:
            if str(error).startswith("Caught "):  # a bug, with a worker's traceback
                raise
            reason = str(error) or type(error).__name__
            msg = (
                f"training: a process that reads examples has died ({reason}): perhaps memory, or "
                f"{SHARED_MEMORY}, does not suffice for {self._workers} workers; go on with "
                f"--resume and fewer of them; {SHARED_MEMORY_ADVICE}"
            )
            raise TrainingError(msg) from error


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence PyTorch's warning of more workers than cores: their number is the user's choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        yield


def _worker_context() -> BaseContext:
    """Return the start method of workers: a fork server, or spawn where there is none."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    # The server, and hence all workers, inherit that Ctrl-C is blocked: it reaches every process
    # of a terminal, also one that is only starting, and it is the training process's to handle.
    claim_folder_of_sockets()
    with ctrl_c_blocked():
        multiprocessing.forkserver.ensure_running()
    return context


def _start_worker(_number: int) -> None:
    """Tie a worker's lifetime to the training process."""
    # Clusters signal all processes of a job, but training still needs some batches then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # DataLoader monitors a worker's parent, which is the fork server here.
    when_parent_ends(lambda: os._exit(1))
