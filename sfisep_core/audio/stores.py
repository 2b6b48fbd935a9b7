"""Stores of signals that are read in parts: in memory if they are short, else on disk."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sfisep_core.errors import AudioFileError

Samples = NDArray[np.float32]

BLOCK_FRAMES = 2**18
"""Frames per block where a whole store is processed."""

# Larger stores are on disk. A minute of stereo at 44.1 kHz has 21 MB, its four stems 85 MB.
_LARGEST_IN_MEMORY = 2**24  # bytes


class Signal(Protocol):
    """A float32 signal of shape (*leading, time) that can be read in parts."""

    @property
    def leading(self) -> tuple[int, ...]:
        """Return all axes but time."""

    @property
    def frames(self) -> int:
        """Return the current length."""

    def read(self, start: int, stop: int) -> Samples:
        """Return the samples from `start` to before `stop`, both within the signal."""


class ChangeableSignal(Signal, Protocol):
    """A signal whose samples can be replaced."""

    def write(self, start: int, block: Samples) -> None:
        """Replace samples, from `start` on, by a block of shape (*leading, frames)."""


class Store(ChangeableSignal, Protocol):
    """A signal that grows at its end."""

    def append(self, block: Samples) -> None:
        """Add samples, shape (*leading, frames), at the end."""


class MemoryStore:
    """A store in an array.

    Args:
        array: Shape (*leading, time): the first samples; the array itself is read and written as
            long as nothing is appended.
    """

    def __init__(self, array: Samples) -> None:
        self._array = array
        self._frames: int = array.shape[-1]

    @classmethod
    def empty(cls, leading: tuple[int, ...], frames: int) -> MemoryStore:
        """Build an empty store with room for some frames; it grows if necessary."""
        store = cls(np.empty((*leading, frames), dtype=np.float32))
        store._frames = 0
        return store

    @property
    def leading(self) -> tuple[int, ...]:
        """Return all axes but time."""
        return tuple(self._array.shape[:-1])

    @property
    def frames(self) -> int:
        """Return the current length."""
        return self._frames

    @property
    def array(self) -> Samples:
        """Return the whole signal, shape (*leading, time)."""
        return self._array[..., : self._frames]

    def append(self, block: Samples) -> None:
        """Add samples, shape (*leading, frames), at the end."""
        needed = self._frames + block.shape[-1]
        if needed > self._array.shape[-1]:
            grown = np.empty((*self.leading, max(needed, 2 * self._frames)), dtype=np.float32)
            grown[..., : self._frames] = self.array
            self._array = grown
        self._array[..., self._frames : needed] = block
        self._frames = needed

    def read(self, start: int, stop: int) -> Samples:
        """Return the samples from `start` to before `stop`, both within the signal."""
        return self.array[..., start:stop]

    def write(self, start: int, block: Samples) -> None:
        """Replace samples that were appended before."""
        self.array[..., start : start + block.shape[-1]] = block


class DiskStore:
    """A store in an unnamed file, which the system removes when the process ends.

    Args:
        leading: All axes but time.
        folder: A folder on a disk with enough space.

    Raises:
        AudioFileError: No file can be created there.
    """

    def __init__(self, leading: tuple[int, ...], folder: Path) -> None:
        self._leading = leading
        self._row_bytes = 4 * math.prod(leading)
        self._folder = folder
        self._frames = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file, which frees its space."""
        self._file.close()

    @property
    def leading(self) -> tuple[int, ...]:
        """Return all axes but time."""
        return self._leading

    @property
    def frames(self) -> int:
        """Return the current length."""
        return self._frames

    def append(self, block: Samples) -> None:
        """Add samples, shape (*leading, frames), at the end.

        Raises:
            AudioFileError: The disk is full.
        """
        self._put(self._frames, block)
        self._frames += block.shape[-1]

    def read(self, start: int, stop: int) -> Samples:
        """Return the samples from `start` to before `stop`, both within the signal.

        Raises:
            AudioFileError: The disk fails.
        """
        rows = np.empty((stop - start, *self._leading), dtype=np.float32)
        if rows.size == 0:
            return np.moveaxis(rows, 0, -1)
        view, position = rows.data.cast("B"), start * self._row_bytes
        try:
            while view:
                count = os.preadv(self._file.fileno(), [view], position)
                if count == 0:
                    raise EOFError
                view, position = view[count:], position + count
        except (OSError, EOFError) as error:
            raise self._failed(error) from error
        return np.ascontiguousarray(np.moveaxis(rows, 0, -1))

    def write(self, start: int, block: Samples) -> None:
        """Replace samples that were appended before.

        Raises:
            AudioFileError: The disk fails.
        """
        self._put(start, block)

    def _put(self, start: int, block: Samples) -> None:
        rows = np.ascontiguousarray(np.moveaxis(block, -1, 0), dtype=np.float32)
        if rows.size == 0:
            return
        view, position = rows.data.cast("B"), start * self._row_bytes
        try:
            while view:
                count = os.pwrite(self._file.fileno(), view, position)
                view, position = view[count:], position + count
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError | EOFError) -> AudioFileError:
        reason = getattr(error, "strerror", None) or "data that ended early"
        return AudioFileError(
            f"temporary samples in {str(self._folder)!r}: expected a folder with free space for "
            f"them, found {reason}; free some space, or choose another place for the output"
        )


class Stores:
    """Creates the stores of one task, and frees their space when it ends.

    Args:
        folder: Folder for large signals; None = all signals are in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._on_disk: list[DiskStore] = []

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close all stores."""
        for store in self._on_disk:
            store.close()

    def bytes_on_disk(self, leading: tuple[int, ...], frames: int) -> int:
        """Return how many bytes on disk a store will need."""
        needed = 4 * math.prod(leading) * frames
        return needed if self._folder is not None and needed > _LARGEST_IN_MEMORY else 0

    def drop(self, store: Store) -> None:
        """Free the space of a store that is no longer needed."""
        if isinstance(store, DiskStore):
            self._on_disk.remove(store)
            store.close()

    def make(self, leading: tuple[int, ...], frames: int) -> Store:
        """Build an empty store.

        Args:
            leading: All axes but time.
            frames: Expected length, which need not be exact.

        Raises:
            AudioFileError: No file can be created in the folder.
        """
        if self._folder is None or not self.bytes_on_disk(leading, frames):
            return MemoryStore.empty(leading, frames)
        store = DiskStore(leading, self._folder)
        self._on_disk.append(store)
        return store


def read_all(signal: Signal) -> Samples:
    """Read a whole signal, shape (*leading, time); of a `MemoryStore`, the array itself."""
    return signal.read(0, signal.frames)


def walk(store: Signal, block_frames: int = BLOCK_FRAMES) -> Iterator[Samples]:
    """Yield a store's samples in blocks, in order."""
    for start, stop in block_ranges(store, block_frames):
        yield store.read(start, stop)


def block_ranges(signal: Signal, block_frames: int = BLOCK_FRAMES) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each block of a signal, in order."""
    for start in range(0, signal.frames, block_frames):
        yield start, min(start + block_frames, signal.frames)
